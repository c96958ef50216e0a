"""What a search tries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmates.errors import UserError
from classmates.experiments.space import draws, grid


def test_a_grid_is_every_combination():
    assert grid({"lr": [1, 2], "method.beta": [0, 1]}) == [
        {"lr": lr, "method.beta": beta} for lr in (1, 2) for beta in (0, 1)
    ]


@given(st.integers(1, 30), st.integers(0, 5))
def test_draws_are_within_bounds_and_the_same_for_a_seed(count, seed):
    space = {"lr": "loguniform(0.001, 0.1)", "momentum": "uniform(0.5, 1)", "peers": "integers(2, 4)", "beta": [0, 1]}
    drawn = draws(space, count, seed)
    assert drawn == draws(space, count + 3, seed)[:count]
    for values in drawn:
        assert 0.001 <= values["lr"] <= 0.1
        assert 0.5 <= values["momentum"] <= 1
        assert values["peers"] in (2, 3, 4)
        assert values["beta"] in (0, 1)


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(0, 5))
def test_draws_of_any_range_are_in_it_and_differ(low, width, seed):
    found = [values["x"] for values in draws({"x": f"uniform({low}, {low + width})"}, 50, seed)]
    assert all(low <= value <= low + width for value in found)
    assert len(set(found)) > 10


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e6), st.integers(0, 5))
def test_draws_of_any_ratio_are_in_it_and_differ(low, ratio, seed):
    found = [values["x"] for values in draws({"x": f"loguniform({low}, {low * ratio})"}, 50, seed)]
    assert all(low <= value <= low * ratio for value in found)
    assert len(set(found)) > 10


def test_the_logarithm_is_what_is_even():
    rates = [values["lr"] for values in draws({"lr": "loguniform(0.0001, 1)"}, 2000)]
    assert 0.45 < sum(rate < 0.01 for rate in rates) / 2000 < 0.55


@pytest.mark.parametrize("values", [[], 3, "uniform(1)", "uniform(2, 1)", "loguniform(0, 1)", "uniform(a, b)", "0.1"])
def test_what_cannot_be_drawn(values):
    with pytest.raises(UserError, match="space: lr is"):
        draws({"lr": values}, 1)


def test_unknown_distributions_and_grids_without_lists():
    with pytest.raises(UserError, match="unknown distribution of lr 'logunifrom': did you mean 'loguniform'"):
        draws({"lr": "logunifrom(1, 2)"}, 1)
    with pytest.raises(UserError, match=r"a grid needs a list.* --search random"):
        grid({"lr": "uniform(0, 1)"})
