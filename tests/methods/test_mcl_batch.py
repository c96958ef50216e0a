import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import DataSpec
from classmates.data.batches.sampling import ClassUniform
from classmates.errors import UserError
from classmates.losses.in_batch import hard_terms, similarities, soft_across, soft_within
from classmates.losses.soft_targets import softened_kl
from classmates.methods import MCLBatch


@pytest.mark.parametrize("peers", [2, 3])
def test_the_total_is_the_formula(peers, tiny_network, tiny_data, batch_for):
    method = MCLBatch(tiny_network(), tiny_data, peers=peers, share=-2, distillation=0.7, within=0.3, dimension=8)
    batch = batch_for(method)
    assert batch.labels[0::2].tolist() == batch.labels[1::2].tolist()
    output = method(batch)
    similarity = similarities(method.projections(output.outputs), 0.1)
    within, across = hard_terms(similarity, batch.labels)
    logits = [one.logits for one in output.outputs]
    mean = sum(logits) / peers
    taught = logits if peers == 2 else logits[-1:]
    expected = (
        sum(F.cross_entropy(one, batch.labels) for one in logits)
        + 0.3 * within
        + 0.1 * across
        + 9 * (soft_within(similarity, 3.0) + soft_across(similarity, 3.0))
        + 0.7 * 9 * sum(softened_kl(one, mean, 3.0) for one in taught)
    )
    torch.testing.assert_close(output.total, expected)


def test_defaults_are_the_papers(tiny_network, tiny_data, batch_for):
    method = MCLBatch(tiny_network(), tiny_data)
    kl = 9.0
    weights = {"within": 0.1, "soft_within": kl, "across": 0.1, "soft_across": kl, "distillation": 0.0}
    assert method.weights == {"ce": 1.0, **weights}
    assert method.sampling == ClassUniform(2)
    assert [type(layer).__name__ for layer in method.projections.layers[0]] == ["Linear", "ReLU", "Linear"]
    assert "distillation" not in method(batch_for(method)).terms


def test_peers_of_other_architectures_and_no_sample_index(tiny_network, tiny_data, batch_for):
    method = MCLBatch(tiny_network(), tiny_data, peer_models=[tiny_network(widths=(8, 12))])
    batch = batch_for(method)._replace(indices=None)
    method(batch).total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_nothing_it_holds_grows_with_the_data(tiny_network, tiny_data):
    large = DataSpec(4, torch.arange(4000) % 4, (3, 16, 16))
    few, many = (MCLBatch(tiny_network(), data).state_dict() for data in (tiny_data, large))
    assert {name: tensor.shape for name, tensor in few.items()} == {name: t.shape for name, t in many.items()}


@pytest.mark.parametrize("contrast", ["within", "soft_within", "across", "soft_across"])
def test_peers_that_begin_alike_part_by_any_of_its_contrasts(contrast, tiny_network, tiny_data):
    """Each has a projection of its own; the distillation teaches all of them the same."""
    weights = {"within": 0.0, "soft_within": 0.0, "across": 0.0, "soft_across": 0.0, "distillation": 1.0}
    MCLBatch(tiny_network(), tiny_data, start="identical", **{**weights, contrast: 0.1}).check_peers_differ()
    with pytest.raises(UserError, match=r"peers that begin alike .* stay copies of one another"):
        MCLBatch(tiny_network(), tiny_data, start="identical", **weights).check_peers_differ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": 1}, "peers=1"),
        ({"contrast_temperature": 0}, "contrast_temperature=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"dimension": 0}, "dimension=0"),
        ({"views": "each"}, "unknown views 'each'"),
    ],
)
def test_wrong_options_are_named(options, message, tiny_network, tiny_data):
    with pytest.raises(UserError, match=message):
        MCLBatch(tiny_network(), tiny_data, **options)
