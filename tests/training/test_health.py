"""Nothing at chance is sold: what a run's numbers say against its student."""

import math
from importlib import import_module

import pytest
import torch

from classmates.errors import NonFiniteLoss
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.protocol import Metric
from classmates.training.health import examine, rising_losses, zero_terms

PROTOCOL = ClassificationProtocol().record


def test_a_student_at_chance_is_useless():
    chance = ClassificationProtocol().chance(torch.tensor([0, 0, 0, 1, 2]))
    assert chance == pytest.approx(0.6)
    for value, useless in ((0.6, True), (0.3, True), (0.61, False)):
        found = examine([], Metric(value, 0.0, 1.0, 5), chance, PROTOCOL)
        assert found.useless is useless
        assert any("useless" in warning and "60.00%" in warning for warning in found.warnings) is useless


@pytest.mark.parametrize(("losses", "warned"), [([1.2, 0.8], 0), ([1.2, 2.5], 1), ([1.2, math.nan], 1), ([1.2], 0)])
def test_a_loss_that_ends_above_its_start_is_told(losses, warned):
    history = [{"epoch": number, "val/student/nll": value} for number, value in enumerate(losses)]
    assert len(rising_losses(history, PROTOCOL)) == warned


def test_a_term_that_is_exactly_zero_is_told():
    row = {"train/ce": 1.0, "train/ce/weighted": 0.0, "train/contrast": 0.0, "val/student/top1": 0.0}
    (warning,) = zero_terms([row])
    assert "'contrast'" in warning


def test_a_run_at_chance_says_so_everywhere(small_train, tmp_path):
    result = small_train(out=tmp_path / "run", epochs=1, lr=1e-9, warmup_epochs=0, report=True)
    assert result.record.useless
    assert "useless" in str(result)
    assert "not worth deploying" in str(result)
    assert "useless" in (tmp_path / "run" / "report.html").read_text()


def test_a_term_without_gradient_is_told(small_train, tmp_path):
    from classmates.methods import Baseline

    class Idle(Baseline):
        def __init__(self, network, data):
            super().__init__(network, data)
            self.weights["idle"] = 1.0

        def terms(self, outputs, batch):
            return {"idle": lambda: outputs[-1].logits.detach().mean().abs() + 1}

    result = small_train(out=tmp_path / "run", method=Idle, epochs=1)
    assert any("'idle' has no gradient" in warning for warning in result.record.warnings)


def test_a_report_that_fails_loses_nothing(small_train, tmp_path, monkeypatch, capsys):
    module = import_module("classmates.training.run")

    def fail(folder, out):
        raise RuntimeError("no room")

    monkeypatch.setattr(module, "write_run_page", fail)
    result = small_train(out=tmp_path / "run", epochs=1, report=True)
    assert (tmp_path / "run" / "student.safetensors").exists()
    assert result.record.test
    assert "could not be written (no room); `classmates report" in capsys.readouterr().err


def test_a_student_that_cannot_be_scored_is_on_disk(small_train, tmp_path, monkeypatch):
    module = import_module("classmates.training.result")

    def diverged(protocol, predictions):
        raise ValueError("logits hold NaN or infinity")

    monkeypatch.setattr(module, "score_all", diverged)
    with pytest.raises(NonFiniteLoss, match=r"its student is in .*logits hold NaN"):
        small_train(out=tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "student.safetensors").exists()
