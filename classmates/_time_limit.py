"""A limit of time as a text: 2h, 1h30m, or DD:HH:MM:SS."""

from __future__ import annotations

import re
from datetime import timedelta

from classmates.errors import UserError

UNITS = r"(?:(?P<days>\d+)d)?(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?"
CLOCK = r"(?P<days>\d+):(?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d)"


def time_limit(limit: str) -> timedelta:
    """Return the time that "2h", "1h30m", "1d" or "90s" says, or DD:HH:MM:SS, as Lightning has it.

    Raises:
        UserError: another form, no time, or more than a timedelta holds.
    """
    form = f"max_time is '{limit}': give a time such as 2h, 1h30m or 45m (or DD:HH:MM:SS)"
    parts = re.fullmatch(UNITS, str(limit)) or re.fullmatch(CLOCK, str(limit))  # in Python it may be a number
    if parts is None:
        raise UserError(form)
    try:
        length = timedelta(**{unit: int(number or 0) for unit, number in parts.groupdict().items()})
    except OverflowError as error:
        raise UserError(f"max_time is '{limit}', which is too long; without max_time there is no limit") from error
    if not length:
        raise UserError(f"{form}, not nothing")
    return length
