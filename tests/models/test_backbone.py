"""What holds for every backbone: stages, maps, heads, precisions, memory formats, sizes."""

from functools import cache

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import classmates.models
from classmates.errors import UserError

# one network for each kind of block and layout; the others differ from these in depth and width alone
KINDS = [
    "resnet8",
    "resnet110",
    "resnet18_cifar",
    "resnext50_32x4d_cifar",
    "seresnet18_cifar",
    "seresnet50_cifar",
    "preact_resnet18",
    "preact_resnet50",
    "vgg16_bn_cifar",
    "densenet40_12",
    "hcgnet_a1",
    "mobilenetv1_cifar",
    "conv4",
]
# least side of an image: the product of the strides
LEAST = {"vgg16_bn_cifar": 32, "mobilenetv1_cifar": 16, "conv4": 16}


def least_side(name: str) -> int:
    return LEAST.get(name, 2 ** (len(build_on_meta(name).feature_info) - 1))


@cache
def build_on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name).eval()


def build(name: str, num_classes: int = 10) -> tuple[nn.Module, torch.Tensor]:
    """The network, and images of the least size that it takes."""
    torch.manual_seed(0)
    side = least_side(name)
    size = {"img_size": side} if name == "conv4" else {}
    return timm.create_model(name, num_classes=num_classes, **size), torch.randn(4, 3, side, side)


STAGES = {  # (channels, side of the map for 32 pixels)
    "resnet32": [(16, 32), (32, 16), (64, 8)],
    "resnet110": [(64, 32), (128, 16), (256, 8)],
    "vgg16_bn_cifar": [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)],
    "densenet40_12": [(48, 16), (60, 8), (132, 8)],
    "hcgnet_a1": [(60, 16), (126, 8), (414, 8)],
    "resnet18_cifar": [(64, 32), (128, 16), (256, 8), (512, 4)],
    "resnext101_32x8d_cifar": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "seresnet50_cifar": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "preact_resnet50": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "mobilenetv1_cifar": [(128, 16), (256, 8), (512, 4), (1024, 2)],
}


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_are_the_papers(name):
    network = build_on_meta(name)
    features, maps = network.forward_intermediates(torch.empty(2, 3, 32, 32, device="meta"))
    assert [(stage.shape[1], stage.shape[2]) for stage in maps] == STAGES[name]
    assert features.shape[1] == network.num_features == maps[-1].shape[1]


@pytest.mark.parametrize("name", classmates.models.__all__)
def test_feature_info_tells_the_maps(name):
    network = build_on_meta(name)
    maps = network.forward_intermediates(torch.empty(2, 3, 64, 64, device="meta"), intermediates_only=True)
    assert [info["module"] for info in network.feature_info] == [f"layer{n + 1}" for n in range(len(maps))]
    assert [info["num_chs"] for info in network.feature_info] == [stage.shape[1] for stage in maps]
    assert [64 // info["reduction"] for info in network.feature_info] == [stage.shape[2] for stage in maps]


@pytest.mark.parametrize("name", KINDS)
def test_timm_gives_the_same_maps_with_features_only(name):
    network, images = build(name)
    torch.manual_seed(0)
    extractor = timm.create_model(name, features_only=True).eval()
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("fc")}
    assert not extractor.load_state_dict(own, strict=False).missing_keys
    expected = network.eval().forward_intermediates(images, intermediates_only=True)
    for got, want in zip(extractor(images), expected, strict=True):
        assert torch.equal(got, want)
    assert extractor.feature_info.channels() == [stage.shape[1] for stage in expected]


def test_intermediates_are_chosen_as_in_timm():
    network, images = build("resnet8")
    network.eval()
    features, maps = network.forward_intermediates(images)
    assert torch.equal(features, maps[-1])
    assert torch.equal(features, network.forward_features(images))
    for indices, stages in [(1, [2]), (2, [1, 2]), ([0], [0]), ([-1, 0], [0, 2]), ([], [])]:
        _, chosen = network.forward_intermediates(images, indices)
        assert len(chosen) == len(stages)
        assert all(torch.equal(got, maps[stage]) for got, stage in zip(chosen, stages, strict=True))
    early, chosen = network.forward_intermediates(images, [1], stop_early=True)
    assert torch.equal(early, maps[1])
    assert len(chosen) == 1
    for wrong in (4, [3], [-4]):
        with pytest.raises(UserError, match="this network has 3: layer1, layer2, layer3"):
            network.forward_intermediates(images, wrong)
    with pytest.raises(UserError, match="NHWC"):
        network.forward_intermediates(images, output_fmt="NHWC")


@pytest.mark.parametrize("name", KINDS)
def test_the_head_is_pooling_and_one_linear_layer(name):
    network, images = build(name)
    network.eval()
    features = network.forward_features(images)
    embedding = network.forward_head(features, pre_logits=True)
    assert embedding.shape == (4, network.head_hidden_size)
    pooled = features.flatten(1) if name == "conv4" else features.mean(dim=(2, 3))
    torch.testing.assert_close(embedding, pooled)
    fc = network.get_classifier()
    torch.testing.assert_close(network(images), embedding @ fc.weight.T + fc.bias)
    network.reset_classifier(7)
    assert network(images).shape == (4, 7)
    assert network.num_classes == 7
    network.reset_classifier(0)
    assert torch.equal(network(images), embedding)


