"""Times are of what was called, in the calm rounds; tables say all they should."""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import ceilings, harness, pinning
from benchmarks.__main__ import BENCHMARKS, names


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every call takes as many milliseconds as it returns; the list is for calls to leave their names in."""
    monkeypatch.setattr(harness, "milliseconds", lambda function, clock: function())
    return []


def test_rounds_with_a_slow_canary_are_dropped(clock: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = iter([1.0] * 3 + [1.3] * 3 + [5.0] * 3 + [1.1] * 3)
    monkeypatch.setattr(harness, "make_canary", lambda: lambda: next(canaries))
    first, second = iter([0, 10, 12, 99, 14]), iter([0, 30, 24, 990, 70])
    frame = harness.interleave({"a": lambda: next(first), "b": lambda: next(second)}, rounds=4, reference="a")
    assert frame.index.name == "name"
    assert frame.loc["a"].to_dict() == {"median_ms": 12, "min_ms": 10, "max_ms": 14, "ratio": 1, "rounds": 3}
    assert frame.loc["b"].to_dict() == {"median_ms": 30, "min_ms": 24, "max_ms": 70, "ratio": 3, "rounds": 3}


def test_candidates_take_turns(clock: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "make_canary", lambda: lambda: 1.0)
    calls = {name: lambda name=name: clock.append(name) or 1.0 for name in "ab"}
    harness.interleave(calls, rounds=2)
    assert "".join(clock) == "ab" * 3  # the first of each is the warm-up


def test_milliseconds() -> None:
    assert harness.milliseconds(lambda: None) < harness.milliseconds(
        lambda: torch.randn(300, 300) @ torch.randn(300, 300)
    )


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "one": {"ms": 1234.5, "ratio": 1.0, "count": 3},
        "two": {"ms": 0.01234, "ratio": float("nan"), "count": 4000},
    }
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name").astype({"count": int})
    harness.write(frame, "some_table", tmp_path, "What this is.")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "some_table.csv", index_col="name"), frame)
    title, _, note, _, head, rule, first, second, _, made, *_ = (tmp_path / "some_table.md").read_text().splitlines()
    assert (title, note) == ("# Some table", "What this is.")
    assert (head, rule) == ("| name | ms | ratio | count |", "| --- | ---: | ---: | ---: |")
    assert (first, second) == ("| one | 1,234 | 1 | 3 |", "| two | 0.0123 |  | 4,000 |")
    assert made.startswith("Measured with `python -m benchmarks")
    assert f"torch {torch.__version__.split('+')[0]}" in made
    assert note in capsys.readouterr().out


def test_every_benchmark_has_its_file() -> None:
    folder = Path(harness.__file__).parent
    assert [name for name in BENCHMARKS if not (folder / f"{name}.py").exists()] == []
    assert names("steps,trainer") == ["steps", "trainer"]
    with pytest.raises(Exception, match="unknown benchmark 'step': there are contrast"):
        names("step")


def test_settling_starts_again_once_and_keeps_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(pinning.sys, "platform", "linux")
    monkeypatch.setattr(pinning.os, "execve", lambda program, arguments, environment: started.append(environment))
    pinning.settle({"OMP_NUM_THREADS": "3", "HOME": "here"})
    (environment,) = started
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["HOME"] == "here"
    assert environment["OMP_PROC_BIND"] == "true"
    pinning.settle(environment)
    assert len(started) == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process to cores")
def test_a_pinned_program_still_knows_the_cores_it_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_PLACES", raising=False)
    assert pinning.cores() == sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_PLACES", "{2},{5}")
    assert pinning.cores() == [2, 5]
    assert pinning.settings()["OMP_NUM_THREADS"] == "2"


def test_ceilings_are_of_the_dtypes_that_the_device_multiplies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "seconds", lambda function: 1.0)
    for multiplies, expected in ((True, {torch.float32, torch.bfloat16}), (False, {torch.float32})):
        monkeypatch.setattr(ceilings, "has_bfloat16", lambda device, multiplies=multiplies: multiplies)
        assert set(ceilings.ceilings().flops) == expected


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("benchmarks.__main__", "python -m benchmarks"),
        ("benchmarks.before", "python -m benchmarks.before"),
        ("pytest.__main__", "python -m benchmarks"),
    ],
)
def test_a_table_says_by_which_command_it_was_made(
    module: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec(module, None))
    monkeypatch.setattr(sys, "argv", ["file", "--quick"])
    harness.write(pd.DataFrame({"ms": [1.0]}, index=pd.Index(["row"], name="name")), "table", tmp_path, "About it.")
    assert f"Measured with `{command} --quick` on " in (tmp_path / "table.md").read_text(encoding="utf-8")
