"""Embeddings judged by episodes: known cases, slow references, and what the list of episodes depends on."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from classmates.contracts import NetworkOutput
from classmates.losses.prototypes import episode_logits
from classmates.tasks import episodes as module
from classmates.tasks.episodes import EpisodeProtocol, by_class, judge, t_interval

WAY, SHOT, QUERIES, COUNT = 4, 2, 7, 60
PROTOCOL = EpisodeProtocol(WAY, SHOT, QUERIES, COUNT, seed=0, distance="euclidean", scale=1.0)
LABELS = torch.arange(8).repeat_interleave(12)[torch.randperm(96, generator=torch.Generator().manual_seed(0))]


def noise(width=5, seed=0):
    return torch.randn(len(LABELS), width, generator=torch.Generator().manual_seed(seed))


def clusters(spread):
    return torch.eye(8)[LABELS] + spread * noise(8)


def accuracy(embeddings, labels=LABELS, protocol=PROTOCOL):
    return protocol.score(embeddings, labels)["accuracy"].value


def test_separable_classes_are_told_apart_and_noise_is_not():
    assert accuracy(clusters(0.01)) == 1
    many = dataclasses.replace(PROTOCOL, episodes=2000)
    assert accuracy(noise(), protocol=many) == pytest.approx(1 / WAY, abs=0.01)
    random = torch.Generator().manual_seed(1)
    permuted = [LABELS[torch.randperm(len(LABELS), generator=random)] for _ in range(8)]
    chance = sum(accuracy(clusters(0.01), labels) for labels in permuted) / len(permuted)
    assert chance == pytest.approx(1 / WAY, abs=0.02)
    assert PROTOCOL.chance(LABELS) == 1 / WAY


def test_embeddings_made_once_are_judged_as_episode_by_episode(monkeypatch):
    embeddings, drawn = clusters(0.6), PROTOCOL.draw(LABELS)
    monkeypatch.setattr(module, "TOGETHER", 5 * WAY * (SHOT + QUERIES) * 8)  # five episodes at a time
    judged = judge(embeddings, drawn, SHOT, distance="euclidean", scale=0.5)
    assert judged.correct.shape == (COUNT, WAY, QUERIES)
    truth = torch.arange(WAY).repeat_interleave(QUERIES)
    for number, episode in enumerate(drawn):
        logits = episode_logits(embeddings[episode][None], SHOT, scale=0.5)[0]
        assert torch.equal(judged.correct[number].flatten(), logits.argmax(-1) == truth)
        torch.testing.assert_close(judged.loss[number], F.cross_entropy(logits, truth))
    assert 0.5 < judged.accuracy.mean() < 1


def test_a_score_is_the_mean_over_episodes_with_the_interval_of_student():
    embeddings = clusters(0.6)
    outcomes = PROTOCOL.outcomes(embeddings, LABELS)
    scores = PROTOCOL.score(embeddings, LABELS)
    assert outcomes.shape == (COUNT,)
    assert scores.keys() == PROTOCOL.metrics.keys()
    found = scores["accuracy"]
    assert found.value == pytest.approx(outcomes.mean().item())
    expected = stats.ttest_1samp(outcomes.numpy(), 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.count == COUNT


def test_the_interval_of_many_bernoulli_episodes_is_that_of_a_share():
    draws = (torch.rand(100_000, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    low, high = t_interval(draws)
    share = draws.mean().item()
    assert (high - low) / 2 == pytest.approx(1.96 * (share * (1 - share) / 100_000) ** 0.5, rel=1e-3)
    assert (low + high) / 2 == pytest.approx(share)


@pytest.mark.parametrize("shares", [[0.9, 1.0, 0.7], [0.0, 0.1], [1.0, 1.0], [0.5, 0.5, 0.6]])
def test_an_interval_of_shares_is_within_0_to_1(shares):
    low, high = t_interval(torch.tensor(shares, dtype=torch.float64))
    assert 0 <= low <= sum(shares) / len(shares) <= high <= 1


def test_the_spread_over_classes_is_of_each_class_wherever_it_was_drawn():
    correct = torch.tensor([[[1, 1], [0, 1]], [[0, 0], [1, 1]]], dtype=torch.bool)
    shares = by_class(module.Judged(correct, torch.zeros(2)), torch.tensor([[0, 3], [3, 1]]))
    assert shares.tolist() == [1, 1, 0.25]  # class 2 was never drawn
    scores = PROTOCOL.score(clusters(0.6), LABELS)
    assert 0 < scores["class_spread"].value < 0.5
    assert scores["worst_class"].value < scores["accuracy"].value


def test_the_list_is_a_function_of_labels_and_seed_and_has_a_hash():
    again = dataclasses.replace(PROTOCOL)
    assert torch.equal(again.draw(LABELS), PROTOCOL.draw(LABELS))
    assert again.fingerprint(LABELS) == PROTOCOL.fingerprint(LABELS)
    hashes = {
        PROTOCOL.fingerprint(LABELS),
        PROTOCOL.fingerprint(LABELS.flip(0)),
        dataclasses.replace(PROTOCOL, seed=1).fingerprint(LABELS),
        dataclasses.replace(PROTOCOL, shot=1, queries=8).fingerprint(LABELS),
    }
    assert len(hashes) >= 3
    assert torch.equal(PROTOCOL.arrays({"student": noise()}, LABELS)["episodes"], PROTOCOL.draw(LABELS))
    json.dumps(PROTOCOL.record.settings)


def test_running_scores_are_those_of_the_whole_split():
    embeddings, running = clusters(0.6), PROTOCOL.running()
    for start in range(0, len(LABELS), 25):
        running.update(embeddings[start : start + 25], LABELS[start : start + 25])
    scores = PROTOCOL.score(embeddings, LABELS)
    assert running.compute() == pytest.approx({name: scores[name].value for name in ("accuracy", "loss")})
    running.reset()
    running.update(clusters(0.01), LABELS)
    assert running.compute()["accuracy"] == 1


def test_every_network_is_judged_by_its_embedding_and_peers_by_their_mean_too():
    outputs = [NetworkOutput(torch.zeros(3, 2), torch.full((3, 4), float(value)), ()) for value in (1, 2, 6)]
    one, three, four = (SimpleNamespace(networks=range(count)) for count in (1, 3, 4))
    found = PROTOCOL.predictions(three, outputs)
    assert {who: value[0, 0].item() for who, value in found.items()} == {
        "student": 6,
        "peer1": 1,
        "peer2": 2,
        "ensemble": 3,
    }
    assert list(PROTOCOL.predictions(one, outputs[-1:])) == ["student"]
    other = NetworkOutput(torch.zeros(3, 2), torch.zeros(3, 9), ())
    assert list(PROTOCOL.predictions(four, [other, *outputs])) == ["student", "peer1", "peer2", "peer3"]


def test_the_average_of_peers_is_none_of_those_whose_mean_is_judged():
    outputs = [NetworkOutput(torch.zeros(5, 2), torch.full((5, 3), float(value)), ()) for value in (1, 3, 100)]
    found = PROTOCOL.predictions(SimpleNamespace(networks=range(2)), outputs)
    assert {who: value[0, 0].item() for who, value in found.items()} == {
        "student": 100,
        "peer1": 1,
        "peer2": 3,
        "ensemble": 2,
    }


def test_a_network_that_has_diverged_cannot_be_scored():
    with pytest.raises(ValueError, match="embeddings hold NaN"):
        PROTOCOL.score(torch.full((len(LABELS), 3), float("nan")), LABELS)
