"""Born-again networks (Furlanello et al., ICML 2018): each generation of a network learns from the one before it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from classmates._memory import require_memory
from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.ramps import later_generation
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method, Output
from classmates.methods.checks import check_temperature
from classmates.networks.peers.peers import Peers, shuffle_weights

Beginning = Literal["fresh", "same"]


class BornAgain(Method):
    """Self-distillation in generations: the network begins anew, with what it had become as its teacher.

    L = CE(z, y) + w T² KL(p_previous ‖ p), the second term from the second generation on (section 3).

    All generations are in one run and share its epochs evenly, so that it passes as many images as any other method.
    In the paper each has a whole run. The learning rate should begin anew with each:
    ``schedule: CosineAnnealingWarmRestarts`` with a ``T_0`` of the epochs of one generation.

    Args:
        generations: how many; the last one is deployed.
        temperature: T, softens both sides; 1 in the paper.
        distillation: w, factor in front of T²·KL; 1 in the paper.
        standardise: take each sample's logits as z-scores in the distillation (``losses/soft_targets.py``).
        start: each generation begins from "fresh" weights of its own, or all from the "same" ones, each with a new
            classifier (pretrained networks).

    The optimiser goes on from one generation to the next: its momentum is gone within some tens of steps.

    Raises:
        UserError: fewer than 2 generations, a temperature not above 0, a word that is none of an option's; from
            ``check_length``, fewer epochs than generations.
    """

    about = About("self", 2018, 1.0, needs="a training for each generation", search={"distillation": (0.3, 1, 3)})
    mixes: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        generations: int = 2,
        temperature: float = 1.0,
        distillation: float = 1.0,
        standardise: bool = False,
        start: Beginning = "fresh",
    ):
        if generations < 2:
            raise UserError(f"generations={generations}: the first has no teacher, so there are at least 2")
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        super().__init__(
            Peers(network, data),
            data,
            weights={"distillation": kl_weight(distillation, temperature)},
            ramps={"distillation": partial(later_generation, generations=generations)},
        )
        size = sum(parameter.nbytes for parameter in self.networks.parameters())
        require_memory(f"generations={generations}", "weights of the generations", size * generations)
        self.generations = generations
        self.generation = 0
        self.temperature = temperature
        self.standardise = standardise
        # What each generation but the first begins from, and, once it has begun, what the one before it had become.
        self.others = nn.ModuleList(self.beginning(start) for _ in range(generations - 1)).requires_grad_(False)
        self.others.eval()

    def beginning(self, start: Beginning) -> nn.Module:
        """Return a network for a generation to begin from."""
        check_choice("start", start, Beginning)
        network = copy.deepcopy(self.networks.student)
        classifier = self.networks.architecture.classifier
        shuffle_weights(network if start == "fresh" else network.get_submodule(classifier))
        return network

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.others.eval()  # teachers
        return self

    def forward(self, batch: Batch) -> Output:
        """Take one step, the first of a generation after the network has begun anew."""
        due = min(self.epoch * self.generations // self.epochs, self.generations - 1)
        while self.training and self.generation < due:
            exchange(self.networks.student, self.others[self.generation])
            self.generation += 1
        return super().forward(batch)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"distillation": lambda: self.distillation(outputs[-1].logits, batch.images)}

    def distillation(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return KL(p_previous ‖ p) without T². logits: [B, K] of the images [B, C, H, W]."""
        with torch.no_grad():
            previous = self.others[self.generation - 1](images)
        return softened_kl(logits, previous, self.temperature, standardise=self.standardise)

    @classmethod
    def training_stages(cls, options: Mapping[str, Any]) -> int:
        """Return the number of generations: the first runs no teacher."""
        return int(options["generations"])

    def check_length(self, epochs: int) -> list[str]:
        if epochs < self.generations:
            raise UserError(f"generations={self.generations} in {epochs} epochs: each needs 1 or more")
        each = epochs / self.generations
        return [
            f"{self.generations} generations of {each:g} epochs: the learning rate begins anew with each by "
            f"--schedule CosineAnnealingWarmRestarts --schedule_args.T_0 {round(each)}"
        ]

    def get_extra_state(self) -> int:
        return self.generation

    def set_extra_state(self, state: int) -> None:
        self.generation = state


@torch.no_grad()
def exchange(one: nn.Module, other: nn.Module) -> None:
    """Let two networks of one architecture change places: weights and buffers, each once, in place."""
    mine, others = ((*network.parameters(), *network.buffers()) for network in (one, other))
    for own, its in zip(mine, others, strict=True):
        kept = own.clone()
        own.copy_(its)
        its.copy_(kept)
