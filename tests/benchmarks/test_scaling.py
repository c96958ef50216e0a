"""What is counted of the contrast is what it computes."""

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.harness import flops
from benchmarks.scaling import BATCH, DIMENSION, PEERS, Network, bank, contrast_flops
from classmates.contracts import Batch, NetworkOutput
from classmates.losses.contrast import multi_view_contrast
from classmates.losses.negatives import ClassOrder, all_negatives
from classmates.networks.memory import sharded_contrast


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


def test_what_a_step_with_a_sharded_bank_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def counted(tensor: torch.Tensor, dim: int = 0) -> torch.Tensor:
        sent.append(tensor.nbytes)
        return tensor

    for name in ("gather", "add", "add_own"):
        monkeypatch.setattr(sharded_contrast, name, counted)
    labels = torch.arange(96) % 4
    contrast = sharded_contrast.ShardedBankContrast(
        [5] * PEERS,
        labels,
        num_negatives=16,
        temperature=0.1,
        normaliser="batch",
        negatives="all",
        dimension=DIMENSION,
        momentum=0.5,
        bank_dtype="bfloat16",
    )
    nothing, indices = torch.empty(0), torch.arange(BATCH)
    outputs = [NetworkOutput(nothing, torch.randn(BATCH, 5), []) for _ in range(PEERS)]
    contrast(outputs, Batch(nothing, labels[indices], indices)).backward()
    assert sum(sent) == bank("some", 96, 1, Network(flops=1e9, parameters=1))["sharded_mb"] * 1e6
