"""What is checked of the loop that a method is trained in, by its first two steps: nobody else sees what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from classmates.contracts import Batch
from classmates.data.batches.sampling import Sampling
from classmates.errors import UserError

if TYPE_CHECKING:
    from classmates.methods.base import Method

OWN_LOOP = "docs/own_loop.md"
"""The page that shows a right one."""


class FirstSteps:
    """What is left to check of the loop that a method is trained in; nothing after two steps.

    The host waits for the device where it looks at a batch: at the first, and where a batch repeats images of the one
    before, at the second too.

    Args:
        labels: [N], the class of every training sample.
        sampling: the batches that the method needs.
    """

    def __init__(self, labels: Tensor, sampling: Sampling):
        self.labels = labels
        self.sampling = sampling
        self.second = False
        self.epoch = 0
        self.before: Tensor | None = None

    def check(self, method: Method, batch: Batch) -> FirstSteps | None:
        """Check a training step before it is taken; return what is left to check, if anything.

        Raises:
            UserError: a batch of another kind than the method needs, or labels that are not those of its samples.
        """
        if self.second:
            note_epochs(method)
            if not self.sampling.looks_back or self.epoch != method._epoch or capturing(batch):
                return None
        who = type(method).__name__
        labels, indices = batch.labels.cpu(), batch.indices
        if indices is not None:  # as they may be for a method that remembers no image
            indices = indices.cpu()
            check_labels(who, labels, indices, self.labels.cpu())
        if not self.sampling.holds(labels, indices, self.before):
            raise UserError(
                f"{who} needs {self.sampling}, and this batch is not made of them: let "
                f"EpochSampler(method.sampling, labels, batch_size) draw its images ({OWN_LOOP})"
            )
        if self.second:
            return None
        self.second, self.before, self.epoch = True, indices, method._epoch
        return self


def capturing(batch: Batch) -> bool:
    """Return whether a CUDA graph is being made, in which nobody may wait for the device."""
    return batch.images.is_cuda and torch.cuda.is_current_stream_capturing()


def check_labels(who: str, labels: Tensor, indices: Tensor, known: Tensor) -> None:
    """Raise UserError where a batch's labels, [B], are not those that its samples, [B], are known to have, [N]."""
    if labels.shape != indices.shape or labels.ndim != 1:
        raise UserError(
            f"{who}: a batch with labels of shape {list(labels.shape)} and indices of shape {list(indices.shape)}: "
            "give one of each for every image"
        )
    outside = (indices < 0) | (indices >= len(known))
    if outside.any():
        raise UserError(
            f"{who}: the batch has index {indices[outside][0]}, and DataSpec has the labels of {len(known)} samples: "
            f"indices are places in these, from 0 ({OWN_LOOP})"
        )
    wrong = labels != known[indices]
    if wrong.any():
        sample = indices[wrong][0]
        raise UserError(
            f"{who}: the batch says that sample {sample} is of class {labels[wrong][0]}, and DataSpec that it is of "
            f"class {known[sample]}: indices are places in DataSpec's labels ({OWN_LOOP})"
        )


def note_epochs(method: Method) -> None:
    """Note where a method changes with the epoch and nobody has said how long training is."""
    if "epochs" not in vars(method) and (method.ramps or method.epoch_is_read):
        method.note(
            f"{type(method).__name__} changes from epoch to epoch, but nobody has said how many there are, so it "
            f"takes training for one epoch: set its epochs, and its epoch where one begins, from 0 ({OWN_LOOP})"
        )
