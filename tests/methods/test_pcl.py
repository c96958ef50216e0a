import copy
import math

import pytest
import torch
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods import PCL, Combined
from classmates.methods.pcl import beside_others
from tests.methods.conftest import with_views


def kl(teacher, student, temperature):
    """KL(teacher ‖ student) at a temperature, by loops in Python's float64."""
    total = 0.0
    for t, s in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = ([math.exp(value / temperature) for value in row] for row in (t, s))
        total += sum(a / sum(p) * math.log(a / sum(p) * sum(q) / b) for a, b in zip(p, q, strict=True))
    return total / len(teacher)


def viewed(method, batch):
    torch.manual_seed(5)
    return with_views(batch, method)


@pytest.mark.parametrize("peers", [2, 4])
def test_others_teach_and_never_ones_own_mean(peers):
    logits, teachers = torch.randn(2, peers, 3, 5, dtype=torch.float64)
    expected = sum(
        kl(teachers[j], logits[m], 3.0) / (peers - 1) for m in range(peers) for j in range(peers) if j != m
    )
    found = peers * softened_kl(*beside_others(logits, teachers), 3.0)
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("epoch", "ramp"), [(0, math.exp(-5)), (40, math.exp(-5 / 4)), (80, 1.0), (200, 1.0)])
def test_the_total_is_the_formula_with_the_papers_ramp(epoch, ramp, tiny_network, tiny_data, tiny_batch):
    method = PCL(tiny_network(), tiny_data, ensemble=0.5, mean_teachers=2.0)
    method.epoch, method.epochs = epoch, 201
    batch = viewed(method, tiny_batch)
    whole = copy.deepcopy(method.networks)
    output = method(batch)
    logits = [one.logits for one in output.outputs]
    ensemble = method.head(torch.cat([one.embedding for one in output.outputs], 1))
    means = [one.logits for one in whole.forward_each(batch.views)]  # at the first step they are the peers
    pairs = [(m, j) for m in range(3) for j in range(3) if j != m]
    from_ensemble = sum(kl(ensemble, one, 3.0) for one in logits)
    from_means = sum(kl(means[j], logits[m], 3.0) / 2 for m, j in pairs)
    labels = sum(F.cross_entropy(one, batch.labels) for one in (*logits, ensemble))
    expected = labels.item() + ramp * 9 * (0.5 * from_ensemble + 2.0 * from_means)
    assert output.total.item() == pytest.approx(expected, rel=1e-4)


def test_the_head_learns_by_its_cross_entropy_alone(tiny_network, tiny_data, tiny_batch):
    method = PCL(tiny_network(), tiny_data)
    method.epoch, method.epochs = 80, 81
    terms = method(viewed(method, tiny_batch)).terms
    for name in ("ensemble", "mean_teachers"):
        assert torch.autograd.grad(terms[name], method.head.weight, retain_graph=True, allow_unused=True) == (None,)
    (gradient,) = torch.autograd.grad(terms["ensemble_ce"], method.head.weight)
    assert gradient.any()


def test_means_without_a_weight_take_no_memory(tiny_network, tiny_data, tiny_batch):
    method = PCL(tiny_network(), tiny_data, mean_teachers=0.0)
    method.epoch, method.epochs = 80, 81
    assert not any(name.startswith("means.") for name in method.state_dict())
    assert method(viewed(method, tiny_batch)).terms.keys() == {"ce", "ensemble_ce", "ensemble"}


def test_means_follow_in_training_only(tiny_network, tiny_data, tiny_batch):
    method = PCL(tiny_network(), tiny_data)
    batch = viewed(method, tiny_batch)
    method(batch)
    assert method.means.steps == 1
    method.eval()(batch)
    assert method.means.steps == 1
    weight = method.student().fc.weight
    with torch.no_grad():
        weight.add_(1)
    method.train()(batch)
    assert torch.equal(method.means.peers.student.fc.weight, weight)
    method.begins_step = False  # gradients are accumulated
    method(batch)
    assert method.means.steps == 2


def test_views_may_be_shared_and_a_batch_without_them_is_refused(tiny_network, tiny_data, tiny_batch):
    assert PCL(tiny_network(), tiny_data, views="shared")(tiny_batch).total.isfinite()
    with pytest.raises(UserError, match=r"a batch of 0 views: PCL shows each of its 3 networks .*views=3"):
        PCL(tiny_network(), tiny_data)(tiny_batch)


def test_in_a_combination_others_work_on_what_the_student_sees(tiny_network, tiny_data, tiny_batch):
    method = Combined(tiny_network(), tiny_data, methods=["PCL", "SD"])
    assert method.views == 3
    output = method(viewed(method, tiny_batch))
    assert output.total.isfinite()
    assert {"PCL/mean_teachers", "SD/exits"} <= output.terms.keys()


def test_the_ensemble_is_the_head(tiny_network, tiny_data, tiny_batch):
    method = PCL(tiny_network(), tiny_data).eval()
    predictions = method.predictions(method.networks(tiny_batch.images))
    assert list(predictions) == ["student", "peer1", "peer2", "ensemble"]
    mean = sum(predictions[who] for who in ("student", "peer1", "peer2")) / 3
    assert not torch.allclose(predictions["ensemble"], mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": 1}, "peers=1"),
        ({"temperature": 0}, "temperature=0"),
        ({"ramp": -1}, "ramp=-1"),
        ({"decay": 2}, "decay=2"),
    ],
)
def test_wrong_options_are_named(options, message, tiny_network, tiny_data):
    with pytest.raises(UserError, match=message):
        PCL(tiny_network(), tiny_data, **options)
