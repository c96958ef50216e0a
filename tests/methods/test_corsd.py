import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.data.batches.sampling import Triplets
from classmates.errors import UserError
from classmates.methods import CORSD
from classmates.methods import corsd as module
from classmates.methods.corsd import triplets

Make = Callable[..., nn.Module]
RELEASED = {
    "kl_reduction": "mean",
    "detach_deepest": False,
    "shared_classifier": True,
    "pairs_together": False,
    "calibration_reduction": "sum",
    "disjoint": False,
}


@pytest.fixture
def make(tiny_network: Make, tiny_data: DataSpec) -> Callable[..., CORSD]:
    def made(widths: tuple[int, ...] = (4, 6, 10), **options: Any) -> CORSD:
        torch.manual_seed(0)
        return CORSD(tiny_network(widths=widths), tiny_data, **options)

    return made


def softmax(row: Tensor, temperature: float = 1.0) -> list[float]:
    powers = [math.exp(z / temperature) for z in row.tolist()]
    return [power / sum(powers) for power in powers]


def by_hand(
    method: CORSD, output: NetworkOutput, labels: list[int], *, temperature: float, margin: float
) -> dict[str, float]:
    """The terms from the paper's equations, one image pair at a time (in evaluation, where BatchNorm lets one)."""
    count, depths = len(labels) // 3, len(method.relation_networks)
    terms = dict.fromkeys(method.weights, 0.0)
    for row, label in zip(output.logits, labels, strict=True):
        terms["ce"] -= math.log(softmax(row)[label]) / len(labels)
    for b in range(count):
        o, p, n = 3 * b, 3 * b + 1, 3 * b + 2
        relations, logits = {"p": [], "n": []}, {"p": [], "n": []}
        for network, maps in zip(method.relation_networks, output.stages[-depths:], strict=True):
            for kind, other, classifier in (
                ("p", p, network.positive_classifier),
                ("n", n, network.negative_classifier),
            ):
                z = network.projection(maps[[o]], maps[[other]], maps[[other]])[:1]
                relations[kind].append(network.interaction(z).item())
                logits[kind].append(classifier(z)[0])
        for depth in range(depths):
            r_p, r_n = relations["p"][depth], relations["n"][depth]
            terms["triplet"] += max(r_p - r_n + margin, 0) / count
            terms["positive_task"] -= math.log(softmax(logits["p"][depth])[labels[o]]) / count
            said = softmax(logits["n"][depth])
            terms["negative_task"] -= (0.5 * math.log(said[labels[o]]) + 0.5 * math.log(said[labels[n]])) / count
            if depth < depths - 1:
                terms["relation"] += ((r_p - relations["p"][-1]) ** 2 + (r_n - relations["n"][-1]) ** 2) / count
                for kind, name in (("p", "positive_distillation"), ("n", "negative_distillation")):
                    teacher, student = (
                        softmax(logits[kind][-1], temperature),
                        softmax(logits[kind][depth], temperature),
                    )
                    terms[name] += sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True)) / count
        said = [torch.tensor(softmax(output.logits[i]), dtype=torch.float64) for i in (o, p, n)]
        r_p, r_n = (method.logit_interaction(torch.cat([said[0], other])[None]).item() for other in said[1:])
        terms["calibration"] += (r_p - r_n) / count
    return terms


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_relations_of_logits_have_bounds_whatever_those_of_stages_have(
    make: Callable[..., CORSD], tiny_batch: Batch, activation: str
) -> None:
    """Their term has no margin, so that it would fall without end."""
    method = make(activation=activation)
    with torch.no_grad():
        for weight in (*method.logit_interaction.parameters(), *method.relation_networks.parameters()):
            weight.mul_(1000)
    output = method(tiny_batch)
    assert -1 <= output.terms["calibration"] <= 1
    assert (method.relate(output.outputs[-1].stages).positive.abs().max() > 1) == (activation == "none")


@pytest.mark.parametrize("widths", [(5, 7), (3, 5, 9), (3, 5, 7, 11), (3, 4, 5, 7, 9)])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "margin": 0.1, "activation": "none"}])
@torch.no_grad()
def test_terms_are_the_paper_s(
    make: Callable[..., CORSD], tiny_batch: Batch, widths: tuple[int, ...], options: dict[str, Any]
) -> None:
    method = make(widths, **options)
    method.student().fc.weight.mul_(10)  # predictions that differ
    for _ in range(20):
        method(tiny_batch)  # BatchNorm statistics that fit
    output = method.eval()(tiny_batch)
    expected = by_hand(
        copy.deepcopy(method).double(),
        NetworkOutput(
            *(part.double() for part in output.outputs[0][:2]), tuple(map(Tensor.double, output.outputs[0].stages))
        ),
        tiny_batch.labels.tolist(),
        temperature=options.get("temperature", 3.0),
        margin=options.get("margin", 1.0),
    )
    found = {name: term.item() for name, term in output.terms.items()}
    assert min(abs(value) for value in found.values()) > 1e-5
    assert len(method.relation_networks) == min(len(widths), 4)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-7)
    factors = {
        "ce": 1.0,
        "triplet": 0.01,
        "relation": 0.01,
        "positive_task": 0.04,
        "positive_distillation": 0.16,
        "negative_task": 0.01,
        "negative_distillation": 0.04,
        "calibration": 0.01,
    }
    assert method.weights == pytest.approx(factors)
    assert output.total.item() == pytest.approx(sum(factors[name] * expected[name] for name in factors), rel=1e-5)


