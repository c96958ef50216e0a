"""A sharded bank on 1, 2 and 4 processes is the whole bank on one, whose batch is that of all."""

import subprocess
import sys

import pytest
import torch

from classmates.contracts import Batch, NetworkOutput
from classmates.errors import UserError
from classmates.losses.contrast import multi_view_contrast
from classmates.losses.negatives import ClassOrder, CommonNegatives, all_negatives
from classmates.networks.memory.bank_contrast import BankContrast
from classmates.networks.memory.gather import own_state
from classmates.networks.memory.sharded_contrast import ShardedBankContrast

PEERS, SAMPLES, WIDTH, DIMENSION, ALL, STEPS = 3, 31, 5, 8, 8, 3
LABELS = torch.arange(SAMPLES) % 4
CASES = {
    "all": {},
    "shared": {"negatives": "shared"},
    "anchor": {"normaliser": "anchor"},
    "lagged": {"normaliser": "lagged", "positives": "live"},
    "masked": {"unwritten": "masked"},
    "bfloat16": {"bank_dtype": "bfloat16", "negatives": "auto"},
}

PROCESS = """
import sys
import torch
import torch.distributed as dist
from classmates.losses.sharded_contrast import Processes, sharded_contrast
from classmates.losses.shards import Shard, all_of_shard
from classmates.networks.memory import sharded_bank
from classmates.networks.memory.gather import add, add_own, gather, own_state, whole_state
from tests.networks.memory.test_sharded_contrast import CASES, LABELS, SAMPLES, made, step

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
sharded_bank.AT_ONCE = 16  # so that there are several pieces
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting{world}", rank=rank, world_size=world)
given, results = torch.load(f"{folder}/given.pt"), {}
for name, options in CASES.items():
    contrast, draws = made(sharded=True, **options), []
    if name in given["whole"].get(world, {}):
        contrast.load_state_dict(given["whole"][world][name])
    draw = contrast.draw
    contrast.draw = lambda *arguments: draws.append(draw(*arguments)) or draws[-1]
    steps = []
    for number, (inputs, indices) in enumerate(given["steps"]):
        torch.manual_seed(10 * number + rank)
        own = slice(rank * len(indices) // world, (rank + 1) * len(indices) // world)
        steps.append((*step(contrast, inputs[:, own], indices[own]), contrast.log_mean.clone()))
    own_rows, state = contrast.bank.rows.clone(), contrast.state_dict()
    assert [name for name in state if name.startswith("bank.")] == [f"bank.shard{rank}of{world}"]
    whole_state(contrast, state)
    if rank == 0:
        assert torch.equal(own_state(contrast, state)[f"bank.shard0of{world}"], own_rows)
    drawn = [(one.rows, one.row_labels, one.written) for one in draws]
    results[name] = {"steps": steps, "rows": own_rows, "draws": drawn, "state": state if rank == 0 else None}

embeddings, positives, rows, labels = given["exact"]
own = slice(rank * len(labels) // world, (rank + 1) * len(labels) // world)
mine = embeddings[:, own].clone().requires_grad_()
negatives = all_of_shard(Shard(rows[:, rank::world], LABELS[rank::world], None, SAMPLES, world, 4), labels, 7)
negatives.counts.copy_(add(negatives.counts))
found = sharded_contrast(mine, gather(mine.detach(), 1), positives[:, own], negatives,
                         Processes(add, add_own, own), temperature=0.2)
found.loss.backward()
results["exact"] = (found.loss.detach(), mine.grad, found.log_mean)
torch.save(results, f"{folder}/{rank}of{world}.pt")
dist.destroy_process_group()
"""


def made(*, sharded, **options):
    torch.manual_seed(0)
    chosen = {"normaliser": "batch", "negatives": "all", "bank_dtype": "float32", **options}
    return (ShardedBankContrast if sharded else BankContrast)(
        [WIDTH] * PEERS, LABELS, num_negatives=7, temperature=0.2, dimension=DIMENSION, momentum=0.5, **chosen
    )


def step(contrast, inputs, indices):
    """The loss and the gradients of a step, which the bank learns of."""
    contrast.zero_grad()
    nothing = torch.empty(0)
    outputs = [NetworkOutput(nothing, one, []) for one in inputs]
    loss = contrast(outputs, Batch(nothing, LABELS[indices], indices))
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in contrast.parameters()]


def run(folder, world):
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(world), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}of{world}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(1)
    steps = [(torch.randn(PEERS, ALL, WIDTH), torch.randperm(SAMPLES)[:ALL]) for _ in range(STEPS)]
    steps[1][1][5] = steps[1][1][2]  # a sample twice, the images of which are of two processes
    indices = torch.randperm(SAMPLES)[:ALL]
    units = [torch.randn(PEERS, count, DIMENSION).double() for count in (ALL, ALL, SAMPLES)]
    exact = [one / one.norm(dim=-1, keepdim=True) for one in units]
    return {"steps": steps, "exact": (*exact, LABELS[indices]), "whole": {}}


