"""Runs that lie in the folder too: what of them is another than in the plan."""

from dataclasses import replace
from itertools import permutations

import pytest

from classmates.experiments.identity import Identity
from classmates.experiments.records import difference
from tests.experiments.test_plan import plan


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"code": "old"}, "other version"),
        ({"code": "old", "data": "another"}, "other data"),
        ({"data": "another"}, "other data"),
        ({"config": "another"}, "other settings"),
    ],
)
def test_a_run_is_held_against_the_planned_one_most_like_it(changed, told):
    (job,) = plan("Baseline")
    planned = [replace(job, data=name, identity=Identity("same", "new", name)) for name in ("a", "b", "c")]
    for order in permutations(planned):
        for one in planned:
            assert difference(replace(one, identity=replace(one.identity, **changed)), order) == told
    assert difference(replace(planned[0], row="another"), planned) == "other settings"
