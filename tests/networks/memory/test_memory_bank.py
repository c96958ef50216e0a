"""Memory banks keep unit rows, write in place, and stay equal over processes."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from classmates.errors import UserError
from classmates.networks.memory.memory_bank import MemoryBank


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)], ids=str)
def test_rows_have_unit_norm_before_and_after_a_write(dtype, tolerance):
    torch.manual_seed(0)
    bank = MemoryBank(3, 20, 16, dtype=dtype)
    assert bank.rows.shape == (3, 20, 16)
    for _ in range(3):
        norms = bank.rows.float().norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones(3, 20), rtol=0, atol=tolerance)
        bank.write(torch.randperm(20)[:7], unit(3, 7, 16))
    assert bank.rows.dtype == bank.read(torch.tensor([0])).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_first_write_into_an_empty_bank_is_the_embedding_itself(dtype):
    torch.manual_seed(0)
    bank, indices = MemoryBank(2, 6, 4, dtype=dtype, empty=True), torch.tensor([4, 1])
    assert not bank.rows.any()
    assert not bank.written.any()
    first, second = unit(2, 2, 4), unit(2, 2, 4)
    bank.write(indices, first)
    torch.testing.assert_close(bank.read(indices), first.to(dtype))
    assert bank.written.tolist() == [False, True, False, False, True, False]
    bank.write(indices, second)
    torch.testing.assert_close(
        bank.read(indices), F.normalize(first + second, dim=-1).to(dtype), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_write_moves_the_rows_of_its_samples_only(momentum):
    torch.manual_seed(0)
    bank = MemoryBank(2, 6, 4, momentum=momentum)
    storage, before = bank.rows.data_ptr(), bank.rows.clone()
    indices, embeddings = torch.tensor([4, 1]), unit(2, 2, 4).requires_grad_()
    bank.write(indices, embeddings)

    assert bank.rows.data_ptr() == storage
    assert not bank.rows.requires_grad
    assert torch.equal(bank.rows[:, [0, 2, 3, 5]], before[:, [0, 2, 3, 5]])
    for peer in range(2):
        for position, sample in enumerate([4, 1]):
            mixed = momentum * before[peer, sample] + (1 - momentum) * embeddings[peer, position]
            torch.testing.assert_close(bank.rows[peer, sample], (mixed / mixed.norm()).detach())
            assert torch.equal(bank.read(indices)[peer, position], bank.rows[peer, sample])


def test_the_last_of_repeated_samples_counts():
    torch.manual_seed(0)
    bank, other = MemoryBank(2, 5, 4), MemoryBank(2, 5, 4)
    other.load_state_dict(bank.state_dict())
    embeddings = unit(2, 6, 4)
    bank.write(torch.tensor([3, 0, 3, 1, 0, 3]), embeddings)
    other.write(torch.tensor([3, 1, 0]), embeddings[:, [5, 3, 4]])
    assert torch.equal(bank.rows, other.rows)


def test_what_was_read_does_not_change_with_a_write():
    bank = MemoryBank(1, 2, 4)
    read = bank.read(torch.tensor([0]))
    kept = read.clone()
    bank.write(torch.tensor([0]), unit(1, 1, 4))
    assert torch.equal(read, kept)
    assert not torch.equal(bank.read(torch.tensor([0])), kept)


def test_rows_are_kept_in_a_checkpoint():
    bank, restored = MemoryBank(2, 5, 4), MemoryBank(2, 5, 4)
    assert list(bank.state_dict()) == ["rows"]
    restored.load_state_dict(bank.state_dict())
    assert torch.equal(restored.rows, bank.rows)


def test_wrong_arguments_are_named():
    with pytest.raises(UserError, match="0 peers x 5 samples x 4 dimensions"):
        MemoryBank(0, 5, 4)
    with pytest.raises(UserError, match=r"momentum is 1\.0; it must be at least 0 and below 1"):
        MemoryBank(2, 5, 4, momentum=1.0)
    with pytest.raises(ValueError, match=r"embeddings \(2, 2, 4\) for indices \(3,\) must be \[2, 3, 4\]"):
        MemoryBank(2, 5, 4).write(torch.tensor([0, 1, 2]), unit(2, 2, 4))


PROCESS = """
import sys
import torch
import torch.distributed as dist
from classmates.networks.memory.memory_bank import MemoryBank

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.manual_seed(rank)  # the rows of the first process count
bank = MemoryBank(2, 8, 4)
indices, embeddings = torch.load(f"{folder}/batches.pt")
half = slice(3 * rank, 3 * rank + 3)
bank.write(indices[half], embeddings[:, half].clone().requires_grad_())
torch.save(bank.rows, f"{folder}/rows{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_keep_equal_banks(tmp_path):
    indices = torch.tensor([6, 2, 5, 1, 2, 7])  # both processes see sample 2: the higher rank's embedding counts
    embeddings = unit(2, 6, 4)
    torch.save((indices, embeddings), tmp_path / "batches.pt")
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors

    torch.manual_seed(0)
    alone = MemoryBank(2, 8, 4)
    alone.write(indices, embeddings)
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"rows{rank}.pt"), alone.rows)
