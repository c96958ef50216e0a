"""CORSD and MCL at once, and what cannot be combined."""

import copy
from functools import partial

import pytest
import timm
import torch
from torch.nn import functional as F

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import ClassUniform, Shuffled, Triplets
from classmates.errors import UserError
from classmates.methods.cc import CC
from classmates.methods.combined import Combined
from classmates.methods.deep_supervision import DeepSupervision
from classmates.methods.fitnet import FitNet
from classmates.methods.mcl import MCL
from classmates.methods.one import ONE
from classmates.methods.spec import MethodSpec
from classmates.tasks.few_shot import FewShot

LABELS = torch.arange(60) % 5
DATA = DataSpec(5, LABELS, (1, 8, 8))
SMALL_MCL = {"class_path": "MCL", "init_args": {"peers": 3, "num_negatives": 8, "dimension": 8}}


class Reading(DeepSupervision):
    """A method whose terms read the epoch."""

    def terms(self, outputs, batch):
        return {name: lambda term=term: self.epoch + term() for name, term in super().terms(outputs, batch).items()}


def combined(*methods):
    torch.manual_seed(0)
    return Combined(timm.create_model("resnet8", num_classes=5, in_chans=1), DATA, methods=methods)


def triplet_batch():
    indices = torch.tensor(next(iter(EpochSampler(Triplets(), LABELS, 12))))
    return Batch(torch.randn(12, 1, 8, 8), LABELS[indices], indices)


def test_corsd_and_mcl_share_student_and_batches():
    method = combined("CORSD", SMALL_MCL)
    assert method.sampling == Triplets()
    batch = triplet_batch()
    outputs, terms, total = method(batch)
    assert len(outputs) == 3
    assert {"CORSD/triplet", "CORSD/relation", "MCL/ce", "MCL/distillation", "MCL/contrast"} <= terms.keys()
    assert "CORSD/ce" not in terms
    torch.testing.assert_close(
        terms["MCL/ce"], sum(F.cross_entropy(output.logits, batch.labels) for output in outputs)
    )
    torch.testing.assert_close(total, sum(method.weights[name] * term for name, term in terms.items()))
    total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert set(method.predictions(outputs)) == {"student", "peer1", "peer2", "ensemble"}


def test_its_state_is_whole_and_its_student_plain():
    first, second = combined("CORSD", SMALL_MCL), combined("CORSD", SMALL_MCL)
    first(triplet_batch()).total.backward()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.parts["MCL"].contrast.bank.rows, first.parts["MCL"].contrast.bank.rows)
    assert first.student() is first.parts["CORSD"].student() is first.parts["MCL"].student()
    parameters = list(first.parameters())
    assert len({id(parameter) for parameter in parameters}) == len(parameters)


def test_epochs_reach_the_parts():
    method = combined("CORSD", SMALL_MCL)
    method.epoch, method.epochs = 3, 9
    method(triplet_batch())
    assert [(part.epoch, part.epochs) for _, part in method.methods()] == [(3, 9)] * 2


@pytest.mark.parametrize("names", [("DML", "PSKD"), ("ONE", "ZipfLS"), ("CORSD", "OKDDip")])
def test_what_kind_of_step_comes_is_known_before_the_first(names):
    """As a run asks that goes on in a later epoch."""
    method, plain = combined(*names), combined(*names)
    method.epoch = plain.epoch = 3
    method.epochs = plain.epochs = 9
    for _, part in plain.methods():
        part.epochs = 9
    assert method.phase == plain.phase


def test_a_part_that_reads_the_epoch_makes_steps_of_another_kind_in_each():
    method = combined("SD", Reading)
    method(triplet_batch())
    before = method.phase
    method.epoch = 1
    assert method.phase != before


def test_anything_that_makes_a_method():
    method = combined("DeepSupervision", lambda network, data: MCL(network, data, peers=2, num_negatives=4))
    assert "MCL/contrast" in method.weights
    assert method.weights["MCL/ce"] == 1


def test_a_method_whose_only_term_is_the_labels_leads_or_is_refused():
    leads = combined("LabelSmoothing", "DeepSupervision")
    assert (leads.weights["LabelSmoothing/ce"], leads.weights["DeepSupervision/ce"]) == (1, 0)
    with pytest.raises(
        UserError, match=r"Smoothing has no term .* DeepSupervision has that.* or name LabelSmoothing"
    ):
        combined("DeepSupervision", "LabelSmoothing")
    with pytest.raises(UserError, match=r"LabelSmoothing has no term .* MCL has that: leave one of them out$"):
        combined("LabelSmoothing", SMALL_MCL)


