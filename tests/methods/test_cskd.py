import copy

import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import ClassPairs
from classmates.errors import UserError
from classmates.methods import CSKD


@pytest.fixture
def batch(tiny_data):
    indices = torch.tensor([0, 4, 1, 5, 2, 2, 3, 7])
    images = torch.randn(8, *tiny_data.input_shape, generator=torch.Generator().manual_seed(0))
    return Batch(images, tiny_data.labels[indices], indices)


def test_the_loss_is_the_formula_on_the_anchors(tiny_network, tiny_data, batch):
    method = CSKD(tiny_network(), tiny_data, lam=2.0)
    network = copy.deepcopy(method.student())
    output = method(batch)
    anchors, partners = network(batch.images[0::2]), network(batch.images[1::2])  # each with its own BN statistics
    q, p = (anchors / 4).log_softmax(-1), (partners / 4).softmax(-1)
    kl = 16 * (p * (p.log() - q)).sum(-1).mean()
    expected = F.cross_entropy(anchors, batch.labels[0::2]) + 2 * kl
    torch.testing.assert_close(output.total, expected)
    assert output.outputs[-1].logits.shape == (4, 4)
    torch.testing.assert_close(method(batch._replace(indices=None)).total, expected)  # it remembers nothing
    output.total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_partners_pass_without_gradients_and_move_the_running_statistics(tiny_network, tiny_data, batch):
    method = CSKD(tiny_network(), tiny_data)
    images = batch.images.clone().requires_grad_()
    method(batch._replace(images=images)).total.backward()
    assert (images.grad[0::2].flatten(1).abs().sum(1) > 0).all()
    assert torch.equal(images.grad[1::2], torch.zeros(4, *images.shape[1:]))
    assert method.student().stage1[1].num_batches_tracked == 2


def test_equal_predictions_leave_cross_entropy(tiny_network, tiny_data, batch):
    images = batch.images.clone()
    images[1::2] = images[0::2]
    terms = CSKD(tiny_network(), tiny_data)(batch._replace(images=images)).terms
    assert terms["distillation"].item() == pytest.approx(0, abs=1e-5)


def test_without_distillation_no_partner_is_looked_at(tiny_network, tiny_data, batch):
    method = CSKD(tiny_network(), tiny_data, lam=0)
    assert list(method(batch).terms) == ["ce"]
    assert method.student().stage1[1].num_batches_tracked == 1


def test_batches_come_in_pairs_of_a_class(tiny_network, tiny_data, tiny_batch):
    method = CSKD(tiny_network(), tiny_data)
    assert method.sampling == ClassPairs()
    with pytest.raises(UserError, match=r"a batch of 9 images is not made of pairs: use ClassPairs\(\)"):
        method.eval()(tiny_batch)


def test_a_class_of_one_image_is_noted(tiny_network):
    with pytest.warns(UserWarning, match="2 of 4 classes have a single image, .*: classes 0, 2"):
        method = CSKD(tiny_network(), DataSpec(4, torch.tensor([0, 1, 1, 2, 3, 3]), (3, 16, 16)))
    assert len(method.notes) == 1


@pytest.mark.parametrize(("alone", "said"), [(5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4, ...")])
def test_of_many_such_classes_the_first_are_named(alone, said, tiny_network):
    labels = torch.tensor([*range(alone), 6, 6, *range(alone, 6), *range(alone, 6)])
    with pytest.warns(UserWarning, match=f"{alone} of 7 classes have a single image"):
        method = CSKD(tiny_network(7), DataSpec(7, labels, (3, 16, 16)))
    assert method.notes[0].endswith(f": classes {said}")


def test_one_image_a_class_is_refused_before_training():
    with pytest.raises(UserError, match="none of the 4 classes has two training images"):
        EpochSampler(ClassPairs(), torch.arange(4), batch_size=4)


@pytest.mark.parametrize(("options", "message"), [({"lam": -1}, "lam=-1"), ({"temperature": 0}, "temperature=0")])
def test_wrong_options_are_named(tiny_network, tiny_data, options, message):
    with pytest.raises(UserError, match=message):
        CSKD(tiny_network(), tiny_data, **options)
