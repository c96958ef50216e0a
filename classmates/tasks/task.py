"""A task: the loss of the labels, the batches which that needs, and the protocol that judges networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from classmates.contracts import Batch, NetworkOutput, Terms
from classmates.data.batches.sampling import Sampling, Shuffled
from classmates.data.parts import ImageData
from classmates.losses.peers import peers_cross_entropy
from classmates.tasks.protocol import Protocol


class Task(ABC):
    """The loss of the labels and the protocol that judges a network; methods add terms to those of the task.

    Attributes:
        name: as flags and results have it.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """The factor in front of each of its terms."""

    @property
    def sampling(self) -> Sampling:
        """The batches that its terms need; a method that needs others says so itself."""
        return Shuffled()

    @property
    @abstractmethod
    def protocol(self) -> Protocol:
        """The protocol that judges networks."""

    @abstractmethod
    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        """Return what the labels teach all networks, term by term: the sum over networks, raw and unweighted.

        outputs: one a network, the student's last. batch: the images that they are of.
        """

    def cross_entropy(self, logits: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the sum over rows of logits of their mean cross-entropy with a batch's targets, or else its labels.

        For methods that teach more by the labels than the task does, such as exits or an ensemble.

        logits: [M, B, K]. label_smoothing: the share of the targets that is spread evenly over all classes.
        """
        return peers_cross_entropy(logits, batch.truth, label_smoothing=label_smoothing)

    @abstractmethod
    def check_data(self, data: ImageData) -> None:
        """Raise UserError where the data are none for this task, such as splits of different classes."""
