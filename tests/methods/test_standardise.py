"""Logit standardisation, the option that every method with a distillation of logits has."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.losses.soft_targets import soft_cross_entropy
from classmates.methods import MCL, PSKD, MCLBatch, Method, TfKD
from classmates.methods.spec import MethodSpec
from classmates.tasks.few_shot import FewShot
from tests.methods.conftest import BatchFor, Build

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")

Make = Callable[..., nn.Module]

# Terms that distil no logits, so that the option leaves them alone.
UNTOUCHED = {
    "ce", "ensemble_ce", "exits", "contrast", "embeddings",
    "triplet", "relation", "positive_task", "negative_task", "calibration",
    "within", "soft_within", "across", "soft_across",
}  # fmt: skip
HAVE = {
    "KD", "DKD", "DML", "CLILR", "ONE", "OKDDip", "MCL", "SD", "CSKD", "CORSD", "TfKD", "PSKD",
    "BAKE", "BornAgain", "DLB", "MCLBatch", "PCL",
}  # fmt: skip


def has_option(kind: type[Method]) -> bool:
    return "standardise" in MethodSpec.of(kind).resolved()


def terms_of(method: Method, batch_for: BatchFor, scale: float) -> dict[str, Tensor]:
    """The terms of a second step, all classifiers that are trained made to give ``scale`` times the logits."""
    method.epoch, method.epochs = 1, 2  # where every ramp has begun
    for module in method.modules():
        if isinstance(module, nn.Linear) and module.out_features == 4 and module.weight.requires_grad:
            module.weight.data *= scale
            module.bias.data *= scale
    torch.manual_seed(0)
    method(batch_for(method))
    return method(batch_for(method, 1)).terms


def test_it_frees_the_distillation_of_the_size_of_logits_and_touches_nothing_else(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    if not has_option(kind):
        assert kind.__name__ not in HAVE
        return
    # TfKD can do without a teacher, but not this; MCLBatch leaves the distillation out.
    extra = {TfKD: {"teacher": tiny_network(seed=9)}, MCLBatch: {"distillation": 1.0}}.get(kind, {})

    def terms(scale: float, standardise: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        options = {"standardise": standardise, **extra}
        make = kind if "teacher" in extra else partial(build, kind)
        return terms_of(make(tiny_network(), tiny_data, **options), batch_for, scale)

    plain, large = terms(1.0, standardise=False), terms(3.0, standardise=False)
    standardised, standardised_large = terms(1.0, standardise=True), terms(3.0, standardise=True)
    assert plain.keys() - UNTOUCHED
    for name, value in standardised.items():
        if name in UNTOUCHED:
            torch.testing.assert_close(value, plain[name])
            continue
        assert abs(value - plain[name]) > 1e-3 * plain[name].abs(), name
        assert abs(large[name] - plain[name]) > 1e-3 * plain[name].abs(), name
        torch.testing.assert_close(standardised_large[name], value, rtol=1e-2, atol=1e-5)
        assert value.requires_grad
        assert value > 0


def test_pskd_remembers_what_it_learns_from(tiny_network: Make, tiny_data: DataSpec, batch_for: BatchFor) -> None:
    method = PSKD(tiny_network(), tiny_data, standardise=True)
    batch = batch_for(method)
    output = method(batch)
    logits = output.outputs[-1].logits.double()
    z = (logits - logits.mean(1, keepdim=True)) / logits.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(method.memory[batch.indices], z.softmax(1).float(), rtol=1e-2, atol=1e-3)
    expected = soft_cross_entropy(z, nn.functional.one_hot(batch.labels, 4))  # in the first epoch: the labels
    torch.testing.assert_close(output.terms["past"], expected, rtol=1e-2, atol=1e-3)


def test_a_virtual_teacher_has_no_logits(tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError, match="standardise needs a trained copy"):
        TfKD(tiny_network(), tiny_data, standardise=True)


def test_two_classes_are_refused_before_any_training(
    kind: type[Method], build: Build, tiny_network: Make, tiny_data: DataSpec
) -> None:
    if not has_option(kind):
        return
    two = replace(tiny_data, num_classes=2, labels=tiny_data.labels % 2)
    extra = {TfKD: {"teacher": tiny_network(num_classes=2)}}.get(kind, {})
    make = kind if extra else partial(build, kind)
    with pytest.raises(UserError, match=r"two classes|2 classes"):
        make(tiny_network(num_classes=2), two, standardise=True, **extra)


def test_episodes_of_two_classes_are_refused_as_well(tiny_network: Make, tiny_data: DataSpec) -> None:
    task = FewShot(way=2, shot=1, queries=2)
    data = replace(tiny_data, task=task)

    def network() -> nn.Module:
        return task.training_network(tiny_network(), data.num_classes, data.input_shape)

    with pytest.raises(UserError, match="two classes"):
        MCL(network(), data, standardise=True)
    MCL(network(), data, standardise=True, distilled="classifier")  # of all four training classes
