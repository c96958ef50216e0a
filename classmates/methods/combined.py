"""Several methods on one network at once, as long as they agree on the networks and on the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from classmates import methods as known_methods
from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.data.batches.samplers import EpochSampler, Shuffled, Triplets
from classmates.errors import UserError, unknown
from classmates.methods.base import Method, Terms

Part = str | Mapping[str, Any] | Callable[[nn.Module, DataSpec], Method]
DEFAULT: tuple[Part, ...] = ("CORSD", "MCL")
ABSTRACT = ("Method", "Output")  # exported beside the methods


class Combined(Method):
    """The terms of all its methods, each under its method's name: ``CORSD/relation``, ``MCL/contrast``.

    At most one of them may bring peers; the others then work on the student among them. The student learns from the
    labels once, as the method with the peers (else the first one) has it: the others' term ``ce`` has weight 0. At
    most one of them may need batches of its own; those that take any images take these. Where several have exits, the
    first one's are scored.

    Args:
        methods: names (CORSD), names with options ({class_path: MCL, init_args: {peers: 2}}), or in Python anything
            that makes a Method of a network and a DataSpec.

    Raises UserError for fewer than two methods, unknown ones, methods that disagree or are more than their terms, and
    one with no term but the labels' where another has that.
    """

    sampling: type[EpochSampler] = Triplets

    def __init__(self, network: nn.Module, data: DataSpec, *, methods: Sequence[Part] = DEFAULT):
        if len(methods) < 2:
            raise UserError(f"{len(methods)} method to combine: name two or more")
        parts = [make(part, network, data) for part in methods]
        names = [type(part).__name__ for part in parts]
        if len(set(names)) < len(names):
            raise UserError(f"{', '.join(names)}: a method cannot be combined with itself")
        for part in parts:
            part.check_combinable()
        with_peers = [part for part in parts if len(part.networks) > 1]
        if len(with_peers) > 1:
            both = " and ".join(type(part).__name__ for part in with_peers)
            raise UserError(f"{both} each bring peers of their own: only one of the combined methods can")
        sampling = common_sampling(zip(names, (part.sampling for part in parts), strict=True))
        leading = (with_peers or parts)[0]
        for name, part in zip(names, parts, strict=True):
            if part is not leading and "ce" in part.weights:
                part.weights["ce"] = 0.0
                if not any(part.weights.values()):
                    raise UserError(
                        f"{name} has no term but the labels', and {type(leading).__name__} has that: leave one of "
                        f"them out{'' if with_peers else f', or name {name} first'}"
                    )
        networks = leading.networks
        super().__init__(
            networks,
            weights={
                f"{name}/{term}": weight
                for name, part in zip(names, parts, strict=True)
                for term, weight in part.weights.items()
            },
        )
        self.sampling = sampling
        for part in parts:
            self.notes += part.notes
            part.networks = networks
        self.parts = nn.ModuleDict(dict(zip(names, parts, strict=True)))
        self.leading = type(leading).__name__

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        terms: Terms = {}
        for name, part in self.methods():
            part.epoch, part.epochs = self.epoch, self.epochs
            own_outputs = outputs if name == self.leading else outputs[-1:]
            terms |= {f"{name}/{term}": value for term, value in part.terms(own_outputs, batch).items()}
        return terms

    def methods(self) -> list[tuple[str, Method]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Method)]

    def leading_first(self) -> list[tuple[str, Method]]:
        return sorted(self.methods(), key=lambda item: item[0] != self.leading)

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """As the method with the peers scores them, and whatever the others add on the student."""
        predicted: dict[str, Tensor] = {}
        for name, part in self.leading_first():
            predicted = part.predictions(outputs if name == self.leading else outputs[-1:]) | predicted
        return predicted

    def exit_costs(self) -> list[float] | None:
        """Those of the first method that has exits."""
        every = (part.exit_costs() for _, part in self.leading_first())
        return next((costs for costs in every if costs is not None), None)

    def check_length(self, epochs: int) -> list[str]:
        """What each of its methods says."""
        return [f"{name}: {note}" for name, part in self.methods() for note in part.check_length(epochs)]

    def check_combinable(self) -> None:
        raise UserError("a Combined method cannot be combined again: name all methods in one list")

    @classmethod
    def sampling_for(cls, options: Mapping[str, Any]) -> type[EpochSampler]:
        """That of its methods, given by their names, with options or without."""
        found = [find(part) for part in options.get("methods", DEFAULT)]
        return common_sampling((kind.__name__, kind.sampling_for(given)) for kind, given in found)


def common_sampling(wanted: Iterable[tuple[str, type[EpochSampler]]]) -> type[EpochSampler]:
    """The batches that suit all the methods, of each its name and what it needs; UserError where there are none."""
    particular = [(name, sampling) for name, sampling in wanted if sampling is not Shuffled]
    if len({sampling for _, sampling in particular}) > 1:
        kinds = " and ".join(f"{name} ({sampling.__name__})" for name, sampling in particular)
        raise UserError(f"{kinds} need different batches: only one of the combined methods can")
    return particular[0][1] if particular else Shuffled


def find(part: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A method's class by its name, and the options that are given with it."""
    if isinstance(part, str):
        part = {"class_path": part}
    name = str(part.get("class_path", "")).rpartition(".")[2]
    kinds = {known: getattr(known_methods, known) for known in known_methods.__all__ if known not in ABSTRACT}
    if name not in kinds:
        raise unknown("method", name, kinds)
    return kinds[name], dict(part.get("init_args") or {})


def make(part: Part, network: nn.Module, data: DataSpec) -> Method:
    """A method by its name, its name with options, or whatever makes it."""
    if not isinstance(part, str | Mapping):
        return part(network, data)
    kind, options = find(part)
    try:
        return kind(network, data, **options)
    except TypeError as error:
        raise UserError(f"method {kind.__name__}: {error}") from error
