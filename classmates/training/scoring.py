"""Scores of all networks of a run on a split, after the last epoch and as they were after the best one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from classmates.training.finetuning import AVERAGE, deploy_average
from classmates.training.module import TrainingModule


def predict_all(
    module: TrainingModule, batches: Iterable[Batch], device: torch.device, description: str
) -> Predictions:
    """Return the predictions of all networks on a split, and the student's features, in evaluation mode."""
    method = module.method.to(device).eval()

    def predict(batch: Tensor) -> tuple[dict[str, Tensor], NetworkOutput | None]:
        outputs = method.networks.judged(batch.to(device))
        return module.protocol.predictions(method, outputs), outputs[-1]

    return collect(predict, batches, description=description)


def score_all(protocol: Protocol, predictions: Predictions) -> dict[str, Scores]:
    """Return the scores of every network."""
    labels, groups = predictions.labels, predictions.groups
    return {who: protocol.score(predicted, labels, groups) for who, predicted in predictions.logits.items()}


@dataclass(frozen=True)
class BestEpoch:
    """The method after the epoch that was best for the student on validation images.

    Args:
        number: of the epoch, from 1.
        state: the method's, with averages where they are deployed.
        own: the student's own weights, where the average of its peers is deployed.
    """

    number: int
    state: dict[str, Any]
    own: dict[str, Tensor] | None = None

    def load_into(self, method: Method) -> None:
        """Let the method be as it was then."""
        method.load_state_dict(self.state)
        # Once more: a method of methods has its networks under the names of each, where no average is.
        place = "networks."
        networks = {name.removeprefix(place): value for name, value in self.state.items() if name.startswith(place)}
        method.networks.load_state_dict(networks)
        method.networks.own = self.own

    @contextmanager
    def loaded(self, method: Method) -> Iterator[None]:
        """Let the method be as it was then, within the block."""
        with _restored(method):
            self.load_into(method)
            yield


@contextmanager
def _restored(method: Method) -> Iterator[None]:
    """Let the method be after the block what it was before."""
    final = {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, Tensor)}
    own = method.networks.own
    try:
        yield
    finally:
        method.load_state_dict(final, strict=False)
        method.networks.own = own


def best_epoch(run: RunFolder, module: TrainingModule, device: torch.device) -> BestEpoch:
    """Return the best epoch as its checkpoint has it; an average of peers is made as at the end of training.

    To be called before anything is scored, which ends training mode.
    """
    checkpoint, method, prefix = load_checkpoint(run.best), module.method, "method."
    state = {key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items()}
    number = checkpoint["epoch"] + 1
    if not method.deploys_average:
        return BestEpoch(number, state | checkpoint.get(AVERAGE, {}))
    with _restored(method.to(device)):
        BestEpoch(number, state).load_into(method)
        deploy_average(module, checkpoint["epoch"], device)
        average = {f"networks.{name}": value.clone() for name, value in method.networks.state_dict().items()}
        return BestEpoch(number, state | average, method.networks.own)


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
