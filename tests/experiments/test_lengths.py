"""Rows are checked at the length that their runs have, before the first of them."""

import pytest

from classmates.errors import UserError
from classmates.experiments.lengths import at_length
from tests.experiments.test_plan import plan

HINTED = """
from classmates import Baseline
from classmates.errors import UserError


class Hinted(Baseline):
    lengths = ("hints",)

    def __init__(self, network, data, *, hints: int = 1):
        super().__init__(network, data)
        self.hints = hints

    def check_length(self, epochs):
        if self.hints >= epochs:
            raise UserError(f"hints={self.hints} of {epochs} epochs")
        return []
"""


@pytest.mark.parametrize(
    ("row", "times", "why"),
    [
        ("BornAgain", "0.1", "generations=2 in 1 epochs"),
        ("BornAgain(generations=20)", "1.5", "generations=20 in 15 epochs"),
        ("BornAgain(generations=20)", "2", None),
        ("Hinted(hints=6)", "0.1", "hints=1 of 1 epochs"),
        ("Hinted(hints=6)", "0.5", None),
        ("Hinted(hints=12)", "3", "hints=36 of 30 epochs"),
    ],
)
def test_a_longer_or_shorter_row_is_checked_at_its_own_length(tmp_path, row, times, why):
    (tmp_path / "own.py").write_text(HINTED)
    entry = f"{row.replace('Hinted', f'{tmp_path}/own.py:Hinted')} ({times} x as long)"
    if why is None:
        assert plan("Baseline", entry, epochs=10)[1].epochs == 10 * float(times)
    else:
        with pytest.raises(UserError, match=f"^row '.* as long.*' with model 'resnet8' on 'digits': {why}"):
            plan("Baseline", entry, epochs=10)


@pytest.mark.parametrize(
    ("warmup", "epochs", "longer", "scaled"),
    [
        (0.3, 3, 9, 0.9),  # 0.8999999999999999 as multiplied
        (0.7, 7, 21, 2.1),
        (5.0, 30, 37, 5.0 * (37 / 30)),  # to the last bit: identities of runs are made of it
        (1.0, 3, 1, 1 / 3),
        (0, 10, 20, 0),
    ],
)
def test_a_warm_up_is_scaled_without_what_arithmetic_leaves(warmup, epochs, longer, scaled):
    settings = {"epochs": epochs, "method": "Baseline", "warmup_epochs": warmup, "schedule_args": None}
    assert at_length(settings, longer)["warmup_epochs"] == scaled


@pytest.mark.parametrize("epochs", [1, 3])
def test_so_is_a_row_whose_length_a_budget_has_chosen(small, monkeypatch, tmp_path, epochs):
    (tmp_path / "own.py").write_text(HINTED)
    monkeypatch.setattr("classmates.experiments.compare.run_all", lambda *_: None)
    monkeypatch.setattr(
        "classmates.experiments.compare.equalised", lambda jobs, *_: [job.with_epochs(epochs) for job in jobs]
    )
    given = {"budget": "steps", "train": {"epochs": 10}}
    if epochs > 1:
        assert [job.epochs for job in small(f"{tmp_path}/own.py:Hinted", **given).plan] == [epochs]
    else:
        with pytest.raises(UserError, match=r"^row '.*Hinted' with model 'resnet8' on 'digits': hints=1 of 1 epochs"):
            small(f"{tmp_path}/own.py:Hinted", **given)
