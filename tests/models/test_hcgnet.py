"""HCGNet against a slow float64 reference written from its description, block by block."""

import pytest
import torch
from torch import Tensor, nn

import classmates.models
from classmates.models.hcgnet import AttentionPool, _softmax, smg, transition
from classmates.networks.building.complexity import count_parameters

BATCH, SIDE = 3, 6


def convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """One output value at a time, over a padded copy."""
    (stride, _), (pad, _), (dilation, _) = conv.stride, conv.padding, conv.dilation
    out_channels, inputs, kernel, _ = conv.weight.shape
    batch, channels, height, width = x.shape
    padded = torch.zeros(batch, channels, height + 2 * pad, width + 2 * pad, dtype=x.dtype)
    padded[:, :, pad : pad + height, pad : pad + width] = x
    reach = dilation * (kernel - 1) + 1
    rows, columns = (height + 2 * pad - reach) // stride + 1, (width + 2 * pad - reach) // stride + 1
    out = torch.zeros(batch, out_channels, rows, columns, dtype=x.dtype)
    for o in range(out_channels):
        first = (o // (out_channels // conv.groups)) * inputs
        for row in range(rows):
            for column in range(columns):
                top, left = row * stride, column * stride
                patch = padded[
                    :, first : first + inputs, top : top + reach : dilation, left : left + reach : dilation
                ]
                out[:, o, row, column] = (patch * conv.weight[o]).sum(dim=(1, 2, 3))
        if conv.bias is not None:
            out[:, o] += conv.bias[o]
    return out


def normalize(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    out = torch.empty_like(x)
    for channel in range(x.shape[1]):
        values = x[:, channel]
        mean, variance = norm.running_mean[channel], norm.running_var[channel]
        if norm.training:
            mean, variance = values.mean(), ((values - values.mean()) ** 2).mean()
        out[:, channel] = (values - mean) / (variance + norm.eps) ** 0.5 * norm.weight[channel] + norm.bias[channel]
    return out


def brc(x: Tensor, unit: nn.Sequential) -> Tensor:
    norm, _, conv = unit
    return convolve(normalize(x, norm).clamp(min=0), conv)


def attend(x: Tensor, pool: AttentionPool) -> Tensor:
    score = convolve(x, pool.score)
    out = torch.zeros(x.shape[0], x.shape[1], 1, 1, dtype=x.dtype)
    for image in range(x.shape[0]):
        total = sum(value.exp() for value in score[image].flatten())
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                out[image, :, 0, 0] += score[image, 0, row, column].exp() / total * x[image, :, row, column]
    return out


def squeeze(x: Tensor, unit: nn.Sequential) -> Tensor:
    conv, norm, _ = unit
    e = normalize(convolve(x, conv), norm).exp()
    return (e - 1 / e) / (e + 1 / e)


def gate(s: Tensor, module: nn.Module) -> Tensor:
    """Steps 2 to 5: s⊙gate + (w3⊙c3 + w5⊙c5)."""
    pool, reduce, expand, _ = module.forget
    forget = 1 / (1 + (-convolve(squeeze(attend(s, pool), reduce), expand)).exp())
    c3 = attend(brc(s, module.narrow[0]), module.narrow[1])
    c5 = attend(brc(s, module.wide[0]), module.wide[1])
    joint, heads = module.select
    both = convolve(squeeze(torch.cat([c3, c5], dim=1), joint), heads)
    channels = s.shape[1]
    e3, e5 = both[:, :channels].exp(), both[:, channels:].exp()
    return s * forget + (e3 / (e3 + e5) * c3 + e5 / (e3 + e5) * c5)


def reference_smg(x: Tensor, module: nn.Sequential) -> Tensor:
    s = brc(brc(x, module[0]), module[1])
    return torch.cat([x, gate(s, module[2])], dim=1)


def reference_transition(x: Tensor, module: nn.Sequential) -> Tensor:
    return gate(brc(brc(x, module[0]), module[1]), module[2])


def scramble(module: nn.Module) -> nn.Module:
    """Every weight, bias and statistic away from where it starts, so that none can be forgotten."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean)
    return module.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("block", "reference"),
    [(smg(8, 4), reference_smg), (smg(12, 8), reference_smg), (transition(16), reference_transition)],
    ids=["smg 8+4", "smg 12+8", "transition 16"],
)
@torch.no_grad()
def test_blocks_equal_the_reference(block, reference, training):
    torch.manual_seed(1)
    scramble(block).train(training)
    x = torch.randn(BATCH, block[0][0].num_features, SIDE, SIDE, dtype=torch.float64)
    expected = reference(x, block)
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


def test_the_layers_of_the_blocks_are_those_described():
    unit = smg(24, 12)
    squeeze_conv, group_conv = unit[0][2], unit[1][2]
    assert (squeeze_conv.in_channels, squeeze_conv.out_channels, squeeze_conv.kernel_size) == (24, 48, (1, 1))
    assert (group_conv.groups, group_conv.out_channels, group_conv.bias) == (4, 12, None)
    narrow, wide = unit[2].narrow[0][2], unit[2].wide[0][2]
    assert (narrow.groups, narrow.dilation, narrow.padding) == (12, (1, 1), (1, 1))
    assert (wide.groups, wide.dilation, wide.padding) == (12, (2, 2), (2, 2))
    assert unit[2].forget[1][0].out_channels == 6
    assert unit[2].select[0][0].out_channels == 12

    step = transition(120)
    assert (step[0][2].out_channels, step[1][2].out_channels, step[1][2].stride) == (90, 60, (2, 2))
    assert step[1][2].groups == 1
    assert step[2].forget[1][0].out_channels == 15
    assert step[2].select[0][0].out_channels == 30


@torch.no_grad()
def test_the_update_is_the_same_at_every_position():
    torch.manual_seed(0)
    module = scramble(smg(8, 4)[2]).eval()
    s = torch.randn(2, 4, SIDE, SIDE, dtype=torch.float64)
    update = module(s) - s * module.forget(s)
    torch.testing.assert_close(update, update[:, :, :1, :1].expand_as(update))


def test_parameters_part_by_part():
    network = classmates.models.hcgnet_a1()
    assert count_parameters(network.stem) == 648
    units = [count_parameters(unit) for unit in network.layer1[:8]]
    assert units == [3_705 + 600 * number for number in range(8)]
    blocks = [sum(map(count_parameters, stage[:8])) for stage in (network.layer1, network.layer2, network.layer3)]
    assert blocks == [46_440, 185_208, 451_176]
    assert [count_parameters(network.layer1[8]), count_parameters(network.layer2[8])] == [70_638, 306_213]
    assert count_parameters(network.layer3[8]) == 828
    assert count_parameters(network.fc) == 41_500


def test_softmax_is_never_in_half_precision():
    scores = torch.randn(2, 5)
    assert _softmax(scores.bfloat16(), dim=1).dtype == torch.float32
    assert _softmax(scores.half(), dim=1).dtype == torch.float32
    assert _softmax(scores.double(), dim=1).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        pooled = AttentionPool(4)(torch.randn(2, 4, 5, 5))
    assert pooled.shape == (2, 4, 1, 1)


def test_attention_pool_of_equal_scores_is_the_mean():
    pool = AttentionPool(4)
    nn.init.zeros_(pool.score.weight)
    features = torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(pool(features), features.mean(dim=(2, 3), keepdim=True))
