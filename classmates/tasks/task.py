"""A task: the loss of the labels, the batches which that needs, and the protocol that judges networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput, Terms
from classmates.data.batches.sampling import Sampling, Shuffled
from classmates.data.parts import ImageData, Split
from classmates.errors import UserError
from classmates.losses.peers import peers_cross_entropy
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.building.build import Output
from classmates.tasks.protocol import Protocol


class Task(ABC):
    """The loss of the labels and the protocol that judges a network; methods add terms to those of the task.

    A task is a frozen value whose fields are its options.

    Attributes:
        name: as flags and results have it.
        classes: whether training, validation and test images are of the same classes or of different ones.
        output: what the deployed network returns of an image.
        training_options: the options on which only training depends, not how a network is judged.
        renamed: present names of options by those that earlier versions had.
    """

    name: ClassVar[str]
    classes: ClassVar[Literal["shared", "disjoint"]] = "shared"
    output: ClassVar[Output] = "logits"
    training_options: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[Mapping[str, str]] = {}

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """The factor in front of each of its terms."""

    def weighted(self, labels: float) -> dict[str, float]:
        """Return the factors in front of its terms beside a method that weighs labels by this against its own."""
        return {name: labels * weight for name, weight in self.weights.items()}

    @property
    def sampling(self) -> Sampling:
        """The batches that its terms need; a method that needs others says so itself."""
        return Shuffled()

    @property
    @abstractmethod
    def protocol(self) -> Protocol:
        """The protocol that judges networks."""

    @property
    def trains_classifier(self) -> bool:
        """Whether its terms teach the networks' classifiers."""
        return True

    def beside(self, *, classifier: bool) -> Task:
        """Return the task as it is beside a method's terms. classifier: whether those look at classifiers' logits."""
        return self

    def training_network(
        self, network: nn.Module, num_classes: int, input_shape: tuple[int, int, int] | None
    ) -> nn.Module:
        """Return a network as it is trained, with a classifier of the training classes. input_shape: (C, H, W)."""
        return network

    def deployed(self, network: nn.Module) -> nn.Module:
        """Return the part of a network made by ``training_network`` that is deployed."""
        return network

    def logits(self, outputs: list[NetworkOutput], batch: Batch) -> Tensor:
        """Return the logits on which its first term rests, [M, R, K], for methods to which any rows will do.

        One row an image, of the classifiers' logits, unless the task compares images otherwise.
        """
        return stack_logits(outputs)

    def logit_classes(self, num_classes: int) -> int:
        """Return how many classes a row of ``logits`` tells apart: K. num_classes: of the training images."""
        return num_classes

    def recipe(self, images: ImageData) -> Mapping[str, Any] | None:
        """Return the arguments of ``train`` that are usual for it; None where those for any images will do."""
        return None

    def balanced(self, labels: Tensor, class_names: Sequence[str]) -> Task:
        """Return the task with classes of unequal size weighing alike; UserError where it does not weigh classes."""
        raise UserError(f"class_weights: the task {self.name} does not weigh classes: leave it out")

    def against_mixing(self) -> str | None:
        """Return why images mixed of two classes lose their meaning for it; None where they keep it."""
        return None

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
    def check_judged(self, split: Split, where: str) -> None:
        """Raise UserError where networks cannot be judged on a split. where: what to call it."""

    @abstractmethod
    def check_data(self, data: ImageData) -> None:
        """Raise UserError where the data are none for this task, such as splits of different classes."""
