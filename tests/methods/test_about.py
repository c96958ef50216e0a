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


def test_each_is_in_a_group_that_is_listed() -> None:
    assert GROUPS.keys() == set(get_args(Group))
    wrong = {}
    for name, kind in known_methods().items():
        group, year = kind.about.group, kind.about.year
        with_teacher = issubclass(kind, TeacherMethod) and kind.needs_teacher
        if group not in GROUPS or (group == "teacher") != with_teacher or not (year is None or 2012 < year < 2100):
            wrong[name] = group, year
    assert wrong == {}


def test_their_costs_are_what_was_measured() -> None:
    measured = pd.read_csv(STEPS).set_index("name")["ratio"]
    missing = known_methods().keys() - set(measured.index)
    assert not missing, "not measured yet: python -m benchmarks --only steps"
    wrong = {
        name: (kind.about.cost, measured[name])
        for name, kind in known_methods().items()
        if kind.about.cost != pytest.approx(measured[name], rel=0.1, abs=0.06)
    }
    assert wrong == {}


def test_their_texts_have_what_other_values_they_take_from_trained_weights() -> None:
    """Where these are more than that its peers begin from the weights too."""
    wrong = {}
    for name, kind in known_methods().items():
        if kind.fine_tuning == Method.fine_tuning:
            continue
        values = [
            f'{option} "{value}"' if isinstance(value, str) else f"{option} {value}"
            for option, value in kind.fine_tuning.items()
        ]
        expected = f"Where training begins from trained weights, what is not chosen is {', '.join(values)}."
        if expected not in " ".join((kind.__doc__ or "").split()):
            wrong[name] = expected
    assert wrong == {}


def test_what_sweep_tries_of_them_are_their_own_options_about_their_defaults() -> None:
    wrong = {}
    for name, kind in known_methods().items():
        options, search = options_of(kind), kind.about.search
        if len(search) > 2:
            wrong[name] = f"{len(search)} options"
        for option, values in search.items():
            default = options[option].default if option in options else "no option"
            held = default in values or default is None
            if not held or sorted(set(values)) != list(values) or len(values) != 3:
                wrong[f"{name}, {option}"] = f"{values}, default {default}"
    assert wrong == {}


def test_only_what_has_no_weights_has_none_to_try() -> None:
    without = {name for name, kind in known_methods().items() if not kind.about.search}
    assert without == {"Baseline", "Combined"}
