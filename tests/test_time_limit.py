"""A limit of time has one form, and leaves some."""

from datetime import timedelta

import pytest

from classmates._time_limit import time_limit
from classmates.errors import UserError


def test_days_hours_minutes_and_seconds():
    assert time_limit("01:02:03:04") == timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert time_limit("100:00:00:00") == timedelta(days=100)


@pytest.mark.parametrize("limit", ["00:00:00:00", "soon", "", "01:00:00", "00:00:00:1", "-1:00:00:00"])
def test_another_form_or_no_time_is_told(limit):
    with pytest.raises(UserError, match=f"max_time is '{limit}': give DD:HH:MM:SS, more than nothing; an hour is"):
        time_limit(limit)
