"""CS-KD: class-wise self-knowledge distillation (Yun et al., CVPR 2020).

Images come in pairs of one class: what the network says of an image should be what it says of another of its class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.data.batches.samplers import ClassPairs
from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods.base import Method, Terms, check_temperature
from classmates.networks.peers.peers import Peers


class CSKD(Method):
    """CE(f(x), y) + λ · T² KL(f(x') ‖ f(x)) for every anchor x and its partner x' of the same class, held constant.

    The partners pass on their own, without gradients, in training mode, as in the released code: each half has
    BatchNorm statistics of its own, and the running ones learn from both. A batch of 2B images trains on B anchors.

    Args:
        lam: λ, weight of the distillation: 1 for CIFAR-100, 3 for fine-grained classes.
        temperature: T, softens both sides; 4.

    Raises UserError for a ``lam`` below 0 and a temperature not above 0; ``ClassPairs`` raises it where no class has
    two images.
    """

    sampling = ClassPairs

    def __init__(self, network: nn.Module, data: DataSpec, *, lam: float = 1.0, temperature: float = 4.0):
        if lam < 0:
            raise UserError(f"lam={lam}: the distillation takes a weight of 0 or more")
        check_temperature(temperature=temperature)
        super().__init__(Peers(network, data), weights={"ce": 1.0, "distillation": lam})
        self.temperature = temperature
        alone = (data.labels.bincount() == 1).nonzero()[:, 0].tolist()
        if alone:
            some = ", ".join(map(str, alone[:5])) + (", ..." if len(alone) > 5 else "")
            self.note(
                f"{len(alone)} of {data.num_classes} classes have a single image, which is its own partner: "
                f"classes {some}"
            )

    def look(self, batch: Batch) -> list[NetworkOutput]:
        """The output of the anchors of a batch of pairs."""
        return self.networks(pairs(batch)[0].images)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = outputs[-1].logits
        anchors, partners = pairs(batch)
        return {
            "ce": lambda: F.cross_entropy(logits.float(), anchors.labels),
            "distillation": lambda: softened_kl(logits, self.constant_logits(partners.images), self.temperature),
        }

    @torch.no_grad()
    def constant_logits(self, images: Tensor) -> Tensor:
        """The network's logits, [B, K], as constants."""
        return self.networks(images)[-1].logits


def pairs(batch: Batch) -> tuple[Batch, Batch]:
    """[2B, ...] as the sampler orders it → the anchors' batch and the partners', [B, ...] each."""
    if len(batch.labels) % 2:
        raise UserError(
            f"a batch of {len(batch.labels)} images is not made of pairs: use batches from {ClassPairs.__name__}"
        )
    anchors, partners = (Batch(*(column[start::2] for column in batch)) for start in (0, 1))
    return anchors, partners
