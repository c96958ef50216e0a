"""What holds for every method there is."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import Sampling, Triplets
from classmates.errors import UserError
from classmates.methods import Baseline, Method
from classmates.methods.spec import MethodSpec, known_methods
from classmates.tasks.classification import Classification
from classmates.tasks.few_shot import FewShot
from tests.methods.conftest import BatchFor, Build

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")  # the tiny data have fewer than MCL's default

Make = Callable[..., nn.Module]


class Prototypes(Classification):
    """A task with a term on the embeddings beside cross-entropy, which needs batches of its own."""

    name = "prototypes"

    @property
    def weights(self) -> dict[str, float]:
        return {"ce": 1.0, "prototypes": 0.5}

    @property
    def sampling(self) -> Sampling:
        return Triplets()

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        embeddings = [output.embedding for output in outputs]
        return {**super().terms(outputs, batch), "prototypes": lambda: sum(one.square().mean() for one in embeddings)}


class NoCrossEntropy(Prototypes):
    @property
    def weights(self) -> dict[str, float]:
        return {"prototypes": 1.0}

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"prototypes": super().terms(outputs, batch)["prototypes"]}


REFUSED = {
    "CSKD": r"CSKD \(pairs of images of a class\) and the task prototypes \(triplets of images\) need different",
    "CC": r"CC \(groups of 8 images of a class\) and the task prototypes",
    "DLB": r"DLB \(pairs of a repeated and a new image\) and the task prototypes",
}


def test_every_method_works_under_another_task_or_says_why_not(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    data = replace(tiny_data, task=Prototypes())
    if kind.__name__ in REFUSED:
        with pytest.raises(UserError, match=REFUSED[kind.__name__]):
            build(kind, tiny_network(), data)
        return
    method = build(kind, tiny_network(), data)
    assert method.sampling == Triplets()
    output = method(batch_for(method))
    labelled = {name.rpartition("/")[2] for name in output.terms} & {"ce", "prototypes"}
    assert labelled == {"ce", "prototypes"}
    assert output.total.isfinite()


@pytest.mark.parametrize("name", ["LabelSmoothing", "PSKD"])
def test_methods_that_change_cross_entropy_need_a_task_that_has_it(
    name: str, tiny_network: Make, tiny_data: DataSpec
) -> None:
    data = replace(tiny_data, task=NoCrossEntropy())
    assert list(Baseline(tiny_network(), data).weights) == ["prototypes"]
    with pytest.raises(
        UserError, match=f"{name} changes the labels' cross-entropy, and the task prototypes has none"
    ):
        known_methods()[name](tiny_network(), data)


@pytest.mark.parametrize("name", ["LabelSmoothing", "PSKD"])
def test_so_they_need_its_weight_in_few_shot_learning(name: str, tiny_network: Make) -> None:
    for classifier, said in ((0.0, r"the task few_shot has none \(its classifier is 0\)"), (0.5, ""), (None, "")):
        task = FewShot(way=2, shot=1, queries=1, classifier=classifier)
        data = DataSpec(4, [0, 1, 2, 3] * 6, (3, 16, 16), task=task)
        network = task.training_network(tiny_network(), 4, (3, 16, 16))
        with pytest.raises(UserError, match=said) if said else nullcontext():
            known_methods()[name](network, data)


def test_lengths_are_options_and_attributes(
    kind: type[Method], build: Build, tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = build(kind, tiny_network(), tiny_data)
    assert all(hasattr(method, name) for name in kind.lengths)
    assert set(kind.lengths) <= MethodSpec.of(kind).resolved().keys()
    assert set(kind.renamed.values()) <= MethodSpec.of(kind).resolved().keys()
    assert method.ramps.keys() <= method.weights.keys()


def test_no_step_counts_on_the_host(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    """What changes from step to step lies in tensors: all else is constant in a graph."""
    method = build(kind, tiny_network(), tiny_data)
    batch = batch_for(method)
    seen = []
    for _ in range(3):
        method(batch).total.backward()
        seen.append(
            {
                f"{where}.{name}": value
                for where, module in method.named_modules()
                for name, value in vars(module).items()
                if isinstance(value, int | float | str)
            }
        )
    assert seen[1] == seen[2]


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


def test_terms_are_finite_in_half_precision(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    method = build(kind, tiny_network(), tiny_data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method(batch_for(method))
    assert list(output.terms) == [name for name in method.weights if method.weight(name)]
    assert all(term.isfinite() and term.dtype == torch.float32 for term in output.terms.values())
    output.total.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_every_term_teaches_something(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    """Each has a value that is not 0 and a gradient that reaches the student, at the second step at the latest."""
    torch.manual_seed(0)
    method = build(kind, tiny_network(), tiny_data)
    method.epoch, method.epochs = 1, 2  # where every ramp has begun
    method(batch_for(method))
    output = method(batch_for(method, 1))
    student = list(method.student().parameters())
    for name, term in output.terms.items():
        assert term.item() != 0, name
        gradients = torch.autograd.grad(term, student, retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.any() for gradient in gradients), name


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


def numbers_of(kind: type[Method]) -> list[str]:
    """Return the names of a method's options that are numbers with a fraction."""
    return [name for name, default in MethodSpec.of(kind).resolved().items() if isinstance(default, float)]


@pytest.mark.parametrize("name", [name for name, kind in known_methods().items() if numbers_of(kind)])
def test_no_option_makes_a_weight_negative_or_infinite(
    name: str, build: Build, tiny_network: Make, tiny_data: DataSpec
) -> None:
    kind = known_methods()[name]
    for option in numbers_of(kind):
        for value in (-1.0, math.nan, math.inf):
            try:
                method = build(kind, tiny_network(), tiny_data, **{option: value})
            except UserError:
                continue
            assert all(0 <= weight < math.inf for weight in method.weights.values()), f"{option} {value}"
