"""CORSD and MCL at once, and what cannot be combined."""

import pytest
import timm
import torch
from torch.nn import functional as F

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.data.samplers import Triplets
from classmates.errors import UserError
from classmates.methods.cc import CC
from classmates.methods.combined import Combined
from classmates.methods.mcl import MCL

LABELS = torch.arange(60) % 5
DATA = DataSpec(5, LABELS, (1, 8, 8))
SMALL_MCL = {"class_path": "MCL", "init_args": {"peers": 3, "num_negatives": 8, "dimension": 8}}


def combined(*methods):
    torch.manual_seed(0)
    return Combined(timm.create_model("resnet8", num_classes=5, in_chans=1), DATA, methods=methods)


def triplet_batch():
    indices = torch.tensor(next(iter(Triplets(LABELS, 12))))
    return Batch(torch.randn(12, 1, 8, 8), LABELS[indices], indices)


def test_corsd_and_mcl_share_student_and_batches():
    method = combined("CORSD", SMALL_MCL)
    assert method.sampling is Triplets
    batch = triplet_batch()
    views, terms, total = method(batch)
    assert len(views) == 3
    assert {"CORSD/triplet", "CORSD/relation", "MCL/ce", "MCL/distillation", "MCL/contrast"} <= terms.keys()
    assert "CORSD/ce" not in terms
    torch.testing.assert_close(terms["MCL/ce"], sum(F.cross_entropy(view.logits, batch.labels) for view in views))
    torch.testing.assert_close(total, sum(method.weights[name] * term for name, term in terms.items()))
    total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert set(method.predictions(views)) == {"student", "peer1", "peer2", "ensemble"}


def test_its_state_is_whole_and_its_student_plain():
    first, second = combined("CORSD", SMALL_MCL), combined("CORSD", SMALL_MCL)
    first(triplet_batch()).total.backward()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.parts["MCL"].bank.rows, first.parts["MCL"].bank.rows)
    assert first.student() is first.parts["CORSD"].student() is first.parts["MCL"].student()
    parameters = list(first.parameters())
    assert len({id(parameter) for parameter in parameters}) == len(parameters)


def test_epochs_reach_the_parts():
    method = combined("CORSD", SMALL_MCL)
    method.epoch, method.epochs = 3, 9
    method(triplet_batch())
    assert [(part.epoch, part.epochs) for _, part in method.methods()] == [(3, 9)] * 2


def test_anything_that_makes_a_method():
    method = combined("LabelSmoothing", lambda network, data: MCL(network, data, peers=2, num_negatives=4))
    assert "MCL/contrast" in method.weights
    assert method.weights["MCL/ce"] == 1


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["CORSD"], "two or more"),
        (["CORSD", "CORSD"], "with itself"),
        ([SMALL_MCL, "DML"], "MCL and DML each bring peers"),
        (["CORSD", lambda network, data: CC(network, data, teacher=network)], "different batches"),
        (["CORSD", "CSKD"], "CSKD looks at its batches in a way of its own"),
        (["CORSD", "MLC"], "unknown method 'MLC'.*'MCL'"),
        (["CORSD", {"class_path": "MCL", "init_args": {"peeers": 2}}], "peeers"),
    ],
)
def test_what_does_not_go_together(methods, message):
    with pytest.raises(UserError, match=message):
        combined(*methods)
