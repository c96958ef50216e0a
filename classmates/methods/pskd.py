"""PS-KD (Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021).

The network learns from what it said of each image one epoch before, and more so every epoch.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import check_choice
from classmates.losses.ramps import Ramp, progress
from classmates.losses.soft_targets import check_standardise, soft_cross_entropy, standardised
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_share
from classmates.networks.memory.gather import gather, last_occurrence
from classmates.networks.peers.peers import Peers

MemoryDtype = Literal["float32", "float16"]
MEMORY_DTYPES: dict[MemoryDtype, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


def label_share(epoch: int, epochs: int, *, alpha: float) -> float:
    """Return 1 − α_t with α_t = α (t + 1)/E: the share that the labels keep beside the remembered predictions."""
    return 1 - alpha * progress(epoch, epochs)


class PSKD(Method):
    """The network learns from the labels and, more so every epoch, from its own predictions of the epoch before.

    L = (1 − α_t) CE(z, y) + α_t CE(z, P_{t−1}(x)) with α_t = α_T (t + 1) / E for epoch t = 0..E − 1: the paper's
    cross-entropy with the targets (1 − α_t) y + α_t P_{t−1}(x), which is linear in its targets.

    What is remembered is the softmax of the training step itself, in training mode and of the augmented image, so
    nothing is computed twice. Before an image was seen its row is its label: the first epoch is plain cross-entropy.
    Class weights are for the labels' share alone.
    The rows are on the device and in the checkpoint, [N, K] (20 MB for CIFAR-100, 5.1 GB for ImageNet; the released
    code keeps them on the CPU); every process holds them all.

    Args:
        alpha: α_T, the share of the remembered prediction in the last epoch; 0.8.
        memory_dtype: "float16" halves the memory.
        standardise: take each sample's logits as z-scores in the term of the past, where they are remembered and
            where they learn from it (``losses/soft_targets.py``); the labels' own term keeps them as they are.

    Raises:
        UserError: an ``alpha`` outside 0..1, a dtype that is none of the two, or a task without cross-entropy.
    """

    about = About(
        "self",
        2021,
        1.0,
        needs="memory for the prediction of every training image",
        search={"alpha": (0.4, 0.6, 0.8)},
    )
    local_buffers = ("memory",)  # equal from the start, and every process learns of every batch
    memory: Tensor

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        alpha: float = 0.8,
        memory_dtype: MemoryDtype = "float32",
        standardise: bool = False,
    ):
        check_share(alpha=alpha)
        check_standardise(standardise, data.num_classes)
        check_choice("memory_dtype", memory_dtype, MemoryDtype)
        ramps: dict[str, Ramp] = {"ce": partial(label_share, alpha=alpha), "past": progress}
        super().__init__(Peers(network, data), data, weights={"past": alpha}, ramps=ramps)
        self.require_cross_entropy()
        self.standardise = standardise
        rows = torch.zeros(len(data.labels), data.num_classes, dtype=MEMORY_DTYPES[memory_dtype])
        self.register_buffer("memory", rows.scatter_(1, data.labels[:, None], 1.0))

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"past": lambda: self.past(outputs[-1].logits, batch)}

    def against_mixing(self) -> str:
        return "what it remembers of each image would be the prediction for a mixture with another"

    def past(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy with the predictions of an epoch before, then remember the present ones."""
        if self.standardise:
            logits = standardised(logits)
        loss = soft_cross_entropy(logits, self.memory[batch.indices])
        if self.training:
            self.remember(batch.indices, logits)
        return loss

    @torch.no_grad()
    def remember(self, indices: Tensor, logits: Tensor) -> None:
        """Overwrite the rows of the samples of all processes' batches."""
        indices, predictions = gather(indices), gather(logits.float().softmax(-1).to(self.memory.dtype))
        self.memory.index_copy_(0, indices, predictions[last_occurrence(indices)])
