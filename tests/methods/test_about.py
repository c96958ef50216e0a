"""Every method says what helps to choose it, and what it says of its cost was measured."""

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from classmates.catalog import GROUPS
from classmates.configuration.choosing import options_of
from classmates.methods import Method
from classmates.methods.about import Group
from classmates.methods.spec import known_methods
from classmates.methods.teacher_method import TeacherMethod

STEPS = Path(__file__).resolve().parents[2] / "results" / "benchmarks" / "steps.csv"


def test_it_is_in_a_group_that_is_listed(kind: type[Method]) -> None:
    assert GROUPS.keys() == set(get_args(Group))
    assert kind.about.group in GROUPS
    assert (kind.about.group == "teacher") == (issubclass(kind, TeacherMethod) and kind.needs_teacher)
    assert kind.about.year is None or 2012 < kind.about.year < 2100


def test_its_cost_is_what_was_measured(kind: type[Method]) -> None:
    measured = pd.read_csv(STEPS).set_index("name")["ratio"]
    assert kind.__name__ in measured, "not measured yet: python -m benchmarks --only steps"
    assert kind.about.cost == pytest.approx(measured[kind.__name__], rel=0.1, abs=0.06)


def test_its_text_has_what_other_values_it_takes_from_trained_weights(kind: type[Method]) -> None:
    """Where these are more than that its peers begin from the weights too."""
    if kind.fine_tuning == Method.fine_tuning:
        return
    said = " ".join((kind.__doc__ or "").split())
    values = [
        f'{name} "{value}"' if isinstance(value, str) else f"{name} {value}"
        for name, value in kind.fine_tuning.items()
    ]
    assert f"Where training begins from trained weights, what is not chosen is {', '.join(values)}." in said


def test_what_sweep_tries_of_it_are_its_own_options_about_their_defaults(kind: type[Method]) -> None:
    options = options_of(kind)
    assert len(kind.about.search) <= 2
    for name, values in kind.about.search.items():
        default = options[name].default
        assert default in values or default is None
        assert sorted(set(values)) == list(values)
        assert len(values) == 3


def test_only_what_has_no_weights_has_none_to_try() -> None:
    without = {name for name, kind in known_methods().items() if not kind.about.search}
    assert without == {"Baseline", "Combined"}
