"""A limit of time as a text: DD:HH:MM:SS."""

from __future__ import annotations

import re
from datetime import timedelta

from classmates.errors import UserError


def time_limit(limit: str) -> timedelta:
    """Return the time that DD:HH:MM:SS says; UserError for another form, or none."""
    parts = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", limit)
    days, hours, minutes, seconds = map(int, parts.groups()) if parts else (0, 0, 0, 0)
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not length:
        raise UserError(f"max_time is '{limit}': give DD:HH:MM:SS, more than nothing; an hour is 00:01:00:00")
    return length
