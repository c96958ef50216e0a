import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from classmates.networks.memory.gather import (
    add,
    add_own,
    from_first,
    gather,
    gather_in_turn,
    gather_to_first,
    gather_with_gradient,
    last_occurrence,
    local_buffers,
    mean,
    own_in_turn,
    own_state,
    place,
    whole_state,
)

PROCESS = """
import sys
import torch
import torch.distributed as dist
from classmates.networks.memory.gather import (
    add, add_own, from_first, gather, gather_in_turn, gather_to_first, gather_with_gradient, mean, own_in_turn,
    own_part, place,
)

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
rows = torch.arange(6.0).view(2, 3) + 10 * rank
gathered = gather(rows), gather(rows.T, dim=1)
assert torch.equal(own_part(gathered[0]), rows)
assert place() == (rank, 2)
first = gather_to_first(rows)
assert len(first) == (2 if rank == 0 else 0)
assert not first or torch.equal(torch.cat(first), gathered[0])
assert torch.equal(add(rows), gathered[0][:2] + gathered[0][2:])
assert torch.equal(mean(rows), add(rows) / 2)
assert torch.equal(gather_in_turn(rows), gathered[0][[0, 2, 1, 3]])
assert torch.equal(own_in_turn(gather_in_turn(rows)), rows)
for dim in (0, 1):
    learning = rows.clone().requires_grad_()
    everyone = gather_with_gradient(learning, dim)
    factors = torch.arange(12.0).view(everyone.shape)
    (everyone * factors * (1 + rank)).sum().backward()
    assert torch.equal(everyone, gather(rows, dim))
    assert torch.equal(learning.grad, 3 * factors.chunk(2, dim)[rank])
assert torch.equal(add_own(rows), add(rows)[rank : rank + 1])
assert torch.equal(add_own(rows.T, 1), add(rows.T)[:, rank : rank + 1])
assert torch.equal(own_part(gathered[0]), rows)
from_first(rows)
torch.save((*gathered, rows), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_every_process_gets_all_batches_in_the_order_of_ranks(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    expected = torch.tensor([[0.0, 1, 2], [3, 4, 5], [10, 11, 12], [13, 14, 15]])
    for rank in range(2):
        rows, columns, first = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(rows, expected)
        assert torch.equal(columns, expected.T)
        assert torch.equal(first, torch.arange(6.0).view(2, 3))


def test_one_process_keeps_its_own():
    rows = torch.randn(3, 2)
    assert gather(rows) is gather_with_gradient(rows) is add(rows) is add_own(rows) is rows
    assert torch.equal(mean(rows), rows)
    assert torch.equal(own_in_turn(gather_in_turn(rows)), rows)
    assert gather_to_first(rows)[0] is rows
    assert place() == (0, 1)
    kept = rows.clone()
    from_first(rows)
    assert torch.equal(rows, kept)


def test_local_buffers_are_named_in_full_wherever_they_are():
    class Rows(nn.Module):
        local_buffers = ("rows", "labels")

    assert local_buffers(Rows()) == ["rows", "labels"]
    outer = nn.Sequential(nn.BatchNorm2d(2), nn.ModuleDict({"bank": Rows()}))
    assert local_buffers(outer) == ["1.bank.rows", "1.bank.labels"]


def test_what_is_shared_out_is_put_together_and_taken_apart_wherever_it_is():
    class Part(nn.Module):
        def to_whole(self, state, prefix):
            state[f"{prefix}rows"] = "whole"

        def to_own(self, state, prefix):
            state[f"{prefix}rows"] = "own"

    module = nn.ModuleDict({"bank": Part(), "other": nn.Sequential(Part(), nn.Linear(1, 1))})
    state = {}
    whole_state(module, state)
    assert state == {"bank.rows": "whole", "other.0.rows": "whole"}
    assert own_state(module, state) == {"bank.rows": "own", "other.0.rows": "own"}
    assert own_state(Part(), {}) == {"rows": "own"}
    assert state["bank.rows"] == "whole"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_last_occurrence(indices):
    expected = [len(indices) - 1 - indices[::-1].index(index) for index in indices]
    assert last_occurrence(torch.tensor(indices)).tolist() == expected
