"""The figure of a verdict, and what its page says of an interval."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from classmates.comparisons.improvement import Tried
from classmates.comparisons.improvement_page import LEAST_RANGE, resampled, trials
from classmates.comparisons.statistics import ImageDifference
from tests.comparisons.test_improvement import VERDICT


def drawn(axes):
    """The circles and the mean of each line of the figure: [(place, x of the circles, x of the mean, filled)]."""
    lines = axes.get_lines()
    found = []
    for circles, mean in zip(lines[::2], lines[1::2], strict=True):
        (place,) = set(circles.get_ydata())
        assert len(set(mean.get_xdata())) == 1
        assert sum(mean.get_ydata()) / 2 == pytest.approx(place)
        filled = circles.get_markerfacecolor() != "none"
        found.append((int(place), np.round(circles.get_xdata(), 6).tolist(), float(mean.get_xdata()[0]), filled))
    return found


def test_every_seed_and_mean_is_drawn_and_test_images_of_those_that_were_looked_at():
    failed = Tried("DML", (), None, 0, 3, "failed")
    left, right = trials(replace(VERDICT, tried=(*VERDICT.tried, failed))).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["Baseline", "MCL", "DML"]
    assert drawn(left) == [
        (0, [50, 50, 50], pytest.approx(50), False),
        (1, [50, 60, 70], pytest.approx(60), True),
    ]
    assert drawn(right) == [
        (0, [50, 40, 60], pytest.approx(50), False),
        (1, [50, 55, 60], pytest.approx(55), True),
    ]


def test_without_a_gain_the_plain_network_is_filled():
    found = replace(VERDICT, difference=ImageDifference(0.05, -0.01, 0.11))
    assert [filled for *_, filled in drawn(trials(found).axes[1])] == [True, False]


def test_scores_that_lie_close_together_are_drawn_close_together():
    same = replace(VERDICT, on_test={"Baseline": (0.5, 0.5, 0.5), "MCL": (0.5, 0.501, 0.5)})
    low, high = trials(same).axes[1].get_xlim()
    assert high - low == pytest.approx(LEAST_RANGE)
    assert low < 50 < 50.1 < high


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "seeds and images"),
        ({"seeds": (3,)}, "images"),
        ({"groups": 40}, "seeds and groups of images"),
        ({"difference": ImageDifference(0.05, nan, nan)}, ""),
        ({"difference": None}, ""),
    ],
)
def test_an_interval_is_over_what_was_resampled(fields, said):
    assert resampled(replace(VERDICT, **fields)) == said
