"""Every backbone of this package compiles whole and runs the same as ONNX."""

import warnings
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

import classmates.models
from classmates.models.backbone import Stage
from classmates.models.blocks import Concatenate
from classmates.models.hcgnet import HybridGate

pytestmark = pytest.mark.long

SAME = {
    "resnet32": "resnet20",
    "resnet56": "resnet20",
    "resnet110_basic": "resnet20",
    "resnet101_cifar": "resnet50_cifar",
    "wide_resnet101_2_cifar": "wide_resnet50_2_cifar",
}
"""What is another backbone once repetitions are left out: it is deployed as that one."""


@pytest.fixture
def images(name: str) -> Tensor:
    side = 84 if name == "conv4" else 32
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(name: str, images: Tensor) -> nn.Module:
    torch.manual_seed(0)
    network = short(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # after one batch the statistics are its own: activations stay of the order of one
    # Of 16 images: the variance of a gate over two can be next to nothing, and dividing by it magnifies rounding.
    many = torch.randn(16, *images.shape[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.train()(many)
    return network.eval()


def short(name: str) -> nn.Module:
    """Return a backbone without its repetitions."""
    network = timm.create_model(name, num_classes=10)
    for stage in filter(lambda module: isinstance(module, Stage), network.modules()):
        leave_out_repetitions(stage)
    return network


def leave_out_repetitions(stage: Stage) -> None:
    """Leave two of each row of equal blocks: more of them run the same code on maps of the same shape.

    So do HCGNet's gates, in units of which each has more channels to begin with.
    """
    shapes = [[parameter.shape for parameter in block.parameters()] for block in stage]
    for number in reversed(range(2, len(stage))):
        if shapes[number] == shapes[number - 1] == shapes[number - 2]:
            del stage[number]
    for block in stage[2:]:
        if isinstance(block, Concatenate) and isinstance(block[-1], HybridGate):
            block[-1] = nn.Identity()


@pytest.mark.parametrize("name", SAME)
def test_what_is_left_out_is_the_same_as_another(name: str) -> None:
    """Module by module and weight by weight."""
    with torch.device("meta"):
        ours, theirs = short(name), short(SAME[name])
    assert repr(ours) == repr(theirs)
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", [name for name in classmates.models.__all__ if name not in SAME])
@torch.no_grad()
def test_compiles_whole_and_runs_the_same_as_onnx(
    name: str, network: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    logits = network(images)
    torch._dynamo.reset()
    # Captured in one graph and run as it is: code generation for 22 networks would take an hour.
    torch.testing.assert_close(torch.compile(network, backend="eager", fullgraph=True)(images), logits)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(network, (images,))
        # Without the exporter's own simplification, which takes minutes for HCGNet; onnxruntime does it again.
        program = torch.onnx.export(exported, dynamo=True, optimize=False, input_names=["images"], verbose=False)
    assert program is not None
    program.save(tmp_path / "network.onnx", external_data=False)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    [outputs] = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
