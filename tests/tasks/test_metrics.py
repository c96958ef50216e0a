import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t
from torch.utils._python_dispatch import TorchDispatchMode

from classmates.tasks.metrics import (
    METRICS,
    RunningAccuracy,
    accuracy_interval,
    score,
    variance_of_mean,
    wilson_interval,
)


def slow_ece(probabilities: list[list[float]], labels: list[int], bins: int = 15) -> float:
    """Guo et al., eq. 3, sample by sample; for confidences below 1."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for row, label in zip(probabilities, labels, strict=True):
        confidence = max(row)
        members[int(confidence * bins)].append((confidence, row.index(confidence) == label))
    gaps = [
        abs(sum(hit for _, hit in one) / len(one) - sum(sure for sure, _ in one) / len(one)) * len(one)
        for one in members
        if one
    ]
    return sum(gaps) / len(labels)


def slow_score(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    rows, probabilities, truth = logits.double().tolist(), [], labels.tolist()
    top1 = top5 = nll = brier = 0.0
    for row, label in zip(rows, truth, strict=True):
        exponentials = [math.exp(value - max(row)) for value in row]
        probabilities.append([value / sum(exponentials) for value in exponentials])
        above = sum(value > row[label] for value in row)
        top1 += above == 0
        top5 += above < 5
        nll -= math.log(probabilities[-1][label])
        brier += sum((value - (k == label)) ** 2 for k, value in enumerate(probabilities[-1]))
    sums = {"top1": top1, "top5": top5, "nll": nll, "brier": brier}
    return {name: total / len(truth) for name, total in sums.items()} | {"ece": slow_ece(probabilities, truth)}


@pytest.mark.parametrize(("count", "classes", "sharpness"), [(1, 6, 1.0), (40, 10, 2.0), (200, 7, 0.3)])
def test_score_equals_the_formulas_written_out(count: int, classes: int, sharpness: float) -> None:
    random = torch.Generator().manual_seed(count)
    logits = sharpness * torch.randn(count, classes, generator=random)
    labels = torch.randint(classes, (count,), generator=random)
    got = score(logits, labels)
    for name, expected in slow_score(logits, labels).items():
        assert got[name].value == pytest.approx(expected, abs=1e-6), name
    assert {metric.count for metric in got.values()} == {count}
    top1 = got["top1"]
    assert (top1.low, top1.high) == wilson_interval(round(top1.value * count), count)
    assert [name for name, metric in got.items() if metric.low is not None] == ["top1"]


def test_known_values() -> None:
    uniform = score(torch.zeros(8, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]))
    assert uniform["nll"].value == pytest.approx(math.log(4))
    assert uniform["brier"].value == pytest.approx(0.75)  # 3 · (1/4)² + (3/4)²
    assert uniform["top1"].value == 0.25
    assert uniform["ece"].value == pytest.approx(0.0, abs=1e-7)  # says 1/4, and is right in 1/4
    sure_and_wrong = score(torch.tensor([[1e4, 0.0], [1e4, 0.0]]), torch.tensor([1, 1]))
    assert sure_and_wrong["top1"].value == 0
    assert sure_and_wrong["nll"].value == pytest.approx(1e4)  # from log-probabilities: no log(0)
    assert sure_and_wrong["brier"].value == pytest.approx(2.0)
    assert sure_and_wrong["ece"].value == pytest.approx(1.0)


def test_metrics_are_plain_numbers_and_top5_needs_more_than_five_classes() -> None:
    logits, labels = torch.randn(9, 6).to(torch.bfloat16).requires_grad_(), torch.randint(6, (9,))
    found = score(logits, labels)
    assert list(found) == list(METRICS)
    assert {type(metric.value) for metric in found.values()} == {float}
    assert {name: metric.better for name, metric in found.items()} == {
        "top1": "more",
        "top5": "more",
        "nll": "less",
        "brier": "less",
        "ece": "less",
    }
    assert "top5" not in score(torch.randn(9, 5), torch.randint(5, (9,)))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), r"\(3, 2\) and \(4,\)"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "no image"),
        (torch.tensor([[0.0, math.nan]]), torch.tensor([0]), "NaN"),
        (torch.zeros(1, 2), torch.tensor([2]), "from 2 to 2, but the logits have 2 classes"),
        (torch.zeros(1, 2), torch.tensor([-1]), "from -1 to -1"),
    ],
)
def test_score_refuses(logits: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(logits, labels)


@given(st.integers(1, 50_000), st.floats(0, 1), st.sampled_from([0.5, 0.95, 0.999]))
def test_wilson_interval_is_scipys(count: int, share: float, confidence: float) -> None:
    correct = round(share * count)
    expected = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(correct, count, confidence)
    assert (low, high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))
    assert 0 <= low <= correct / count <= high <= 1


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1)), min_size=2, max_size=40))
def test_the_variance_of_a_mean_is_that_of_sums_over_groups(pairs: list[tuple[int, float]]) -> None:
    groups, values = zip(*pairs, strict=True)
    there = sorted(set(groups))
    mean = math.fsum(values) / len(values)
    sums = [math.fsum(value - mean for group, value in pairs if group == one) for one in there]
    if len(there) > 1:
        expected = len(there) / (len(there) - 1) * math.fsum(one**2 for one in sums) / len(values) ** 2
        found = variance_of_mean(torch.tensor(values, dtype=torch.float64), torch.tensor(groups))
        assert found == pytest.approx(expected, abs=1e-12)
    alone = torch.tensor(values, dtype=torch.float64)
    assert variance_of_mean(alone) == pytest.approx(np.var(values, ddof=1) / len(values), abs=1e-12)


def test_images_of_groups_are_worth_as_many_as_vary_independently() -> None:
    right = torch.tensor([True, True, False, True, False, True, True, True])
    apart = torch.arange(8)
    assert accuracy_interval(right) == accuracy_interval(right, apart) == wilson_interval(6, 8)
    copies, groups = right.repeat_interleave(10), apart.repeat_interleave(10)
    share, variance = 0.75, 0.75 * 0.25 / 7
    worth = share * (1 - share) / variance * (t.ppf(0.975, 79) / t.ppf(0.975, 7)) ** 2
    assert accuracy_interval(copies, groups) == pytest.approx(wilson_interval(share * worth, worth))
    shuffled = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert accuracy_interval(copies[shuffled], 5 - 3 * groups[shuffled]) == pytest.approx(
        accuracy_interval(copies, groups)
    )


def test_groups_that_say_nothing_of_one_another_leave_little() -> None:
    right = torch.tensor([True] * 6)
    assert accuracy_interval(right, torch.tensor([4] * 6)) == (None, None)
    assert accuracy_interval(right, torch.tensor([1, 1, 1, 2, 2, 2])) == wilson_interval(2, 2)
    assert accuracy_interval(~right, torch.tensor([1, 1, 2, 2, 3, 3])) == wilson_interval(0, 3)
    low, high = accuracy_interval(torch.tensor([True, True, False, False]), torch.tensor([0, 0, 1, 1]))
    assert low < 0.01
    assert high > 0.99
    balanced = torch.tensor([True, False] * 3)
    assert accuracy_interval(balanced, torch.tensor([0, 0, 1, 1, 2, 2])) == wilson_interval(3, 6)
    nearly = torch.tensor([True, False] * 11 + [True, True])  # groups vary less than images would: 24 are 24
    assert accuracy_interval(nearly, torch.arange(12).repeat_interleave(2)) == pytest.approx(wilson_interval(13, 24))


@pytest.mark.parametrize(("wrong", "least", "most"), [(0.5, 0.92, 0.85), (0.1, 0.82, 0.75)])
def test_intervals_of_images_in_groups_keep_their_promise(wrong: float, least: float, most: float) -> None:
    """Of 25 patients of 8 images with accuracies of their own, 80 % in the mean; not quite of 95 %, where few err."""
    random = np.random.default_rng(0)
    groups, mean = torch.arange(25).repeat_interleave(8), 2 / (2 + wrong)
    held, naive = 0, 0
    for _ in range(400):
        shares = torch.from_numpy(random.beta(2, wrong, 25)).repeat_interleave(8)
        right = torch.from_numpy(random.random(200)) < shares
        low, high = accuracy_interval(right, groups)
        held += low <= mean <= high
        low, high = accuracy_interval(right)
        naive += low <= mean <= high
    assert least <= held / 400 <= 0.99
    assert naive / 400 < most


@pytest.mark.parametrize(("correct", "count", "confidence"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 2, 1.0)])
def test_wilson_interval_refuses(correct: int, count: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"correct|confidence"):
        wilson_interval(correct, count, confidence)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_running_score_does_not_depend_on_the_batches(sizes: list[int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(sum(sizes), 4, generator=random)
    labels = torch.randint(4, (sum(sizes),), generator=random)
    running = RunningAccuracy()
    for images, truth in zip(logits.split(sizes), labels.split(sizes), strict=True):
        running.update(images, truth)
    whole = score(logits, labels)
    assert running.compute() == {
        "top1": whole["top1"].value,
        "nll": pytest.approx(whole["nll"].value, rel=1e-5),
    }


def test_running_score_resets_and_refuses_to_divide_by_nothing() -> None:
    running = RunningAccuracy()
    running.update(torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.bfloat16), torch.tensor([0, 1]))
    assert running.compute()["top1"] == 0.5
    running.reset()
    with pytest.warns(UserWarning, match="before the ``update``"), pytest.raises(ValueError, match="no image"):
        running.compute()
    running.update(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    assert running.compute()["top1"] == 1.0


class HostCopies(TorchDispatchMode):
    """Counts the operators that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


def test_running_score_update_waits_for_nothing() -> None:
    running, logits, labels = RunningAccuracy(), torch.randn(8, 3), torch.randint(3, (8,))
    with HostCopies() as seen:
        running.update(logits, labels)
        assert seen.count == 0
        (logits > 0).any().item()
        assert seen.count == 1  # the counter does count


def test_running_score_sums_over_processes() -> None:
    logits, labels = torch.eye(3)[[0, 1, 2]], torch.tensor([0, 1, 0])
    here, elsewhere = RunningAccuracy(), RunningAccuracy()
    here.update(logits[:1], labels[:1])
    elsewhere.update(logits[1:], labels[1:])
    theirs = iter(elsewhere.metric_state.values())
    here.distributed_available_fn = lambda: True
    here.dist_sync_fn = lambda ours, group: [ours, next(theirs)]  # what gathering from two processes gives
    assert here.compute() == {"top1": 2 / 3, "nll": pytest.approx(score(logits, labels)["nll"].value)}
