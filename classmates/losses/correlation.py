"""Correlations of predictions (DIST, Huang et al., NeurIPS 2022, section 3): what a student takes of its teacher.

1 − ρ, with ρ Pearson's correlation, does not change where either side is moved or multiplied by a number above 0: the
student learns the teacher's ranking and proportions, not its probabilities.

Probabilities that are all next to 0, as those of a class that a sure teacher never thinks of, would be lost in
rounding. They are divided by the largest of them first, in logarithms, which leaves ρ and its gradient as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def inter_class(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean over images of 1 − ρ between both sides' softened probabilities of all classes.

    student_logits, teacher_logits: [B, K], the teacher's held constant. Returns a scalar in float32, within 0..2. Of
    two classes ρ is 1 or −1, without a gradient.
    """
    return _dissimilarity(*_log_probabilities(student_logits, teacher_logits, temperature), dim=1)


def intra_class(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean over classes of 1 − ρ between both sides' softened probabilities of all images.

    Arguments and result as for ``inter_class``. Of a batch of one image ρ is taken to be 0.
    """
    return _dissimilarity(*_log_probabilities(student_logits, teacher_logits, temperature), dim=0)


def _log_probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    student, teacher = (logits.float() / temperature for logits in (student_logits, teacher_logits.detach()))
    return F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)


def _dissimilarity(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """Return the mean of 1 − ρ of exp(student) and exp(teacher) along ``dim``."""
    return 1 - (_standard_scores(student, dim) * _standard_scores(teacher, dim)).sum(dim).mean()


def _standard_scores(logarithms: Tensor, dim: int) -> Tensor:
    """Return exp(logarithms) less its mean along ``dim``, of length 1 there; 0 where it does not vary."""
    scaled = (logarithms - logarithms.detach().amax(dim, keepdim=True)).exp()
    centred = scaled - scaled.mean(dim, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=dim, keepdim=True)
    return centred / length.masked_fill(length == 0, 1)
