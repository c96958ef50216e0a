"""Statistics against numbers from elsewhere: Student's own data, R's power.t.test, worked examples."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmates.comparisons.statistics import (
    holm,
    image_difference,
    paired_difference,
    seeds_needed,
    spread,
    warning_of_few,
)

# Hours of sleep gained by ten patients under two drugs (Student, Biometrika 1908; R's `sleep`).
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_spread_divides_by_one_less_than_the_count() -> None:
    assert spread([1.0, 2.0, 3.0, nan]) == (2.0, 1.0, 3)
    mean, std, count = spread([0.5])
    assert (mean, count) == (0.5, 1)
    assert isnan(std)
    assert isnan(spread([]).mean)


def test_students_sleep_data() -> None:
    """R: t.test(extra ~ group, paired = TRUE) gives t = -4.0621, p = 0.002833, -2.4598858 to -0.7001142."""
    found = paired_difference(by_seed(FIRST), by_seed(SECOND))
    assert (found.pairs, found.mean) == (10, pytest.approx(-1.58))
    assert (found.low, found.high) == (pytest.approx(-2.4598858), pytest.approx(-0.7001142))
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    # Narrower than t, by the missing correction for few pairs: about 1.96 / 2.26 · √(9 / 10) of it.
    assert found.low < found.bootstrap_low < found.bootstrap_high < found.high
    assert (found.bootstrap_high - found.bootstrap_low) / (found.high - found.low) == pytest.approx(0.82, abs=0.06)
    assert paired_difference(by_seed(FIRST), by_seed(SECOND)) == found


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_difference({0: 3.0, 1: 5.0, 2: 9.0, 4: nan}, {1: 4.0, 2: 6.0, 3: 0.0, 4: 0.0})
    assert (found.pairs, found.mean) == (2, 2.0)


@pytest.mark.parametrize("values", [{}, {0: 0.7}, {0: 0.7, 1: 0.8, 2: 0.9}])
def test_without_a_spread_there_is_no_interval_and_no_winner(values: dict[int, float]) -> None:
    found = paired_difference(values, {seed: value - 0.1 for seed, value in values.items()})
    assert found.pairs == len(values)
    assert all(map(isnan, (found.low, found.high, found.bootstrap_low, found.bootstrap_high, found.p)))
    assert found.seeds_needed is None


@pytest.mark.parametrize(
    ("effect", "needed"),
    # R: ceiling(power.t.test(delta = effect, power = 0.8, type = "paired")$n), n = 198.15, 33.37, 14.30, 9.94, 4.22
    [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (2.0, 5)],
)
def test_seeds_needed_are_those_of_a_power_analysis(effect: float, needed: int) -> None:
    assert seeds_needed(effect * 0.3, 0.3) == needed
    assert seeds_needed(-effect * 7, 7) == needed


def test_a_difference_of_zero_but_for_rounding_is_zero() -> None:
    right, of = ((784, 781, 788), (787, 783, 783)), 797
    mine, reference = ({seed: 100 * (count / of) for seed, count in enumerate(counts)} for counts in right)
    found = paired_difference(mine, reference)
    assert 0 < abs(found.mean) < 1e-12
    assert found.seeds_needed is None


def test_no_number_of_seeds_tells_zero_from_zero() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.001, 1.0) == pytest.approx((1.959964 + 0.841621) ** 2 * 1e6, rel=1e-5)


def test_holm_on_a_worked_example() -> None:
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") gives 0.03 0.06 0.06 0.02."""
    assert holm([0.01, nan, 0.04, 0.03, 0.005]) == pytest.approx([0.03, nan, 0.06, 0.06, 0.02], nan_ok=True)
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_helps_and_keeps_the_order(p: list[float]) -> None:
    adjusted = np.array(holm(p))
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_few_seeds_are_said_to_be_few() -> None:
    assert "no spread" in str(warning_of_few(1))
    assert str(warning_of_few(2)).startswith("Very few seeds")
    assert "with 3, a 95 % interval reaches 2.5 standard deviations" in str(warning_of_few(3))
    assert str(warning_of_few(4)).startswith("Few seeds: with 4")
    assert warning_of_few(5) is None


def test_a_difference_over_images_of_one_seed_is_the_plain_bootstrap() -> None:
    random = np.random.default_rng(1)
    mine, reference = random.random((2, 1, 400)) < np.array([0.8, 0.7])[:, None, None]
    found = image_difference(mine, reference)
    differences = mine[0].astype(float) - reference[0]
    assert found.mean == pytest.approx(differences.mean())
    half = 1.96 * differences.std() / 400**0.5
    assert [found.low, found.high] == pytest.approx([found.mean - half, found.mean + half], abs=0.15 * half)
    assert found == image_difference(mine, reference)
    reverse = image_difference(reference, mine)
    assert (reverse.mean, reverse.low, reverse.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_seeds_that_disagree_widen_the_interval_and_images_do_too() -> None:
    """Var of the mean = seeds' part + images' part, as far as each is resampled."""
    seeds = np.broadcast_to(np.array([[0.0], [0.2], [0.4], [0.6]]), (4, 100))
    by_seed = image_difference(seeds, np.zeros((4, 100)))
    half = 1.96 * seeds[:, 0].std() / 2
    assert by_seed.mean == pytest.approx(0.3)
    assert by_seed.high - by_seed.low == pytest.approx(2 * half, rel=0.15)
    by_image = image_difference(np.tile(np.arange(100) % 2, (4, 1)), np.zeros((4, 100)))
    assert by_image.high - by_image.low == pytest.approx(2 * 1.96 * 0.05, rel=0.15)


@pytest.mark.parametrize("sizes", [[4] * 60, [1, 2, 3, 10] * 20])
def test_an_interval_by_groups_is_as_wide_as_of_so_many_images(sizes: list[int]) -> None:
    """Images of a group that are all alike say as much as one: the ratio estimator's variance by the delta method."""
    groups = np.random.default_rng(3).permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = (np.random.default_rng(2).random(len(sizes)) < 0.3).astype(float)
    found = image_difference(values[groups][None], np.zeros((1, sum(sizes))), groups)
    mean = np.average(values, weights=sizes)
    half = 1.96 * np.sqrt(np.sum((np.array(sizes) * (values - mean)) ** 2)) / sum(sizes)
    assert found.mean == pytest.approx(mean)
    assert [found.low, found.high] == pytest.approx([mean - half, mean + half], abs=0.25 * half)
    each = image_difference(values[groups][None], np.zeros((1, sum(sizes))))
    assert each.high - each.low < 0.75 * (found.high - found.low)


def test_one_group_or_image_alone_leaves_no_interval() -> None:
    for found in (
        image_difference(np.ones((3, 1)), np.zeros((3, 1))),
        image_difference(np.ones((3, 5)), np.zeros((3, 5)), np.zeros(5)),
    ):
        assert found.mean == 1
        assert np.isnan([found.low, found.high]).all()


def test_equal_outcomes_have_no_difference() -> None:
    assert image_difference(np.ones((3, 5)), np.ones((3, 5))) == (0, 0, 0)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((3,), (3,)), ((0, 3), (0, 3))])
def test_outcomes_that_do_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"must be \[seeds, images\]"):
        image_difference(*map(np.zeros, shapes))
