"""A block's products against float64 sums, for every pair of dtypes, and its memory over several blocks."""

import pytest
import torch

from classmates.losses.blocks import Block, Scratch

PEERS, SAMPLES, PARTNERS, ROWS, WIDTH = 2, 6, 3, 5, 4
LABELS = torch.tensor([0, 1, 1, 2, 0, 2])


def made(groups: int, rows_dtype: torch.dtype, dtype: torch.dtype) -> tuple[Block, torch.Tensor]:
    """Return a block that is a part of a larger bank, and queries."""
    torch.manual_seed(groups)
    bank = torch.randn(PEERS, groups, 3 * ROWS, WIDTH).to(rows_dtype)
    mask = torch.zeros(SAMPLES, ROWS).masked_fill(torch.arange(ROWS) % 3 == LABELS[:, None], -torch.inf)
    block = Block.of(bank[:, :, ROWS : 2 * ROWS], mask, Scratch(bank.device))
    return block, torch.randn(PEERS, SAMPLES, PARTNERS, WIDTH, dtype=dtype)


def expected_products(block: Block, queries: torch.Tensor) -> torch.Tensor:
    each = block.rows.double().repeat_interleave(SAMPLES // block.rows.shape[1], dim=1)
    return torch.einsum("mbpd,mbrd->mbpr", queries.double(), each)


DTYPES = pytest.mark.parametrize(
    ("rows_dtype", "dtype", "multiplies", "tolerance"),
    [
        (torch.float64, torch.float64, False, 1e-12),
        (torch.float32, torch.float32, False, 1e-5),
        (torch.float32, torch.float64, False, 1e-5),
        (torch.bfloat16, torch.float32, False, 1e-5),
        (torch.bfloat16, torch.float32, True, 3e-2),
    ],
    ids=str,
)


@DTYPES
@pytest.mark.parametrize("groups", [1, SAMPLES])
@pytest.mark.parametrize("offset", [None, 1, SAMPLES])
def test_logits_are_products_less_the_offset_plus_the_mask(
    rows_dtype, dtype, multiplies, tolerance, groups, offset, monkeypatch
):
    monkeypatch.setattr("classmates.losses.blocks.has_bfloat16", lambda device: multiplies)
    block, queries = made(groups, rows_dtype, dtype)
    less = None if offset is None else torch.randn(PEERS, offset, PARTNERS, dtype=dtype)
    expected = expected_products(block, queries) + block.mask[:, None]
    expected = expected if less is None else expected - less[..., None]
    found = block.logits(queries, less)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@DTYPES
@pytest.mark.parametrize("groups", [1, SAMPLES])
def test_a_weighted_sum_is_added_to_what_was_there(rows_dtype, dtype, multiplies, tolerance, groups, monkeypatch):
    monkeypatch.setattr("classmates.losses.blocks.has_bfloat16", lambda device: multiplies)
    block, total = made(groups, rows_dtype, dtype)
    weights = torch.rand(PEERS, SAMPLES, PARTNERS, ROWS, dtype=dtype)
    each = block.rows.double().repeat_interleave(SAMPLES // groups, dim=1)
    expected = total.double() + torch.einsum("mbpr,mbrd->mbpd", weights.double(), each)
    block.add_weighted_sum(total, weights)
    torch.testing.assert_close(total.double(), expected, rtol=tolerance, atol=tolerance)


def test_the_next_block_takes_the_same_memory():
    scratch = Scratch(torch.device("cpu"))
    first = scratch.take("logits", (3, 4), torch.float32)
    assert scratch.take("logits", (2, 5), torch.float32).data_ptr() == first.data_ptr()
    apart = [
        scratch.take("weights", (3, 4), torch.float32),
        scratch.take("logits", (3, 4), torch.float64),
        scratch.take("logits", (4, 4), torch.float32),
    ]
    assert [one.shape for one in apart] == [(3, 4), (3, 4), (4, 4)]
    assert len({first.data_ptr(), *(one.data_ptr() for one in apart)}) == 4