def test_the_ramps_of_the_parts_are_kept():
    method = combined("PSKD", {"class_path": "ONE", "init_args": {"ramp": 8}})
    method.epochs = 10
    one, pskd = method.parts["ONE"], method.parts["PSKD"]
    assert (method.weights["PSKD/ce"], method.weights["ONE/ce"]) == (0, 1)
    for epoch in (0, 5, 9):
        for part in (one, pskd):
            part.epochs = 10
        assert method.weight("PSKD/past", epoch) == pskd.weight("past", epoch) == pytest.approx(0.08 * (epoch + 1))
        assert method.weight("ONE/distillation", epoch) == one.weight("distillation", epoch)
    assert method.weight("ONE/distillation", 8) == 9


def test_lengths_of_the_parts_scale():
    options = {"methods": ["SD", "ONE", {"class_path": "OKDDip", "init_args": {"ramp": 40}}]}
    methods = MethodSpec("Combined", options).scaled(0.5).options["methods"]
    assert [str(MethodSpec.of(one)) for one in methods] == ["SD", "ONE(ramp=40)", "OKDDip(ramp=20)"]


class OwnStep(DeepSupervision):
    def forward(self, batch):
        return super().forward(batch)


def test_methods_that_are_more_than_their_terms_are_refused():
    def fitnet(hint_epochs):
        return lambda network, data: FitNet(network, data, teacher=network, hint_epochs=hint_epochs)

    assert "FitNet/hint" in combined(fitnet(0), "SD").weights
    with pytest.raises(UserError, match=r"hint_epochs=2: .* give hint_epochs=0"):
        combined(fitnet(2), "SD")
    with pytest.raises(UserError, match="OwnStep takes steps of its own"):
        combined("SD", OwnStep)
    with pytest.raises(UserError, match="Combined method cannot be combined again"):
        combined("SD", {"class_path": "Combined", "init_args": {"methods": ["SD", "DeepSupervision"]}})


def test_exits_are_those_of_the_first_method_that_has_them():
    method = combined(lambda network, data: DeepSupervision(network, data, depths=2), SMALL_MCL, "SD").eval()
    first = method.parts["DeepSupervision"]
    assert method.exit_costs() == first.exit_costs()
    assert len(method.exit_costs()) == 2
    outputs = method(triplet_batch()).outputs
    own = first.predictions(outputs[-1:])
    assert torch.equal(method.predictions(outputs)["exit1"], own["exit1"])
    assert combined("CORSD", SMALL_MCL).exit_costs() is None


def test_batches_are_those_that_one_of_them_needs():
    def sampling(*methods):
        return combined(*methods).sampling

    def cc(network, data, **options):
        return CC(network, data, teacher=network, **options)

    assert sampling("SD", SMALL_MCL) == Shuffled()
    assert sampling("SD", {"class_path": "CORSD", "init_args": {"disjoint": False}}) == Triplets(disjoint=False)
    assert sampling(partial(cc, class_uniform=False), "SD") == Shuffled()
    needs = r"CORSD \(triplets of images\) and CC \(groups of 8 images of a class\) need different batches"
    with pytest.raises(UserError, match=needs):
        sampling("CORSD", cc)


def test_batches_that_one_of_them_prefers_are_taken_where_none_needs_others():
    assert combined("CORSD", "BAKE").sampling == Triplets()
    assert combined("SD", "BAKE").sampling == combined("BAKE", "SD").sampling == ClassUniform(4)
    assert combined("BAKE", "MCLBatch").sampling == ClassUniform(4)  # the first one's
    assert combined("MCLBatch", "BAKE").sampling == ClassUniform(2)


@pytest.mark.parametrize("names", [("MCL", "PSKD"), ("RKD", "SD"), ("MCLBatch", "PSKD")])
def test_classifiers_learn_if_one_of_them_looks_at_their_logits(names):
    task = FewShot(way=2, shot=1, queries=1)
    data = DataSpec(5, LABELS, (1, 8, 8), task=task)
    network = task.training_network(timm.create_model("resnet8", num_classes=5, in_chans=1), 5, (1, 8, 8))
    teacher = {"RKD": {"teacher": copy.deepcopy(network)}}
    method = Combined(network, data, methods=[MethodSpec(name, teacher.get(name, {})) for name in names])
    assert all(method.weights[f"{name}/ce"] == (name == method.leading) for name in names)
    for one, architecture in zip(method.networks.networks, method.networks.architectures, strict=True):
        assert all(weight.requires_grad for weight in one.get_submodule(architecture.classifier).parameters())


