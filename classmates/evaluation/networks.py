"""The network of a finished run that answers, in the form in which it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from classmates.errors import UserError
from classmates.evaluation.temperature import Calibrated, temperature_in
from classmates.networks.building.build import Output
from classmates.runs.exits import load_early_exit
from classmates.runs.student import StudentCard, load_embedder, load_student


def load_for_answers(
    run: str | Path,
    network: nn.Module | None = None,
    *,
    wants: Output | None = "logits",
    calibrated: bool = False,
    early_exit: bool = False,
    trust_code: bool = False,
) -> tuple[nn.Module, StudentCard]:
    """Load a student, on the CPU and in eval mode, with its card; ``run``, ``network``, ``trust_code`` as elsewhere.

    Args:
        wants: "logits" of its classes or the "embedding" that its classifier is given; None: whatever it gives.
        calibrated: logits are divided by the temperature in the card, which then says 1.
        early_exit: it answers at the first exit that is sure enough, by the thresholds in the card.

    Raises:
        UserError: no student, one that gives embeddings alone, or no temperature or thresholds in its card.
    """
    load = load_embedder if wants == "embedding" else load_early_exit if early_exit else load_student
    student, card = load(run, network, trust_code=trust_code)
    if wants == "logits":
        require_classes(card, f"the student in '{run}'")
    if calibrated:
        student, card = Calibrated(student, temperature_in(card, run)).eval(), replace(card, temperature=1.0)
    return student, card


def require_classes(card: StudentCard, student: str) -> None:
    """Raise UserError for a student that gives embeddings alone, which name no class."""
    if card.output != "logits":
        raise UserError(
            f"{student} gives embeddings, not classes: `classmates predict --support FOLDER`, with photos of some "
            "classes, names them"
        )