@pytest.fixture(scope="module")
def results(given, tmp_path_factory):
    """Of 2 processes, and of 4 that go on from what these have kept."""
    folder = tmp_path_factory.mktemp("shards")
    torch.save(given, folder / "given.pt")
    of_two = run(folder, 2)
    kept = {name: of_two[0][name]["state"] for name in CASES}
    torch.save({**given, "whole": {4: kept}}, folder / "given.pt")
    return {2: of_two, 4: run(folder, 4)}


def drawn_as(shards, labels):
    """The negatives that the shards have drawn, as one draw from the whole bank."""
    rows, row_labels = torch.cat([one[0] for one in shards], 1), torch.cat([one[1] for one in shards])
    may = [torch.ones(len(one[1]), dtype=torch.bool) if one[2] is None else one[2] for one in shards]
    written = torch.cat(may)
    counts = ((row_labels != labels[:, None]) & written).sum(1)
    return CommonNegatives(
        rows=rows, labels=labels, num_negatives=7, counts=counts, written=written, row_labels=row_labels
    )


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_bank_are_those_of_the_whole_bank_on_one_process(given, results, name, world):
    whole, found = made(sharded=False, **CASES[name]), [of_rank[name] for of_rank in results[world]]
    tolerance = 5e-3 if name == "bfloat16" else 1e-5  # products with bfloat16 rows are rounded to bfloat16
    before = given["steps"] * (world // 2)  # what 4 processes go on from is what 2 have done
    for number, (inputs, indices) in enumerate(before):
        ranks = [of_rank[name] for of_rank in results[2 if number < STEPS else world]] if world == 4 else found
        place = number % STEPS
        if name == "shared":
            drawn = drawn_as([rank["draws"][place] for rank in ranks], LABELS[indices])
            whole.draw = lambda *arguments, drawn=drawn, **options: drawn
        value, gradients = step(whole, inputs, indices)
        values, of_ranks, log_means = zip(*(rank["steps"][place] for rank in ranks), strict=True)
        torch.testing.assert_close(sum(values) / len(ranks), value, rtol=1e-5, atol=0)
        for expected, *parts in zip(gradients, *of_ranks, strict=True):
            assert (sum(parts) / len(parts) - expected).norm() < tolerance * expected.norm()
        for log_mean in log_means:
            torch.testing.assert_close(log_mean, whole.log_mean, rtol=1e-5, atol=1e-6)
    for rank, one in enumerate(found):
        # Not to the last bit: on some processors a product's rounding depends on how many rows it has.
        torch.testing.assert_close(one["rows"], whole.bank.rows[:, rank::world])


@pytest.mark.parametrize("world", [2, 4])
def test_in_float64_they_are_equal_to_twelve_digits(given, results, world):
    embeddings, positives, rows, labels = given["exact"]
    embeddings = embeddings.clone().requires_grad_()
    negatives = all_negatives(rows, ClassOrder(LABELS), labels, 7)
    expected = multi_view_contrast(embeddings, positives, negatives, temperature=0.2)
    expected.loss.backward()
    values, gradients, log_means = zip(*(rank["exact"] for rank in results[world]), strict=True)
    torch.testing.assert_close(sum(values) / world, expected.loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cat(gradients, 1) / world, embeddings.grad, rtol=1e-11, atol=1e-13)
    for log_mean in log_means:
        torch.testing.assert_close(log_mean, expected.log_mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_one_process_goes_on_from_what_four_have_kept_and_so_does_a_whole_bank(given, results, name):
    state = results[4][0][name]["state"]
    sharded, whole = made(sharded=True, **CASES[name]), made(sharded=False, **CASES[name])
    assert own_state(sharded, state).keys() == state.keys() == whole.state_dict().keys()
    for contrast in (sharded, whole):
        contrast.load_state_dict(state)
        assert torch.equal(contrast.bank.rows[:, 3::4], results[4][3][name]["rows"])
    torch.manual_seed(0)
    value, gradients = step(whole, *given["steps"][0])
    torch.manual_seed(0)
    found, of_sharded = step(sharded, *given["steps"][0])
    torch.testing.assert_close(found, value, rtol=1e-5, atol=0)
    for one, expected in zip(of_sharded, gradients, strict=True):
        assert (one - expected).norm() < 1e-5 * expected.norm()
    assert torch.equal(sharded.bank.rows, whole.bank.rows)


@pytest.mark.parametrize("name", CASES)
def test_on_one_process_it_is_the_whole_bank_from_the_start(given, name):
    sharded, whole = made(sharded=True, **CASES[name]), made(sharded=False, **CASES[name])
    for inputs, indices in given["steps"]:
        torch.manual_seed(0)
        value, gradients = step(whole, inputs, indices)
        torch.manual_seed(0)
        found, of_sharded = step(sharded, inputs, indices)
        torch.testing.assert_close(found, value, rtol=1e-5, atol=0)
        for one, expected in zip(of_sharded, gradients, strict=True):
            assert (one - expected).norm() < 1e-5 * expected.norm()
        assert torch.equal(sharded.bank.rows, whole.bank.rows)


def test_rows_for_each_anchor_are_refused():
    with pytest.raises(UserError, match=r"bank=sharded and negatives=independent: .*: use negatives=shared"):
        made(sharded=True, negatives="independent")
