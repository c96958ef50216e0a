"""Several methods on one network at once, as long as they agree on the networks and on the batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import common_sampling
from classmates.errors import UserError
from classmates.methods.about import About
from classmates.methods.base import Method, Output
from classmates.methods.spec import MethodSpec
from classmates.networks.heads.exits import MultiExit

T = TypeVar("T")
Part = str | Mapping[str, Any] | Callable[[nn.Module, DataSpec], Method]


class Combined(Method):
    """The terms of all its methods, each under its method's name: ``CORSD/relation``, ``MCL/contrast``.

    L is the sum of its methods' losses, but for the labels' terms: the student learns from the labels once, as the
    method with the peers (else the first one) has it, and those of the others have weight 0. At most one of them may
    bring peers; the others then work on the student among them. At most one of them may need batches of its own;
    those that take any images take these. Where several have exits, the first one's are scored. Those that learn from
    the same teacher share it: it runs once a step.

    Args:
        methods: names (CORSD), names with options ({class_path: MCL, init_args: {peers: 2}}), or in Python anything
            that makes a Method of a network and a DataSpec.

    Raises:
        UserError: fewer than two methods, unknown ones, methods that disagree or are more than their terms, or one
            with no term but the labels' where another has that.
    """

    about = About("several", None, 3.3)

    def __init__(self, network: nn.Module, data: DataSpec, *, methods: Sequence[Part] = ("CORSD", "MCL")):
        if len(methods) < 2:
            raise UserError(f"{len(methods)} method to combine: name two or more")
        parts = named([make(part, network, data) for part in methods])
        for part in parts.values():
            part.check_combinable()
        leading = leader(parts)
        teaching = [part.task for part in parts.values() if part.task.trains_classifier]
        if teaching:
            # Another of them, which teaches none, may have frozen those of the same network.
            parts[leading].networks.train_classifiers(True)
            if not parts[leading].task.trains_classifier:
                parts[leading].teach_classifiers(teaching[0])
        for name, part in parts.items():
            if name != leading:
                leave_labels_to(parts[leading], part)
        super().__init__(
            parts[leading].networks,
            data,
            weights=by_term({name: part.weights for name, part in parts.items()}),
            labels=None,
            sampling=common_sampling({name: part.needed_sampling for name, part in parts.items()}),
            prefers=next(filter(None, (part.preferred_sampling for part in parts.values())), None),
            ramps=by_term({name: part.ramps for name, part in parts.items()}),
            views="own" if parts[leading].views > 1 else "shared",
            deploy="average" if parts[leading].deploys_average else "student",
        )
        for part in parts.values():
            self.notes += [note for note in part.notes if note not in self.notes]
            part.networks = self.networks
        made = list(parts.values())
        for number, part in enumerate(made):
            part.share_with(made[:number])
        self.parts = nn.ModuleDict(parts)
        self.leading = leading

    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        for _, part in self.methods():
            part.forget_step()
        return output

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        for _, part in self.methods():
            part.forget_step()  # one before this that came to no end
        self.hand_on()
        terms: dict[str, Terms] = {}
        for name, part in self.methods():
            own = self.outputs_for(name, outputs)
            terms[name] = {**part.label_terms(own, batch), **part.terms(own, batch)}
        return by_term(terms)

    def begin_epoch(self) -> None:
        for _, part in self.methods():
            part.epoch = self._epoch

    def hand_on(self) -> None:
        """Tell its methods what the loop has set, which changes without a call."""
        for _, part in self.methods():
            part.epochs, part.begins_step = self.epochs, self.begins_step

    @property
    def phase(self) -> Hashable:
        """Its own and that of each of its methods."""
        self.hand_on()  # it is asked for before the first step of a run that goes on
        return super().phase, tuple(part.phase for _, part in self.methods())

    def tells_peers_apart(self) -> bool:
        """Return whether they do; what is beside the method with the peers teaches one of them, the student."""
        return len(self.networks) == 2 or dict(self.methods())[self.leading].tells_peers_apart()

    def outputs_for(self, name: str, outputs: list[NetworkOutput]) -> list[NetworkOutput]:
        """Return the outputs of the networks that a method works on: all, or the student's."""
        return outputs if name == self.leading else outputs[-1:]

    def methods(self) -> list[tuple[str, Method]]:
        """Return its methods by name."""
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Method)]

    def leading_first(self) -> list[tuple[str, Method]]:
        """Return its methods by name, beginning with the one whose networks they all work on."""
        return sorted(self.methods(), key=lambda item: item[0] != self.leading)

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return those of the method with the peers, and whatever the others add on the student; exits of one."""
        predicted: dict[str, Tensor] = {}
        scored = self.with_exits()
        for name, part in self.leading_first():
            own = part.predictions(self.outputs_for(name, outputs))
            if part is not scored:
                own = {who: logits for who, logits in own.items() if not who.startswith("exit")}
            predicted = own | predicted
        return predicted

    def with_exits(self) -> Method | None:
        """Return the first method that has exits: they are scored and deployed."""
        return next((part for _, part in self.leading_first() if part.exits() is not None), None)

    def exit_costs(self) -> list[float] | None:
        scored = self.with_exits()
        return None if scored is None else scored.exit_costs()

    def exits(self) -> MultiExit | None:
        scored = self.with_exits()
        return None if scored is None else scored.exits()

    @classmethod
    def scale_lengths(cls, options: Mapping[str, Any], factor: float) -> dict[str, Any]:
        """Return the options with the lengths of each of its methods times a factor."""
        specs = [(part, MethodSpec.of(part)) for part in options["methods"]]
        return {**options, "methods": [part if spec is None else spec.scaled(factor) for part, spec in specs]}

    @classmethod
    def from_weights(cls, options: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
        """Return the options with those of each of its methods for networks that begin from trained weights."""
        specs = [(part, MethodSpec.of(part)) for part in options["methods"]]
        return {**options, "methods": [part if spec is None else spec.from_weights() for part, spec in specs]}

    def check_length(self, epochs: int) -> list[str]:
        """Return the notes of each of its methods."""
        return [f"{name}: {note}" for name, part in self.methods() for note in part.check_length(epochs)]

    def against_mixing(self) -> str | None:
        """Return the reason of the first of its methods that has one."""
        reasons = {name: part.against_mixing() for name, part in self.methods()}
        return next((f"{why} ({name})" for name, why in reasons.items() if why is not None), None)

    def check_combinable(self) -> None:
        raise UserError("a Combined method cannot be combined again: name all methods in one list")


def make(part: Part, network: nn.Module, data: DataSpec) -> Method:
    """Make a method by its name, its name with options, or whatever makes it."""
    spec = MethodSpec.of(part)
    if spec is not None:
        return spec(network, data)
    assert not isinstance(part, str | Mapping)  # of which there always is a spec
    return part(network, data)


def named(parts: Sequence[Method]) -> dict[str, Method]:
    """Return the methods by the names of their classes; UserError where one comes twice."""
    names = [type(part).__name__ for part in parts]
    if len(set(names)) < len(names):
        raise UserError(f"{', '.join(names)}: a method cannot be combined with itself")
    return dict(zip(names, parts, strict=True))


def leader(parts: Mapping[str, Method]) -> str:
    """Return the name of the method whose networks all work on: the one with peers, else the first."""
    with_peers = [name for name, part in parts.items() if len(part.networks) > 1]
    if len(with_peers) > 1:
        raise UserError(
            f"{' and '.join(with_peers)} each bring peers of their own: only one of the combined methods can"
        )
    return next(iter([*with_peers, *parts]))


def leave_labels_to(leading: Method, part: Method) -> None:
    """Set the weights of a method's label terms to 0; UserError where it has no other term."""
    part.weights |= dict.fromkeys(part.task.weights, 0.0)
    if not any(part.weights.values()):
        name, first = type(part).__name__, type(leading).__name__
        or_first = "" if len(leading.networks) > 1 else f", or name {name} first"
        raise UserError(f"{name} has no term but the labels', and {first} has that: leave one of them out{or_first}")


def by_term(of_methods: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Return what each method has by term under ``METHOD/term``."""
    return {f"{name}/{term}": value for name, own in of_methods.items() for term, value in own.items()}
