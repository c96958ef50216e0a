"""Few-shot learning: episodes of the training classes, judged by episodes of classes that were never trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from classmates._memory import require_memory
from classmates.contracts import Batch, NetworkOutput, Terms
from classmates.data.batches.episodes import Episodes
from classmates.data.parts import ImageData, Split
from classmates.data.readers.listing import listed
from classmates.errors import UserError, check_choice
from classmates.losses.peers import peers_cross_entropy
from classmates.losses.prototypes import Distance, episode_logits, prototypical_loss
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.building.build import Output
from classmates.networks.building.embedding import Classified, with_classifier
from classmates.tasks.episodes import EpisodeProtocol
from classmates.tasks.task import Task

HALVED_EVERY = 2000
"""Episodes after which the learning rate is halved (Snell et al., section 3.2)."""


@dataclass(frozen=True)
class FewShot(Task):
    """Classes are told apart by a few images of each: queries by the nearest prototype (Snell et al., NeurIPS 2017).

    Training images come in episodes. Terms, each a sum over all networks: ``episode``, the cross-entropy of the
    queries against the prototypes of their episode; ``ce``, that of a classifier of all training classes on every
    image of the episode. That classifier is there for training alone: the deployed network returns embeddings.

    Args:
        way: classes of a training episode. Published: 30 for 1 shot, 20 for 5.
        shot: images of a class that make its prototype, in training and where networks are judged.
        queries: other images of the class that are told apart by it, in a training episode.
        episodes: how many make an epoch.
        distance: between a query and a prototype: squared "euclidean", or "cosine".
        scale: the factor from distance to logit. 1 is published for the squared distance; the cosine needs about 10.
        classifier: weight of ``ce``; if not given, 1 beside methods that teach classifiers' logits, 0 beside others.
        eval_way: classes of an episode where networks are judged, on validation and test images.
        eval_queries: queries of a class there.
        eval_episodes: how many there are.
        eval_seed: of the list of these episodes, which is the same for all networks, methods and seeds.

    Raises:
        UserError: numbers that are too small, or a distance that is neither of the two.
    """

    name: ClassVar[str] = "few_shot"
    classes: ClassVar[Literal["shared", "disjoint"]] = "disjoint"
    output: ClassVar[Output] = "embedding"
    training_options: ClassVar[tuple[str, ...]] = ("way", "queries", "episodes", "classifier")

    way: int = 20
    shot: int = 1
    queries: int = 15
    episodes: int = 100
    distance: Distance = "euclidean"
    scale: float = 1.0
    classifier: float | None = None
    eval_way: int = 5
    eval_queries: int = 15
    eval_episodes: int = 600
    eval_seed: int = 0

    def __post_init__(self) -> None:
        check_choice("distance", self.distance, Distance)
        least = {"way": 2, "shot": 1, "queries": 1, "episodes": 1}
        least |= {"eval_way": 2, "eval_queries": 1, "eval_episodes": 2, "eval_seed": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(f"{name}={getattr(self, name)}: few-shot learning needs {smallest} or more")
        sizes = {
            "episodes": self.episodes * self.way * (self.shot + self.queries),
            "eval_episodes": self.eval_episodes * self.eval_way * (self.shot + self.eval_queries),
        }
        for name, size in sizes.items():
            require_memory(f"{name}={getattr(self, name)}", "the images' numbers", size * torch.int64.itemsize)
        if not self.scale > 0:
            raise UserError(f"scale={self.scale}: the factor from distance to logit must be above 0")
        if self.classifier is not None and self.classifier < 0:
            raise UserError(f"classifier={self.classifier}: the weight of a loss is 0 or more")

    @property
    def weights(self) -> Mapping[str, float]:
        return {"episode": 1.0, "ce": self.classifier or 0.0}

    def weighted(self, labels: float) -> dict[str, float]:
        """Return the same, but of the classifier's cross-entropy alone: methods weigh it against what else is taught
        to classifiers, and the episodes go on beside that."""
        return {"episode": 1.0, "ce": labels * self.weights["ce"]}

    @property
    def sampling(self) -> Episodes:
        return Episodes(self.way, self.shot, self.queries, self.episodes)

    @property
    def protocol(self) -> EpisodeProtocol:
        return EpisodeProtocol(
            self.eval_way,
            self.shot,
            self.eval_queries,
            self.eval_episodes,
            self.eval_seed,
            self.distance,
            self.scale,
        )

    @property
    def trains_classifier(self) -> bool:
        return bool(self.classifier)

    def beside(self, *, classifier: bool) -> FewShot:
        return self if self.classifier is not None else replace(self, classifier=float(classifier))

    def training_network(
        self, network: nn.Module, num_classes: int, input_shape: tuple[int, int, int] | None
    ) -> nn.Module:
        return with_classifier(network, num_classes, input_shape)

    def deployed(self, network: nn.Module) -> nn.Module:
        return network.body if isinstance(network, Classified) else network

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {
            "episode": lambda: torch.stack([prototypical_loss(self.of_episodes(one)) for one in outputs]).sum(),
            "ce": lambda: self.cross_entropy(stack_logits(outputs), batch),
        }

    def cross_entropy(self, logits: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the same of logits of all training classes."""
        return peers_cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)

    def logits(self, outputs: list[NetworkOutput], batch: Batch) -> Tensor:
        """Return the logits of every query against the prototypes of its episode, [M, E·W·Q, W]."""
        return torch.stack([self.of_episodes(output).flatten(0, 1) for output in outputs])

    def logit_classes(self, num_classes: int) -> int:
        """Return W, the classes of an episode."""
        return self.way

    def of_episodes(self, output: NetworkOutput) -> Tensor:
        """Return one network's logits of the queries of a batch of whole episodes, [E, W·Q, W]."""
        images = len(output.embedding)
        if images % self.sampling.group:
            raise UserError(
                f"a batch of {images} images is not made of {self.sampling}: {self.sampling.group} each, so use the "
                "method's sampling"
            )
        embeddings = output.embedding.view(-1, self.way, self.shot + self.queries, output.embedding.shape[1])
        return episode_logits(embeddings, self.shot, distance=self.distance, scale=self.scale)

    def recipe(self, images: ImageData) -> Mapping[str, Any]:
        """Return Snell et al.'s training: Adam from 1e-3, halved every 2,000 episodes; one episode a step.

        Never from published weights unless asked for: they may have seen the classes that are to be new.
        """
        return {
            "model": "conv4",
            "pretrained": False,
            "epochs": 200,
            "batch_size": self.sampling.group,
            "optimizer": "Adam",
            "optimizer_args": None,
            "lr": 1e-3,
            "schedule": "StepLR",
            "schedule_args": {"step_size": max(1, round(HALVED_EVERY / self.episodes)), "gamma": 0.5},
            "warmup_epochs": 0.0,
        }

    def against_mixing(self) -> str:
        return "an episode's images are each of one class"

    def check_data(self, data: ImageData) -> None:
        """Raise UserError for classes in two parts, and for a part of which no episode can be made."""
        parts = {"training": data.train, "validation": data.val, "test": data.test}
        known = {name: split for name, split in parts.items() if split is not None}
        for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
            if one in known and other in known:
                both = [name for name in known[one].class_names if name in known[other].class_names]
                if both:
                    raise UserError(
                        f"the {one} and the {other} images of '{data.name}' share {listed(both)}: few-shot learning "
                        "is judged on classes that were never trained on; give every part classes of its own"
                    )
        for name, split in known.items():
            where = f"the {name} images of '{data.name}'"
            if name == "training":
                self.sampling.check(split.labels, split.class_names, where)
            else:
                self.check_judged(split, where)

    def check_judged(self, split: Split, where: str) -> None:
        self.protocol.sampling.check(split.labels, split.class_names, where, ("eval_way", "eval_queries"))
