"""The base class of all methods: networks, named terms with a weight each, and what is scored and deployed."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import Sampling, Shuffled, common_sampling
from classmates.errors import UserError, check_choice, level_of_the_user
from classmates.losses.peers import ensemble_logits
from classmates.losses.ramps import Ramp
from classmates.methods.about import About
from classmates.methods.checks import check_networks, check_term_weights, computed, drops_at_random, offered_terms
from classmates.methods.first_steps import OWN_LOOP, FirstSteps
from classmates.methods.lengths import scaled_lengths
from classmates.networks.backbone.observe import by_network, stack_logits
from classmates.networks.heads.exits import MultiExit
from classmates.networks.memory.gather import local_buffers
from classmates.networks.peers.peers import Peers
from classmates.tasks.classification import Classification
from classmates.tasks.task import Task

Views = Literal["shared", "own"]
Deploy = Literal["auto", "student", "average"]


class Output(NamedTuple):
    """Results of one step. outputs: one a network, the student's last. terms: raw scalars. total: the loss."""

    outputs: list[NetworkOutput]
    terms: dict[str, Tensor]
    total: Tensor


class Method(nn.Module, ABC):
    """Train ``networks`` by a weighted sum of named terms: those of the task, from the labels, and its own.

    A subclass is called with a network and a DataSpec, and gives this constructor its networks and weights. Its other
    arguments are its options: typed, with the paper's defaults.

    Args:
        networks: the networks side by side, the student last.
        data: what is known of the training data; names the task.
        weights: the factor in front of each of its own terms; a term whose factor is 0 is not computed.
        labels: the factor on the labels' side of the loss (``Task.weighted``); None leaves the task's terms to the
            method.
        classifier: whether its terms look at the networks' classifiers; where not, and the task does not teach them
            either, they stay as they are.
        sampling: the batches that its terms need; any will do if not given.
        prefers: the batches that suit its terms best, which it is trained on where the task takes any.
        ramps: by the name of a term, its own or the task's: a factor on its weight that changes with the epoch.
        views: "shared" shows every network the same augmentation of each image, "own" each one of its own.
        deploy: "average" scores and deploys the average of all peers' weights, which must have begun alike
            (start "identical"); "auto" does so where they have, and else takes the student as it is.

    Raises:
        UserError: networks that are no Peers, weights that are all 0, one that is negative or not finite, a task that
            needs other batches than the method, a single network with "own" views, or weights that did not begin
            alike are to be averaged.

    Attributes:
        about: the facts about it that help to choose a method.
        fine_tuning: the options that take other values than their defaults where training begins from trained
            weights, unless they are chosen; those that a method does not have mean nothing.
        lengths: the names of the options that are numbers of epochs; each is kept as an attribute of that name.
        renamed: present names of options by those that earlier versions had.
        mixes: whether images mixed of two classes (Mixup, CutMix) keep their meaning for its terms.
        task: what the labels teach, and how networks are judged.
        needed_sampling, preferred_sampling: the batches that its terms and the task need; and that suit it best.
        views: how many augmentations of each image a batch of it has: 1, or one for each network.
        weights, ramps: of all its terms, the task's included.
        notes: what it had to decide for the data at hand.
        deploys_average: whether the student becomes the average of all peers' weights when training ends.
        epoch, epochs: where training is (from 0) and how long it is; set by whoever drives the loop, read by ramps.
            A method that changes with the epoch notes where nobody has set ``epochs``.
        begins_step: whether a batch begins a step, as all do unless gradients are accumulated; set likewise.
        generation: how often its networks have begun anew (``BornAgain``).
    """

    about: ClassVar[About]
    fine_tuning: ClassVar[Mapping[str, Any]] = {"start": "same"}
    lengths: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[Mapping[str, str]] = {}
    mixes: ClassVar[bool] = False
    epochs: int = 1
    generation: int = 0

    def __init__(
        self,
        networks: Peers,
        data: DataSpec,
        weights: Mapping[str, float] | None = None,
        *,
        labels: float | None = 1.0,
        classifier: bool = True,
        sampling: Sampling | None = None,
        prefers: Sampling | None = None,
        ramps: Mapping[str, Ramp] | None = None,
        views: Views = "shared",
        deploy: Deploy = "student",
    ):
        check_choice("views", views, Views)
        check_choice("deploy", deploy, Deploy)
        check_networks(type(self).__name__, networks, views, deploy)
        super().__init__()
        self.task: Task = (data.task or Classification()).beside(classifier=classifier)
        if not (classifier or self.task.trains_classifier):
            networks.train_classifiers(False)
        self.needed_sampling = common_sampling(
            {type(self).__name__: sampling or Shuffled(), f"the task {self.task.name}": self.task.sampling}
        )
        self.preferred_sampling = prefers
        self.labels = labels
        of_labels = {} if labels is None else self.task.weighted(labels)
        self.weights = {**of_labels, **(weights or {})}
        check_term_weights(type(self), self.weights)
        if not any(self.weights.values()):
            raise UserError(
                f"every term has weight 0 ({', '.join(self.weights)}): give at least one of them another weight"
            )
        self.ramps = dict(ramps or {})
        self.networks = networks
        self.views = len(networks) if views == "own" else 1
        self.deploys_average = networks.begin_alike and deploy != "student"
        self._epoch = 0
        self.begins_step, self.epoch_is_read = True, False
        self.first_steps: FirstSteps | None = FirstSteps(data.labels, self.needed_sampling)
        self.notes: list[str] = []
        if self.views > 1 and not data.augmented:
            self.note("views='own', but the images are not augmented: all networks see the same")

    @property
    def epoch(self) -> int:
        """The epoch, from 0."""
        self.epoch_is_read = True
        return self._epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        if number != self._epoch:
            self._epoch = number
            self.begin_epoch()

    def begin_epoch(self) -> None:
        """Do what is due once an epoch, outside of the steps; called where ``epoch`` changes."""

    @property
    def sampling(self) -> Sampling:
        """The batches that it is trained on: those it needs or else, where any will do, those it prefers."""
        anything = self.needed_sampling == Shuffled()
        return self.preferred_sampling if anything and self.preferred_sampling else self.needed_sampling

    @property
    def phase(self) -> Hashable:
        """What steps that are computed alike share: the terms' weights, and the epoch if not only ramps read it."""
        return tuple(self.weight(name) for name in self.weights), self._epoch if self.epoch_is_read else None

    def weight(self, name: str, epoch: int | None = None) -> float:
        """Return the factor in front of a term at an epoch (now, if not given): its weight times its ramp."""
        ramp, now = self.ramps.get(name), self._epoch if epoch is None else epoch
        if ramp is None:
            return self.weights[name]
        if now >= self.epochs:
            raise UserError(
                f"{type(self).__name__} changes from epoch to epoch, and epoch {now} (from 0) is none of its "
                f"{self.epochs}: set its epochs, how many training has, before the first step ({OWN_LOOP})"
            )
        return self.weights[name] * ramp(now, self.epochs)

    @classmethod
    def scale_lengths(cls, options: Mapping[str, Any], factor: float) -> dict[str, Any]:
        """Return the options with every one that is a number of epochs times a factor."""
        return scaled_lengths(options, cls.lengths, factor)

    @classmethod
    def training_stages(cls, options: Mapping[str, Any]) -> int:
        """Return in how many parts of equal length it trains whose epochs do not cost alike; most have one."""
        return 1

    @classmethod
    def from_weights(cls, options: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
        """Return the options for networks that begin from trained weights; those that were chosen stay."""
        wanted = {"start": "same"} if "peer_models" in chosen else cls.fine_tuning
        fitting = {name: value for name, value in wanted.items() if name in options and name not in chosen}
        return {**options, **fitting}

    def check_length(self, epochs: int) -> list[str]:
        """Return a note for each of its lengths that training for so many epochs does not reach the end of.

        Raises:
            UserError: it cannot train for so many epochs.
        """
        lengths = {name: getattr(self, name) for name in self.lengths}
        return [
            f"{name}={length} epochs, but training has {epochs}: it ends before that is over"
            for name, length in lengths.items()
            if length > epochs
        ]

    def check_peers_differ(self) -> None:
        """Raise UserError where peers that begin identical would stay so, as nothing tells them apart."""
        if not self.networks.begin_alike or self.views > 1 or self.tells_peers_apart():
            return
        own = (module for peer in self.networks.networks[:-1] for module in peer.modules())  # not those of a trunk
        if not any(map(drops_at_random, own)):
            raise UserError(
                "start='identical': peers that begin alike and see the same images stay copies of one another: say "
                "--method.views own"
            )

    def tells_peers_apart(self) -> bool:
        """Return whether its terms teach each peer something else, so that peers which begin alike part."""
        return False

    def check_combinable(self) -> None:
        """Raise UserError where a method is more than its terms, so that ``Combined`` would lose the rest."""
        for part, does in {"anchors": "trains on a part of each batch", "forward": "takes steps of its own"}.items():
            if getattr(type(self), part) is not getattr(Method, part):
                raise UserError(f"{type(self).__name__} {does}: it cannot be combined")

    def share_with(self, others: Sequence[Method]) -> None:
        """Share with methods that are combined with it what both have, such as a teacher; most have nothing."""

    def forget_step(self) -> None:
        """Let go of what it shares within a step."""

    def against_mixing(self) -> str | None:
        """Return why images mixed of two classes lose their meaning for its terms; None where they keep it."""
        return None if self.mixes else "it does not say that its terms keep their meaning with them (mixes)"

    def require_cross_entropy(self) -> None:
        """Raise UserError where the task has no cross-entropy, for methods that change it."""
        if not self.task.weights.get("ce"):
            raise UserError(
                f"{type(self).__name__} changes the labels' cross-entropy, and the task {self.task.name} has none"
                f"{' (its classifier is 0)' if 'ce' in self.task.weights else ''}"
            )

    def note(self, text: str) -> None:
        """Keep what had to be decided for the data at hand, for the run's summary and report, and warn of it."""
        self.notes.append(text)
        warnings.warn(text, stacklevel=level_of_the_user())

    def anchors(self, batch: Batch) -> Batch:
        """Return the images that the networks run on and whose labels count: for most methods the whole batch."""
        return batch

    @abstractmethod
    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        """Return the method's own terms by name, each a function of nothing that returns a raw, unweighted scalar.

        Functions, so that a term whose weight is 0 costs nothing. The names are those of ``weights``; a term of the
        same name as one of the task's replaces it. A term that keeps something across steps (a memory bank) writes it
        after its value is made, in training mode only.
        """

    def label_terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        """Return the task's terms, from the labels of the anchors alone."""
        return {} if self.labels is None else self.task.terms(outputs, batch)

    def teach_classifiers(self, task: Task) -> None:
        """Take a task that teaches the networks' classifiers, as another method beside this one needs them."""
        self.task = task
        self.weights |= {} if self.labels is None else task.weighted(self.labels)

    def forward(self, batch: Batch) -> Output:
        """Take one step: run the networks, compute the raw terms and their weighted sum."""
        if self.first_steps is not None and self.training and not torch.compiler.is_compiling():
            self.first_steps = self.first_steps.check(self, batch)
        anchors = self.anchors(batch)
        outputs = self.outputs(anchors)
        who = type(self).__name__
        offered = offered_terms(who, self.label_terms(outputs, anchors), self.terms(outputs, batch), self.weights)
        weights = {name: self.weight(name) for name in offered}
        terms = {name: computed(who, name, term) for name, term in offered.items() if weights[name] != 0}
        if not terms:
            raise UserError(f"every term of {who} has weight 0 in epoch {self._epoch} (from 0)")
        total = torch.stack([weights[name] * term.float() for name, term in terms.items()]).sum()
        return Output(outputs, terms, total)

    def outputs(self, batch: Batch) -> list[NetworkOutput]:
        """Return every network's output of a batch, the student's last; each of its own view where it has one."""
        if self.views == 1:
            return self.networks(batch.images)
        if len(batch.views) != self.views:
            raise UserError(
                f"a batch of {len(batch.views)} views: {type(self).__name__} shows each of its {self.views} networks "
                f"another augmentation of the images; train_loader(..., views={self.views}) makes them ({OWN_LOOP})"
            )
        return self.networks.forward_each(batch.views)

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return the logits [B, K] that classification scores, by whose they are; with peers an ensemble's too.

        outputs: of all networks, the student's last; or of all peers, with that of their average, which is then the
        student, after them (``Peers.judged``).
        """
        own = {who: output.logits for who, output in by_network(outputs).items()}
        peers = outputs[: len(self.networks)]  # their average is none of the ensemble
        return own if len(outputs) == 1 else {**own, "ensemble": ensemble_logits(stack_logits(peers))}

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        return local_buffers(self)  # read by DistributedDataParallel where it wraps the method itself

    def exit_costs(self) -> list[float] | None:
        """Return the compute until each exit answers, shallow to deep, the student last with 1; None without exits.

        With it, ``predictions`` has the logits of all but the last as exit1, exit2, ....
        """
        return None

    def exits(self) -> MultiExit | None:
        """Return the network with its early exits, to be deployed with them; None without exits."""
        return None

    def student(self) -> nn.Module:
        """Return the network that is deployed, with nothing of the method in it."""
        return self.task.deployed(self.networks.student)
