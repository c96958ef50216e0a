"""Scores of all networks of a run on a split, after the last epoch and as they were after the best one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from classmates.contracts import Batch, NetworkOutput
from classmates.evaluation.collect import Predictions, collect
from classmates.evaluation.exits import score_exits, tune_thresholds
from classmates.methods.base import Method
from classmates.runs.folder import RunFolder
from classmates.runs.record import EarlyExits
from classmates.tasks.protocol import Protocol, Scores
from classmates.training.checkpoints import load_checkpoint
from classmates.training.finetuning import AVERAGE
from classmates.training.module import TrainingModule


def predict_all(
    module: TrainingModule, batches: Iterable[Batch], device: torch.device, description: str
) -> Predictions:
    """Return the predictions of all networks on a split, and the student's features, in evaluation mode."""
    method = module.method.to(device).eval()

    def predict(batch: Tensor) -> tuple[dict[str, Tensor], NetworkOutput | None]:
        outputs = method.networks(batch.to(device))
        return module.protocol.predictions(method, outputs), outputs[-1]

    return collect(predict, batches, description=description)


def score_all(protocol: Protocol, predictions: Predictions) -> dict[str, Scores]:
    """Return the scores of every network."""
    labels, groups = predictions.labels, predictions.groups
    return {who: protocol.score(predicted, labels, groups) for who, predicted in predictions.logits.items()}


def best_state(run: RunFolder) -> tuple[int, dict[str, Any]]:
    """Return the epoch, from 1, that was best for the student on validation images, and the method's state then."""
    checkpoint = load_checkpoint(run.best)
    prefix = "method."
    state = {key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items()}
    state |= {f"networks.{key}": value for key, value in checkpoint.get(AVERAGE, {}).items()}
    return checkpoint["epoch"] + 1, state


@contextmanager
def best_networks(run: RunFolder, method: Method) -> Iterator[int]:
    """Within the block, the method is as it was after the best epoch, whose number from 1 the block gets."""
    final = {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, Tensor)}
    epoch, state = best_state(run)
    method.load_state_dict(state)
    try:
        yield epoch
    finally:
        method.load_state_dict(final, strict=False)


def early_exits(method: Method, validation: Predictions | None, test: Predictions) -> EarlyExits | None:
    """Return how a network with exits does if it may answer early: thresholds tuned on validation, scored on test.

    They are the cheapest that are no less accurate than the student on validation images. None without exits, or
    without validation images to tune on.
    """
    costs = method.exit_costs()
    if costs is None or validation is None:
        return None
    names = [*(f"exit{number}" for number in range(1, len(costs))), "student"]
    if not test.logits.keys() >= set(names):  # the exits' logits are not what is judged
        return None
    tuning, testing = (torch.stack([made.logits[name] for name in names]) for made in (validation, test))
    thresholds = tune_thresholds(tuning, validation.labels, costs)
    return EarlyExits(thresholds, *score_exits(testing, test.labels, costs, thresholds))
