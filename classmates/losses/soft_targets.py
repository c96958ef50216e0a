"""Losses whose targets are probabilities, not class numbers: the two that most distillation methods share."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from classmates.errors import UserError, check_choice

Reduction = Literal["batchmean", "mean"]


def softened_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    *,
    reduction: Reduction = "batchmean",
    detach_teacher: bool = True,
    standardise: bool = False,
) -> Tensor:
    """Return KL(teacher ‖ student) between softmaxes at one temperature (Hinton et al., 2015, section 2).

    With p = softmax(teacher / T) and q = softmax(student / T): the mean over samples of Σ_c p_c (log p_c − log q_c),
    in float32 whatever the precision of the logits. T² is not in it but in the weight: see ``kl_weight``.

    Args:
        student_logits: [..., K], any number of leading dimensions; every row is one sample.
        teacher_logits: [..., K], of the same shape or one that broadcasts to it (one teacher for several students).
            Held constant: no gradient reaches it.
        temperature: T > 0.
        reduction: "batchmean" sums over classes; "mean" averages over them too, hence is 1/K of it. PyTorch's
            default for its own KL is the latter, and some released code inherits it (TF-KD, CORSD).
        detach_teacher: False lets the gradient reach the teacher as well, as some released code does.
        standardise: take the logits of both sides as z-scores, so that the student copies how the teacher ranks the
            classes and not how large its logits are (see ``standardised``).

    Returns:
        A scalar, 0 where both sides agree.
    """
    check_choice("reduction", reduction, Reduction)
    if detach_teacher:
        teacher_logits = teacher_logits.detach()
    if standardise:
        student_logits, teacher_logits = standardised(student_logits), standardised(teacher_logits)
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=-1)
    per_class = F.kl_div(student, teacher, reduction="none", log_target=True)
    per_sample = per_class.sum(dim=-1) if reduction == "batchmean" else per_class.mean(dim=-1)
    return per_sample.mean()


def standardised(logits: Tensor) -> Tensor:
    """Return each sample's logits as z-scores, (z − mean_c z) / std_c z (Sun et al., CVPR 2024, "Logit
    Standardization in Knowledge Distillation"), in float32.

    logits: [..., K]. The standard deviation is over all K classes, as in the paper; the released code divides by
    K − 1, which is √(K / (K − 1)) more (0.5 % for 100 classes), and adds 1e-7 to it. That leaves logits that are all
    equal without a finite gradient; here 1e-5 is added to the variance, as a layer normalisation does.

    Raises:
        UserError: two classes, whose z-scores are 1 and −1 whatever the logits, and teach nothing.
    """
    check_standardise(True, logits.shape[-1])
    return F.layer_norm(logits.float(), logits.shape[-1:])


def check_standardise(standardise: bool, classes: int) -> None:
    """Raise UserError where logits of two classes are to be standardised."""
    if standardise and classes < 3:
        raise UserError("standardise: z-scores of two classes are always 1 and -1, which teach nothing: leave it out")


def kl_weight(factor: float, temperature: float, *, scale: bool = True) -> float:
    """Return the weight of a softened KL: the factor times T², which keeps the gradient's size when T changes.

    The gradient of the KL between softmaxes at temperature T shrinks as 1/T² (Hinton et al., 2015, section 2.1).
    scale: False leaves T² out, as some released code does.
    """
    return factor * temperature**2 if scale else factor


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return cross-entropy with target probabilities: the mean over samples of −Σ_c target_c log softmax(logits)_c.

    logits, targets: [..., K]; every row of the targets sums to 1. The targets are held constant. Against
    ``softened_kl`` at T = 1 it differs by the targets' entropy, so the gradients are equal. Returns a scalar,
    computed in float32.
    """
    return -(targets.detach().float() * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()
