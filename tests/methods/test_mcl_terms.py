"""MCL's terms against the paper's equations, what they teach, and their normalisers."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec
from classmates.losses.soft_targets import softened_kl
from classmates.methods import MCL, mcl
from classmates.networks.memory import bank_contrast
from classmates.tasks.few_shot import FewShot


def by_hand(
    method: MCL, batch: Batch, outputs: list[Any], bank: Tensor, drawn: Tensor | None, options: dict[str, Any]
) -> dict[str, float]:
    """The terms in float64 from the paper's equations; ``drawn`` are the negatives' indices [B, K], None for all."""
    logits = [output.logits.detach().double() for output in outputs]
    peers, size, count = len(outputs), len(batch.labels), len(method.contrast.classes.labels)
    temperature, tau = options.get("temperature", 3.0), options.get("contrast_temperature", 0.1)
    k = options.get("num_negatives", 5)

    def probabilities(row: Tensor, t: float) -> list[float]:
        powers = [math.exp(z / t) for z in row.tolist()]
        return [power / sum(powers) for power in powers]

    ce = 0.0  # Eq. 1 and 2
    for own in logits:
        for row, label in zip(own, batch.labels.tolist(), strict=True):
            ce -= math.log(probabilities(row, 1)[label]) / size
    kl = 0.0  # Eq. 3-5
    for row, mean in zip(logits[-1], sum(logits) / peers, strict=True):
        student, teacher = probabilities(row, temperature), probabilities(mean, temperature)
        kl += sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True)) / size

    embeddings = []
    for output, layer in zip(outputs, method.contrast.projections.layers, strict=True):
        projected = (
            output.embedding.detach().double() @ layer.weight.detach().double().T + layer.bias.detach().double()
        )
        embeddings.append(projected / projected.norm(dim=1, keepdim=True))
    contrast = 0.0  # Eq. 6-8, over all ordered pairs
    for a in range(peers):
        for b in range(peers):
            if a == b:
                continue
            positive, negative = [], []
            for i in range(size):
                live = options.get("positives") == "live"
                shown = embeddings[b][i] if live else bank[b, batch.indices[i]].double()
                positive.append(math.exp(float(embeddings[a][i] @ shown) / tau))
                others = drawn[i].tolist() if drawn is not None else range(count)
                rows = [j for j in others if method.contrast.classes.labels[j] != batch.labels[i]]
                negative.append([math.exp(float(embeddings[a][i] @ bank[b, j].double()) / tau) for j in rows])
            # e of one positive and K negatives: all rows of other classes stand for K of them
            means = [(p + k * sum(n) / len(n)) / (k + 1) for p, n in zip(positive, negative, strict=True)]
            for i in range(size):
                z = count * sum(means) / size
                if options.get("normaliser") == "anchor":  # Eq. 6 to the letter: every sample's row
                    z = sum(math.exp(float(embeddings[a][i] @ row.double()) / tau) for row in bank[b])
                true = [p / z / (p / z + k / count) for p in (positive[i], *negative[i])]
                attraction = -math.log(true[0])
                repulsion = -k * sum(math.log(1 - p) for p in true[1:]) / len(negative[i])
                contrast += (attraction + repulsion) / size
    return {"ce": ce, "distillation": kl, "contrast": contrast}


@pytest.mark.parametrize("share", ["nothing", -2])
@pytest.mark.parametrize(
    "options",
    [
        {"peers": 2},
        {"peers": 3, "positives": "live"},
        {"peers": 4, "normaliser": "anchor", "temperature": 2.0},
        {"peers": 5, "negatives": "all", "contrast_temperature": 0.5},
        {"peers": 2, "negatives": "all", "positives": "live", "normaliser": "anchor", "num_negatives": 20},
    ],
)
def test_terms_are_the_paper_s(
    make_mcl: Callable[..., MCL], tiny_batch: Batch, share: str, options: dict[str, Any]
) -> None:
    method = make_mcl(share=share, **options)
    bank = method.contrast.bank.rows.clone()
    torch.manual_seed(5)
    output = method(tiny_batch)
    drawn = None
    if options.get("negatives") != "all":
        torch.manual_seed(5)
        drawn = method.contrast.classes.draw(tiny_batch.labels, 5)
    expected = by_hand(method, tiny_batch, output.outputs, bank, drawn, options)
    assert len(output.outputs) == options["peers"]
    assert {name: term.item() for name, term in output.terms.items()} == pytest.approx(expected, rel=1e-4)
    temperature = options.get("temperature", 3.0)
    total = expected["ce"] + temperature**2 * expected["distillation"] + 0.025 * expected["contrast"]
    assert output.total.item() == pytest.approx(total, rel=1e-5)


def test_all_negatives_are_what_drawn_ones_are_on_average(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    def mean(negatives: str, times: int) -> float:
        method = make_mcl(peers=2, negatives=negatives, num_negatives=27, contrast_temperature=1.0).eval()
        return sum(method(tiny_batch).terms["contrast"].item() for _ in range(times)) / times

    exact = mean("all", 1)
    assert mean("independent", 30) == pytest.approx(exact, rel=0.01)
    assert mean("shared", 100) == pytest.approx(exact, rel=0.03)


def test_distillation_teaches_the_student_alone(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl(peers=3)
    method(tiny_batch).terms["distillation"].backward()
    taught = {
        name for name, parameter in method.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert taught == {name for name, _ in method.named_parameters() if name.startswith("networks.networks.2.")}


def test_contrast_teaches_every_peer_but_no_classifier(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl(peers=3)
    method(tiny_batch).terms["contrast"].backward()
    untaught = {name for name, parameter in method.named_parameters() if parameter.grad is None}
    assert untaught == {f"networks.networks.{peer}.fc.{leaf}" for peer in range(3) for leaf in ("weight", "bias")}


@pytest.mark.parametrize(
    ("options", "module", "called", "terms"),
    [
        ({"beta": 0.0}, bank_contrast, "multi_view_contrast", ["ce", "distillation"]),
        ({"distillation": 0.0}, mcl, "softened_kl", ["ce", "contrast"]),
        ({"beta": 0.0, "distillation": 0.0}, bank_contrast, "multi_view_contrast", ["ce"]),
    ],
)
def test_ablations(
    make_mcl: Callable[..., MCL],
    tiny_batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, float],
    module: ModuleType,
    called: str,
    terms: list[str],
) -> None:
    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError(f"{called} was called")

    monkeypatch.setattr(module, called, refuse)
    output = make_mcl(**options)(tiny_batch)
    assert list(output.terms) == terms
    weights = {"ce": 1.0, "distillation": 9.0, "contrast": 0.025}
    assert output.total.item() == pytest.approx(sum(weights[name] * output.terms[name].item() for name in terms))


def test_first_batch_s_normaliser_is_kept(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl(normaliser="first_batch", negatives="all")
    plain = make_mcl(negatives="all")
    method.eval()(tiny_batch)  # evaluation before training fixes nothing
    assert not method.contrast.log_mean_known
    method.train()
    assert method(tiny_batch).terms["contrast"].item() == pytest.approx(plain(tiny_batch).terms["contrast"].item())
    kept = method.contrast.log_mean.clone()
    assert kept.any()
    method(tiny_batch)
    assert torch.equal(method.contrast.log_mean, kept)
    # The banks have moved since: the batch's own normaliser would give another number.
    assert method.eval()(tiny_batch).terms["contrast"] != plain.eval()(tiny_batch).terms["contrast"]


def test_lagged_normaliser_is_the_running_mean_of_earlier_batches(
    make_mcl: Callable[..., MCL], tiny_batch: Batch
) -> None:
    method, plain = make_mcl(normaliser="lagged", negatives="all"), make_mcl(negatives="all")
    losses, means = [], []
    for _ in range(3):
        before = method.contrast.log_mean.clone()
        losses.append(method(tiny_batch).terms["contrast"].item())
        means.append(before)
        assert method.eval()(tiny_batch).terms["contrast"].isfinite()
        method.train()
    assert losses[0] == pytest.approx(plain(tiny_batch).terms["contrast"].item())  # the first step's own
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    own = plain.contrast.log_mean[off_diagonal].exp()
    torch.testing.assert_close(means[1][off_diagonal].exp(), own)
    # The banks moved with the first step, for both alike, and what the second step met is a tenth of the mean.
    plain.contrast.log_mean_known = False
    plain(tiny_batch)
    second = plain.contrast.log_mean[off_diagonal].exp()
    assert (second - own).abs().max() > 0.01
    torch.testing.assert_close(means[2][off_diagonal].exp(), 0.9 * own + 0.1 * second)


def test_all_peers_learn_from_the_ensemble_where_asked(make_mcl: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make_mcl(distil_to="all", beta=0.0)
    output = method(tiny_batch)
    logits = torch.stack([one.logits for one in output.outputs]).double()
    ensemble = (logits.mean(dim=0) / 3).softmax(dim=-1)
    expected = sum((ensemble * (ensemble.log() - (one / 3).log_softmax(dim=-1))).sum(dim=-1).mean() for one in logits)
    assert output.terms["distillation"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert make_mcl(beta=0.0)(tiny_batch).terms["distillation"] < output.terms["distillation"]


@pytest.mark.parametrize(
    ("options", "shape", "taught"),
    [
        ({}, (4, 2), 0.0),  # four queries, of two classes each
        ({"distilled": "classifier"}, (6, 4), 1.0),
        ({"distilled": "classifier", "distillation": 0.0}, None, 0.0),
    ],
)
def test_of_episodes_the_ensemble_teaches_the_queries_logits_or_the_classifiers(
    tiny_network: Callable[..., nn.Module],
    tiny_data: DataSpec,
    options: dict[str, Any],
    shape: tuple[int, int] | None,
    taught: float,
) -> None:
    data = replace(tiny_data, task=FewShot(way=2, shot=1, queries=2))
    method = MCL(tiny_network(), data, num_negatives=5, dimension=6, **options)
    assert method.weights["ce"] == taught  # classifiers learn where their logits are distilled
    indices = torch.tensor([0, 4, 8, 1, 5, 9])
    batch = Batch(torch.randn(6, 3, 16, 16), tiny_data.labels[indices], indices)
    outputs, terms, _ = method(batch)
    assert ("distillation" in terms) == (shape is not None)
    if shape is not None:
        of_classifiers = torch.stack([output.logits for output in outputs])
        logits = of_classifiers if taught else method.task.logits(outputs, batch)
        assert logits.shape == (4, *shape)
        torch.testing.assert_close(terms["distillation"], softened_kl(logits[-1], logits.mean(0), 3.0))
