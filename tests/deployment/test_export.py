import json
import os
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import timm
import torch
from torch import Tensor

from classmates.deployment import export as module
from classmates.deployment.export import export as export_any
from classmates.errors import UserError
from classmates.networks.building.build import build_model
from classmates.runs.student import StudentCard, load_student, save_student, write_card

export = partial(export_any, trust_code=True)
NETWORKS = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, num_classes, in_chans=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 36, num_classes)

    def forward(self, images):
        return self.head(self.body(images))

class DependsOnValues(Small):
    def forward(self, images):
        return super().forward(images) if images.sum() > 0 else super().forward(-images)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run's folder with a small student whose BatchNorm has seen images."""
    (tmp_path / "networks.py").write_text(NETWORKS)
    save(tmp_path, "Small")
    return tmp_path


def save(folder: Path, name: str) -> None:
    card = StudentCard(
        model=f"{folder / 'networks.py'}:{name}",
        class_names=("cat", "dog", "größer"),
        input_shape=(2, 8, 8),
        mean=(0.5, 0.25),
        std=(0.25, 0.5),
        resize=(8, 8),
        model_args={"in_chans": 2},
    )
    torch.manual_seed(0)
    network = build_model(str(card.model), 3, in_chans=2)
    network.body.train()(torch.randn(16, 2, 8, 8))
    save_student(folder, network, card)


@torch.no_grad()
def expected(run: Path, images: Tensor) -> Tensor:
    student, _ = load_student(run, trust_code=True)
    return student(images)


def test_onnx_gives_the_students_logits_for_any_batch(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = export(run)
    assert path == run / "student.onnx"
    said = capsys.readouterr().err.strip()
    difference = re.fullmatch(r".*student.onnx: logits differ .* at most ([\d.e+-]+) \(batches of 1 and 5 .*\)", said)
    assert difference is not None
    assert float(difference[1]) < 1e-5
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in (1, 3, 7):
        images = torch.randn(size, 2, 8, 8)
        (got,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(got, expected(run, images), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["cat", "dog", "größer"]
    assert json.loads(metadata["mean"]) == [0.5, 0.25]
    assert json.loads(metadata["std"]) == [0.25, 0.5]
    assert StudentCard.from_json(metadata["classmates"]) == load_student(run, trust_code=True)[1]
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_onnx_with_a_batch_of_one(run: Path) -> None:
    session = onnxruntime.InferenceSession(export(run, dynamic_batch=False), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 2, 8, 8]


def test_torch_export(run: Path) -> None:
    path = export(run, format="torch", out=run / "new folder" / "net.pt2")
    files = {"classmates": ""}
    program = torch.export.load(path, extra_files=files).module()
    images = torch.randn(4, 2, 8, 8)
    torch.testing.assert_close(program(images), expected(run, images))
    assert StudentCard.from_json(files["classmates"]) == load_student(run, trust_code=True)[1]


def test_safetensors_is_what_timm_loads(run: Path) -> None:
    student = timm.create_model("test_resnet", num_classes=3, in_chans=2).eval()
    card = replace(load_student(run, trust_code=True)[1], model="test_resnet")
    save_student(run, student, card)
    path = export(run, format="safetensors", out=run / "copy.safetensors")
    loaded = timm.create_model("test_resnet", num_classes=3, in_chans=2, checkpoint_path=path).eval()
    images = torch.randn(2, 2, 32, 32)
    assert torch.equal(loaded(images), student(images))
    with safetensors.safe_open(path, "pt") as file:
        assert StudentCard.from_json(file.metadata()["classmates"]) == card


def test_a_file_that_differs_is_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export(run, format="torch")
    kept, before = path.read_bytes(), sorted(os.listdir(run))
    for off_by, shown in ((2e-3, r"2\.\d+e-03"), (float("nan"), "nan")):
        wrong = replace(
            module.FORMATS["torch"],
            write=lambda paths, source: paths[0].write_text("wrong"),
            open=lambda paths, source, threads, off_by=off_by: lambda images: source.network(images) + off_by,
        )
        monkeypatch.setitem(module.FORMATS, "torch", wrong)
        with pytest.raises(
            UserError, match=rf"differ from the student's by {shown}, more than the tolerance 1.00e-04"
        ):
            export(run, format="torch")
        assert path.read_bytes() == kept
        assert sorted(os.listdir(run)) == before
    monkeypatch.undo()
    assert export(run, format="torch", tolerance=1e-6) == path


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_network_that_cannot_be_exported(run: Path, format: str) -> None:
    save(run, "DependsOnValues")
    before = sorted(os.listdir(run))
    with pytest.raises(UserError, match=f"cannot be exported as {format}"):
        export(run, format=format)  # type: ignore[arg-type]
    assert sorted(os.listdir(run)) == before


def test_without_onnx_the_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'classmates\[onnx\]'"):
        export(run)


def test_a_student_that_no_name_rebuilds(run: Path) -> None:
    student, card = load_student(run, trust_code=True)
    save_student(run, student, replace(card, model=None))
    with pytest.raises(UserError, match=r"network object.*export take such a network"):
        export(run, format="safetensors")
    path = export(run, format="torch", network=build_model(str(card.model), 3, in_chans=2))
    images = torch.randn(4, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(path).module()(images), student(images))


@pytest.mark.parametrize("format", ["onnx", "torch", "safetensors"])
def test_names_that_are_not_utf8(run: Path, format: Any) -> None:
    folder = run / os.fsdecode(b"folder \xff")
    suffix = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}[format]
    path = export(run, format=format, out=folder / os.fsdecode(b"student \xfe" + suffix.encode()))
    assert [*folder.iterdir()] == [path]
    assert isinstance(path, Path)
    assert path.stat().st_size > 100


def test_a_place_that_cannot_be_written(run: Path) -> None:
    with pytest.raises(UserError, match=r"'/proc/x/student\.onnx' cannot be written"):
        export(run, out=Path("/proc/x/student.onnx"))


def test_wrong_input(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"format is 'tflite'; choose one of safetensors, onnx, torch"):
        export(run, format="tflite")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"net.pt', but format onnx .* use '.*net.onnx'"):
        export(run, out=tmp_path / "net.pt")
    with pytest.raises(UserError, match="no trained student"):
        export(tmp_path / "nowhere")


def test_what_has_no_logits_is_not_calibrated(run: Path) -> None:
    write_card(run, replace(load_student(run, trust_code=True)[1], temperature=2.0))
    before = sorted(os.listdir(run))
    with pytest.raises(UserError, match="calibrated changes logits, and safetensors holds weights alone: leave it"):
        export(run, format="safetensors", calibrated=True)
    with pytest.raises(UserError, match="calibrated divides logits, which an embedding is not: leave it out"):
        export(run, format="torch", what="embedding", calibrated=True)
    assert sorted(os.listdir(run)) == before


def test_the_difference_is_a_share_of_large_logits(run: Path) -> None:
    """Float32 has seven digits: logits of a million may differ by a tenth and be as right as they can be."""
    student, card = load_student(run, trust_code=True)
    with torch.no_grad():
        list(student.parameters())[-2].mul_(1e7)
    save_student(run, student, card)
    assert export(run, format="onnx").exists()
