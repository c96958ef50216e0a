"""A limit of time has two forms, and leaves some."""

from datetime import timedelta

import pytest

from classmates._time_limit import time_limit
from classmates.errors import UserError


@pytest.mark.parametrize(
    ("limit", "length"),
    [
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(minutes=90)),
        ("90s", timedelta(seconds=90)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("01:02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("100:00:00:00", timedelta(days=100)),
    ],
)
def test_units_or_days_hours_minutes_and_seconds(limit, length):
    assert time_limit(limit) == length


@pytest.mark.parametrize(
    "limit",
    [
        "soon",
        "2x",
        "2",
        "h",
        "2 h",
        "30m1h",
        "1.5h",
        "-1h",
        "01:00:00",
        "00:00:00:1",
        "-1:00:00:00",
        7200,
    ],
)
def test_another_form_is_told(limit):
    with pytest.raises(UserError, match=rf"max_time is '{limit}': give a time such as 2h, .* \(or DD:HH:MM:SS\)$"):
        time_limit(limit)


@pytest.mark.parametrize("limit", ["00:00:00:00", "0h", ""])
def test_no_time_is_told(limit):
    with pytest.raises(UserError, match=rf"max_time is '{limit}': give a time such as 2h, .*\), not nothing$"):
        time_limit(limit)


def test_more_than_any_run_takes_is_told():
    with pytest.raises(UserError, match="max_time is '9999999999d', which is too long"):
        time_limit("9999999999d")