def test_triplets_are_read_as_the_sampler_lays_them() -> None:
    anchor, positive, negative = triplets(torch.arange(12).view(6, 2))
    assert anchor.tolist() == [[0, 1], [6, 7]]
    assert positive.tolist() == [[2, 3], [8, 9]]
    assert negative.tolist() == [[4, 5], [10, 11]]
    with pytest.raises(UserError, match=r"a batch of 8 images is not made of triplets: use Triplets\(\)"):
        triplets(torch.arange(8))


def test_a_batch_that_is_not_of_triplets(make: Callable[..., CORSD], tiny_batch: Batch) -> None:
    method = make()
    with pytest.raises(UserError, match="a batch of 8 images is not made of triplets"):
        method.eval()(tiny_batch.take(slice(8)))


@pytest.mark.parametrize(
    ("options", "gone", "uncalled"),
    [
        ({"alpha": 0.0}, {"triplet"}, "triplet_relation"),
        ({"beta": 0.0}, {"relation"}, "relation_distillation"),
        ({"sigma": 0.0}, {"calibration"}, "logit_calibration"),
        ({"gamma_p": 0.0}, {"positive_task", "positive_distillation"}, None),
        ({"gamma_n": 0.0}, {"negative_task", "negative_distillation"}, "pair_targets"),
        ({"lam": 0.0}, {"positive_distillation", "negative_distillation"}, None),
        ({"lam": 1.0}, {"positive_task", "negative_task"}, "auxiliary_task"),
    ],
)
def test_ablations(
    make: Callable[..., CORSD],
    tiny_batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, float],
    gone: set[str],
    uncalled: str | None,
) -> None:
    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError(f"{uncalled} was called")

    whole = make().eval()(tiny_batch).terms
    if uncalled:
        monkeypatch.setattr(module, uncalled, refuse)
    terms = make(**options).eval()(tiny_batch).terms
    assert whole.keys() - terms.keys() == gone
    assert all(torch.equal(term, whole[name]) for name, term in terms.items())


@pytest.mark.parametrize(
    ("options", "runs"),
    [({}, 1), ({"alpha": 0.0, "beta": 0.0, "gamma_p": 0.0, "gamma_n": 0.0}, 0)],
)
def test_relation_networks_run_once_a_step_or_not_at_all(
    make: Callable[..., CORSD], tiny_batch: Batch, options: dict[str, float], runs: int
) -> None:
    method = make(**options)
    ran: list[nn.Module] = []
    for network in method.relation_networks:
        network.register_forward_hook(lambda one, *_: ran.append(one))
    method(tiny_batch)
    assert ran == list(method.relation_networks) * runs


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("term", ["relation", "positive_distillation", "negative_distillation"])
def test_whether_the_deepest_stage_is_taught_too(
    make: Callable[..., CORSD], tiny_batch: Batch, detach: bool, term: str
) -> None:
    method = make(detach_deepest=detach)
    method(tiny_batch).terms[term].backward()

    def taught(network: nn.Module) -> bool:
        return any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())

    *shallow, deepest = method.relation_networks
    assert all(taught(network) for network in shallow)
    assert taught(deepest) == (not detach)
    assert taught(method.student().stage3) == (not detach)
    assert taught(method.student().stage1)
    assert not taught(method.student().fc)


def test_every_term_reaches_what_it_trains(make: Callable[..., CORSD], tiny_batch: Batch) -> None:
    method = make()
    method(tiny_batch).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize(("size", "maps"), [(8, 1), (16, 2)])
@pytest.mark.parametrize("projection", ["separable", "plain", "reduced"])
@pytest.mark.parametrize("options", [{}, RELEASED], ids=["paper", "released"])
def test_small_maps_and_released_options(
    tiny_network: Make, tiny_batch: Batch, size: int, maps: int, options: dict[str, Any], projection: Any
) -> None:
    torch.manual_seed(0)
    data = DataSpec(4, torch.arange(36) % 4, (3, size, size))
    method = CORSD(tiny_network(), data, projection=projection, **options)
    output = method(tiny_batch._replace(images=tiny_batch.images[..., :size, :size]))
    assert output.outputs[0].stages[-1].shape == (9, 10, maps, maps)
    output.total.backward()
    assert all(term.isfinite() for term in output.terms.values())
    assert method.sampling == Triplets(disjoint=not options)


