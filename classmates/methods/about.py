"""The facts about a method that help to choose one: each method declares its own, lists and docs show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Group = Literal["online", "self", "teacher", "control", "several"]


@dataclass(frozen=True)
class About:
    """The facts about a method.

    Args:
        group: what its student learns from beside the labels: its peers ("online"), itself ("self"), a trained
            network ("teacher"), nothing ("control"), or as several methods say.
        year: of its paper.
        cost: the time of a training step with its defaults over ``Baseline``'s, as results/benchmarks/steps.csv has
        it.
        needs: what it needs beyond images, labels and, by its group, a teacher; in words, empty for nothing.
        search: the values of its options that ``sweep`` tries where the user names none, the published or default one
            among them: of the weights that its paper had to choose, at most two.
    """

    group: Group
    year: int | None
    cost: float
    needs: str = ""
    search: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
