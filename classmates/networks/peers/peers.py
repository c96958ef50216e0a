"""Networks trained side by side: the student last, each of the others whole or a branch on the student's trunk."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from classmates._memory import require_memory
from classmates.contracts import DataSpec, NetworkOutput
from classmates.errors import UserError, nearest, unknown
from classmates.networks.backbone.architecture import Architecture, inspect_network
from classmates.networks.backbone.forwards import (
    CompiledForward,
    RecomputedForward,
    parts_between,
    replace_forwards,
    restore_forwards,
)
from classmates.networks.backbone.observe import observe, observe_first
from classmates.networks.building.build import sized
from classmates.networks.building.embedding import build_network
from classmates.networks.peers.branches import Trunk, branch

Start = Literal["fresh", "same", "identical"]
BranchStart = Literal["fresh", "same"]
Recompute = Literal["nothing", "shared", "all"]


class Peers(nn.Module):
    """M networks that see the same images; ``networks[-1]`` is the student, whole and unchanged.

    Args:
        network: the student.
        data: the classes it has to tell apart and the shape of an image.
        count: M, the student included. 1 is the student alone.
        share: how much of the student the other peers take over, counted in stages like a Python slice: -2 shares
            ``stages[:-2]``, so that each peer owns the last two stages and the classifier. A stage's name shares up
            to and including it; "nothing" shares nothing.
        start: "fresh" gives every other peer weights of its own, drawn like the student's (see ``shuffle_weights``);
            "same" begins all of them from the student's weights, only their classifiers drawn anew (for pretrained
            networks); "identical" begins them from the student's weights altogether, so that they stay near enough to
            each other for their weights to be averaged.
        peer_models: other architectures (names or modules) to be the peers instead of copies of the student; they
            share nothing.

    Raises UserError where the network's stages cannot be found, the split is not one of them or cannot be made, or
    where peer_models do not tell the same classes apart.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        count: int = 1,
        *,
        share: int | str = "nothing",
        start: Start = "fresh",
        peer_models: Sequence[str | nn.Module] = (),
    ):
        super().__init__()
        if count < 1:
            raise UserError(f"peers={count}: the student is one of them, so there is at least 1")
        if start not in get_args(Start):
            raise unknown("start", start, get_args(Start))
        given, network = network, as_trained(network, data)
        architecture = inspect_network(network, data.input_shape)
        self.start = start
        self.begin_alike = start == "identical" and count > 1 and not peer_models
        self.trunk: Trunk | None = None
        self.shared = 0 if count == 1 or peer_models else shared_stages(architecture, share)
        others: list[nn.Module] = []
        if peer_models:
            if share != "nothing":
                raise UserError(
                    f"share={share!r}: peer_models are other architectures and share nothing: share='nothing'"
                )
            if start == "identical":
                raise UserError(
                    "start='identical': peer_models are other networks, with weights of their own: leave it out"
                )
            if len(peer_models) != count - 1:
                raise UserError(
                    f"{len(peer_models)} peer_models and the student are {len(peer_models) + 1} peers, not {count}: "
                    f"say --method.peers {len(peer_models) + 1}"
                )
            named = [by_name(peer, architecture, data) for peer in peer_models]
            if len({*named, given}) != count:
                raise UserError("the same network is given as two peers: each learns with weights of its own")
            others = [as_trained(peer, data) for peer in named]
        elif count > 1:
            if self.shared:
                other, self.trunk = branch(network, architecture, architecture.stages[self.shared - 1].name)
            else:
                other = copy.deepcopy(network)
            size = sum(parameter.nbytes for parameter in other.parameters())
            require_memory(f"peers={count}", "weights, gradients and momentum of the peers", 3 * size * count)
            # Every branch is fed by one trunk, so the trunk must be the same object in all copies.
            keep = {id(self.trunk): self.trunk}
            others = [copy.deepcopy(other, dict(keep)) for _ in range(count - 1)]
            for peer in others if start != "identical" else ():
                shuffle_weights(peer if start == "fresh" else peer.get_submodule(architecture.classifier))
        self.networks = nn.ModuleList([*others, network])
        self.own: dict[str, Tensor] | None = None  # the student's weights while an average is in their place
        architectures = [
            inspect_network(other, architecture.input_shape) if peer_models else architecture for other in others
        ]
        self.architectures = [*architectures, architecture]
        for peer, found in zip(self.networks, self.architectures, strict=True):
            if found.num_classes != data.num_classes:
                raise UserError(
                    f"{type(peer).__name__} has {found.num_classes} outputs but the data have {data.num_classes} "
                    f"classes: make the network with num_classes={data.num_classes}"
                )

    @property
    def student(self) -> nn.Module:
        return self.networks[-1]

    @property
    def architecture(self) -> Architecture:
        """The student's."""
        return self.architectures[-1]

    def train_classifiers(self, trained: bool) -> None:
        """Let all classifiers learn, or leave them as they are drawn where nothing teaches them."""
        for network, architecture in zip(self.networks, self.architectures, strict=True):
            network.get_submodule(architecture.classifier).requires_grad_(trained)

    @property
    def trunks(self) -> list[Trunk]:
        """The trunks that feed the branches: one, or none where nothing is shared."""
        return [] if self.trunk is None else [self.trunk]

    def __len__(self) -> int:
        return len(self.networks)

    @torch.no_grad()
    def averaged(self) -> dict[str, Tensor]:
        """Return the student's state with the mean over all peers that have it in the place of each number.

        It is a network of use where peers of one architecture began from the same trained weights (model soups,
        Wortsman et al., 2022). What is counted, not learnt, stays the student's.
        """
        states = [network.state_dict() for network in self.networks[:-1]]
        average = {}
        for name, value in self.student.state_dict().items():
            values = [value, *(state[name] for state in states if name in state)]
            learnt = isinstance(value, Tensor) and value.is_floating_point()
            average[name] = torch.stack(values).mean(dim=0) if learnt else copy.deepcopy(value)
        return average

    def put_average(self) -> None:
        """Put the average of all peers in the student's place; its own weights are kept, and judged as a peer's."""
        average, place = self.averaged(), f"networks.{len(self) - 1}."
        state = self.student.state_dict()
        self.own = {place + name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}
        self.student.load_state_dict(average)

    def put_back(self) -> None:
        """Put the student's own weights back into the place of the average."""
        assert self.own is not None
        self.load_state_dict(self.own, strict=False)
        self.own = None

    def judged(self, images: Tensor) -> list[NetworkOutput]:
        """Return the outputs that are judged: every network's and, while an average is in place, after them its."""
        if self.own is None:
            return self(images)
        own = {name: value.to(images.device) for name, value in self.own.items()}
        peers = functional_call(self, own, (images,), tie_weights=False)  # it has every name of what is tied
        return [*peers, observe(self.student, self.architecture, images)]

    def compile_parts(self) -> None:
        """Compile (torch.compile) the modules between the observed ones, in every network; in place."""
        self.plain_forwards()
        for network, architecture in zip(self.networks, self.architectures, strict=True):
            replace_forwards(self._parts(network, architecture), CompiledForward)

    def recompute_parts(self, which: Recompute) -> None:
        """Keep only the inputs of those parts for backward, where they run again; in place.

        which: "all" parts; "shared", the trunk alone, which costs one more forward of it however many peers there
            are; "nothing" leaves every part as it is.

        Raises UserError for another word, and for "shared" where nothing is shared.
        """
        if which not in get_args(Recompute):
            raise unknown("recompute", which, get_args(Recompute))
        if which == "nothing":
            return
        if which == "shared" and not self.trunks:
            raise UserError("recompute='shared': these networks share nothing; say 'all' or 'nothing'")
        self.plain_forwards()
        shared = {
            module
            for trunk in self.trunks
            for name in trunk.modules
            for module in trunk.network.get_submodule(name).modules()
        }
        for network, architecture in zip(self.networks, self.architectures, strict=True):
            parts = [part for part in self._parts(network, architecture) if which == "all" or part in shared]
            replace_forwards(parts, RecomputedForward)

    def plain_forwards(self) -> None:
        """Undo ``compile_parts`` and ``recompute_parts``."""
        for network in self.networks:
            restore_forwards(network)

    def _parts(self, network: nn.Module, architecture: Architecture) -> list[nn.Module]:
        """Return the modules between the observed ones of one of the networks, outermost modules only."""
        observed = [*(stage.name for stage in architecture.stages), architecture.classifier]
        return parts_between(network, [*observed, *(name for trunk in self.trunks for name in trunk.modules)])

    def forward(self, images: Tensor) -> list[NetworkOutput]:
        """Return every network's output of the images [B, C, H, W], the student's last; the trunk runs once."""
        with ExitStack() as stack:
            if self.trunk is not None:
                stack.enter_context(self.trunk.recorded())
            student = observe(self.student, self.architecture, images)
            outputs = [
                observe(network, architecture, images, shared=student.stages[: self.shared])
                for network, architecture in zip(self.networks[:-1], self.architectures, strict=False)
            ]
        return [*outputs, student]

    def forward_each(self, views: Sequence[Tensor]) -> list[NetworkOutput]:
        """Return every network's output of its own view of the images, [B, C, H, W] each, the student's last.

        A trunk runs once for each view, as it would in a network of one peer's own.
        """
        *others, own = views
        outputs = []
        for network, architecture, images in zip(self.networks, self.architectures, others, strict=False):
            with ExitStack() as stack:
                maps: tuple[Tensor, ...] = ()
                if self.trunk is not None:
                    stack.enter_context(self.trunk.recorded())
                    maps = observe_first(self.student, self.architecture, images, self.shared)
                outputs.append(observe(network, architecture, images, shared=maps))
        return [*outputs, observe(self.student, self.architecture, own)]


