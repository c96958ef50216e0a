import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.networks.relation import FeatureProjection, RelationalInteraction, RelationNetwork, SepConv

RESNET18 = (64, 128, 256, 512)
RESNET50 = (256, 512, 1024, 2048)
SMALL = (4, 6, 10)


@pytest.fixture(autouse=True)
def _fixed_weights() -> None:
    torch.manual_seed(0)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def released_sizes(channels: tuple[int, ...], *, shared: bool, width: float = 1.0) -> list[int]:
    with torch.device("meta"):
        stages = range(len(channels))
        networks = [RelationNetwork(channels, i, 100, shared_classifier=shared, width=width) for i in stages]
    return [parameter_count(network) for network in networks]


def triplet_maps(channels: int, size: int, batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    anchor, positive, negative = torch.randn(3, batch, channels, size, size, generator=generator)
    return anchor, positive, negative


# --- sizes ---


def test_sepconv_size() -> None:
    assert parameter_count(SepConv(256, 512)) == 202_752
    assert parameter_count(SepConv(6, 10)) == 18 * 6 + 6**2 + 2 * 6 + 6 * 10 + 2 * 10


def test_relation_networks_of_resnet18_have_the_released_sizes() -> None:
    assert released_sizes(RESNET18, shared=True) == [1_287_781, 1_235_557, 1_032_805, 365_669]
    assert released_sizes(RESNET18, shared=False) == [1_390_281, 1_338_057, 1_135_305, 468_169]


def test_width_brings_bottleneck_backbones_down() -> None:
    assert round(sum(released_sizes(RESNET50, shared=True)) / 1e6, 1) == 57.2
    table = {
        (channels, width): sum(released_sizes(channels, shared=False, width=width)) / 1e6
        for channels in (RESNET18, RESNET50)
        for width in (1.0, 0.5, 0.25)
    }
    assert [round(millions, 1) for millions in table.values()] == [4.3, 1.6, 0.7, 58.8, 18.4, 6.8]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=4), st.floats(0.01, 2.0))
def test_any_channels_and_width_fit_together(channels: list[int], width: float) -> None:
    for stage in range(len(channels)):
        network = RelationNetwork(channels, stage, 3, width=width)
        maps = triplet_maps(channels[stage], size=5, batch=2)
        relations = network(*maps)
        assert relations.positive.shape == relations.negative.shape == (2,)
        assert relations.positive_logits.shape == relations.negative_logits.shape == (2, 3)
        narrowest = min(
            layer.out_features
            for layer in network.interaction.modules()
            if isinstance(layer, nn.Linear) and layer.out_features > 1
        )
        assert narrowest >= min(8, 2 * channels[0])


# --- layers ---


def test_sepconv_layers() -> None:
    layers = list(SepConv(4, 6))
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [(c.kernel_size, c.stride, c.padding, c.groups) for c in convolutions] == [
        ((3, 3), (2, 2), (1, 1), 4),
        ((1, 1), (1, 1), (0, 0), 1),
        ((3, 3), (1, 1), (1, 1), 4),
        ((1, 1), (1, 1), (0, 0), 1),
    ]
    assert [(c.in_channels, c.out_channels, c.bias) for c in convolutions] == [
        (4, 4, None),
        (4, 4, None),
        (4, 4, None),
        (4, 6, None),
    ]
    assert [type(layer).__name__ for layer in layers] == ["Conv2d", "Conv2d", "BatchNorm2d", "ReLU"] * 2


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_sepconv_halves_the_map_down_to_one_pixel(size: int) -> None:
    assert SepConv(4, 6)(torch.randn(2, 4, size, size)).shape == (2, 6, (size + 1) // 2, (size + 1) // 2)


def test_projection_takes_one_step_per_deeper_stage() -> None:
    widths = [8, 12, 20]
    for stage in range(3):
        projection = FeatureProjection(widths[stage:])
        assert [type(step) for step in projection.convolutions] == [SepConv] * (2 - stage)
        assert projection.out_features == 20
        for size in (1, 4, 7):
            assert projection(torch.randn(2, widths[stage], size, size)).shape == (2, 20)


def test_projection_of_the_deepest_stage_is_the_average_alone() -> None:
    maps = torch.randn(3, 20, 2, 4)
    torch.testing.assert_close(FeatureProjection([20])(maps), maps.flatten(2).mean(-1))
    torch.testing.assert_close(FeatureProjection([20], width=0.25)(maps), maps.flatten(2).mean(-1))


def test_interaction_is_the_formula() -> None:
    block = RelationalInteraction(6, 5)
    first, norm, _, last = block.layers
    z = torch.randn(7, 6)
    hidden = z @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + norm.eps).sqrt()
    score = (hidden.clamp(min=0) @ last.weight.T + last.bias)[:, 0]
    torch.testing.assert_close(block(z), 1 / (1 + torch.exp(-score)))
    unbounded = RelationalInteraction(6, 5, activation="none")
    unbounded.load_state_dict(block.state_dict())
    torch.testing.assert_close(unbounded.train()(z), score)


# --- the network ---


