import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torchvision.ops import StochasticDepth

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import Shuffled
from classmates.errors import UserError
from classmates.methods import DML, KD, MCL, Combined, Method
from classmates.methods.spec import MethodSpec
from classmates.networks.building.teacher import Teacher
from classmates.networks.peers.peers import Peers
from classmates.tasks.classification import Classification

Make = Callable[..., nn.Module]


class Two(Method):
    """Two terms that are easy to follow, and a count of how often each is computed."""

    def __init__(
        self, network: nn.Module, data: DataSpec, *, first: float = 2.0, second: float = 0.5, peers: int = 1
    ):
        super().__init__(Peers(network, data, peers), data, weights={"first": first, "second": second}, labels=None)
        self.computed: list[str] = []

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {
            "first": lambda: self.computed.append("first") or outputs[-1].logits.sum(),
            "second": lambda: self.computed.append("second") or outputs[-1].embedding.sum(),
        }


def test_total_is_the_weighted_sum_of_raw_terms(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    method = Two(tiny_network(), tiny_data)
    step = method(tiny_batch)
    (output,) = step.outputs
    assert list(step.terms) == ["first", "second"]
    assert torch.equal(step.terms["first"], output.logits.sum())
    assert torch.equal(step.terms["second"], output.embedding.sum())
    torch.testing.assert_close(step.total, 2 * output.logits.sum() + 0.5 * output.embedding.sum())
    assert step.total.shape == ()


@pytest.mark.parametrize(("weights", "left"), [({"first": 0.0}, "second"), ({"second": 0}, "first")])
def test_a_term_of_weight_0_is_not_computed(
    tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch, weights: dict[str, float], left: str
) -> None:
    method = Two(tiny_network(), tiny_data, **weights)
    output = method(tiny_batch)
    assert method.computed == [left]
    assert list(output.terms) == [left]
    assert torch.equal(output.total, method.weights[left] * output.terms[left])


def test_total_is_float32_under_autocast(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = Two(tiny_network(), tiny_data)(tiny_batch)
    assert output.outputs[0].logits.dtype == torch.bfloat16
    assert output.total.dtype == torch.float32


def test_all_weights_0_is_an_error_that_names_them(tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError, match=r"every term has weight 0 \(first, second\): give at least one"):
        Two(tiny_network(), tiny_data, first=0.0, second=0.0)


def test_terms_and_weights_must_be_of_the_same_names(
    tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    method = Two(tiny_network(), tiny_data)
    method.weights["third"] = 1.0
    with pytest.raises(
        UserError, match=r"Two offers terms \['first', 'second'\] for weights \['first', 'second', 'third'\]: give"
    ):
        method(tiny_batch)


def test_predictions_say_whose_they_are(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    alone = Two(tiny_network(), tiny_data)
    outputs = alone(tiny_batch).outputs
    assert {name: id(logits) for name, logits in alone.predictions(outputs).items()} == {
        "student": id(outputs[0].logits)
    }

    several = Two(tiny_network(), tiny_data, peers=3)
    outputs = several(tiny_batch).outputs
    predictions = several.predictions(outputs)
    assert list(predictions) == ["student", "peer1", "peer2", "ensemble"]
    for name, place in {"peer1": 0, "peer2": 1, "student": 2}.items():
        assert predictions[name] is outputs[place].logits
    torch.testing.assert_close(predictions["ensemble"], sum(output.logits for output in outputs) / 3)


def test_notes_are_kept_and_said(tiny_network: Make, tiny_data: DataSpec) -> None:
    method = Two(tiny_network(), tiny_data)
    assert method.notes == []
    with pytest.warns(UserWarning, match="^so it is$"):
        method.note("so it is")
    assert method.notes == ["so it is"]


def test_a_note_names_the_line_of_the_user_however_deep_the_constructor(
    tiny_network: Make, tiny_data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deeper(MCL):
        pass

    part = MethodSpec("MCL", {"peers": 2, "num_negatives": 999})
    of_other_images = Teacher(tiny_network(), tiny_data, normalisation=((0.5,) * 3, (0.2,) * 3))
    monkeypatch.setattr("classmates.methods.teacher_method.make_teacher", lambda *_, **__: of_other_images)
    for make in (
        lambda: Deeper(tiny_network(), tiny_data, peers=2, num_negatives=999),
        lambda: part(tiny_network(), tiny_data),
        lambda: Combined(tiny_network(), tiny_data, methods=["SD", part]),
        lambda: KD(tiny_network(), tiny_data, teacher=tiny_network()),
    ):
        with pytest.warns(UserWarning, match="capped|normalised") as warned:
            make()
        places = {(warning.filename, warning.lineno) for warning in warned}
        assert places == {(__file__, make.__code__.co_firstlineno)}


def test_what_every_method_begins_with(tiny_network: Make, tiny_data: DataSpec) -> None:
    method = Two(tiny_network(), tiny_data)
    assert (method.epoch, method.epochs) == (0, 1)
    assert method.sampling == Shuffled()
    assert method.task == Classification()


class Ramped(Two):
    lengths = ("length",)

    def __init__(self, network: nn.Module, data: DataSpec, *, length: int = 10, second: float = 0.5):
        super().__init__(network, data, second=second)
        self.length = length
        self.ramps = {"second": lambda epoch, epochs: epoch / epochs}


def test_lengths_beyond_the_end_of_training_are_noted_and_scale_with_it(
    tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = Ramped(tiny_network(), tiny_data, length=30)
    assert method.check_length(30) == []
    assert method.check_length(29) == ["length=30 epochs, but training has 29: it ends before that is over"]
    assert Two(tiny_network(), tiny_data, first=30).check_length(1) == []
    assert Ramped.scale_lengths({"length": 30, "second": 0.5}, 0.1) == {"length": 3, "second": 0.5}


def test_a_ramp_goes_on_the_weight_and_a_term_of_weight_0_now_is_not_computed(
    tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    method = Ramped(tiny_network(), tiny_data)
    method.epochs = 4
    assert list(method(tiny_batch).terms) == ["first"]
    method.epoch = 1
    step = method(tiny_batch)
    assert (method.weight("second"), method.weight("second", epoch=3)) == (0.125, 0.375)
    torch.testing.assert_close(step.total, 2 * step.terms["first"] + 0.125 * step.terms["second"])
    method.weights["first"], method.epoch = 0.0, 0
    with pytest.raises(UserError, match="every term of Ramped has weight 0 in epoch 0"):
        method(tiny_batch)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_dropout_that_drops_something_tells_peers_apart(
    tiny_network: Make, tiny_data: DataSpec, share: float
) -> None:
    network = tiny_network()
    network.stage2.append(nn.Dropout2d(share))
    method = DML(network, tiny_data, start="identical")
    if share:
        method.check_peers_differ()
        return
    with pytest.raises(UserError, match=r"start='identical': .* stay copies of one another"):
        method.check_peers_differ()


@pytest.mark.parametrize("module", [DropPath(0.2), StochasticDepth(0.2, "row"), DropPath(0.0)], ids=repr)
def test_so_does_depth_at_random(module: nn.Module, tiny_network: Make, tiny_data: DataSpec) -> None:
    network = tiny_network()
    network.stage2.append(module)
    method = DML(network, tiny_data, start="identical")
    drops = "0.2" in repr(module)
    with nullcontext() if drops else pytest.raises(UserError, match="stay copies of one another"):
        method.check_peers_differ()


def test_what_drops_in_the_trunk_alone_tells_no_peers_apart(tiny_network: Make, tiny_data: DataSpec) -> None:
    for stage, own in (("stage1", False), ("stage3", True)):
        network = tiny_network()
        getattr(network, stage).append(nn.Dropout2d(0.2))
        method = DML(network, tiny_data, start="identical", share=-1)
        with nullcontext() if own else pytest.raises(UserError, match="stay copies of one another"):
            method.check_peers_differ()


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused_by_the_name_of_its_term(
    weight: float, tiny_network: Make, tiny_data: DataSpec
) -> None:
    with pytest.raises(UserError, match=rf"Two: the weight of its term 'second' is {weight} \(option second\)"):
        Two(tiny_network(), tiny_data, second=weight)


class Given(Method):
    """Whatever networks and terms are given to it."""

    def __init__(self, networks: object, data: DataSpec, terms: object = None):
        super().__init__(networks, data, weights={"own": 1.0})
        self.given = terms

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return self.given


def test_a_network_alone_is_no_peers(tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError, match=r"Given: its networks are of type TinyNetwork: give Peers\(network, data\)"):
        Given(tiny_network(), tiny_data)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (None, r"terms\(\) returned an object of type NoneType: return a dict"),
        ({}, r"offers terms \['ce'\] for weights \['ce', 'own'\]"),
        ({"own": torch.ones(())}, r"the term 'own' is a tensor of shape \[\]: give a function"),
        ({"own": lambda: torch.ones(9)}, r"the term 'own' is a tensor of shape \[9\]: return a tensor of one number"),
        ({"own": lambda: 1.0}, r"the term 'own' is an object of type float: return a tensor of one number"),
    ],
)
def test_terms_that_cannot_be_added_are_told(
    terms: object, message: str, tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    with pytest.raises(UserError, match=f"^Given:? {message}"):
        Given(Peers(tiny_network(), tiny_data), tiny_data, terms)(tiny_batch)
