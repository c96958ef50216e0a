import copy
import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

from classmates import methods
from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.data.batches.samplers import Shuffled
from classmates.errors import UserError
from classmates.methods import Method
from classmates.methods.base import Terms, check_word
from classmates.networks.peers.peers import Peers

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")  # the tiny data have fewer than MCL's default

Make = Callable[..., nn.Module]
Build = Callable[[type[Method], nn.Module, DataSpec], Method]
BatchFor = Callable[[Method], Batch]

EXPORTED = [getattr(methods, name) for name in methods.__all__]
CONCRETE = [one for one in EXPORTED if issubclass(one, Method) and not inspect.isabstract(one)]


class Two(Method):
    """Two terms that are easy to follow, and a count of how often each is computed."""

    def __init__(
        self, network: nn.Module, data: DataSpec, *, first: float = 2.0, second: float = 0.5, peers: int = 1
    ):
        super().__init__(Peers(network, data, peers), weights={"first": first, "second": second})
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
    assert output.total.shape == ()


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
        TypeError, match=r"Two offers terms \['first', 'second'\] for weights \['first', 'second', 'third'\]"
    ):
        method(tiny_batch)


def test_options_are_the_arguments_it_was_made_with(tiny_network: Make, tiny_data: DataSpec) -> None:
    class Variant(Two):
        def __init__(self, network: nn.Module, data: DataSpec, factor: float = 3.0):
            super().__init__(network, data, first=factor)

    class Inheriting(Two):
        pass

    assert Two(tiny_network(), tiny_data, second=1.0).options == {"first": 2.0, "second": 1.0, "peers": 1}
    assert Variant(tiny_network(), tiny_data).options == {"factor": 3.0}
    assert Variant(tiny_network(), tiny_data, 4.0).options == {"factor": 4.0}
    assert Inheriting(data=tiny_data, network=tiny_network()).options == {"first": 2.0, "second": 0.5, "peers": 1}
    parameters = inspect.signature(Two).parameters
    assert [*parameters] == ["network", "data", "first", "second", "peers"]  # what a command line is made from


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


def test_what_every_method_begins_with(tiny_network: Make, tiny_data: DataSpec) -> None:
    method = Two(tiny_network(), tiny_data)
    assert (method.epoch, method.epochs) == (0, 1)
    assert method.sampling is Shuffled


def test_lengths_beyond_the_end_of_training_are_noted(tiny_network: Make, tiny_data: DataSpec) -> None:
    class Ramped(Two):
        lengths = ("peers", "first")

    method = Ramped(tiny_network(), tiny_data, first=30, second=90, peers=2)
    assert method.check_length(30) == []
    assert method.check_length(29) == ["first=30 epochs, but training has 29: it ends before that is over"]
    assert Two(tiny_network(), tiny_data, first=30).check_length(1) == []


@pytest.mark.parametrize("kind", CONCRETE)
def test_what_a_class_says_of_its_options_holds_for_what_it_makes(
    kind: type[Method], build: Build, tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = build(kind, tiny_network(), tiny_data)
    assert method.sampling is kind.sampling is kind.sampling_for({}) is kind.sampling_for(method.options)
    assert set(kind.lengths) <= method.options.keys()


def test_check_word_names_the_nearest() -> None:
    check_word("colour", "red", ["red", "green"])
    with pytest.raises(UserError, match="unknown colour 'gren': did you mean 'green'"):
        check_word("colour", "gren", ["red", "green"])


def test_there_are_methods() -> None:
    assert {one.__name__ for one in CONCRETE} >= {"Baseline", "MCL", "CORSD"}


@pytest.mark.parametrize("kind", CONCRETE)
def test_the_student_is_the_network_that_was_given(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    network, plain = tiny_network(), tiny_network()
    method = build(kind, network, tiny_data)
    batch = batch_for(method)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    method(batch).total.backward()
    optimizer.step()
    assert not torch.equal(network.fc.weight, plain.fc.weight)
    student = method.student()
    assert student is network
    for module, untouched in zip(student.modules(), plain.modules(), strict=True):
        assert type(module) is type(untouched)
        assert vars(module).keys() == vars(untouched).keys()
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert student.state_dict().keys() == plain.state_dict().keys()

    for training in (True, False):
        method.train(training)
        inside = method.networks(batch.images)[-1].logits
        assert torch.equal(copy.deepcopy(student)(batch.images), inside)
        plain.load_state_dict(student.state_dict())
        assert torch.equal(plain.train(training)(batch.images), inside)


@pytest.mark.parametrize("kind", CONCRETE)
def test_terms_are_finite_in_half_precision(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = build(kind, tiny_network(), tiny_data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method(batch_for(method))
    assert list(output.terms) == [name for name, weight in method.weights.items() if weight]
    assert all(term.isfinite() and term.dtype == torch.float32 for term in output.terms.values())
    output.total.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", CONCRETE)
def test_a_copy_goes_on_as_the_original_does(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = build(kind, tiny_network(), tiny_data)
    batch = batch_for(method)
    method(batch)
    copies = [copy.deepcopy(method), build(kind, tiny_network(seed=1), tiny_data)]
    copies[1].load_state_dict(method.state_dict())
    torch.manual_seed(3)
    total = method(batch).total
    for other in copies:
        torch.manual_seed(3)
        assert torch.equal(other(batch).total, total)
        assert not {id(tensor) for tensor in other.parameters()} & {id(tensor) for tensor in method.parameters()}
