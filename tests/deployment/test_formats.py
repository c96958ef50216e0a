"""Every format gives what the network gives, as closely as its numbers allow; the card goes with it."""

import json

import onnx
import pytest
import torch
from torch import nn

from classmates.deployment.formats import FORMATS, MEASURED, Half, Source
from classmates.runs.student import StudentCard

SHAPE = (3, 12, 12)
CLOSE = {"onnx-float16": 5e-3, "onnx-int8": 0.1}
"""How far answers of about 1 may be off; elsewhere float32's rounding."""


SMALLER = {"onnx-float16": 0.7, "onnx-int8": 0.5}
"""The most that a file is of float32's."""


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(200, 100),
        nn.Linear(100, 4),
    )
    network.train()(2 * torch.randn(64, *SHAPE))
    card = StudentCard(None, tuple("abcd"), SHAPE, (0.5,) * 3, (0.2,) * 3, (12, 12))
    calibration = lambda: torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1)).split(16)
    return Source(network.eval(), card, {"more": "said"}, calibration=calibration)


@pytest.mark.parametrize("name", MEASURED)
def test_a_file_answers_as_the_network(name, source, tmp_path):
    form = FORMATS[name]
    if form.missing:
        pytest.skip(f"needs {', '.join(form.missing)}")
    paths = [tmp_path / f"net{suffix}" for suffix in form.suffixes]
    form.write(paths, source)
    runner = form.open(paths, source, 1)
    for size in (1,) if form.single else (1, 7):
        images = torch.randn(size, *SHAPE)
        with torch.no_grad():
            torch.testing.assert_close(runner(images), source.network(images), atol=CLOSE.get(name, 1e-5), rtol=0)
    weights = 4 * sum(parameter.numel() for parameter in source.network.parameters())
    assert paths[-1].stat().st_size < SMALLER.get(name, 3) * weights
    if form.suffixes == (".onnx",):
        metadata = {entry.key: entry.value for entry in onnx.load(paths[0]).metadata_props}
        assert StudentCard.from_json(metadata["classmates"]) == source.card
        assert json.loads(metadata["class_names"]) == list("abcd")
        assert metadata["more"] == "said"


def test_half_precision_leaves_the_network_alone(source):
    half = Half(source.network)
    assert half(torch.zeros(1, *SHAPE)).dtype == torch.float32
    assert {parameter.dtype for parameter in source.network.parameters()} == {torch.float32}
