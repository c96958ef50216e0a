"""CRD: contrastive representation distillation (Tian, Krishnan and Isola, ICLR 2020), MCL-OKD's ancestor."""

from __future__ import annotations

from typing import Unpack

from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.methods.about import About
from classmates.methods.checks import check_temperature, check_weight
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod
from classmates.networks.memory.bank_contrast import BankContrast, BankDtype, Draw, Normaliser, Unwritten


class CRD(TeacherMethod):
    """Student and teacher embed an image alike, and unlike each other's images of other classes.

    L = CE(z, y) + β [L_contrast(student → teacher's bank) + L_contrast(teacher → student's bank)] (eq. 18).

    Both embeddings pass a linear layer to the unit sphere; those layers learn on both sides, the teacher does not.
    The contrast is MCL-OKD's, of which this is the case of two peers: each anchor meets what the bank of the other
    side remembers of the same image, and of K images of other classes.

    Args:
        beta: β, weight of the contrast; 0.8 (released).
        num_negatives: K; 16384. Capped, with a note, at the samples of other classes there are.
        temperature: τ; 0.07 (released).
        normaliser: of the exponentials: "first_batch" keeps the first step's mean (released); "batch", "anchor" and
            "lagged" as in MCL.
        negatives: how they are chosen, to the same mean: "independent" draws K for each anchor (released),
            "shared" K for the whole batch, "all" takes every sample of another class, K being their weight; "auto"
            is "all" up to 8,192 training samples (or K) and above a shared draw of that many.
        dimension: size of the embeddings that are contrasted; 128.
        momentum: of the memory banks; 0.5.
        bank_dtype: bfloat16 halves the banks' memory and traffic.
        unwritten: what stands in the banks for images that no batch has had yet: unit vectors at "random", or
            "masked": they are no negatives, and as positives the present embeddings take their place, which needs the
            normaliser "batch" or "lagged".

    Raises:
        UserError: no teacher, one that does not fit the data, K or d below 1, a temperature not above 0, a weight
            below 0, or words that are none of an option's.
    """

    about = About(
        "teacher",
        2020,
        1.4,
        needs="memory for an embedding of every training image",
        search={"beta": (0.3, 0.8, 2.4)},
    )

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        beta: float = 0.8,
        num_negatives: int = 16384,
        temperature: float = 0.07,
        normaliser: Normaliser = "first_batch",
        negatives: Draw = "auto",
        dimension: int = 128,
        momentum: float = 0.5,
        bank_dtype: BankDtype = "float32",
        unwritten: Unwritten = "random",
        **teacher: Unpack[CachingTeacherOptions],
    ):
        check_temperature(temperature=temperature)
        check_weight(beta=beta)
        super().__init__(network, data, weights={"contrast": beta}, **teacher)
        self.contrast = BankContrast(
            [self.networks.architecture.embedding, self.teacher.architecture.embedding],
            data.labels,
            num_negatives=num_negatives,
            temperature=temperature,
            normaliser=normaliser,
            negatives=negatives,
            dimension=dimension,
            momentum=momentum,
            bank_dtype=bank_dtype,
            unwritten=unwritten,
        )
        for text in self.contrast.notes:
            self.note(text)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"contrast": lambda: self.contrast([outputs[-1], self.teacher.outputs(batch)], batch)}

    def against_mixing(self) -> str | None:
        if not self.weights["contrast"]:
            return None
        return "its contrast would keep a mixed image in the memory bank as the one sample that it began as (beta=0)"
