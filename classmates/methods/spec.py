"""A method's specification: its class and its options, from which it is built."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.runs.spec import Spec

MethodLike = Callable[[nn.Module, DataSpec], Method] | str
"""What makes a method of a network and what is known of the data (a class, ``MethodSpec``, partial), or its name."""
WITH_OPTIONS = re.compile(r"([^()]+)\((.*)\)")
"""A name with options behind it, as ``compare`` takes them."""
IN_PAPERS = {"MCL-OKD": "MCL", "BYOT": "SD", "BAN": "BornAgain", "LSR": "LabelSmoothing"}
"""Methods by what papers call them, where that is not their name here."""
MIXING = ("cutmix", "mixup")
"""Augmentations that papers compare with methods; a file of settings of each trains Baseline with it."""


@dataclass(frozen=True)
class MethodSpec(Spec):
    """A method's class and options; called with a network and a DataSpec, it builds the method."""

    noun: ClassVar[str] = "method"
    given: ClassVar[int] = 2

    @classmethod
    def base(cls) -> type[Method]:
        return Method

    @classmethod
    def known(cls) -> dict[str, type[Method]]:
        return known_methods()

    @classmethod
    def find(cls, name: Any) -> type[Method]:
        """Return the class of that name; for what others call or write so, the error says how it is given."""
        if isinstance(name, str) and (written := WITH_OPTIONS.fullmatch(name)):
            options = re.sub(r",?\s*(\w+)\s*=\s*", r" --method.\1 ", written[2])
            raise UserError(f"method '{name}': say --method {written[1]}{options}")
        plain = _plain(name) if isinstance(name, str) else ""
        if plain in MIXING:
            raise UserError(
                f"method '{name}' is an augmentation, for any method: --augmentation.{plain} 1; as a row of compare, "
                f"--methods Baseline,{name}"
            )
        for called, here in IN_PAPERS.items():
            if plain == _plain(called):
                raise UserError(f"unknown method '{name}': did you mean '{here}'?")
        return super().find(name)

    def scaled(self, factor: float) -> MethodSpec:
        """Return the same with every option that is a number of epochs times a factor, rounded to 1 or more."""
        return MethodSpec(self.class_path, self.kind.scale_lengths(self.resolved(), factor), _kind=self._kind)

    def from_weights(self) -> MethodSpec:
        """Return the same for networks that begin from trained weights; options that were chosen stay."""
        chosen = self.chosen or frozenset()
        options = self.kind.from_weights(self.resolved(), chosen)
        return MethodSpec(self.class_path, options, chosen, self._kind)


def _plain(name: str) -> str:
    """Return a name in small letters without hyphens, as no two papers write it alike."""
    return name.lower().replace("-", "")


def known_methods() -> dict[str, type[Method]]:
    """Return the methods of this package by name."""
    from classmates import methods  # which imports this module

    public = {name: getattr(methods, name) for name in methods.__all__}
    return {
        name: found
        for name, found in public.items()
        if inspect.isclass(found) and issubclass(found, Method) and not inspect.isabstract(found)
    }


def method_of(given: MethodLike) -> Callable[[nn.Module, DataSpec], Method]:
    """Return what makes the method that is meant.

    Raises:
        UserError: there is no method of that name, or nothing that could make one was given.
    """
    making = MethodSpec.of(given) or given
    if not callable(making):
        raise UserError(
            f"method={given!r}: give a method's name, such as 'MCL', its class, or what makes one of a network and a "
            "DataSpec, such as functools.partial(MCL, peers=2)"
        )
    return making