def as_trained(network: nn.Module, data: DataSpec) -> nn.Module:
    """Return a network as the data's task trains it."""
    return network if data.task is None else data.task.training_network(network, data.num_classes, data.input_shape)


def by_name(peer: str | nn.Module, student: Architecture, data: DataSpec) -> nn.Module:
    """Return a peer as it is or, by its name, built for the classes and images at hand."""
    if isinstance(peer, nn.Module):
        return peer
    output = "logits" if data.task is None else data.task.output
    channels, height, width = student.input_shape
    return build_network(peer, output, data.num_classes, in_chans=channels, **sized(peer, (height, width)))


def shared_stages(architecture: Architecture, share: int | str) -> int:
    """Return the number of shared stages; raise UserError where ``share`` names none or leaves the peers none."""
    names = [stage.name for stage in architecture.stages]
    if share == "nothing":
        return 0
    if isinstance(share, str):
        if share not in names:
            raise UserError(f"share='{share}' is no stage of the network: {nearest(share, [*names, 'nothing'])}")
        shared = names.index(share) + 1
    else:
        shared = len(names[:share])
    if not 0 < shared < len(names):
        raise UserError(
            f"share={share!r} shares {shared} of {len(names)} stages ({', '.join(names)}): "
            "share at least one and leave at least one to each peer, or say share='nothing'"
        )
    return shared


@torch.no_grad()
def shuffle_weights(network: nn.Module) -> None:
    """Give a freshly made network other weights of the same kind, whatever its architecture and initialisation.

    The numbers of each parameter are put in a random order: random weights become another draw of exactly the same
    distribution. Constants (BatchNorm, zero-initialised gains), and matrices of two values, such as the identity,
    stay what they are.
    """
    for parameter in network.parameters():
        if parameter.requires_grad:
            order = torch.randperm(parameter.numel(), device=parameter.device)
            if parameter.ndim < 2 or len(parameter.unique()) > 2:
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