def test_classifiers_that_one_of_them_froze_learn_again():
    """Of a network that has its classifier of the training classes already: all parts then have the same one."""
    task = FewShot(way=2, shot=1, queries=1)
    data = DataSpec(5, LABELS, (1, 8, 8), task=task)
    network = task.training_network(timm.create_model("resnet8", num_classes=5, in_chans=1), 5, (1, 8, 8))
    teacher = MethodSpec("SP", {"teacher": copy.deepcopy(network)})
    method = Combined(network, data, methods=["LabelSmoothing", teacher])
    weights = method.networks.student.get_submodule(method.networks.architecture.classifier).parameters()
    assert all(weight.requires_grad for weight in weights)


def test_the_parts_know_whether_a_batch_begins_a_step():
    method = combined("SD", {"class_path": "PCL", "init_args": {"peers": 2, "views": "shared"}})
    for begins in (True, False, True):
        method.begins_step = begins  # as where gradients are accumulated
        method(triplet_batch())
    assert method.parts["PCL"].means.steps == 2


def test_of_two_ensembles_that_of_the_peers_is_scored():
    method = combined("SD", {"class_path": "MCL", "init_args": {"peers": 2, "num_negatives": 4}})
    outputs = method(triplet_batch()).outputs
    predictions = method.predictions(outputs)
    assert {"student", "peer1", "exit1", "ensemble"} <= predictions.keys()
    torch.testing.assert_close(predictions["ensemble"], (outputs[0].logits + outputs[1].logits) / 2)


def test_peers_that_begin_alike_are_averaged_beside_another_method_too():
    def options(start):
        return {"peers": 2, "share": "nothing", "start": start, "num_negatives": 4}

    assert combined("SD", {"class_path": "MCL", "init_args": options("identical")}).deploys_average
    assert not combined("SD", {"class_path": "MCL", "init_args": options("same")}).deploys_average


def test_peers_that_begin_alike_part_by_what_teaches_one_of_them():
    alike = {"peers": 2, "share": "nothing", "start": "identical"}
    contrast = {"class_path": "MCL", "init_args": {**alike, "num_negatives": 4}}
    for parts in (("SD", contrast), ("SD", {"class_path": "DML", "init_args": alike})):
        method = combined(*parts)
        method.check_peers_differ()
        method(triplet_batch()).total.backward()
        gradients = [[p.grad for p in one.parameters() if p.grad is not None] for one in method.networks.networks]
        assert any(not torch.equal(first, second) for first, second in zip(*gradients, strict=True))
    three = {**alike, "peers": 3}  # of which two would stay copies of one another
    with pytest.raises(UserError, match="stay copies of one another"):
        combined("SD", {"class_path": "DML", "init_args": three}).check_peers_differ()
    combined("SD", {"class_path": "MCL", "init_args": {**three, "num_negatives": 4}}).check_peers_differ()


def test_of_two_methods_with_exits_those_of_one_are_scored_and_deployed():
    sd = {"class_path": "SD", "init_args": {"depths": 2, "skip": "none"}}
    method = combined(sd, {"class_path": "DeepSupervision", "init_args": {"depths": 3}}).eval()
    batch = triplet_batch()
    predictions = method.predictions(method.outputs(batch))
    assert [who for who in predictions if who.startswith("exit")] == ["exit1"]
    assert len(method.exit_costs()) == 2
    torch.testing.assert_close(predictions["exit1"], method.exits()(batch.images)[0])


def test_the_notes_of_the_parts_are_its_own():
    with pytest.warns(UserWarning, match="capped to 48"):
        method = combined("SD", {"class_path": "MCL", "init_args": {"peers": 2, "num_negatives": 99}})
    (note,) = method.notes
    assert note.startswith("num_negatives=99 capped to 48")


def test_lengths_of_the_parts_are_told():
    method = combined("SD", lambda network, data: ONE(network, data, ramp=80))
    assert method.check_length(80) == []
    (note,) = method.check_length(30)
    assert note.startswith("ONE: ramp=80 epochs, but training has 30")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["CORSD"], "two or more"),
        (["CORSD", "CORSD"], "with itself"),
        ([SMALL_MCL, "DML"], "MCL and DML each bring peers"),
        (["CORSD", lambda network, data: CC(network, data, teacher=network)], "different batches"),
        (["CORSD", "CSKD"], "CSKD trains on a part of each batch"),
        (["CORSD", "MLC"], "unknown method 'MLC'.*'MCL'"),
        (["CORSD", "Output"], "unknown method 'Output'"),
        (["CORSD", {"class_path": "MCL", "init_args": {"peeers": 2}}], "peeers"),
    ],
)
def test_what_does_not_go_together(methods, message):
    with pytest.raises(UserError, match=message):
        combined(*methods)
