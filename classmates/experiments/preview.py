"""The plan of a comparison or a search: its runs, their state, and the time that is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from classmates._shown import Shown
from classmates.experiments.budget import place
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import seconds_per_epoch, training_left
from classmates.experiments.plan import Job
from classmates.experiments.records import state_of
from classmates.reporting.page import duration


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """The runs that are wanted; as text a line for each row, model and data set.

    folder: where they are or would be. jobs: every run. ledger: what is there already. note: what else is to be said.
    """

    folder: Path
    jobs: Sequence[Job]
    ledger: Ledger
    note: str = ""

    @property
    def headline(self) -> str:
        return self._rest()

    def __str__(self) -> str:
        states = pd.DataFrame([state_of(self.ledger, job, self.ledger.status(job)) for job in self.jobs])
        parts = [self._table(states).to_string(index=False), *failures(states), self._rest(), self.note]
        return "\n\n".join(part for part in parts if part)

    def _table(self, states: pd.DataFrame) -> pd.DataFrame:
        """Tell how the runs of each row, model and data set stand, and what one of them takes."""
        known = seconds_per_epoch(self.ledger, self.jobs)
        jobs: dict[tuple[str, str, str], list[int]] = {}
        for number, job in enumerate(self.jobs):
            jobs.setdefault(place(job), []).append(number)
        lines = []
        for where, numbers in jobs.items():
            counts = Counter(states["status"].iloc[numbers])
            epochs = self.jobs[numbers[0]].epochs
            lines.append(
                dict(zip(("row", "model", "data"), where, strict=True))
                | {"seeds": len(numbers), "epochs": epochs}
                | {"state": ", ".join(f"{count} {state}" for state, count in counts.items())}
                | {"a run takes": f"about {duration(known[where] * epochs)}" if where in known else "unknown"}
            )
        return pd.DataFrame(lines)

    def _rest(self) -> str:
        """Tell how much is left to do."""
        left = [job for job in self.jobs if self.ledger.result(job) is None]
        begun = f"{len(left)} of {len(self.jobs)} runs to do in {self.folder}"
        seconds = training_left(self.ledger, self.jobs)
        if not left:
            return f"All {len(self.jobs)} runs are done, in {self.folder}."
        if seconds is None:
            return f"{begun}; what they take is known once one of them has trained an epoch."
        known = seconds_per_epoch(self.ledger, self.jobs)
        guessed = "" if all(place(job) in known for job in left) else ", where unknown by the cost of their methods"
        return f"{begun}: about {duration(seconds)} of training, one after the other{guessed}."


def failures(runs: pd.DataFrame) -> list[str]:
    """Write which of the runs (lines of ``read_runs``) failed and why: a paragraph, or none."""
    failed = runs[runs["status"] == "failed"]
    if failed.empty:
        return []
    lines = [
        f"  {run['row']}, {run['model']}, {run['data']}, seed {run['seed']}: {run['failure']}"
        for run in failed.to_dict("records")
    ]
    return ["\n".join([f"{len(failed)} of {len(runs)} runs failed; the same command tries them again:", *lines])]
