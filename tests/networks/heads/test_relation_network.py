from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.networks.heads.pair_projection import Projection
from classmates.networks.heads.relation_network import RelationalInteraction, RelationNetwork

RESNET18 = (64, 128, 256, 512)
RESNET50 = (256, 512, 1024, 2048)
SMALL = (4, 6, 10)


@pytest.fixture(autouse=True)
def _fixed_weights() -> None:
    torch.manual_seed(0)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sizes(channels: tuple[int, ...], **options: Any) -> list[int]:
    with torch.device("meta"):
        return [parameter_count(RelationNetwork(channels, i, 100, **options)) for i in range(len(channels))]


def triplet_maps(channels: int, size: int, batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    anchor, positive, negative = torch.randn(3, batch, channels, size, size, generator=generator)
    return anchor, positive, negative


# --- sizes ---


def test_relation_networks_of_resnet18_have_the_released_sizes() -> None:
    assert sizes(RESNET18, shared_classifier=True) == [1_287_781, 1_235_557, 1_032_805, 365_669]
    assert sizes(RESNET18) == [1_390_281, 1_338_057, 1_135_305, 468_169]


def test_width_and_projection_bring_bottleneck_backbones_down() -> None:
    assert round(sum(sizes(RESNET50, shared_classifier=True)) / 1e6, 1) == 57.2
    columns = [{}, {"width": 0.5}, {"width": 0.25}, {"projection": "plain"}, {"projection": "reduced"}]
    table = [[round(sum(sizes(net, **options)) / 1e6, 1) for options in columns] for net in (RESNET18, RESNET50)]
    assert table == [[4.3, 1.6, 0.7, 18.3, 1.6], [58.8, 18.4, 6.8, 282.8, 7.9]]


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4), st.floats(0.01, 2.0), st.sampled_from(get_args(Projection))
)
def test_any_channels_and_width_fit_together(channels: list[int], width: float, projection: Projection) -> None:
    for stage in range(len(channels)):
        network = RelationNetwork(channels, stage, 3, width=width, projection=projection)
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
    maps = triplet_maps(4, 8)
    relations = network(*maps)
    z_p, z_n = network.projection(*maps).chunk(2)
    torch.testing.assert_close(relations.positive, network.interaction(z_p))
    torch.testing.assert_close(relations.negative, network.interaction(z_n))
    torch.testing.assert_close(relations.positive_logits, network.positive_classifier(z_p))
    torch.testing.assert_close(relations.negative_logits, network.negative_classifier(z_n))


def test_hidden_widths_follow_the_shallowest_stage() -> None:
    hidden = [RelationNetwork(SMALL, stage, 7).interaction.layers[0] for stage in range(3)]
    assert [(layer.in_features, layer.out_features) for layer in hidden] == [(20, 8), (20, 8), (20, 16)]


@pytest.mark.parametrize("projection", get_args(Projection))
def test_together_and_apart_differ_by_batch_statistics_only(projection: Projection) -> None:
    together, apart = (RelationNetwork(SMALL, 0, 7, projection=projection, together=one) for one in (True, False))
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
    for network, steps in ((together, 2), (apart, 4)):
        norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert [norm.num_batches_tracked.item() for norm in norms] == [steps] * len(norms)


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
    with torch.autocast("cpu", dtype=torch.bfloat16):
        unbounded = RelationNetwork(SMALL, 0, 7, activation="none")(*maps).positive
    assert (unbounded != unbounded.bfloat16()).all()  # not rounded on the way
    assert network.bfloat16()(*(m.bfloat16() for m in maps)).positive.dtype == torch.float32


# --- wrong input ---


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(UserError, match="1 given, name 2 stages or more"):
        RelationNetwork([64], 0, 10)
    with pytest.raises(UserError, match="stage is 3, but there are 3"):
        RelationNetwork(SMALL, 3, 10)
    with pytest.raises(UserError, match="width is 0"):
        RelationNetwork(SMALL, 0, 10, width=0)
    with pytest.raises(UserError, match="unknown projection 'reduce': did you mean 'reduced'"):
        RelationNetwork(SMALL, 0, 10, projection="reduce")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown activation 'sigmoids': did you mean 'sigmoid'"):
        RelationalInteraction(4, 4, activation="sigmoids")  # type: ignore[arg-type]
