"""DLB: self-distillation from the last mini-batch (Shen et al., CVPR 2022).

Half of every batch are the images that were new in the one before; what the network said of them then, it should say
of them now, in another augmentation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import Overlapping
from classmates.errors import UserError
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_temperature, check_weight
from classmates.networks.memory.gather import gather_in_turn, own_in_turn
from classmates.networks.peers.peers import Peers


class DLB(Method):
    """The network learns from the labels and from its own predictions of one step before.

    L = CE(z, y) + α T² KL(p_{t−1} ‖ p_t) over the images that the batch has in common with the last one, in another
    augmentation each time; the cross-entropy is over all images of the batch.

    A batch of 2n images has n new ones, and every image comes twice an epoch: with the published number of epochs
    halved, as many images pass as without. What is kept is the n new images' logits and indices, in the checkpoint
    too. In the first batch of an epoch the repeated half is the epoch's last, without a prediction of the step
    before: there the distillation is 0. Both halves pass the network together; in the released code one after the
    other, each with BatchNorm statistics of its own.

    Args:
        alpha: α, weight of the distillation; 1.
        temperature: T, softens both sides; 3.
        standardise: take each sample's logits as z-scores in the distillation (see ``softened_kl``).

    Raises:
        UserError: an ``alpha`` below 0, a temperature not above 0, or a task that needs batches of its own.
    """

    about = About("self", 2022, 1.0, needs="every image twice an epoch", search={"alpha": (0.3, 1, 3)})

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        alpha: float = 1.0,
        temperature: float = 3.0,
        standardise: bool = False,
    ):
        check_weight(alpha=alpha)
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        weights = {"distillation": kl_weight(alpha, temperature)}
        super().__init__(Peers(network, data), data, weights, sampling=Overlapping())
        self.temperature = temperature
        self.standardise = standardise
        # Of the last batch's new images, of all processes in its order; how many, only the batch tells.
        self.last_indices = torch.empty(0, dtype=torch.int64)
        self.last_logits = torch.empty(0, data.num_classes)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"distillation": lambda: self.distillation(outputs[-1].logits, batch.indices)}

    def against_mixing(self) -> str:
        return "what it remembers of an image would be the prediction for a mixture with another"

    def distillation(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Return KL(p_{t−1} ‖ p_t) of the repeated images, then keep the logits of the new ones."""
        if len(indices) % 2:
            raise UserError(f"a batch of {len(indices)} images has no two halves: use Overlapping() for its sampling")
        repeated = logits[0::2]
        before = self.predictions_before(repeated, indices[0::2])
        loss = softened_kl(repeated, before, self.temperature, standardise=self.standardise)
        if self.training:
            self.keep(gather_in_turn(indices[1::2]), gather_in_turn(logits[1::2].detach()))
        return loss

    def predictions_before(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Return the logits of one step before, [n, K]; the present ones of images that were not new in that."""
        before, last = own_in_turn(self.last_indices), own_in_turn(self.last_logits)
        if len(before) != len(indices):
            return logits.detach()
        known = before.to(indices.device) == indices
        return torch.where(known[:, None], last.to(logits), logits.detach())

    def keep(self, indices: Tensor, logits: Tensor) -> None:
        """Keep what the next step is to remember, in the same place where there is one of the size."""
        last = self.last_logits
        if (last.shape, last.device, last.dtype) == (logits.shape, logits.device, logits.dtype):  # for CUDA graphs
            self.last_indices.copy_(indices)
            self.last_logits.copy_(logits)
        else:
            self.last_indices, self.last_logits = indices.clone(), logits.clone()

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"indices": self.last_indices, "logits": self.last_logits}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.last_indices, self.last_logits = state["indices"], state["logits"]
