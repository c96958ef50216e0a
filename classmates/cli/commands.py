"""The commands: which function each is, and how what it returns is printed and becomes an exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import classmates
from classmates._outlines import OUTLINES
from classmates.errors import UserError, unknown

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from classmates.comparisons.improvement import Improvement
    from classmates.deployment.exports_table import Exports
    from classmates.experiments.compare import Comparison
    from classmates.experiments.preview import Plan
    from classmates.experiments.sweep import Sweep
    from classmates.training.result import Result


def is_prose(result: Any) -> bool:
    """Return whether what is printed is for people: CSV and JSON are not, whose lines stay as they are."""
    return getattr(result, "attrs", {}).get("show", "table") == "table"


class Command(NamedTuple):
    """A function as a command.

    home, function: the function's module and name. summary: for the overview. positions: the arguments that are given
    without a flag. show: what is printed of what it returns. written: what is printed instead where that went to the
    file of ``--out``. wraps: whether it is put into lines that fit the terminal. code: the exit code.
    """

    home: str
    function: str
    summary: str
    positions: tuple[str, ...] = ()
    show: Callable[[Any], str] = str
    written: Callable[[Any, Path], str] | None = None
    wraps: Callable[[Any], bool] = is_prose
    code: Callable[[Any], int] = lambda result: 0

    def outline(self) -> Any:
        """Return the function as its source declares it; PyTorch takes seconds to import."""
        return OUTLINES.named(self.home, self.function)


RUNS_FAILED = 4
"""The exit code of a command that came to its end, but some of its runs failed, or none of its files was kept."""
USELESS = 3
"""The exit code of a training or an improvement whose student is no better than the commonest answer."""


def code_of_run(result: Result | None) -> int:
    """Return the exit code of a training."""
    record = result.record if result else None  # which only the first process of a distributed run has
    return USELESS if record and record.useless else 0


def code_of_runs(result: Comparison | Improvement | Sweep | Plan) -> int:
    """Return the exit code of a comparison or a search: whether a run failed; a plan has tried none.

    So it is of an improvement, whose student may be useless too.
    """
    table = getattr(result, "runs", getattr(result, "trials", None))
    failed = table is not None and bool(table["status"].str.contains("failed").any())
    useless = USELESS if getattr(result, "useless", False) else 0
    return RUNS_FAILED if failed else useless


def code_of_export(result: Exports | Path) -> int:
    """Return the exit code of an export: whether a file was kept, of several formats any."""
    return 0 if getattr(result, "kept", True) else RUNS_FAILED


def show_table(frame: pd.DataFrame) -> str:
    """Return a table without its index, in the form that was asked for."""
    from classmates.evaluation.answers import shown

    return shown(frame)


def show_written(frame: pd.DataFrame, file: Path) -> str:
    """Return a summary of a table that is in a file, or all of it where lines for programs were asked for too."""
    from classmates.evaluation.answers import shown, summary

    return summary(frame, file) if is_prose(frame) else shown(frame)


def public(function: str, *texts: Any, **more: Any) -> Command:
    """Return the command of a function of ``classmates``."""
    return Command(classmates._HOMES[function], function, *texts, **more)


COMMANDS = {
    "train": public("train", "train a network, test it, leave everything in a folder", code=code_of_run),
    "improve": public("improve", "make your network better, and say by how much it did", code=code_of_runs),
    "compare": public("compare", "compare methods, with tables and a report", code=code_of_runs),
    "sweep": public("sweep", "search options and settings, choosing on validation images", code=code_of_runs),
    "evaluate": public("evaluate", "score a trained student again, also on other data", ("run",)),
    "transfer": public("transfer", "judge a student's features by classes that are new to it", ("run",)),
    "predict": public("predict", "name the classes of image files", ("run", "images"), show_table, show_written),
    "export": public(
        "export", "write the student for other programs, and measure that", ("run",), code=code_of_export
    ),
    "push": public("push", "upload the student to the Hugging Face Hub, with its model card", ("run", "repo")),
    "report": public("report", "write a run's report again, one HTML file", ("run",)),
    "describe": public("describe", "show a model's stages, shared trunk, parameters and multiply-adds", ("model",)),
    "data": public("inspect", "show what a data set holds: counts, sizes, duplicates", ("data",)),
    "list": public("list", "list methods, models and data sets", ("what",)),
    "completion": Command(
        "classmates.cli.completion",
        "completion",
        "let a shell complete commands, flags and values",
        ("shell",),
        wraps=lambda result: False,
    ),
}

ELSEWHERE = {
    "fit": "train",
    "finetune": "train",
    "benchmark": "compare",
    "tune": "sweep",
    "search": "sweep",
    "test": "evaluate",
    "eval": "evaluate",
    "validate": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "convert": "export",
    "upload": "push",
    "inspect": "data",
    "help": "--help",
    "version": "--version",
}
"""What other programs call these commands."""


def unknown_command(word: str) -> UserError:
    """Make the error for a word that is no command; where none is like it, it names all as the overview has them."""
    if word in ELSEWHERE:
        return UserError(f"unknown command '{word}': did you mean '{ELSEWHERE[word]}'?")
    return unknown("command", word, COMMANDS, in_order=True)
