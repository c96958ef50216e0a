"""What a loop of one's own does wrong is told in its first steps, and nothing is looked at after them."""

from functools import partial

import pytest
import torch

from classmates.contracts import Batch
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import ClassUniform, Overlapping, Shuffled
from classmates.errors import UserError
from classmates.methods import DLB, MCL, PSKD, BornAgain, OKDDip
from classmates.methods.baseline import Baseline

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")


def batch_of(data, indices):
    indices = torch.as_tensor(indices)
    noise = torch.randn(len(data.labels), *data.input_shape, generator=torch.Generator().manual_seed(0))
    return Batch(noise[indices], data.labels[indices], indices)


def take_steps(method, batches):
    for batch in batches:
        assert method(batch).total.isfinite()


def test_batches_of_another_kind_are_refused(kind, build, tiny_network, tiny_data):
    """24 images in a row, then 12 others: no triplets, groups of a class or repeated images are among them."""
    method = build(kind, tiny_network(), tiny_data)
    batches = batch_of(tiny_data, range(24)), batch_of(tiny_data, range(24, 36))
    if method.views > 1:
        batches = [batch._replace(views=(batch.images,) * method.views) for batch in batches]
    if method.needed_sampling == Shuffled():
        take_steps(method, batches)
        assert method.first_steps is None
        return
    with pytest.raises(UserError, match=rf"^{kind.__name__} needs .* this batch is not made of them: let EpochSampl"):
        take_steps(method, batches)


def test_batches_as_the_sampler_draws_them_are_taken_and_looked_at_no_more(
    kind, build, batch_for, tiny_network, tiny_data
):
    method = build(kind, tiny_network(), tiny_data)
    for number in range(2 if method.needed_sampling == Overlapping() else 1):
        method(batch_for(method, number))
    method(batch_for(method, 0))
    assert method.first_steps is None


@pytest.mark.parametrize("size", [2, 4])
def test_every_group_is_of_one_class(size, tiny_data):
    order = next(iter(EpochSampler(ClassUniform(size), tiny_data.labels, 24)))
    right = batch_of(tiny_data, order)
    assert ClassUniform(size).holds(right.labels, right.indices)
    assert not ClassUniform(size).holds(right.labels.roll(1), right.indices.roll(1))
    assert not ClassUniform(size).holds(right.labels[1:], right.indices[1:])


def test_what_repeats_the_batch_before_is_compared_with_it_within_an_epoch(tiny_network, tiny_data, batch_for):
    first, other = batch_for(DLB(tiny_network(), tiny_data)), batch_of(tiny_data, range(24))
    again, next_epoch = (DLB(tiny_network(), tiny_data) for _ in range(2))
    take_steps(again, [first, first])  # as whoever times a step does
    next_epoch(first)
    next_epoch.epoch = 1
    next_epoch(other)
    assert again.first_steps is next_epoch.first_steps is None


def test_nothing_waits_while_a_cuda_graph_is_made(tiny_network, tiny_data, batch_for, monkeypatch):
    method = DLB(tiny_network(), tiny_data)
    method(batch_for(method))
    monkeypatch.setattr("classmates.methods.first_steps.capturing", lambda batch: True)
    method(batch_of(tiny_data, range(24)))
    assert method.first_steps is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": torch.zeros(8).long()}, "says that sample 1 is of class 0, and DataSpec that it is of class 1"),
        ({"indices": torch.arange(30, 38)}, "has index 36, and DataSpec has the labels of 36 samples"),
        ({"indices": torch.arange(8) - 1}, "has index -1, and DataSpec"),
        ({"indices": torch.arange(7)}, r"labels of shape \[8\] and indices of shape \[7\]"),
    ],
)
def test_labels_are_those_of_the_samples(wrong, message, tiny_network, tiny_data):
    method = MCL(tiny_network(), tiny_data)
    with pytest.raises(UserError, match=f"^MCL: .*{message}"):
        method(batch_of(tiny_data, range(8))._replace(**wrong))


def test_evaluation_is_not_looked_at(tiny_network, tiny_data, tiny_batch):
    method = Baseline(tiny_network(), tiny_data).eval()
    method(tiny_batch._replace(labels=tiny_batch.labels.roll(1)))
    assert method.first_steps is not None


class Aging(Baseline):
    """Reads the epoch in a term, without a ramp."""

    def terms(self, outputs, batch):
        return {"ce": lambda: self.epoch + outputs[-1].logits.logsumexp(1).mean()}


@pytest.mark.parametrize("ramped", [OKDDip, Aging])
def test_it_is_noted_once_that_nobody_has_said_how_long_training_is(ramped, tiny_network, tiny_data, tiny_batch):
    method, told = ramped(tiny_network(), tiny_data), ramped(tiny_network(), tiny_data)
    with pytest.warns(UserWarning, match=f"^{ramped.__name__} changes .* nobody has said how many") as warned:
        take_steps(method, [tiny_batch] * 4)
    assert len(warned) == len(method.notes) == 1
    told.epochs = 1
    take_steps(told, [tiny_batch] * 4)
    assert told.notes == []


def test_a_method_without_a_ramp_notes_nothing(tiny_network, tiny_data, tiny_batch):
    for method in (Baseline(tiny_network(), tiny_data), OKDDip(tiny_network(), tiny_data, ramp=0)):
        take_steps(method, [tiny_batch] * 3)
        assert method.notes == []


@pytest.mark.parametrize("ramped", [PSKD, OKDDip, partial(BornAgain, generations=2)])
def test_an_epoch_beyond_the_last_is_refused(ramped, tiny_network, tiny_data, tiny_batch):
    """A share that grows with the epoch would leave its range, and PSKD unlearn the labels."""
    unsaid, told = ramped(tiny_network(), tiny_data), ramped(tiny_network(), tiny_data)
    told.epochs = 2
    for method, beyond in ((unsaid, 1), (told, 2)):
        for epoch in range(beyond):
            method.epoch = epoch
            method(tiny_batch)
        method.epoch = beyond
        with pytest.raises(UserError, match=f"epoch {beyond} .from 0. is none of its {beyond}: set its epochs"):
            method(tiny_batch)
