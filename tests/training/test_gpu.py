"""On a GPU: training by graphs leads where plain steps lead; what cannot be a graph goes on plainly. ``make gpu``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import classmates
from classmates.contracts import Batch, NetworkOutput, Terms
from classmates.data.augmentation import Augmentation
from classmates.methods import Baseline, Combined
from classmates.methods.spec import known_methods
from classmates.methods.teacher_method import TeacherMethod
from classmates.training.result import Result

pytestmark = pytest.mark.gpu
Train = Callable[..., Result]
ALONE = [kind for kind in known_methods().values() if not (issubclass(kind, TeacherMethod) and kind.needs_teacher)]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(method: Any, step: str, **settings: Any) -> Result:
        how: dict[str, Any] = {"train_size": 260, "batch_size": 24, "epochs": 2, "lr": 0.01, "test": False}
        how |= {"precision": "32-true", "report": False, "progress": False, "accelerator": "gpu"}
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return classmates.train("digits", "resnet8", method, step=step, out=out, **how | settings)

    return run


def apart(ours: Result, theirs: Result) -> float:
    """Return the distance of two students' weights relative to their size."""
    flat = [torch.cat([one.flatten().float() for one in result.student.parameters()]) for result in (ours, theirs)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("kind", ALONE, ids=lambda kind: kind.__name__)
def test_every_method_trains_by_graphs(kind: Any, train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    method = kind if kind is not Combined else lambda *given: Combined(*given, methods=["CORSD", "MCL"])
    plain = train(method, "eager")
    capsys.readouterr()
    graphs = train(method, "graph")
    assert "steps run as one CUDA graph" in " ".join(capsys.readouterr().err.split())
    other = train(method, "eager", seed=1)
    assert apart(graphs, plain) < 0.1 * apart(other, plain)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16-mixed"},
        {"schedule": "OneCycleLR"},
        {"optimizer": "AdamW", "gradient_clip": 0.1},
        {"optimizer": "NAdam"},
        {"ema": 0.9},
        {"augmentation": Augmentation(cutmix=1.0)},
        {"memory_format": "channels_last"},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_graphs_go_with_settings(settings: dict[str, Any], train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    plain = train(Baseline, "eager", **settings)
    capsys.readouterr()
    graphs = train(Baseline, "graph", **settings)
    said = " ".join(capsys.readouterr().err.split())
    changes_by_the_step = "schedule" in settings or settings.get("optimizer") == "NAdam"
    assert ("steps run as one CUDA graph" in said) == (not changes_by_the_step)
    assert apart(graphs, plain) < 0.2 * apart(train(Baseline, "eager", seed=1, **settings), plain)


class Looks(Baseline):
    """Lets the host look at a value, which no graph can."""

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        outputs[-1].logits.max().item()
        return {}


class Counts(Baseline):
    """Counts its steps on the host, which a graph holds as they were."""

    def __init__(self, network: Any, data: Any):
        super().__init__(network, data)
        self.weights["counted"] = 1.0
        self.count = 0

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        self.count += 1
        return {"counted": lambda: self.count * outputs[-1].logits.square().mean()}


@pytest.mark.parametrize(("method", "why"), [(Looks, "could not be captured"), (Counts, "results differ")])
def test_what_no_graph_can_do_goes_on_plainly(
    method: Any, why: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train(method, "eager")
    capsys.readouterr()
    result = train(method, "auto")
    assert why in " ".join(capsys.readouterr().err.split())
    if method is Looks:  # the other has counted some steps more than once
        assert apart(result, plain) < 0.1 * apart(train(method, "eager", seed=1), plain)
