"""The base class of the methods with a teacher: the student, beside a trained network that stays as it is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.sampling import Sampling
from classmates.errors import UserError
from classmates.losses.peers import softened_ensemble
from classmates.losses.ramps import Ramp
from classmates.methods.base import Method
from classmates.methods.teachers import make_teacher
from classmates.networks.building.teacher import Teacher
from classmates.networks.peers.peers import Peers

TeacherSources = Sequence[str | nn.Module] | str | nn.Module | None
WeightFiles = Sequence[str] | str | None


class TeacherOptions(TypedDict, total=False):
    """The options of every method with a teacher, which ``TeacherMethod`` describes."""

    teacher: TeacherSources
    teacher_weights: WeightFiles
    teacher_image_size: int | None
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
        weights, labels, sampling, ramps: see ``Method``.
        teacher: the folder of a finished run, hf:OWNER/NAME, a model's name or FILE.py:CLASS with its weights, or in
            Python a trained module. Methods that learn from logits alone also take a list of them: from the mean of
            their softened probabilities.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it. A
            list for several.
        teacher_image_size: pixels of a side that the teacher gets images at. Without it those that it was trained at,
            where that is known (a run's folder; a model of one size only, as most transformers), or else the
            student's.
        trust_code: run the Python file of a teacher's folder whose model is one (FILE.py:CLASS).
        cache: keep the teacher's outputs of each sample, and ask it no more from the epoch on in which all are known
            (a loop of your own says by ``method.epoch`` when one begins); only without augmentation.

    Raises:
        UserError: there is no teacher, one that does not fit the data (see ``make_teacher``), or several for a method
            that learns from more than their logits.

    Attributes:
        needs_teacher: whether the method cannot do without.
        from_logits: the names of the terms that learn from logits; all others learn from embeddings or maps.
        has_teacher: whether there is one.
        teachers: all of them.
        origins: what each was made of; teachers made of the same are alike.
    """

    needs_teacher: ClassVar[bool] = True
    from_logits: ClassVar[Sequence[str]] = ()

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        weights: Mapping[str, float],
        *,
        labels: float = 1.0,
        sampling: Sampling | None = None,
        ramps: Mapping[str, Ramp] | None = None,
        teacher: TeacherSources = None,
        teacher_weights: WeightFiles = None,
        teacher_image_size: int | None = None,
        trust_code: bool = False,
        cache: bool = False,
    ):
        sources = as_list(teacher)
        files = as_list(teacher_weights)
        self.check_teachers(sources, files, weights)
        if not sources:
            require_unused(teacher_image_size=teacher_image_size, trust_code=trust_code, cache=cache)
        learns_logits = any(weights[name] for name in self.from_logits)
        super().__init__(
            Peers(network, data),
            data,
            weights,
            labels=labels,
            classifier=learns_logits,
            sampling=sampling,
            ramps=ramps,
        )
        self.has_teacher = bool(sources)
        files = files or [None] * len(sources)
        seen = replace(data, input_shape=self.networks.architecture.input_shape)
        self.teachers = nn.ModuleList(
            make_teacher(
                source,
                seen,
                weights=file,
                image_size=teacher_image_size,
                logits=learns_logits,
                trust_code=trust_code,
                cache=cache,
            )
            for source, file in zip(sources, files, strict=True)
        )
        self.origins = [
            (source, file, teacher_image_size, cache) for source, file in zip(sources, files, strict=True)
        ]
        for one in self.each_teacher():
            for text in one.notes:
                self.note(text)

    def begin_epoch(self) -> None:
        for teacher in self.each_teacher():
            teacher.check_cache()

    def share_with(self, others: Sequence[Method]) -> None:
        """Take the teachers of others that were made of the same in the place of its own: they run once a step."""
        for number, origin in enumerate(self.origins):
            for other in others:
                if isinstance(other, TeacherMethod) and origin in other.origins:
                    alike = other.each_teacher()[other.origins.index(origin)]
                    alike.shared = True
                    self.teachers[number] = alike
                    break

    def forget_step(self) -> None:
        for teacher in self.each_teacher():
            teacher.forget()

    @property
    def phase(self) -> Hashable:
        """That of every method, and whose outputs are looked up."""
        return super().phase, tuple(teacher.knows_all for teacher in self.each_teacher())

    @property
    def teacher(self) -> Teacher:
        """The only teacher, or the first."""
        return self.each_teacher()[0]

    def each_teacher(self) -> list[Teacher]:
        """Return the teachers in their order."""
        return [one for one in self.teachers if isinstance(one, Teacher)]

    def teacher_logits(self, batch: Batch, temperature: float) -> Tensor:
        """Return logits [B, K] whose softmax at the temperature is the mean of the teachers' softened probabilities.

        Of one teacher they are its own.
        """
        logits = [one.outputs(batch).logits for one in self.each_teacher()]
        return logits[0] if len(logits) == 1 else softened_ensemble(torch.stack(logits), temperature)

    @classmethod
    def check_teachers(cls, sources: Sequence[object], files: Sequence[str], weights: Mapping[str, float]) -> None:
        """Raise UserError where a teacher is missing, or weights of one, or where there are several of no use."""
        if not sources and cls.needs_teacher:
            raise UserError(
                f"{cls.__name__} needs a teacher: give the folder of a finished run (--method.teacher RUN_FOLDER), "
                "or a model's name with its weights (--method.teacher NAME --method.teacher_weights FILE)"
            )
        if not sources and files:
            raise UserError(f"teacher_weights '{files[0]}' are for a teacher: say with --method.teacher which")
        if files and len(files) != len(sources):
            raise UserError(f"{len(files)} teacher_weights for {len(sources)} teachers: give a file for each")
        others = [name for name, weight in weights.items() if weight and name not in cls.from_logits]
        if len(sources) > 1 and others:
            raise UserError(
                f"{len(sources)} teachers: {cls.__name__} learns from one teacher's embeddings or maps "
                f"({', '.join(others)}), and only of logits there is a mean; give one"
            )


def require_unused(**options: object) -> None:
    """Raise UserError where an option of teachers is given, and there is none."""
    for name, value in options.items():
        if value not in (None, False):
            raise UserError(f"{name}={value} is for a teacher: say with --method.teacher which, or leave it out")


def as_list(value: Any) -> list[Any]:
    """Return a list of what is one thing, several or nothing."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
