"""Steps as graphs compute what plain steps do; what cannot be a graph goes on as plain steps, and says why.

There is no GPU in most places that run this: a graph is played here by a function that takes the step anew on the
graph's own batch. ``test_gpu.py`` has the real ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

import classmates
from classmates import methods
from classmates.data.augmentation import Augmentation
from classmates.errors import UserError
from classmates.methods.base import Output
from classmates.training import graphed_steps, setup, step_graph
from classmates.training.finetuning import WeightAverage
from classmates.training.result import Result

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Baseline": (classmates.Baseline, {}),
    "rates that change with the step": (classmates.Baseline, {"schedule": "OneCycleLR"}),
    "an optimiser that is not fused": (classmates.Baseline, {"optimizer": "NAdam", "warmup_epochs": 1}),
    "clipped": (classmates.Baseline, {"gradient_clip": 0.1}),
    "mixed images": (classmates.Baseline, {"augmentation": Augmentation(mixup=0.4)}),
    "an average of weights": (classmates.Baseline, {"ema": 0.9}),
    "MCL": (lambda network, data: classmates.MCL(network, data, num_negatives=16), {}),
    "a ramp": (lambda network, data: methods.ONE(network, data, ramp=2), {}),
    "what is kept from step to step": (methods.DLB, {"batch_size": 24}),
    "generations": (lambda network, data: methods.BornAgain(network, data, generations=2), {}),
    "stages that are frozen for an epoch": (classmates.Baseline, {"freeze_stages": 1, "freeze_epochs": 1}),
}
Train = Callable[..., Result]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets graphs be taken on a CPU; returns what is captured and replayed, in order."""
    happened: list[str] = []

    def record(step: Callable[[], Output]) -> Callable[[], Output]:
        happened.append("captured")

        def run() -> Output:
            happened.append("replayed")
            return step()

        return run

    monkeypatch.setattr(step_graph, "record", record)
    monkeypatch.setattr(setup, "against_graphs", lambda trainer: None)
    return happened


def run(out: Path, method: Any, step: str, **settings: Any) -> Result:
    how: dict[str, Any] = {"train_size": 110, "batch_size": 20, "epochs": 3, "val_fraction": 0.1, "test": False}
    how |= {"precision": "32-true", "memory_format": "contiguous", "report": False, "progress": False}
    return classmates.train("digits", "resnet8", method, step=step, out=out, **how | settings)


