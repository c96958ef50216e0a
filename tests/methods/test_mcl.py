import inspect
import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods import MCL
from classmates.methods import mcl as module

Make = Callable[..., nn.Module]


@pytest.fixture
def make(tiny_network: Make, tiny_data: DataSpec) -> Callable[..., MCL]:
    """MCL on the tiny network and data, with a K that the data can give."""

    def made(seed: int = 0, **options: Any) -> MCL:
        torch.manual_seed(seed)
        settings = {"num_negatives": 5, "dimension": 6, "negatives": "independent", **options}
        return MCL(tiny_network(seed=seed), tiny_data, **settings)

    return made


def by_hand(method: MCL, batch: Batch, outputs: list[Any], bank: Tensor, drawn: Tensor | None) -> dict[str, float]:
    """The terms in float64 from the paper's equations; ``drawn`` are the negatives' indices [B, K], None for all."""
    logits = [output.logits.detach().double() for output in outputs]
    peers, size, count = len(outputs), len(batch.labels), len(method.classes.labels)
    temperature, tau, k = method.temperature, method.contrast_temperature, method.num_negatives

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
    for output, layer in zip(outputs, method.projections.layers, strict=True):
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
                shown = bank[b, batch.indices[i]].double() if method.positives == "bank" else embeddings[b][i]
                positive.append(math.exp(float(embeddings[a][i] @ shown) / tau))
                others = drawn[i].tolist() if drawn is not None else range(count)
                rows = [j for j in others if method.classes.labels[j] != batch.labels[i]]
                negative.append([math.exp(float(embeddings[a][i] @ bank[b, j].double()) / tau) for j in rows])
            # e of one positive and K negatives: all rows of other classes stand for K of them
            means = [(p + k * sum(n) / len(n)) / (k + 1) for p, n in zip(positive, negative, strict=True)]
            for i in range(size):
                mean = means[i] if method.normaliser == "anchor" else sum(means) / size
                z = count * mean
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
    make: Callable[..., MCL], tiny_batch: Batch, share: str, options: dict[str, Any]
) -> None:
    method = make(share=share, **options)
    bank = method.bank.rows.clone()
    torch.manual_seed(5)
    output = method(tiny_batch)
    drawn = None
    if options.get("negatives") != "all":
        torch.manual_seed(5)
        drawn = method.classes.draw(tiny_batch.labels, 5)
    expected = by_hand(method, tiny_batch, output.outputs, bank, drawn)
    assert len(output.outputs) == options["peers"]
    assert {name: term.item() for name, term in output.terms.items()} == pytest.approx(expected, rel=1e-4)
    temperature = options.get("temperature", 3.0)
    total = expected["ce"] + temperature**2 * expected["distillation"] + 0.025 * expected["contrast"]
    assert output.total.item() == pytest.approx(total, rel=1e-5)


