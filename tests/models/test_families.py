"""One block of each family against its formula, and what is particular to it."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import classmates.models
from classmates.errors import UserError


def scramble_norms(network: nn.Module) -> nn.Module:
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean)
    return network.eval()


def norm(x: Tensor, module: nn.BatchNorm2d) -> Tensor:
    scale = module.weight / (module.running_var + module.eps).sqrt()
    return (x - module.running_mean[:, None, None]) * scale[:, None, None] + module.bias[:, None, None]


@torch.no_grad()
def test_preact_block_norms_first_and_shortcuts_the_raw_input():
    torch.manual_seed(0)
    network = scramble_norms(timm.create_model("preact_resnet18"))
    block, x = network.layer2[0], torch.randn(2, 64, 8, 8)
    given = x.clone()
    first, second = block.residual
    out = F.conv2d(norm(x, first[0]).relu(), first[2].weight, first[2].bias, stride=2, padding=1)
    out = F.conv2d(norm(out, second[0]).relu(), second[2].weight, second[2].bias, padding=1)
    out = out + F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(block(x), out)
    assert torch.equal(x, given)
    assert block(x).min() < 0  # the raw sum


def test_preact_bottleneck_strides_at_its_first_convolution():
    block = timm.create_model("preact_resnet50").layer2[0]
    assert [conv[2].stride for conv in block.residual] == [(2, 2), (1, 1), (1, 1)]
    assert [conv[2].kernel_size for conv in block.residual] == [(1, 1), (3, 3), (1, 1)]


@torch.no_grad()
def test_se_block_rescales_the_activated_residual():
    torch.manual_seed(0)
    network = scramble_norms(timm.create_model("seresnet18_cifar"))
    block, x = network.layer2[0], torch.randn(2, 64, 8, 8)
    (conv1, norm1, _), (conv2, norm2, _) = block.residual
    residual = norm(F.conv2d(x, conv1.weight, conv1.bias, stride=2, padding=1), norm1).relu()
    residual = norm(F.conv2d(residual, conv2.weight, conv2.bias, padding=1), norm2).relu()
    squeeze, excite = block.excitation.fc1, block.excitation.fc2
    hidden = (residual.mean(dim=(2, 3)) @ squeeze.weight[:, :, 0, 0].T + squeeze.bias).relu()
    weight = (hidden @ excite.weight[:, :, 0, 0].T + excite.bias).sigmoid()
    conv, norm3 = block.shortcut
    shortcut = norm(F.conv2d(x, conv.weight, conv.bias, stride=2), norm3)
    torch.testing.assert_close(block(x), (shortcut + weight[:, :, None, None] * residual).relu())
    assert squeeze.out_channels == 128 // 16


def test_se_bottleneck_strides_at_its_middle_convolution():
    block = timm.create_model("seresnet50_cifar").layer2[0]
    assert [conv[0].stride for conv in block.residual] == [(1, 1), (2, 2), (1, 1)]


@torch.no_grad()
def test_dense_layer_keeps_its_input_and_adds_growth():
    torch.manual_seed(0)
    network = scramble_norms(timm.create_model("densenet40_12"))
    layer, x = network.layer1[0], torch.randn(2, 24, 8, 8)
    bottleneck, grow = layer
    out = F.conv2d(norm(x, bottleneck[0]).relu(), bottleneck[2].weight)
    out = F.conv2d(norm(out, grow[0]).relu(), grow[2].weight, padding=1)
    torch.testing.assert_close(layer(x), torch.cat([x, out], dim=1))

    x = torch.randn(2, 96, 8, 8)
    convolve = network.layer1[6][0]
    out = F.avg_pool2d(F.conv2d(norm(x, convolve[0]).relu(), convolve[2].weight), 2)
    torch.testing.assert_close(network.layer1[6](x), out)


def test_densenet_widths_and_initialisation():
    torch.manual_seed(0)
    network = timm.create_model("densenet40_12", num_classes=10)
    widths = [[layer[0][0].num_features for layer in stage[:6]] for stage in (network.layer1, network.layer2)]
    assert widths == [[24, 36, 48, 60, 72, 84], [48, 60, 72, 84, 96, 108]]
    transition = network.layer2[6][0][2]  # 120 → 60: fan-in, not fan-out, decides
    assert float(transition.weight.detach().std()) == pytest.approx((2 / 120) ** 0.5, rel=0.03)
    assert not network.fc.bias.any()
    assert network.forward_features(torch.randn(2, 3, 8, 8)).min() == 0  # after the final ReLU


def test_vgg_pools_after_its_stages():
    torch.manual_seed(0)
    network = timm.create_model("vgg16_bn_cifar").eval()
    images = torch.randn(1, 3, 32, 32)
    features, maps = network.forward_intermediates(images)
    torch.testing.assert_close(features, F.max_pool2d(maps[-1], 2))
    first = network.layer3[0](maps[1])
    torch.testing.assert_close(first, F.max_pool2d(maps[1], 2))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert not any(conv.bias.any() for conv in convolutions)
    assert float(convolutions[4].weight.detach().std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert float(network.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not any(isinstance(module, nn.Dropout) for module in network.modules())


def test_mobilenet_units_are_depthwise_then_pointwise():
    network = timm.create_model("mobilenetv1_cifar")
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [len(stage) for stage in stages] == [2, 2, 6, 2]
    for stage in stages:
        for number, ((depthwise, *_), (pointwise, *_)) in enumerate(stage):
            assert depthwise.groups == depthwise.in_channels
            assert depthwise.stride == ((2, 2) if number == 0 else (1, 1))
            assert depthwise.bias is None
            assert pointwise.kernel_size == (1, 1)
            assert pointwise.bias is not None


def test_resnext_and_wide_inner_widths():
    with torch.device("meta"):
        resnext = classmates.models.resnext101_32x8d_cifar().layer1[0].conv2
        wide = classmates.models.wide_resnet50_2_cifar().layer1[0].conv2
        deep = classmates.models.resnet110().layer1[0]
    assert (resnext.groups, resnext.out_channels) == (32, 256)
    assert (wide.groups, wide.out_channels) == (1, 128)
    assert (deep.conv2.out_channels, deep.conv3.out_channels) == (16, 64)
    assert deep.downsample is not None  # the first stage projects too


def test_conv4_is_an_embedding_until_it_is_given_classes():
    network = timm.create_model("conv4").eval()
    assert network(torch.randn(1, 3, 84, 84)).shape == (1, 1600)
    assert network(torch.randn(1, 3, 28, 28)).shape == (1, 64)
    classifier = timm.create_model("conv4", num_classes=64).eval()
    assert classifier(torch.randn(1, 3, 84, 84)).shape == (1, 64)
    with pytest.raises(UserError, match="takes embeddings of 1600, these images give 64; build it with img_size"):
        classifier(torch.randn(1, 3, 28, 28))
    small = timm.create_model("conv4", num_classes=5, in_chans=1, img_size=28).eval()
    assert small(torch.randn(1, 1, 28, 28)).shape == (1, 5)
    small.reset_classifier(5, "avg")  # pooled, it takes any size
    assert small(torch.randn(1, 1, 48, 48)).shape == (1, 5)


def test_conv4_computes_as_published_relu_before_pooling():
    torch.manual_seed(0)
    network = timm.create_model("conv4").double()
    published = nn.Sequential(
        *(
            nn.Sequential(*copy.deepcopy(getattr(network, info["module"])[0]), nn.ReLU(), nn.MaxPool2d(2))
            for info in network.feature_info
        ),
        nn.Flatten(),
    )
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    ours, theirs = network(images), published(images)
    assert torch.equal(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for parameter, reference in zip(network.parameters(), published.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, reference.grad)


@pytest.mark.parametrize("uniform", [False, True])
def test_conv4_s_normalisation_begins_at_1_or_uniformly(uniform):
    network = timm.create_model("conv4", uniform_scales=uniform)
    scales = torch.cat([module.weight for module in network.modules() if isinstance(module, nn.BatchNorm2d)])
    assert len(scales) == 256
    assert ((scales >= 0) & (scales <= 1)).all()
    assert scales.mean().item() == pytest.approx(0.5 if uniform else 1.0, abs=0.1)
    assert (scales.std() > 0.2) == uniform
