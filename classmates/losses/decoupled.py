"""Decoupled distillation (Zhao et al., CVPR 2022): the KL of two softmaxes, taken apart at the true class.

With p_y the softened probability of the true class y, b = (p_y, 1 − p_y) and p̂ the softmax over all other classes,
KL(p_t ‖ p_s) = KL(b_t ‖ b_s) + (1 − p_y of the teacher) · KL(p̂_t ‖ p̂_s) for each image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from classmates.losses.soft_targets import softened_kl


def target_kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return KL(b_t ‖ b_s), b = (p_y, 1 − p_y): how sure both are of the true class (the paper's TCKD), without T².

    student_logits, teacher_logits: [B, K], the teacher's held constant. labels: [B], int64. Returns a scalar in
    float32.

    The logits of b are z_y / T and the log-sum-exp of the others, so that no logarithm is taken of a sum that has
    become 0.
    """
    student, teacher = (binary_logits(logits, labels, temperature) for logits in (student_logits, teacher_logits))
    return softened_kl(student, teacher, 1.0)


def non_target_kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return KL(p̂_t ‖ p̂_s), p̂ the softmax over all classes but the true one (the paper's NCKD), without T².

    Arguments and result as for ``target_kl``.
    """
    return softened_kl(other_logits(student_logits, labels), other_logits(teacher_logits, labels), temperature)


def other_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits [B, K − 1] of all classes but the true one, in their order."""
    classes = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, classes + (classes >= labels[:, None]))


def binary_logits(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return [B, 2], float32, whose softmax is (p_y, 1 − p_y) at a temperature."""
    softened = logits.float() / temperature
    others = other_logits(softened, labels).logsumexp(1, keepdim=True)
    return torch.cat([softened.gather(1, labels[:, None]), others], dim=1)
