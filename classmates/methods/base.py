"""What every method is made of: networks, named terms with a weight each, and what is scored and deployed."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput
from classmates.data.batches.samplers import EpochSampler, Shuffled
from classmates.errors import UserError, unknown
from classmates.losses.peers import ensemble_logits
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.memory.gather import local_buffers
from classmates.networks.peers.peers import Peers

Terms = dict[str, Callable[[], Tensor]]


class Output(NamedTuple):
    """Results of one step. outputs: one a network, the student's last. terms: raw scalars. total: the loss."""

    outputs: list[NetworkOutput]
    terms: dict[str, Tensor]
    total: Tensor


class Method(nn.Module, ABC):
    """Trains ``networks`` by a weighted sum of named terms; everything else about training is somebody else's.

    A subclass is called with a network and a DataSpec, hands its arrangement and weights to this constructor and says
    what its terms are. Its other arguments are its options: typed, with the paper's defaults.

    Attributes:
        sampling: what kind of batches it needs; the class's own is that of its default options.
        lengths: the names of the options that are numbers of epochs, so that they can follow the length of training.
        networks: the networks side by side, the student last.
        weights: the factor in front of each term; a term whose factor is 0 is not computed.
        options: the arguments it was made with, defaults included, without the network and the data.
        notes: what it had to decide for the data at hand.
        epoch, epochs: where training is (from 0) and how long it is; set by whoever drives the loop, read by ramps.
    """

    sampling: type[EpochSampler] = Shuffled
    lengths: ClassVar[tuple[str, ...]] = ()
    options: dict[str, Any]

    def __init__(self, networks: Peers, weights: Mapping[str, float]):
        super().__init__()
        if not any(weights.values()):
            raise UserError(
                f"every term has weight 0 ({', '.join(weights)}): give at least one of them another weight"
            )
        self.networks = networks
        self.weights = dict(weights)
        self.epoch = 0
        self.epochs = 1
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Says what had to be decided for the data at hand; kept in ``notes``, for the run's summary and report."""
        self.notes.append(text)
        warnings.warn(text, stacklevel=4)  # 4: whoever makes the method, past its wrapped __init__

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__init__ = _noting_options(cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def sampling_for(cls, options: Mapping[str, Any]) -> type[EpochSampler]:
        """What kind of batches it needs with these options, as plain values; those left out are at their defaults.

        Raises UserError for options that no batches are right for.
        """
        return cls.sampling

    def check_length(self, epochs: int) -> list[str]:
        """Called before training: a note for each of its lengths that so many epochs do not reach the end of.

        Raises UserError where it cannot train for so many epochs.
        """
        return [
            f"{name}={value} epochs, but training has {epochs}: it ends before that is over"
            for name, value in self.options.items()
            if name in self.lengths and value > epochs
        ]

    def check_combinable(self) -> None:
        """Raises UserError where a method is more than its terms, so that ``Combined`` would lose the rest."""
        for way, does in {"look": "looks at its batches", "forward": "takes its steps"}.items():
            if getattr(type(self), way) is not getattr(Method, way):
                raise UserError(f"{type(self).__name__} {does} in a way of its own: it cannot be combined")

    def look(self, batch: Batch) -> list[NetworkOutput]:
        """The networks' outputs of the images that the terms are about: for most methods all of the batch."""
        return self.networks(batch.images)

    @abstractmethod
    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        """The loss term by term, each a function of nothing that returns a raw, unweighted scalar.

        Functions, so that a term whose weight is 0 costs nothing. The names are those of ``weights``. A term that
        keeps something across steps (a memory bank) writes it after its value is made, in training mode only.
        """

    def forward(self, batch: Batch) -> Output:
        """One step: the networks' outputs, the raw terms and their weighted sum."""
        outputs = self.look(batch)
        offered = self.terms(outputs, batch)
        if offered.keys() != self.weights.keys():
            raise TypeError(
                f"{type(self).__name__} offers terms {sorted(offered)} for weights {sorted(self.weights)}"
            )
        terms = {name: term() for name, term in offered.items() if self.weights[name] != 0}
        total = torch.stack([self.weights[name] * term.float() for name, term in terms.items()]).sum()
        return Output(outputs, terms, total)

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """The logits [B, K] that evaluation scores, by whose they are; more than one network also as an ensemble."""
        student = {"student": outputs[-1].logits}
        if len(outputs) == 1:
            return student
        peers = {f"peer{number}": output.logits for number, output in enumerate(outputs[:-1], start=1)}
        return {**student, **peers, "ensemble": ensemble_logits(stack_logits(outputs))}

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        return local_buffers(self)  # read by DistributedDataParallel where it wraps the method itself

    def exit_costs(self) -> list[float] | None:
        """The compute until each exit answers, shallow to deep, the student last with 1; None without exits.

        With it, ``predictions`` has the logits of all but the last as exit1, exit2, ....
        """
        return None

    def student(self) -> nn.Module:
        """The network that is deployed, with nothing of the method in it."""
        return self.networks.student


def check_word(option: str, word: str, words: Collection[str]) -> None:
    """Raises UserError, naming the nearest, where the value of an option is none of its words."""
    if word not in words:
        raise unknown(option, word, words)


def check_temperature(**temperatures: float) -> None:
    """Raises UserError, naming the option, for a temperature that is not above 0."""
    for name, value in temperatures.items():
        if not value > 0:
            raise UserError(f"{name}={value}: a temperature must be above 0")


def _noting_options(init: Callable[..., None]) -> Callable[..., None]:
    """An ``__init__`` that also keeps its arguments as ``options``, so that a run can say exactly what it was."""
    signature = inspect.signature(init)

    @wraps(init)
    def wrapper(self: Method, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        init(self, *args, **kwargs)
        self.options = dict(list(bound.arguments.items())[3:])  # after self, network and data
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:  # options handed on to a base class
                self.options |= self.options.pop(name)

    return wrapper
