"""ONE: knowledge distillation by on-the-fly native ensemble (Zhu, Lan, Gong, NeurIPS 2018)."""

from __future__ import annotations

import copy
from itertools import takewhile
from typing import ClassVar

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.peers import float32_einsum
from classmates.losses.ramps import ramped, sigmoid_ramp
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_ramp, check_temperature
from classmates.networks.backbone.architecture import Architecture
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.heads.initialisation import Initialisation, initialise_like
from classmates.networks.peers.peers import BranchStart, Peers


class Gate(nn.Module):
    """The weight of each branch in the ensemble, image by image, from the features they share (section 3.2).

    Pooled trunk features → linear → BatchNorm → ReLU → softmax: [B, C, H, W] → [B, M], float32.

    Args:
        channels: C.
        branches: M.
        entrance: what each branch does to the trunk's map before its own first layer; see ``pooling_after``.
    """

    def __init__(self, channels: int, branches: int, entrance: nn.Module | None = None):
        super().__init__()
        self.entrance = nn.Identity() if entrance is None else entrance
        self.layers = nn.Sequential(nn.Linear(channels, branches), nn.BatchNorm1d(branches), nn.ReLU())

    def forward(self, trunk: Tensor) -> Tensor:
        return self.layers(self.entrance(trunk).mean((2, 3))).float().softmax(-1)


def pooling_after(architecture: Architecture, stage: str) -> nn.Module:
    """Return a copy of the max-pooling that comes between a stage and the next layer; empty where there is none.

    A stage of VGG ends with its last ReLU. In the released code its max-pool belongs to it, so that the gate sees
    what enters the branches.
    """
    end = max(call.ended for call in architecture.calls if call.name == stage)
    after = sorted((call for call in architecture.calls if call.started > end), key=lambda call: call.started)
    layers = [call.module for call in after if not any(True for _ in call.module.children())]
    return nn.Sequential(*map(copy.deepcopy, takewhile(lambda layer: isinstance(layer, nn.MaxPool2d), layers)))


class ONE(Method):
    """Branches on a shared trunk learn from the labels and from their own gated ensemble.

    L = Σ_m CE(z_m, y) + CE(z_e, y) + w r(t) T² Σ_m KL(p_e ‖ p_m), with z_e the gated sum of the branches' logits and
    r the ramp (eq. 8).
    The gate learns from the ensemble's cross-entropy alone: as a teacher the ensemble is held constant.

    Args:
        peers: branches, the student included: 3 in the paper, 4 in MCL-OKD's comparison.
        share: -1 shares all but the last stage (paper).
        temperature: T, softens both sides; 3.
        distillation: w, weight of the distillation from the ensemble.
        standardise: take each sample's logits as z-scores in the distillation (``losses/soft_targets.py``).
        ramp: epochs over which that weight grows: 80 in the released code; 0, none, in MCL-OKD's comparison.
        start: "fresh" branches have weights of their own; "same" begins from the student's (pretrained networks).
        initialisation: the gate's first weights, drawn by the rule of the backbone's own layers ("released") or as
            "torch" does; they differ for VGG and DenseNet.

    Raises:
        UserError: fewer than 2 peers, a temperature not above 0, a negative ramp, sharing nothing, a word that is
            none of an option's, and what ``Peers`` refuses.
    """

    about = About("online", 2018, 1.4, search={"distillation": (0.3, 1, 3)})
    mixes: ClassVar[bool] = True
    lengths: ClassVar[tuple[str, ...]] = ("ramp",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 3,
        share: int | str = -1,
        temperature: float = 3.0,
        distillation: float = 1.0,
        standardise: bool = False,
        ramp: int = 80,
        start: BranchStart = "fresh",
        initialisation: Initialisation = "released",
    ):
        if peers < 2:
            raise UserError(f"peers={peers}: an ensemble needs at least 2 branches")
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        check_choice("start", start, BranchStart)
        check_ramp(ramp=ramp)
        check_choice("initialisation", initialisation, Initialisation)
        if share == "nothing":
            raise UserError(
                "share='nothing': the gate of ONE looks at what the branches share; share a stage or more"
            )
        networks = Peers(network, data, peers, share=share, start=start)
        super().__init__(
            networks,
            data,
            weights={"ensemble_ce": 1.0, "distillation": kl_weight(distillation, temperature)},
            ramps=ramped(["distillation"], sigmoid_ramp, ramp),
        )
        self.temperature = temperature
        self.standardise = standardise
        self.ramp = ramp
        trunk = networks.architecture.stages[networks.shared - 1]
        self.gate = Gate(trunk.channels, peers, pooling_after(networks.architecture, trunk.name))
        if initialisation == "released":
            initialise_like(network, self.gate)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = stack_logits(outputs)
        ensemble = self.ensemble(outputs)
        return {
            "ensemble_ce": lambda: self.task.cross_entropy(ensemble[None], batch),
            # A mean over all branches' samples, times their number: the paper sums over branches.
            "distillation": lambda: (
                len(logits) * softened_kl(logits, ensemble, self.temperature, standardise=self.standardise)
            ),
        }

    def ensemble(self, outputs: list[NetworkOutput]) -> Tensor:
        """Return the gated sum of the branches' logits, [B, K], float32 (eq. 3)."""
        gate = self.gate(outputs[-1].stages[self.networks.shared - 1])
        return float32_einsum("bm,mbk->bk", gate, stack_logits(outputs))

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return the same as for every method, with the gated ensemble in place of the mean."""
        return {**super().predictions(outputs), "ensemble": self.ensemble(outputs)}
