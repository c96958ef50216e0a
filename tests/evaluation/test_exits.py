import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.errors import UserError
from classmates.evaluation.exits import CANDIDATES, score_exits, tune_thresholds

COSTS = [0.3, 0.6, 1.0]


def random_exits(seed, exits=3, images=40, classes=4):
    """Deeper exits know more, and are surer where they know."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=random)
    noise = 2 * torch.randn(exits, images, classes, generator=random)
    signal = torch.nn.functional.one_hot(labels, classes) * torch.linspace(1.5, 5, exits)[:, None, None]
    return noise + signal, labels


def score_by_hand(logits, labels, costs, thresholds):
    right, cost, shares = 0, 0.0, [0] * (len(logits) + 1)
    for image, label in enumerate(labels.tolist()):
        rows = logits[:, image].double()
        exit_ = next((e for e, row in enumerate(rows) if row.softmax(0).max() > thresholds[e]), len(rows))
        answer = rows.mean(0) if exit_ == len(rows) else rows[exit_]
        right += int(answer.argmax()) == label
        cost += [*costs, costs[-1]][exit_]
        shares[exit_] += 1
    return right / len(labels), cost / len(labels), [share / len(labels) for share in shares]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.floats(0.2, 0.999), min_size=3, max_size=3))
def test_score_is_the_rule(seed, thresholds):
    logits, labels = random_exits(seed)
    top1, cost, shares = score_by_hand(logits, labels, COSTS, thresholds)
    score = score_exits(logits, labels, COSTS, thresholds)
    assert score.accuracy == pytest.approx(top1)
    assert score.cost == pytest.approx(cost)
    assert score.saved == pytest.approx(1 - cost)
    assert score.shares == pytest.approx(shares)


def test_the_ends_are_the_first_exit_and_the_ensemble():
    logits, labels = random_exits(0)
    first = score_exits(logits, labels, COSTS, [0.0, 0.0, 0.0])
    assert first.accuracy == (logits[0].argmax(-1) == labels).double().mean()
    assert first.saved == pytest.approx(0.7)
    assert first.shares == [1, 0, 0, 0]
    ensemble = score_exits(logits, labels, COSTS, [1.0, 1.0, 1.0])
    assert ensemble.accuracy == (logits.mean(0).argmax(-1) == labels).double().mean()
    assert ensemble.saved == 0
    assert ensemble.shares == [0, 0, 0, 1]


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.05]))
def test_tuning_keeps_accuracy_and_never_costs_more(seed, tolerance):
    logits, labels = random_exits(seed)
    deepest = score_exits(logits, labels, COSTS, [1.0, 1.0, 0.0])
    one = tune_thresholds(logits, labels, COSTS, tolerance=tolerance, per_exit=False)
    each = tune_thresholds(logits, labels, COSTS, tolerance=tolerance)
    assert len(set(one)) == 1 or one == [1.0, 1.0, 0.0]
    one_score, each_score = (score_exits(logits, labels, COSTS, thresholds) for thresholds in (one, each))
    assert one_score.accuracy >= deepest.accuracy - tolerance
    assert each_score.accuracy >= deepest.accuracy - tolerance
    assert each_score.cost <= one_score.cost <= deepest.cost


def test_two_exits_are_tuned_as_well_as_by_trying_all():
    logits, labels = random_exits(3, exits=2, images=200)
    costs = [0.4, 1.0]
    least = score_exits(logits, labels, costs, [1.0, 0.0]).accuracy - 0.1
    scores = [score_exits(logits, labels, costs, pair) for pair in itertools.product(CANDIDATES, repeat=2)]
    best = min(score.cost for score in scores if score.accuracy >= least)
    assert best < 0.9
    tuned = tune_thresholds(logits, labels, costs, tolerance=0.1)
    assert score_exits(logits, labels, costs, tuned).cost == pytest.approx(best)


def test_shallow_exits_that_only_guess_are_left_out():
    logits, labels = random_exits(0, images=400)
    logits[:2] = logits[:2, torch.randperm(400, generator=torch.Generator().manual_seed(0))] * 10
    assert score_exits(logits, labels, COSTS, tune_thresholds(logits, labels, COSTS)).shares[:2] == [0, 0]


def test_wrong_sizes_and_tolerance_are_named():
    logits, labels = random_exits(0)
    with pytest.raises(ValueError, match="2 thresholds for 3 exits"):
        score_exits(logits, labels, COSTS, [0.5, 0.5])
    with pytest.raises(ValueError, match=r"logits \(3, 40, 4\) must be .* labels \(39,\)"):
        score_exits(logits, labels[1:], COSTS, [0.5] * 3)
    with pytest.raises(ValueError, match="costs, of which there are 2"):
        tune_thresholds(logits, labels, COSTS[1:])
    with pytest.raises(UserError, match=r"tolerance=-0\.1"):
        tune_thresholds(logits, labels, COSTS, tolerance=-0.1)
