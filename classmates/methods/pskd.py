"""PS-KD (Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021).

The network learns from what it said of each image one epoch before, and more so every epoch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.losses.soft_targets import soft_cross_entropy
from classmates.methods.base import Method, Terms, check_word
from classmates.networks.memory.gather import gather, last_occurrence
from classmates.networks.peers.peers import Peers

MEMORY_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def progressive_targets(labels: Tensor, remembered: Tensor, share: float) -> Tensor:
    """(1 − α_t) · one-hot(y) + α_t · P_{t−1}(x), the targets of epoch t.

    labels: [B], int64. remembered: [B, K], the probabilities of an epoch before. share: α_t, within 0..1. Returns
    [B, K], float32.
    """
    classes = torch.arange(remembered.shape[1], device=labels.device)
    one_hot = (labels[:, None] == classes).float()  # F.one_hot would look at the labels first
    return torch.lerp(one_hot, remembered.float(), share)


class PSKD(Method):
    """Cross-entropy with targets between the label and the network's own prediction of the epoch before.

    α_t = α_T · (t + 1) / E for epoch t = 0..E − 1. What is remembered is the softmax of the training step itself, in
    training mode and of the augmented image, so nothing is computed twice. Before an image was seen its row is its
    label: the first epoch is plain cross-entropy. The rows are on the device and in the checkpoint, [N, K] (20 MB for
    CIFAR-100, 5.1 GB for ImageNet; the released code keeps them on the CPU); every process holds them all.

    Args:
        alpha: α_T, the share of the remembered prediction in the last epoch; 0.8.
        memory_dtype: "float16" halves the memory.

    Raises UserError for an ``alpha`` outside 0..1 and a dtype that is none of the two.
    """

    local_buffers = ("memory",)  # equal from the start, and every process learns of every batch
    memory: Tensor

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        alpha: float = 0.8,
        memory_dtype: Literal["float32", "float16"] = "float32",
    ):
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha={alpha}: a share lies between 0 and 1")
        check_word("memory_dtype", memory_dtype, MEMORY_DTYPES)
        super().__init__(Peers(network, data), weights={"ce": 1.0})
        self.alpha = alpha
        rows = torch.zeros(len(data.labels), data.num_classes, dtype=MEMORY_DTYPES[memory_dtype])
        self.register_buffer("memory", rows.scatter_(1, data.labels[:, None], 1.0))

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"ce": lambda: self.progressive_cross_entropy(outputs[-1].logits, batch)}

    def progressive_cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """The cross-entropy with epoch t's targets; the rows learn of the batch after they were used."""
        share = self.alpha * (self.epoch + 1) / self.epochs
        loss = soft_cross_entropy(logits, progressive_targets(batch.labels, self.memory[batch.indices], share))
        if self.training:
            self.remember(batch.indices, logits)
        return loss

    @torch.no_grad()
    def remember(self, indices: Tensor, logits: Tensor) -> None:
        """Overwrites the rows of the samples of all processes' batches."""
        indices, predictions = gather(indices), gather(logits.float().softmax(-1).to(self.memory.dtype))
        self.memory.index_copy_(0, indices, predictions[last_occurrence(indices)])