def test_relation_network_is_its_parts() -> None:
    network = RelationNetwork(SMALL, 0, 7).eval()
    anchor, positive, negative = triplet_maps(4, 8)
    relations = network(anchor, positive, negative)
    z_p = network.projection(torch.cat([anchor, positive], 1))
    z_n = network.projection(torch.cat([anchor, negative], 1))
    torch.testing.assert_close(relations.positive, network.interaction(z_p))
    torch.testing.assert_close(relations.negative, network.interaction(z_n))
    torch.testing.assert_close(relations.positive_logits, network.positive_classifier(z_p))
    torch.testing.assert_close(relations.negative_logits, network.negative_classifier(z_n))


def test_hidden_widths_follow_the_shallowest_stage() -> None:
    hidden = [RelationNetwork(SMALL, stage, 7).interaction.layers[0] for stage in range(3)]
    assert [(layer.in_features, layer.out_features) for layer in hidden] == [(20, 8), (20, 8), (20, 16)]


def test_together_and_apart_differ_by_batch_statistics_only() -> None:
    together, apart = RelationNetwork(SMALL, 0, 7), RelationNetwork(SMALL, 0, 7, together=False)
    apart.load_state_dict(together.state_dict())
    maps = triplet_maps(4, 8)
    for one, other in zip(together.eval()(*maps), apart.eval()(*maps), strict=True):
        torch.testing.assert_close(one, other)
    anchor, positive, _ = maps
    # Equal pairs have equal statistics, joint or not; other pairs do not.
    equal_pairs = anchor, positive, positive
    for one, other in zip(together.train()(*equal_pairs), apart.train()(*equal_pairs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together(*maps).positive, apart(*maps).positive, rtol=1e-3)
    steps = [network.interaction.layers[1].num_batches_tracked.item() for network in (together, apart)]
    assert steps == [2, 4]


def test_apart_keeps_negatives_out_of_the_positives() -> None:
    network = RelationNetwork(SMALL, 1, 7, together=False)
    anchor, positive, negative = triplet_maps(6, 4)
    relation = network(anchor, positive, negative).positive
    torch.testing.assert_close(network(anchor, positive, 5 * negative).positive, relation)


def test_the_anchor_comes_first() -> None:
    network = RelationNetwork(SMALL, 0, 7)
    anchor, positive, negative = triplet_maps(4, 8)
    swapped = network(positive, anchor, negative).positive
    assert not torch.allclose(network(anchor, positive, negative).positive, swapped, rtol=1e-2)


def test_rows_stay_with_their_triplets() -> None:
    network = RelationNetwork(SMALL, 0, 7)
    maps = triplet_maps(4, 8, batch=4)
    order = torch.tensor([2, 0, 3, 1])
    for whole, permuted in zip(network(*maps), network(*(m[order] for m in maps)), strict=True):
        torch.testing.assert_close(whole[order], permuted, rtol=1e-4, atol=1e-5)


def test_classifiers_are_two_or_one() -> None:
    maps = triplet_maps(10, 3)
    for shared in (False, True):
        network = RelationNetwork(SMALL, 2, 7, shared_classifier=shared)
        relations = network(*maps)
        relations.positive_logits.sum().backward()
        assert (network.negative_classifier.weight.grad is not None) == shared
        assert (network.negative_classifier is network.positive_classifier) == shared


def test_gradients_reach_the_backbone_and_every_parameter() -> None:
    network = RelationNetwork(SMALL, 0, 7)
    maps = [m.requires_grad_() for m in triplet_maps(4, 8)]
    torch.cat([result.flatten() for result in network(*maps)]).square().sum().backward()
    assert all(m.grad.abs().max() > 0 for m in maps)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_sigmoid_bounds_relations_and_none_does_not() -> None:
    bounded, unbounded = RelationNetwork(SMALL, 0, 7), RelationNetwork(SMALL, 0, 7, activation="none")
    with torch.no_grad():
        for network in (bounded, unbounded):
            network.interaction.layers[3].bias.fill_(4.0)
    maps = triplet_maps(4, 8)
    assert 0.5 < bounded(*maps).positive.min() <= bounded(*maps).positive.max() < 1
    assert unbounded(*maps).positive.max() > 1


def test_autocast_keeps_relations_in_float32() -> None:
    network = RelationNetwork(SMALL, 0, 7).eval()
    maps = triplet_maps(4, 8)
    exact = network(*maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        relations = network(*maps)
    assert relations.positive.dtype == relations.negative.dtype == torch.float32
    assert relations.positive_logits.dtype == torch.bfloat16
    torch.testing.assert_close(relations.positive, exact.positive, rtol=0, atol=5e-3)
    assert network.bfloat16()(*(m.bfloat16() for m in maps)).positive.dtype == torch.float32


# --- wrong input ---


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(UserError, match="1 given, name 2 stages or more"):
        RelationNetwork([64], 0, 10)
    with pytest.raises(UserError, match="stage is 3, but there are 3"):
        RelationNetwork(SMALL, 3, 10)
    with pytest.raises(UserError, match="width is 0"):
        RelationNetwork(SMALL, 0, 10, width=0)
    with pytest.raises(UserError, match="unknown activation 'sigmoids': did you mean 'sigmoid'"):
        RelationalInteraction(4, 4, activation="sigmoids")  # type: ignore[arg-type]
