"""Any backbone, without editing it: families of timm and torchvision, cut in two and compared with the whole."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from classmates.networks.backbone.architecture import Architecture, inspect_network
from classmates.networks.backbone.observe import observe
from classmates.networks.peers.branches import Trunk, branch
from classmates.networks.peers.peers import shared_stages


def of_timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **options)


def of_torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, num_classes=5, **options)


SHALLOW = {"layers": (1, 1, 1, 1)}
# How each is made, the size of its images in pixels and how many stages it has. Nothing drops out, so that two runs
# in training mode give the same.
BACKBONES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet18": (of_timm("resnet18"), 32, 5),
    "resnext50_32x4d": (of_timm("resnext50_32x4d", **SHALLOW), 32, 5),
    "wide_resnet50_2": (of_timm("wide_resnet50_2", **SHALLOW), 32, 5),
    "seresnet18": (of_timm("seresnet18"), 32, 5),
    "densenet121": (of_timm("densenet121", block_config=(2, 2, 3, 2)), 32, 5),
    "vgg11_bn": (of_timm("vgg11_bn", mlp_ratio=1 / 64), 32, 5),
    "mobilenetv1_100": (of_timm("mobilenetv1_100"), 32, 5),
    "mobilenetv3_small_100": (of_timm("mobilenetv3_small_100"), 32, 5),
    "efficientnet_b0": (of_timm("efficientnet_b0"), 32, 5),
    "convnext_atto": (of_timm("convnext_atto"), 32, 4),
    "swin_tiny": (
        of_timm("swin_tiny_patch4_window7_224", img_size=64, embed_dim=48, depths=(1, 2, 1, 1), drop_path_rate=0.0),
        64,
        4,
    ),
    "regnety_002": (of_timm("regnety_002"), 32, 5),
    "hgnet_tiny": (of_timm("hgnet_tiny"), 32, 4),
    "resnetv2_50": (of_timm("resnetv2_50", **SHALLOW), 32, 5),
    "ghostnet_100": (of_timm("ghostnet_100", drop_rate=0.0), 32, 5),
    "mobileone_s0": (of_timm("mobileone_s0"), 32, 5),
    "efficientformerv2_s0": (of_timm("efficientformerv2_s0", img_size=64, drop_path_rate=0.0), 64, 4),
    "fastvit_t8": (of_timm("fastvit_t8"), 64, 4),
    "repvit_m0_9": (of_timm("repvit_m0_9"), 64, 4),
    "deit_tiny": (of_timm("deit_tiny_patch16_224", img_size=64), 64, 4),
    "vit_tiny": (of_timm("vit_tiny_patch16_224", img_size=64), 64, 4),
    "torchvision_resnet18": (of_torchvision("resnet18"), 32, 5),
    "torchvision_mobilenet_v3_small": (of_torchvision("mobilenet_v3_small", dropout=0.0), 32, 5),
    "torchvision_densenet": (lambda: torchvision.models.DenseNet(8, (2, 2, 3, 2), 16, num_classes=5), 32, 5),
    "torchvision_swin": (
        lambda: torchvision.models.SwinTransformer(
            [4, 4], 24, [1, 2, 1, 1], [1, 2, 4, 8], [4, 4], stochastic_depth_prob=0.0, num_classes=5
        ),
        64,
        4,
    ),
    "torchvision_squeezenet1_1": (of_torchvision("squeezenet1_1", dropout=0.0), 64, 4),
    "torchvision_vit": (
        lambda: torchvision.models.VisionTransformer(32, 8, 6, 2, 16, 32, num_classes=5),
        32,
        4,
    ),
}


class Cut(NamedTuple):
    network: nn.Module
    architecture: Architecture
    shared: int
    branched: nn.Module
    trunk: Trunk
    size: int

    def images(self, count: int = 2) -> Tensor:
        return torch.randn(count, 3, self.size, self.size, generator=torch.Generator().manual_seed(count))

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The whole network's and the branch's."""
        with self.trunk.recorded():
            return self.network(images), self.branched(images)


@pytest.fixture(scope="module", params=BACKBONES)
def cut(request: pytest.FixtureRequest) -> Cut:
    """A backbone as the default of MCL cuts it: the last two stages are the branch's own."""
    make, size, stages = BACKBONES[request.param]
    torch.manual_seed(0)
    network = make()
    architecture = inspect_network(network, (3, size, size))
    assert len(architecture.stages) == stages
    shared = shared_stages(architecture, -2)
    return Cut(
        network, architecture, shared, *branch(network, architecture, architecture.stages[shared - 1].name), size
    )


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_branch_is_the_whole_network_to_the_last_bit(cut: Cut, training: bool) -> None:
    cut.network.train(training), cut.branched.train(training)
    for count in (2, 3):
        whole, part = cut.logits(cut.images(count))
        assert whole.shape == (count, *whole.shape[1:])
        assert torch.equal(whole, part), f"{count} images"


def test_nothing_stays_behind(cut: Cut) -> None:
    cut.logits(cut.images())
    assert cut.trunk.outputs == {}
    for module in (*cut.network.modules(), *cut.branched.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(value is not cut.trunk for module in cut.network.modules() for value in vars(module).values())


def test_branch_owns_what_it_trains_and_nothing_else(cut: Cut) -> None:
    cut.network.train(), cut.branched.train()
    trunk = {id(p) for name in cut.trunk.modules for p in cut.network.get_submodule(name).parameters()}
    own, whole = dict(cut.branched.named_parameters()), dict(cut.network.named_parameters())
    assert own
    assert own.keys() <= {name for name, parameter in whole.items() if id(parameter) not in trunk}
    assert cut.branched.state_dict().keys() < cut.network.state_dict().keys()

    logits = cut.logits(cut.images())
    target = torch.linspace(-1, 1, logits[0].numel()).view_as(logits[0])
    expected, found = ({}, {})
    for network, gradients, output in ((cut.network, expected, logits[0]), (cut.branched, found, logits[1])):
        cut.network.zero_grad(), cut.branched.zero_grad()
        (output * target).sum().backward(retain_graph=True)
        gradients |= {name: p.grad for name, p in whole.items() if id(p) in trunk}
        gradients |= {name: p.grad for name, p in network.named_parameters()}
    assert not [name for name in own if found[name] is None]
    # What the branch teaches the trunk and itself is what the whole network would.
    for name, gradient in found.items():
        if gradient is not None:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_outputs(cut: Cut) -> None:
    cut.network.eval(), cut.branched.eval()
    images = cut.images()
    with cut.trunk.recorded():
        whole = observe(cut.network, cut.architecture, images)
        part = observe(cut.branched, cut.architecture, images, shared=whole.stages[: cut.shared])
    assert torch.equal(whole.logits, cut.network(images))
    assert whole.embedding.shape == (2, cut.architecture.embedding)
    assert [tuple(stage.shape[1:]) for stage in whole.stages] == [stage.shape for stage in cut.architecture.stages]
    for one, other in zip((*whole.stages, *whole[:2]), (*part.stages, *part[:2]), strict=True):
        assert torch.equal(one, other)
    if hasattr(cut.network, "forward_intermediates"):  # timm's own way to the maps, always channels first
        intermediates = cut.network.forward_intermediates(images, intermediates_only=True)
        places = [
            next((i for i, reference in enumerate(intermediates) if torch.equal(stage, reference)), -1)
            for stage in whole.stages
        ]
        assert -1 not in places
        assert places == sorted(set(places))