def test_a_new_classifier_goes_where_the_network_is():
    network, _ = build("vgg16_bn_cifar")
    network.bfloat16().reset_classifier(1000)
    assert network.fc.weight.dtype == torch.bfloat16
    assert float(network.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.02)  # VGG's own initialisation
    assert not network.fc.bias.any()


def test_the_pooling_can_be_changed_and_left_out():
    network, images = build("resnet8")
    network.eval()
    features = network.forward_features(images)
    network.reset_classifier(10, "max")
    torch.testing.assert_close(network.forward_head(features, pre_logits=True), features.amax(dim=(2, 3)))
    network.reset_classifier(10, "catavgmax")
    assert network(images).shape == (4, 10)
    network.reset_classifier(0, "")
    assert torch.equal(network(images), features)
    with pytest.raises(UserError, match="global_pool is ''"):
        network.reset_classifier(10, "")


@pytest.mark.parametrize("num_classes", [1, -1])
def test_fewer_than_two_classes_are_an_error(num_classes):
    with pytest.raises(UserError, match=f"num_classes is {num_classes}; .* at least 2"):
        classmates.models.resnet8(num_classes=num_classes)


@settings(max_examples=40)
@given(
    name=st.sampled_from(["resnet8", "densenet40_12", "vgg16_bn_cifar", "mobilenetv1_cifar", "conv4"]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
def test_every_size_that_the_strides_allow_works_and_every_other_is_named(name, height, width):
    network, images = build_on_meta(name), torch.empty(2, 3, height, width, device="meta")
    if min(height, width) >= least_side(name):
        features = network.forward_features(images)
        assert features.shape[:2] == (2, network.num_features)
        assert min(features.shape[2:]) >= 1
    else:
        with pytest.raises(UserError, match=rf"{height}x{width} .* {least_side(name)} pixels a side"):
            network(images)


@pytest.mark.parametrize(
    ("name", "side", "step"),
    [("resnet8", 3, "layer3"), ("resnet8", 1, "layer2"), ("vgg16_bn_cifar", 16, "the last pooling")],
)
def test_a_small_image_is_told_the_stage_that_collapses(name, side, step):
    with pytest.raises(UserError, match=f"nothing is left of them at {step},"):
        build_on_meta(name)(torch.empty(2, 3, side, side, device="meta"))


def test_digits_of_eight_pixels_and_one_channel():
    network = classmates.models.resnet8(num_classes=10, in_chans=1)
    maps = network.forward_intermediates(torch.randn(2, 1, 8, 8), intermediates_only=True)
    assert [tuple(stage.shape[1:]) for stage in maps] == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_gets_a_gradient(name):
    network, images = build(name)
    network(images).square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_and_channels_last_compute_the_same(name):
    network, images = build(name)
    network.eval()
    with torch.no_grad():
        expected = network(images)
    network.to(memory_format=torch.channels_last)
    logits = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    network.bfloat16()
    logits = network(images.bfloat16().to(memory_format=torch.channels_last))
    assert logits.dtype == torch.bfloat16
    assert torch.cosine_similarity(logits.float(), expected).min() > 0.99
    logits.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["resnet8", "vgg16_bn_cifar", "densenet40_12", "hcgnet_a1"])
def test_checkpointing_keeps_the_gradients_and_less_memory(name):
    network, images = build(name)
    gradients, kept, fired = [], [], []
    for module in (network.get_submodule(info["module"]) for info in network.feature_info):
        module.register_forward_hook(lambda module, inputs, output: fired.append(module))

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1][tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for checkpointing in (False, True):
        network.set_grad_checkpointing(checkpointing)
        network.zero_grad()
        kept.append({})
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = network(images).square().mean()
        memory = kept[-1].copy()
        loss.backward()
        kept[-1] = memory
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)
    assert sum(kept[1].values()) < sum(kept[0].values())
    assert len(fired) == 2 * len(network.feature_info)  # once a forward: what runs again is inside the stages


@pytest.mark.parametrize("name", ["resnet32", "vgg16_bn_cifar", "densenet40_12", "hcgnet_a1", "conv4"])
def test_torch_fx_traces_the_network(name):
    network = build_on_meta(name)
    images = torch.empty(2, *network.pretrained_cfg["input_size"], device="meta")
    assert torch.fx.symbolic_trace(network)(images).shape == network(images).shape


def test_residual_networks_start_from_kaiming_fan_out_and_plain_norms():
    torch.manual_seed(0)
    network = timm.create_model("resnet18_cifar")
    convolution = network.layer4[1].conv1
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    shortcut = network.layer4[0].downsample[0]  # 256 → 512: fan-out, not fan-in, decides
    assert float(shortcut.weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.01)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def test_every_map_of_a_residual_network_is_after_its_relu():
    network, images = build("resnet8")
    maps = network.forward_intermediates(images, intermediates_only=True)
    assert all(stage.min() == 0 for stage in maps)
