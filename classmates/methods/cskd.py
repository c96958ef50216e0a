"""CS-KD: class-wise self-knowledge distillation (Yun et al., CVPR 2020).

Images come in pairs of one class: what the network says of an image should be what it says of another of its class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import ClassPairs
from classmates.errors import UserError
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_temperature, check_weight
from classmates.networks.peers.peers import Peers


class CSKD(Method):
    """Class-wise self-distillation: the prediction of an image follows that of another image of the same class.

    L = CE(f(x), y) + λ T² KL(f(x') ‖ f(x)) for every anchor x and its partner x' of the same class, held constant.

    The partners pass on their own, without gradients, in training mode, as in the released code: each half has
    BatchNorm statistics of its own, and the running ones learn from both. A batch of 2B images trains on B anchors.

    Args:
        lam: λ, weight of the distillation: 1 for CIFAR-100, 3 for fine-grained classes.
        temperature: T, softens both sides; 4.
        standardise: take each sample's logits as z-scores in the distillation (``losses/soft_targets.py``).

    Raises:
        UserError: a ``lam`` below 0, a temperature not above 0, or a task that needs batches of its own;
            ``ClassPairs`` raises it where no class has two images.
    """

    about = About("self", 2020, 0.8, needs="batches of pairs of images of a class", search={"lam": (0.3, 1, 3)})

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        lam: float = 1.0,
        temperature: float = 4.0,
        standardise: bool = False,
    ):
        check_weight(lam=lam)
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        super().__init__(
            Peers(network, data), data, weights={"distillation": kl_weight(lam, temperature)}, sampling=ClassPairs()
        )
        self.temperature = temperature
        self.standardise = standardise
        alone = (data.labels.bincount() == 1).nonzero()[:, 0].tolist()
        if alone:
            some = ", ".join(map(str, alone[:5])) + (", ..." if len(alone) > 5 else "")
            self.note(
                f"{len(alone)} of {data.num_classes} classes have a single image, which is its own partner: "
                f"classes {some}"
            )

    def anchors(self, batch: Batch) -> Batch:
        return pairs(batch)[0]

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"distillation": lambda: self.distillation(outputs[-1].logits, pairs(batch)[1].images)}

    def against_mixing(self) -> str:
        return "its pairs are of images of one class"

    def distillation(self, logits: Tensor, partners: Tensor) -> Tensor:
        """Return KL(f(x') ‖ f(x)) without T²; logits: [B, K] of the anchors, partners: images [B, C, H, W]."""
        return softened_kl(logits, self.constant_logits(partners), self.temperature, standardise=self.standardise)

    @torch.no_grad()
    def constant_logits(self, images: Tensor) -> Tensor:
        """Return the network's logits, [B, K], as constants."""
        return self.networks(images)[-1].logits


def pairs(batch: Batch) -> tuple[Batch, Batch]:
    """Split [2B, ...], as the sampler orders it, into the anchors' batch and the partners', [B, ...] each."""
    if len(batch.labels) % 2:
        raise UserError(
            f"a batch of {len(batch.labels)} images is not made of pairs: use ClassPairs() for its sampling"
        )
    anchors, partners = (batch.take(slice(start, None, 2)) for start in (0, 1))
    return anchors, partners
