"""What is counted of the contrast is what it computes."""

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.harness import flops
from benchmarks.scaling import BATCH, DIMENSION, PEERS, Network, bank, contrast_flops
from classmates.losses.contrast import multi_view_contrast
from classmates.losses.negatives import ClassOrder, all_negatives


@pytest.mark.parametrize(("normaliser", "passes"), [("batch", 2), (torch.zeros(PEERS, PEERS), 1)])
def test_products_of_the_contrast(normaliser: str | torch.Tensor, passes: int) -> None:
    labels = torch.arange(96) % 4
    rows = normalize(torch.randn(PEERS, 96, DIMENSION), dim=-1)
    embeddings = normalize(torch.randn(PEERS, BATCH, DIMENSION, requires_grad=True), dim=-1)

    def contrast() -> None:
        negatives = all_negatives(rows, ClassOrder(labels), labels[:BATCH], 16)
        loss = multi_view_contrast(
            embeddings, rows[:, :BATCH], negatives, temperature=0.1, normaliser=normaliser
        ).loss
        loss.backward()

    assert flops(contrast) == contrast_flops(96, passes=passes)


def test_a_normaliser_that_is_known_saves_a_pass_and_shards_are_read_in_parts() -> None:
    row = bank("some", 10_000, 8, Network(flops=1e9, parameters=1))
    assert row["all_ms"] > row["all_lagged_ms"] > row["all_sharded_ms"]
    assert row["auto_tflop"] == contrast_flops(8192) / 1e12