def test_released_reductions_are_factors(make: Callable[..., CORSD], tiny_batch: Batch) -> None:
    paper = make().eval()(tiny_batch).terms
    method = make(kl_reduction="mean", calibration_reduction="sum", scale=True).eval()
    released = method(tiny_batch).terms
    assert method.weights["positive_distillation"] == pytest.approx(0.16 * 9)
    torch.testing.assert_close(released["positive_distillation"], paper["positive_distillation"] / 4)
    torch.testing.assert_close(released["calibration"], paper["calibration"] * 3)


@pytest.mark.parametrize(("options", "said"), [({"alpha": 0.0}, "alpha=0"), ({"lam": 1.0}, "lam=1")])
def test_a_deepest_stage_that_nothing_trains_is_noted(make: Callable[..., CORSD], options: Any, said: str) -> None:
    with pytest.warns(UserWarning, match=f"{said}: the deepest .* stay as drawn"):
        make(**options)
    assert make(detach_deepest=False, **options).notes == make(alpha=0.0, beta=0.0).notes == make().notes


def test_token_maps(tiny_batch: Batch) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=4, img_size=32)
    method = CORSD(network, DataSpec(4, torch.arange(36) % 4, (3, 32, 32)))
    output = method(tiny_batch._replace(images=torch.randn(9, 3, 32, 32)))
    assert [tuple(stage.shape) for stage in output.outputs[0].stages] == [(9, 64, 2, 2)] * 4
    output.total.backward()
    assert all(term.isfinite() for term in output.terms.values())


def test_depths_count_from_the_deepest_stage(make: Callable[..., CORSD], tiny_batch: Batch) -> None:
    method = make((3, 4, 5, 6), depths=2, width=0.5, projection="separable")
    shallow, deepest = method.relation_networks
    assert shallow.projection.first.depthwise.in_channels == 2 * 5
    assert shallow.projection.out_features == 8
    assert not list(deepest.projection.parameters())
    assert method(tiny_batch).terms.keys() == method.weights.keys()


def test_only_the_student_is_scored(make: Callable[..., CORSD], tiny_batch: Batch) -> None:
    method = make()
    assert list(method.predictions(method(tiny_batch).outputs)) == ["student"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": 1}, "depths=1: the deepest stage needs at least one shallower to teach"),
        ({"lam": 1.5}, "lam=1.5: a share lies between 0 and 1"),
        ({"temperature": 0.0}, "temperature=0.0: a temperature must be above 0"),
        ({"width": 0.0}, "width is 0.0"),
        ({"margin": -1.0}, r"margin=-1\.0: .* 0 or more"),
        ({"margin": float("nan")}, "margin=nan: .* finite"),
        ({"kl_reduction": "batch"}, "unknown kl_reduction 'batch': did you mean 'batchmean'"),
        ({"calibration_reduction": "max"}, "unknown calibration_reduction 'max': did you mean 'mean'"),
        ({"activation": "relu"}, "unknown activation 'relu'"),
        ({"projection": "seperable"}, "unknown projection 'seperable': did you mean 'separable'"),
    ],
)
def test_what_cannot_be(make: Callable[..., CORSD], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


class TestRelationByDistance:
    """The paper's ablation +RD: the L2 norm between pooled maps in place of relation networks."""

    def test_nothing_is_said_of_relations_that_are_not_drawn(self, make):
        assert make(alpha=0, gamma_p=0, gamma_n=0, relation="distance").notes == make().notes

    def test_its_loss_is_that_of_the_norms(self, make, tiny_batch):
        method = make(alpha=0, sigma=0, gamma_p=0, gamma_n=0, beta=0.5, relation="distance")
        output = method(tiny_batch)
        pooled = [stage.mean((2, 3)).unflatten(0, (-1, 3)) for stage in output.outputs[-1].stages]
        norms = [[(maps[:, 0] - maps[:, kind]).square().sum(1).sqrt() for kind in (1, 2)] for maps in pooled]
        expected = sum(
            (own - deep).square().mean() for at in norms[:-1] for own, deep in zip(at, norms[-1], strict=True)
        )
        assert output.terms.keys() == {"ce", "relation"}
        assert output.terms["relation"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert not list(method.relation_networks.parameters())
        output.total.backward()
        assert method.networks.student.stage1[0].weight.grad.isfinite().all()

    def test_it_has_no_auxiliary_classifiers(self, make):
        with pytest.raises(UserError, match="gamma_p=0 and gamma_n=0"):
            make(relation="distance")

    def test_an_unknown_word_is_refused(self, make):
        with pytest.raises(UserError, match="relation 'distanse'"):
            make(relation="distanse")
