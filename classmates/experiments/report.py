"""``report``: the page of a run, or of a comparison of runs, written again from their files."""

from __future__ import annotations

from pathlib import Path

from classmates.comparisons.page import write_comparison
from classmates.comparisons.runs import DONE, protocol_of
from classmates.errors import UserError
from classmates.experiments.ledger import Ledger
from classmates.experiments.records import read_runs
from classmates.reporting.page import CannotWrite
from classmates.reporting.run_page import write_run_page


def report(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Write what a finished run, or a comparison of runs, says about itself as one HTML file that needs no network.

    Args:
        run: the run's folder, or that of a comparison, whose tables and figures are written again too.
        out: the file to write; without it, ``report.html`` in that folder.

    Returns:
        The file that was written. Either the whole of it is there or what was there before.

    Raises:
        UserError: not a finished run, a file of it is missing or damaged, or ``out`` cannot be written.
    """
    folder = Path(run)
    out = folder / "report.html" if out is None else Path(out)
    if out.is_dir():
        raise UserError(f"cannot write the report to {out}: it is a folder; give a file, like {out / 'report.html'}")
    try:
        write_page(folder, out)
    except CannotWrite as error:
        raise UserError(f"{error}; give another file as `out`") from error
    return out


def write_page(folder: Path, out: Path) -> None:
    """Write the page of a run's or a comparison's folder; errors as of ``report``."""
    if (folder / "comparison.yaml").is_file():
        ledger = Ledger(folder)
        recipe, planned = ledger.read_plan()
        if recipe.reference is None:
            raise UserError(
                f"{folder} is a search of settings, judged by validation images alone: what it found is in its "
                "trials.csv, and its against_baseline.yaml compares the best with Baseline"
            )
        runs = read_runs(ledger, planned)
        if (runs["status"] == DONE).any() and protocol_of(runs) is None:
            raise UserError(
                f"the runs in {folder} were not tested (test false), so that there is nothing to compare; what "
                "`classmates improve` found is in its verdict.md and, for a browser, its report.html"
            )
        write_comparison(ledger.folder, recipe.shown, runs, out)
    else:
        write_run_page(folder, out)
