"""The shares of all shards, added, are what the whole bank gives."""

from dataclasses import replace

import pytest
import torch

from classmates.losses.contrast import (
    anchor_log_mean,
    anchors_of,
    multi_view_contrast,
    negative_mean,
    ordered_pairs,
    repulsion,
)
from classmates.losses.negatives import all_negatives
from classmates.losses.sharded_contrast import (
    Processes,
    anchor_log_mean_of_shards,
    gradient_of_embeddings,
    mean_share,
    negative_mean_share,
    repulsion_share,
    sharded_contrast,
    with_gradient,
)
from classmates.losses.shards import Shard, ShardNegatives, all_of_shard
from tests.losses.conftest import DIMENSION, PEERS, SAMPLES, TEMPERATURE, Case, K, each_normaliser, unit

ALONE = Processes(lambda share: share, lambda share, dim: share, slice(None))


def shards_of(case: Case, count: int, written: torch.Tensor | None = None) -> list[Shard]:
    return [
        Shard(
            case.rows[:, rank::count],
            case.classes.labels[rank::count],
            None if written is None else written[rank::count],
            SAMPLES,
            count,
            4,
        )
        for rank in range(count)
    ]


def negatives_of(shards: list[Shard], labels: torch.Tensor) -> list[ShardNegatives]:
    found = [all_of_shard(shard, labels, K) for shard in shards]
    counts = torch.stack([one.counts for one in found]).sum(0)
    return [replace(one, counts=counts) for one in found]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_shares_add_up_to_the_whole(count, masked):
    written = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(3)) < 0.4 if masked else None
    case = Case(all_negatives, batch=12, written=written)
    everyone = case.embeddings.detach()
    anchors, offset = anchors_of(everyone, TEMPERATURE), torch.randn(PEERS, 1, PEERS - 1).double()
    parts = negatives_of(shards_of(case, count, written), case.labels)
    assert torch.equal(parts[0].counts, case.negatives.counts)

    means = [negative_mean_share(everyone, part, TEMPERATURE) for part in parts]
    torch.testing.assert_close(sum(means), negative_mean(anchors, case.negatives, TEMPERATURE))
    shares = [repulsion_share(everyone, offset, part, TEMPERATURE) for part in parts]
    value, ratio, gradient = repulsion(anchors, offset, case.negatives, TEMPERATURE)
    torch.testing.assert_close(sum(share.value for share in shares), value.sum((0, 2)))
    torch.testing.assert_close(sum(share.ratio for share in shares), ratio)
    torch.testing.assert_close(sum(share.gradient for share in shares), gradient_of_embeddings(gradient))

    batch = 12 // count
    positive = torch.randn(PEERS, 12, PEERS - 1).double()
    own = [slice(rank * batch, (rank + 1) * batch) for rank in range(count)]
    added = [mean_share(positive[:, o], m, p, o) for o, m, p in zip(own, means, parts, strict=True)]
    k = (K * (case.negatives.counts > 0))[:, None]
    torch.testing.assert_close(sum(added), ((positive.exp() + k * sum(means)) / (k + 1)).mean(1))


@each_normaliser
def test_one_shard_is_the_whole_bank(normaliser):
    case = Case(all_negatives)
    (shard,) = shards_of(case, 1)
    value = case.normaliser(normaliser)
    whole = multi_view_contrast(
        case.embeddings, case.positives("bank"), case.negatives, temperature=TEMPERATURE, normaliser=value
    )
    everyone = case.embeddings.detach()
    if normaliser == "anchor":
        value = anchor_log_mean_of_shards(everyone, shard, ALONE, TEMPERATURE)
        torch.testing.assert_close(value, anchor_log_mean(everyone, case.rows, TEMPERATURE))
    (negatives,) = negatives_of([shard], case.labels)
    sharded = sharded_contrast(
        case.embeddings,
        everyone,
        case.positives("bank"),
        negatives,
        ALONE,
        temperature=TEMPERATURE,
        normaliser=value,
    )
    torch.testing.assert_close(sharded, whole)
    gradients = [torch.autograd.grad(one.loss, case.embeddings)[0] for one in (sharded, whole)]
    torch.testing.assert_close(*gradients)


def test_the_gradient_of_embeddings_goes_back_through_the_pairs():
    embeddings = unit(4, 3, DIMENSION).requires_grad_()
    _, partners = ordered_pairs(4, embeddings.device)
    gradient = torch.randn(4, 3, 3, DIMENSION).double()
    (expected,) = torch.autograd.grad(embeddings[partners].transpose(1, 2), embeddings, gradient)
    torch.testing.assert_close(gradient_of_embeddings(gradient), expected)


def test_a_value_with_a_known_gradient():
    embeddings, gradient = unit(2, 3, DIMENSION).requires_grad_(), torch.randn(2, 3, DIMENSION).double()
    value = torch.randn(3).double()
    made = with_gradient(value, embeddings, gradient)
    assert torch.equal(made, value)
    weights = torch.randn(3).double()
    (found,) = torch.autograd.grad((made * weights).sum(), embeddings)
    torch.testing.assert_close(found, gradient * weights[:, None])
