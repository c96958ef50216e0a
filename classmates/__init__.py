"""More accurate image classifiers without a bigger teacher: self-distillation and online distillation.

What is public is imported when it is first used, so that ``import classmates`` itself takes no time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classmates.catalog import list as list
    from classmates.contracts import Batch, DataSpec, View
    from classmates.errors import NonFiniteLoss, UserError
    from classmates.evaluation.evaluate import evaluate
    from classmates.evaluation.predict import predict
    from classmates.export import export
    from classmates.methods import CORSD, MCL, Baseline, Method
    from classmates.networks.describe import describe
    from classmates.report.html import report
    from classmates.student import load_student
    from classmates.training.result import Result
    from classmates.training.train import train

__version__ = version("classmates")

__all__ = [
    "CORSD",
    "MCL",
    "Baseline",
    "Batch",
    "DataSpec",
    "Method",
    "NonFiniteLoss",
    "Result",
    "UserError",
    "View",
    "__version__",
    "describe",
    "evaluate",
    "export",
    "list",
    "load_student",
    "predict",
    "report",
    "train",
]

_HOMES = {
    "train": "classmates.training.train",
    "evaluate": "classmates.evaluation.evaluate",
    "predict": "classmates.evaluation.predict",
    "export": "classmates.export",
    "report": "classmates.report.html",
    "describe": "classmates.networks.describe",
    "list": "classmates.catalog",
    "Result": "classmates.training.result",
    "load_student": "classmates.student",
    **dict.fromkeys(("Batch", "DataSpec", "View"), "classmates.contracts"),
    **dict.fromkeys(("NonFiniteLoss", "UserError"), "classmates.errors"),
    **dict.fromkeys(("Method", "Baseline", "CORSD", "MCL"), "classmates.methods"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'classmates' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> Iterable[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps ``classmates.export`` a function after the module of that name is imported; so too ``report``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
