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


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_tick_is_at_a_percentage_that_there_cannot_be(share):
    """Of seeds that are all alike, too, and of a single one."""
    axes = trials(replace(VERDICT, on_test={"Baseline": (share,), "MCL": (share,)})).axes[1]
    low, high = axes.get_xlim()
    assert (low, high) == (pytest.approx(100 * share - 1), pytest.approx(100 * share + 1))
    ticks = axes.get_xticks()
    assert len(ticks) >= 2
    assert max(low, 0) <= min(ticks) < max(ticks) <= min(high, 100)


def test_methods_with_long_names_can_be_told_apart():
    names = [f"MCL(start='identical',views='{one}')" for one in ("own", "shared")]
    rows = [VERDICT.tried[1]._replace(method=name) for name in names]
    found = replace(
        VERDICT, tried=(VERDICT.tried[0], *rows), chosen=names[0], on_test={"Baseline": (0.5,), names[0]: (0.6,)}
    )
    _, first, second = (label.get_text() for label in trials(found).axes[0].get_yticklabels())
    assert first != second


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
