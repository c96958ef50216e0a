"""Several methods on one network at once, as long as they agree on the networks and on the batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from classmates import methods as known_methods
from classmates.contracts import Batch, DataSpec, View
from classmates.data.samplers import Shuffled
from classmates.errors import UserError, unknown
from classmates.methods.base import Method, Terms

Part = str | Mapping[str, Any] | Callable[[nn.Module, DataSpec], Method]


class Combined(Method):
    """The terms of all its methods, each under its method's name: ``CORSD/relation``, ``MCL/contrast``.

    At most one of them may bring peers; the others then work on the student among them. The student learns from the
    labels once, as the method with the peers (else the first one) has it: the others' term ``ce`` has weight 0. At
    most one of them may need batches of its own; those that take any images take these.

    Args:
        methods: names (CORSD), names with options ({class_path: MCL, init_args: {peers: 2}}), or in Python anything
            that makes a Method of a network and a DataSpec.

    Raises UserError for fewer than two methods, unknown ones, and methods that disagree.
    """

    def __init__(self, network: nn.Module, data: DataSpec, *, methods: Sequence[Part] = ("CORSD", "MCL")):
        if len(methods) < 2:
            raise UserError(f"{len(methods)} method to combine: name two or more")
        parts = [make(part, network, data) for part in methods]
        names = [type(part).__name__ for part in parts]
        if len(set(names)) < len(names):
            raise UserError(f"{', '.join(names)}: a method cannot be combined with itself")
        for part in parts:
            if type(part).look is not Method.look:
                raise UserError(
                    f"{type(part).__name__} looks at its batches in a way of its own: it cannot be combined"
                )
        with_peers = [part for part in parts if len(part.networks) > 1]
        if len(with_peers) > 1:
            both = " and ".join(type(part).__name__ for part in with_peers)
            raise UserError(f"{both} each bring peers of their own: only one of the combined methods can")
        particular = {part.sampling for part in parts if part.sampling is not Shuffled}
        if len(particular) > 1:
            kinds = " and ".join(
                f"{type(part).__name__} ({part.sampling.__name__})" for part in parts if part.sampling in particular
            )
            raise UserError(f"{kinds} need different batches: only one of the combined methods can")
        leading = (with_peers or parts)[0]
        for part in parts:
            if part is not leading and "ce" in part.weights:
                part.weights["ce"] = 0.0
        networks = leading.networks
        super().__init__(
            networks,
            weights={
                f"{name}/{term}": weight
                for name, part in zip(names, parts, strict=True)
                for term, weight in part.weights.items()
            },
        )
        self.sampling = next(iter(particular), Shuffled)
        for part in parts:
            self.notes += part.notes
            part.networks = networks
        self.parts = nn.ModuleDict(dict(zip(names, parts, strict=True)))
        self.leading = type(leading).__name__

    def terms(self, views: list[View], batch: Batch) -> Terms:
        terms: Terms = {}
        for name, part in self.methods():
            part.epoch, part.epochs = self.epoch, self.epochs
            own_views = views if name == self.leading else views[-1:]
            terms |= {f"{name}/{term}": value for term, value in part.terms(own_views, batch).items()}
        return terms

    def methods(self) -> list[tuple[str, Method]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Method)]

    def predictions(self, views: list[View]) -> dict[str, Tensor]:
        """As the method with the peers scores them, and whatever the others add on the student."""
        predicted: dict[str, Tensor] = {}
        for name, part in sorted(self.methods(), key=lambda item: item[0] == self.leading):
            predicted |= part.predictions(views if name == self.leading else views[-1:])
        return predicted


def make(part: Part, network: nn.Module, data: DataSpec) -> Method:
    """A method by its name, its name with options, or whatever makes it."""
    if isinstance(part, str):
        part = {"class_path": part}
    if not isinstance(part, Mapping):
        return part(network, data)
    name = str(part.get("class_path", "")).rpartition(".")[2]
    if name not in known_methods.__all__:
        raise unknown("method", name, known_methods.__all__)
    options = dict(part.get("init_args") or {})
    try:
        return getattr(known_methods, name)(network, data, **options)
    except TypeError as error:
        raise UserError(f"method {name}: {error}") from error