@pytest.fixture
def train(tmp_path: Path) -> Train:
    return lambda *given, **settings: run(tmp_path / f"{len(list(tmp_path.iterdir()))}", *given, **settings)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What plain steps of the baseline lead to."""
    return run(tmp_path_factory.mktemp("plain") / "run", classmates.Baseline, "eager")


def weights(result: Result) -> list[Tensor]:
    return list(result.student.state_dict().values())


def same(ours: Result, theirs: Result) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(ours), weights(theirs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_graphs_lead_to_the_weights_of_plain_steps(name: str, plain: Result, played: list[str], train: Train) -> None:
    method, settings = CASES[name]
    if name != "Baseline":
        plain = train(method, "eager", **settings)
    assert not played
    assert same(train(method, "graph", **settings), plain)
    assert played.count("replayed") >= (0 if name.startswith("rates") else 5)


def test_a_last_smaller_batch_and_steps_that_change_are_plain(played: list[str], train: Train) -> None:
    """Images in batches of 20 are five whole ones and a smaller one an epoch."""
    train(classmates.Baseline, "graph")
    assert played[:2] == ["captured", "replayed"]
    assert played.count("captured") == 1
    assert played.count("replayed") == 3 * 5 - 1


def test_a_step_that_cannot_be_captured_stays_plain(
    monkeypatch: pytest.MonkeyPatch,
    plain: Result,
    played: list[str],
    train: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(step: Callable[[], Output]) -> Callable[[], Output]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(step_graph, "record", fails)
    capsys.readouterr()
    assert same(train(classmates.Baseline, "graph"), plain)
    said = " ".join(capsys.readouterr().err.split())
    assert "steps do not run as a CUDA graph: it could not be captured (operation not permitted" in said


def test_a_trial_that_does_not_fit_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
    plain: Result,
    played: list[str],
    train: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 1000))
    capsys.readouterr()
    assert same(train(classmates.Baseline, "graph", accelerator="cpu"), plain)
    assert "the steps to compare it with need" in " ".join(capsys.readouterr().err.split())
    assert not played


def test_a_graph_beside_whose_step_a_plain_one_has_no_room_is_not_captured(
    monkeypatch: pytest.MonkeyPatch, played: list[str], train: Train
) -> None:
    """Two of what the first step has taken at most must fit: into what is free and what PyTorch keeps unused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 10**9 + 100)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 10**9)
    monkeypatch.setattr(graphed_steps, "wait", lambda: None)
    for free, captured in ((10**9 // 2, False), (2 * 10**9, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 10**10))
        train(classmates.Baseline, "graph", accelerator="cpu", epochs=1)
        assert bool(played) is captured


def test_memory_that_ends_while_steps_are_compared_gives_the_graph_up(
    monkeypatch: pytest.MonkeyPatch,
    plain: Result,
    played: list[str],
    train: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphed_steps, "whole_step", full)
    capsys.readouterr()
    assert same(train(classmates.Baseline, "graph"), plain)
    assert "the memory is not enough for it beside plain steps" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("method", [classmates.Baseline, methods.DLB])
def test_a_graph_that_computes_something_else_is_found_and_undone(
    method: Any, monkeypatch: pytest.MonkeyPatch, played: list[str], train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """A graph that holds a constant, as a method's own value that changes by the step would be in it."""

    def stale(step: Callable[[], Output]) -> Callable[[], Output]:
        def run() -> Output:
            output = step()
            for group in optimizers[-1].param_groups:
                for weight in group["params"]:
                    weight.data.mul_(0.99)
            return output

        return run

    optimizers: list[torch.optim.Optimizer] = []
    whole = step_graph.whole_step
    monkeypatch.setattr(step_graph, "whole_step", lambda *given: (optimizers.append(given[1]), whole(*given))[1])
    plain = train(method, "eager", batch_size=24)
    monkeypatch.setattr(step_graph, "record", stale)
    capsys.readouterr()
    assert same(train(method, "graph", batch_size=24), plain)
    assert "its results differ from those of plain steps by" in " ".join(capsys.readouterr().err.split())


def test_a_graph_that_is_no_faster_is_not_used_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, played: list[str], train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(graphed_steps, "timed", lambda step: (step(), 0.001))
    train(classmates.Baseline, "auto")
    assert played.count("replayed") == graphed_steps.COMPARED
    assert "it is not faster (1.0 ms, plain 1.0 ms)" in " ".join(capsys.readouterr().err.split())
    train(classmates.Baseline, "graph")
    assert "steps run as one CUDA graph: 1.0 ms a step instead of 1.0 ms" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("settings", "why"),
    [({}, "a CUDA graph needs a GPU, and this run is on the cpu"), ({"accelerator": "cpu"}, "on the cpu")],
)
def test_graphs_that_are_asked_for_in_vain_are_refused(settings: dict[str, Any], why: str, train: Train) -> None:
    with pytest.raises(UserError, match=why):
        train(classmates.Baseline, "graph", **settings)


class Looks(Callback):
    def on_before_optimizer_step(self, *_: Any) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, None),
        ({"accumulate_grad_batches": 2}, "accumulate=2"),
        ({"callbacks": [Looks()]}, "Looks.on_before_optimizer_step looks into the step"),
        ({"callbacks": [WeightAverage(0.9)]}, None),
    ],
)
def test_what_speaks_against_graphs(
    settings: dict[str, Any], why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)
    monkeypatch.setattr(type(trainer.strategy), "root_device", torch.device("cuda"))
    found = graphed_steps.against_graphs(trainer)
    assert found == why or (why and found and why in found)
