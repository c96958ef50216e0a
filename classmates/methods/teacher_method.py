"""What methods with a teacher have in common: the student alone, beside a trained network that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.networks.building.teacher import Teacher
from classmates.networks.peers.peers import Peers


class TeacherMethod(Method):
    """A method whose student learns from a teacher, which runs where a term asks for it and at no other time.

    Args:
        teacher, weights_file: see ``Teacher``.
        weights: the factor in front of each term.
        cache: whether the teacher's outputs are kept; see ``Teacher``.

    Raises UserError where there is no teacher, and what ``Teacher`` raises.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        teacher: str | nn.Module | None,
        weights_file: str | None,
        weights: Mapping[str, float],
        cache: bool = False,
    ):
        if teacher is None:
            name = type(self).__name__
            raise UserError(
                f"{name} needs a teacher: give the folder of a finished run (--method.teacher RUN_FOLDER), or a "
                "model's name with its weights (--method.teacher NAME --method.teacher_weights FILE)"
            )
        super().__init__(Peers(network, data), weights)
        seen = replace(data, input_shape=self.networks.architecture.input_shape)
        self.teacher = Teacher(teacher, seen, weights=weights_file, cache=cache)
        for text in self.teacher.notes:
            self.note(text)
