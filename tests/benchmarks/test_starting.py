from pathlib import Path

import pytest

from benchmarks import before, starting

HERE = Path(__file__).parents[2]


def test_help_and_a_mistyped_flag_import_no_torch() -> None:
    for words in (starting.COMMANDS["train --help"], starting.COMMANDS["a mistyped flag"]):
        used = starting.used(HERE, words)
        assert 0 < used.cpu_s < 2
        assert used.peak_mib < 150  # PyTorch alone takes more


def test_versions_are_compared_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "COMMANDS", {"--version": ("--version",)})
    times = before.milliseconds(HERE, ["starting"])
    assert list(times.index) == [("starting", "--version")]
    assert 10 < times.iloc[0] < 10_000
