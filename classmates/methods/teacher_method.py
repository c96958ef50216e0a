"""The base class of the methods with a teacher: the student, beside a trained network that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, TypedDict

from torch import nn

from classmates.contracts import DataSpec
from classmates.data.batches.sampling import Sampling
from classmates.errors import UserError
from classmates.losses.ramps import Ramp
from classmates.methods.base import Method
from classmates.methods.teachers import make_teacher
from classmates.networks.building.teacher import Teacher
from classmates.networks.peers.peers import Peers


class TeacherOptions(TypedDict, total=False):
    """The options of every method with a teacher, which ``TeacherMethod`` describes."""

    teacher: str | nn.Module | None
    teacher_weights: str | None
    trust_code: bool


class CachingTeacherOptions(TeacherOptions, total=False):
    """The options of a method to which the teacher's logits and embeddings are enough."""

    cache: bool


class TeacherMethod(Method):
    """A method whose student learns from a teacher, which runs where a term asks for it and at no other time.

    A subclass takes its own options and hands the teacher's on, ``**teacher: Unpack[TeacherOptions]`` or, where the
    teacher's logits and embeddings are enough, ``Unpack[CachingTeacherOptions]``.

    Args:
        network, data: of the student.
        weights, labels, classifier, sampling, ramps: see ``Method``.
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        trust_code: run the Python file of a teacher's folder whose model is one (FILE.py:CLASS).
        cache: run the teacher once for each sample and keep its outputs; only without augmentation.

    Raises:
        UserError: there is no teacher, or one that does not fit the data (see ``make_teacher``).

    Attributes:
        needs_teacher: whether the method cannot do without.
        has_teacher: whether there is one.
        teacher: it, where there is one.
    """

    needs_teacher: ClassVar[bool] = True
    teacher: Teacher

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        weights: Mapping[str, float],
        *,
        labels: float = 1.0,
        classifier: bool = True,
        sampling: Sampling | None = None,
        ramps: Mapping[str, Ramp] | None = None,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        trust_code: bool = False,
        cache: bool = False,
    ):
        self.check_teacher(teacher, teacher_weights)
        super().__init__(
            Peers(network, data),
            data,
            weights,
            labels=labels,
            classifier=classifier,
            sampling=sampling,
            ramps=ramps,
        )
        self.has_teacher = teacher is not None
        if teacher is not None:
            seen = replace(data, input_shape=self.networks.architecture.input_shape)
            self.teacher = make_teacher(teacher, seen, weights=teacher_weights, trust_code=trust_code, cache=cache)
            if classifier and not self.teacher.has_classifier:
                raise UserError(
                    f"{type(self).__name__} teaches a teacher's logits, and teacher '{self.teacher.name}' returns "
                    "embeddings: give one that was trained to classify, or take a method that compares embeddings, such "
                    "as RKD"
                )
            for text in self.teacher.notes:
                self.note(text)

    @classmethod
    def check_teacher(cls, teacher: str | nn.Module | None, teacher_weights: str | None) -> None:
        """Raise UserError where a teacher is missing."""
        if teacher is None and cls.needs_teacher:
            raise UserError(
                f"{cls.__name__} needs a teacher: give the folder of a finished run (--method.teacher RUN_FOLDER), "
                "or a model's name with its weights (--method.teacher NAME --method.teacher_weights FILE)"
            )
        if teacher is None and teacher_weights is not None:
            raise UserError(f"teacher_weights '{teacher_weights}' are for a teacher: say with --method.teacher which")