def test_all_negatives_are_what_drawn_ones_are_on_average(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    def mean(negatives: str, times: int) -> float:
        method = make(peers=2, negatives=negatives, num_negatives=27, contrast_temperature=1.0).eval()
        return sum(method(tiny_batch).terms["contrast"].item() for _ in range(times)) / times

    exact = mean("all", 1)
    assert mean("independent", 30) == pytest.approx(exact, rel=0.01)
    assert mean("shared", 100) == pytest.approx(exact, rel=0.03)


def test_of_few_samples_every_one_is_taken_by_default(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    automatic, every = make(negatives="auto"), make(negatives="all")
    assert automatic(tiny_batch).terms["contrast"] == every(tiny_batch).terms["contrast"]
    assert automatic.draw is module.DRAWS["auto"]
    assert inspect.signature(MCL).parameters["negatives"].default == "auto"


def test_distillation_teaches_the_student_alone(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make(peers=3)
    method(tiny_batch).terms["distillation"].backward()
    taught = {
        name for name, parameter in method.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert taught == {name for name, _ in method.named_parameters() if name.startswith("networks.networks.2.")}


def test_contrast_teaches_every_peer_but_no_classifier(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make(peers=3)
    method(tiny_batch).terms["contrast"].backward()
    untaught = {name for name, parameter in method.named_parameters() if parameter.grad is None}
    assert untaught == {f"networks.networks.{peer}.fc.{leaf}" for peer in range(3) for leaf in ("weight", "bias")}


def test_banks_learn_of_a_batch_after_it_was_used(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make(peers=3, momentum=0.25)
    before = method.bank.rows.clone()
    with torch.no_grad():
        embeddings = method.projections(method.networks(tiny_batch.images))
    method(tiny_batch)
    for peer in range(3):
        for place, index in enumerate(tiny_batch.indices.tolist()):
            expected = 0.25 * before[peer, index] + 0.75 * embeddings[peer, place]
            torch.testing.assert_close(method.bank.rows[peer, index], expected / expected.norm())
    others = [index for index in range(36) if index not in tiny_batch.indices.tolist()]
    assert torch.equal(method.bank.rows[:, others], before[:, others])
    torch.testing.assert_close(method.bank.rows.norm(dim=-1), torch.ones(3, 36))


def test_evaluation_and_beta_0_leave_the_banks_alone(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    evaluated, without = make().eval(), make(beta=0.0)
    for method in (evaluated, without):
        before = method.bank.rows.clone()
        output = method(tiny_batch)
        assert torch.equal(method.bank.rows, before)
        assert ("contrast" in output.terms) == (method is evaluated)


@pytest.mark.parametrize(
    ("options", "called", "terms"),
    [
        ({"beta": 0.0}, "multi_view_contrast", ["ce", "distillation"]),
        ({"distillation": 0.0}, "softened_kl", ["ce", "contrast"]),
        ({"beta": 0.0, "distillation": 0.0}, "multi_view_contrast", ["ce"]),
    ],
)
def test_ablations(
    make: Callable[..., MCL],
    tiny_batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, float],
    called: str,
    terms: list[str],
) -> None:
    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError(f"{called} was called")

    monkeypatch.setattr(module, called, refuse)
    output = make(**options)(tiny_batch)
    assert list(output.terms) == terms
    weights = {"ce": 1.0, "distillation": 9.0, "contrast": 0.025}
    assert output.total.item() == pytest.approx(sum(weights[name] * output.terms[name].item() for name in terms))


def test_first_batch_s_normaliser_is_kept(make: Callable[..., MCL], tiny_batch: Batch) -> None:
    method = make(normaliser="first_batch", negatives="all")
    plain = make(negatives="all")
    method.eval()(tiny_batch)  # evaluation before training fixes nothing
    assert not method.log_mean_known
    method.train()
    assert method(tiny_batch).terms["contrast"].item() == pytest.approx(plain(tiny_batch).terms["contrast"].item())
    kept = method.log_mean.clone()
    assert kept.any()
    method(tiny_batch)
    assert torch.equal(method.log_mean, kept)
    # The banks have moved since: the batch's own normaliser would give another number.
    assert method.eval()(tiny_batch).terms["contrast"] != plain.eval()(tiny_batch).terms["contrast"]


def test_lagged_normaliser_is_the_running_mean_of_earlier_batches(
    make: Callable[..., MCL], tiny_batch: Batch
) -> None:
    method, plain = make(normaliser="lagged", negatives="all"), make(negatives="all")
    losses, means = [], []
    for _ in range(3):
        before = method.log_mean.clone()
        losses.append(method(tiny_batch).terms["contrast"].item())
        means.append(before)
        assert method.eval()(tiny_batch).terms["contrast"].isfinite()
        method.train()
    assert losses[0] == pytest.approx(plain(tiny_batch).terms["contrast"].item())  # the first step's own
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    own = plain.log_mean[off_diagonal].exp()
    torch.testing.assert_close(means[1][off_diagonal].exp(), own)
    # The banks moved with the first step, for both alike, and what the second step met is a tenth of the mean.
    plain.log_mean_known = False
    plain(tiny_batch)
    second = plain.log_mean[off_diagonal].exp()
    assert (second - own).abs().max() > 0.01
    torch.testing.assert_close(means[2][off_diagonal].exp(), 0.9 * own + 0.1 * second)


@pytest.mark.parametrize("normaliser", ["batch", "first_batch", "lagged"])
def test_a_saved_method_goes_on_to_the_last_bit(make: Callable[..., MCL], tiny_batch: Batch, normaliser: str) -> None:
    method = make(normaliser=normaliser, bank_dtype="bfloat16")
    method(tiny_batch)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = make(seed=1, normaliser=normaliser, bank_dtype="bfloat16")
    other.load_state_dict(torch.load(file, weights_only=True))
    for (name, tensor), (other_name, other_tensor) in zip(method.named_buffers(), other.named_buffers(), strict=True):
        assert name == other_name
        assert torch.equal(tensor, other_tensor)
    for _ in range(2):
        totals = []
        for one in (method, other):
            torch.manual_seed(7)
            output = one(tiny_batch)
            one.zero_grad()
            output.total.backward()
            totals.append((output.total, *(parameter.grad for parameter in one.parameters())))
        assert all(torch.equal(one, two) for one, two in zip(*totals, strict=True))
    assert torch.equal(method.bank.rows, other.bank.rows)
    assert other.log_mean_known


def test_peer_models_of_other_architectures_by_name_and_as_modules(tiny_data: DataSpec, tiny_network: Make) -> None:
    torch.manual_seed(0)
    helper = tiny_network(widths=(5, 7), in_chans=1)
    # Without an input shape the student says how many channels a named helper gets.
    data = DataSpec(4, tiny_data.labels)
    method = MCL(
        tiny_network(in_chans=1), data, peers=3, share="nothing", peer_models=[helper, "resnet8"], num_negatives=5
    )
    assert method.networks.networks[0] is helper
    assert type(method.networks.networks[1]) is type(timm.create_model("resnet8"))
    assert [layer.in_features for layer in method.projections.layers] == [7, 64, 10]
    indices = torch.arange(8)
    output = method(Batch(torch.randn(8, 1, 32, 32), tiny_data.labels[indices], indices))
    output.total.backward()
    assert all(term.isfinite() for term in output.terms.values())
    assert helper.stage1[0].weight.grad.any()


def test_k_is_capped_with_a_note(tiny_network: Make) -> None:
    data = DataSpec(4, [0] * 10 + [1, 2, 3], (3, 16, 16))
    with pytest.warns(UserWarning, match="num_negatives=256 capped to 3") as caught:
        method = MCL(tiny_network(), data)
    assert method.num_negatives == 3
    assert method.notes == [str(caught[0].message)]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MCL(tiny_network(), data, num_negatives=3).notes == []


def test_the_papers_values_are_the_defaults(tiny_network: Make) -> None:
    method = MCL(tiny_network(), DataSpec(4, torch.arange(600) % 4, (3, 16, 16)))
    assert method.weights == {"ce": 1.0, "distillation": 9.0, "contrast": 0.025}
    assert (method.num_negatives, method.contrast_temperature, method.temperature) == (256, 0.1, 3.0)
    assert method.bank.rows.shape == (4, 600, 128)
    assert method.networks.trunk.split == "stage1"
    assert list(method.predictions(method(_noise(600)).outputs)) == ["student", "peer1", "peer2", "peer3", "ensemble"]


def _noise(samples: int) -> Batch:
    indices = torch.arange(8) * samples // 8
    return Batch(torch.randn(8, 3, 16, 16), indices % 4, indices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": 1}, "peers=1: MCL contrasts peers with each other and needs at least 2"),
        ({"num_negatives": 0}, "num_negatives=0: a positive needs at least 1 negative"),
        ({"temperature": 0.0}, "temperature=0.0: a temperature must be above 0"),
        ({"contrast_temperature": -0.1}, "contrast_temperature=-0.1: a temperature must be above 0"),
        ({"temperature": math.nan}, "temperature=nan: a temperature must be above 0"),
        ({"dimension": 0}, "0 dimensions"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"positives": "bnk"}, "unknown positives 'bnk': did you mean 'bank'"),
        ({"normaliser": "first"}, "unknown normaliser 'first': did you mean 'first_batch'"),
        ({"negatives": "every"}, "unknown negatives 'every': there are: all, auto, independent, shared"),
        ({"bank_dtype": "float16"}, "unknown bank_dtype 'float16': did you mean .*'bfloat16'"),
        ({"start": "new"}, "unknown start 'new': there are: fresh, same"),
        ({"share": "stage9"}, "share='stage9' is no stage"),
        ({"peer_models": ["resnet8"]}, "share=-2: peer_models are other architectures and share nothing"),
        ({"peer_models": ["resnet8"], "share": "nothing"}, "1 peer_models and the student are 2 peers, not 4"),
        (
            {"peer_models": ["resnt8"], "share": "nothing", "peers": 2},
            "unknown model 'resnt8': did you mean .*'resnet8'",
        ),
    ],
)
def test_what_cannot_be(tiny_network: Make, tiny_data: DataSpec, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MCL(tiny_network(), tiny_data, **{"num_negatives": 5, **options})


def test_data_of_one_class_have_no_negatives(tiny_network: Make) -> None:
    with pytest.raises(UserError, match="all 5 training samples are of class 2, so none has a negative"):
        MCL(tiny_network(), DataSpec(4, [2] * 5, (3, 16, 16)))
