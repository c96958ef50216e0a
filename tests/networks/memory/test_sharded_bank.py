"""A sharded bank keeps the rows of a whole one; on several processes it is tested with its contrast."""

import copy

import pytest
import torch
import torch.nn.functional as F

from classmates.errors import UserError
from classmates.networks.memory import sharded_bank
from classmates.networks.memory.memory_bank import MemoryBank
from classmates.networks.memory.sharded_bank import ShardedBank, random_rows


def as_process(monkeypatch, rank: int, processes: int) -> None:
    monkeypatch.setattr(sharded_bank, "place", lambda: (rank, processes))


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(sharded_bank, "AT_ONCE", 16)


@pytest.mark.parametrize("shape", [(3, 30, 8), (2, 5, 4), (1, 7, 3), (2, 33, 1), (4, 16, 16)])
def test_pieces_are_what_is_drawn_at_once(small_pieces, shape):
    torch.manual_seed(0)
    whole, after = torch.randn(shape), torch.rand(1)
    torch.manual_seed(0)
    pieces = list(random_rows(shape))
    assert torch.equal(torch.cat([rows for _, rows in pieces]).view(shape), whole)
    assert torch.equal(torch.rand(1), after)
    assert [first for first, _ in pieces] == [16 * number for number in range(len(pieces))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_shares_begin_as_the_whole_bank_does(small_pieces, monkeypatch, dtype):
    torch.manual_seed(0)
    whole, after = MemoryBank(3, 31, 8, dtype=dtype), torch.rand(1)
    for rank in range(4):
        as_process(monkeypatch, rank, 4)
        torch.manual_seed(0)
        bank = ShardedBank(3, 31, 8, dtype=dtype)
        assert torch.equal(torch.rand(1), after)
        assert bank.rows.numel() == 0
        state = torch.get_rng_state()
        bank.open()
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(bank.rows, whole.rows[:, rank::4])
        assert torch.equal(bank.rows, dict(bank.state_dict())[f"shard{rank}of4"])


def test_each_process_writes_and_fetches_its_own_rows_alone(monkeypatch):
    torch.manual_seed(0)
    whole = MemoryBank(2, 9, 4)
    start = whole.rows.clone()
    for indices in ([6, 2, 5, 1, 2, 7], [4, 0, 8], [1, 1, 5]):  # the last two are of few processes
        whole.load_state_dict({"rows": start})
        embeddings = F.normalize(torch.randn(2, len(indices), 4), dim=-1)
        batch, fetched = torch.tensor(indices), torch.zeros(2, len(indices), 4)
        expected = whole.read(batch)
        whole.equal = True
        whole.write(batch, embeddings)
        for rank in range(4):
            as_process(monkeypatch, rank, 4)
            bank = ShardedBank(2, 9, 4)
            bank.load_state_dict({"rows": start})
            fetched += bank.fetch(batch)
            bank.write(batch, embeddings)
            assert torch.equal(bank.rows, whole.rows[:, rank::4])
        assert torch.equal(fetched, expected)


def test_a_state_is_of_one_share_or_of_all(monkeypatch):
    whole = MemoryBank(2, 9, 4).state_dict()
    as_process(monkeypatch, 1, 2)
    bank, other = ShardedBank(2, 9, 4), ShardedBank(2, 9, 4)
    bank.load_state_dict(whole)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.rows, whole["rows"][:, 1::2])
    as_process(monkeypatch, 0, 2)
    with pytest.raises(RuntimeError, match="shard1of2"):
        ShardedBank(2, 9, 4).load_state_dict(bank.state_dict())


def test_a_bank_that_one_process_has_begun_is_shared_out(monkeypatch):
    bank = ShardedBank(2, 9, 4)
    whole = bank.state_dict()["rows"].clone()
    as_process(monkeypatch, 1, 2)
    for one in (bank, copy.deepcopy(bank)):
        one.open()
        assert torch.equal(one.rows, whole[:, 1::2])
    as_process(monkeypatch, 1, 3)
    with pytest.raises(UserError, match="its rows are those of process 1 of 2, and this is process 1 of 3"):
        bank.open()
    bank.state_dict()  # as it is


def test_an_empty_bank_begins_with_zeros(monkeypatch):
    as_process(monkeypatch, 0, 2)
    bank = ShardedBank(2, 5, 4, empty=True)
    bank.open()
    assert bank.rows.shape == (2, 3, 4)
    assert not bank.written.any()
    bank.write(torch.tensor([3, 2]), F.normalize(torch.randn(2, 2, 4), dim=-1))
    assert bank.written.tolist() == [False, True, False]


def test_wrong_arguments_are_named(monkeypatch):
    with pytest.raises(UserError, match="0 peers x 5 samples x 4 dimensions"):
        ShardedBank(0, 5, 4)
    with pytest.raises(UserError, match=r"momentum is 1\.0"):
        ShardedBank(2, 5, 4, momentum=1.0)
    as_process(monkeypatch, 0, 8)
    with pytest.raises(UserError, match="5 samples are too few for 8 processes: take bank=whole"):
        ShardedBank(2, 5, 4).open()
