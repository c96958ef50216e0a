import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from classmates.deployment import preparation
from classmates.deployment.export import export
from classmates.errors import UserError
from classmates.evaluation.predict import predict
from classmates.networks.building.build import build_model
from classmates.runs.student import StudentCard, save_student

SHAPES = [
    ((3, 128, 128), 146, "bilinear"),
    ((3, 96, 96), 110, "bicubic"),
    ((1, 72, 72), 82, "bilinear"),
    ((3, 32, 32), (32, 32), "bilinear"),
    ((1, 24, 40), (24, 40), "bilinear"),
]


def card_for(input_shape, resize, interpolation):
    channels = input_shape[0]
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.25)[:channels]
    args = {"in_chans": channels}
    return StudentCard("test_resnet", ("a", "b", "c"), input_shape, mean, std, resize, args, "0", interpolation)


@pytest.mark.parametrize(("input_shape", "resize", "interpolation"), SHAPES)
def test_pixels_are_those_of_predict_whatever_the_size(input_shape, resize, interpolation):
    card = card_for(input_shape, resize, interpolation)
    model = preparation.preparation(card, normalised=False)
    onnx.checker.check_model(model, full_check=True)
    assert preparation.largest_difference(model, card) <= preparation.TOLERANCE


@pytest.mark.parametrize(("input_shape", "resize", "interpolation"), [SHAPES[0], SHAPES[4]])
def test_the_file_gives_what_predict_gives(tmp_path, capsys, input_shape, resize, interpolation):
    card = card_for(input_shape, resize, interpolation)
    torch.manual_seed(0)
    network = build_model("test_resnet", 3, in_chans=input_shape[0]).eval()
    network.fc.weight.data.mul_(20)
    save_student(tmp_path, network, card)
    pixels = np.asarray(Image.effect_mandelbrot((200, 150), (-2, -1.5, 1, 1.5), 60))
    pixels = np.repeat(pixels[..., None], input_shape[0], axis=2)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "image.png")
    path = export(tmp_path, preprocessing=True)
    assert "pixels that it prepares differ from the student's by at most" in capsys.readouterr().err
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [(name, kind)] = [(one.name, one.type) for one in session.get_inputs()]
    assert (name, kind) == ("pixels", "tensor(uint8)")
    (logits,) = session.run(["logits"], {"pixels": np.stack([pixels, pixels])})
    found = torch.from_numpy(logits).softmax(1).max(1).values
    expected = predict(tmp_path, [str(tmp_path / "image.png")])["probability"].tolist() * 2
    assert found.tolist() == pytest.approx(expected, abs=0.02)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["a", "b", "c"]


def test_parameters_may_be_called_as_the_steps_of_the_preparation(tmp_path):
    card = replace(card_for((3, 32, 32), (32, 32), "bilinear"), model=None)
    front = preparation.preparation(card, normalised=True).graph
    names = {one.name for one in front.initializer} | {name for node in front.node for name in node.output}
    names = {name for name in names if not hasattr(nn.Module, name)}  # a module has a method half

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            for name in names:
                self.register_parameter(name, nn.Parameter(torch.rand(3)))

        def forward(self, images):
            return sum(self.parameters(), start=images.mean((2, 3)))

    save_student(tmp_path, network := Named().eval(), card)
    session = onnxruntime.InferenceSession(
        export(tmp_path, preprocessing=True, network=network), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"pixels": np.full((1, 32, 32, 3), 255, np.uint8)})
    white = (1 - torch.tensor(card.mean)) / torch.tensor(card.std)
    np.testing.assert_allclose(logits[0], sum(network.parameters(), start=white).detach(), rtol=1e-4)


def test_pixels_that_cannot_be_put_before_a_network_are_told(tmp_path, monkeypatch):
    save_student(tmp_path, build_model("test_resnet", 3), card_for((3, 32, 32), (32, 32), "bilinear"))
    monkeypatch.setattr(onnx.compose, "merge_models", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match=r"cannot be exported as onnx .*division by zero"):
        export(tmp_path, preprocessing=True)
    assert not (tmp_path / "student.onnx").exists()


def test_what_cannot_be_prepared_is_told(tmp_path, monkeypatch):
    card = card_for((3, 32, 32), (32, 32), "bilinear")
    save_student(tmp_path, build_model("test_resnet", 3), card)
    with pytest.raises(UserError, match="part of an ONNX file, not of torch"):
        export(tmp_path, format="torch", preprocessing=True)
    monkeypatch.setattr(preparation, "TOLERANCE", -1)
    with pytest.raises(UserError, match="more than -1: leave out --preprocessing"):
        export(tmp_path, preprocessing=True)
    assert not (tmp_path / "student.onnx").exists()
