"""More accurate image classifiers without a bigger teacher: self-distillation and online distillation.

What is public is imported when it is first used, so that ``import classmates`` itself takes no time. Every method of
``classmates.methods`` is public here too.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classmates.contracts import Batch, DataSpec, NetworkOutput
    from classmates.deployment.export import export
    from classmates.deployment.hub import push
    from classmates.errors import NonFiniteLoss, UserError
    from classmates.evaluation.evaluate import evaluate
    from classmates.evaluation.predict import predict
    from classmates.evaluation.student import load_student
    from classmates.evaluation.transfer import transfer
    from classmates.experiments.compare import compare
    from classmates.experiments.improve import improve
    from classmates.experiments.report import report
    from classmates.experiments.sweep import sweep
    from classmates.inspection.inspecting import inspect
    from classmates.methods import *  # noqa: F403
    from classmates.networks.building.describe import describe
    from classmates.tasks.classification import Classification
    from classmates.tasks.few_shot import FewShot
    from classmates.training.result import Result
    from classmates.training.train import train

if sys.platform == "win32":
    raise ImportError("classmates runs on Linux and macOS, and on Windows in WSL 2")

__version__ = version("classmates")
# Of libraries that are imported in a notebook without ipywidgets, which nothing here needs.
warnings.filterwarnings("ignore", message="IProgress not found")

__all__ = [
    "Batch",
    "Classification",
    "DataSpec",
    "FewShot",
    "NetworkOutput",
    "NonFiniteLoss",
    "Result",
    "UserError",
    "__version__",
    "compare",
    "describe",
    "evaluate",
    "export",
    "improve",
    "inspect",
    "load_student",
    "predict",
    "push",
    "report",
    "sweep",
    "train",
    "transfer",
]

_HOMES = {
    "train": "classmates.training.train",
    "compare": "classmates.experiments.compare",
    "improve": "classmates.experiments.improve",
    "sweep": "classmates.experiments.sweep",
    "evaluate": "classmates.evaluation.evaluate",
    "transfer": "classmates.evaluation.transfer",
    "predict": "classmates.evaluation.predict",
    "export": "classmates.deployment.export",
    "push": "classmates.deployment.hub",
    "report": "classmates.experiments.report",
    "inspect": "classmates.inspection.inspecting",
    "describe": "classmates.networks.building.describe",
    "list": "classmates.catalog",
    "Classification": "classmates.tasks.classification",
    "FewShot": "classmates.tasks.few_shot",
    "Result": "classmates.training.result",
    "load_student": "classmates.evaluation.student",
    **dict.fromkeys(("Batch", "DataSpec", "NetworkOutput"), "classmates.contracts"),
    **dict.fromkeys(("NonFiniteLoss", "UserError"), "classmates.errors"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    methods = import_module("classmates.methods")
    if name in methods.__all__:
        return getattr(methods, name)
    raise AttributeError(f"module 'classmates' has no attribute '{name}'")


def __dir__() -> Iterable[str]:
    return sorted({*globals(), *__all__, *import_module("classmates.methods").__all__})
