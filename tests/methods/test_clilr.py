"""CL-ILR: the tree, the divided gradients, and the consensus."""

import pytest
import timm
import torch

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods.clilr import CLILR, consensus_kl
from classmates.networks.building.complexity import count_parameters
from classmates.networks.peers.tree import DivideGradient, PeerTree

DATA = DataSpec(5, torch.arange(40) % 5, (3, 32, 32))


def student(name="resnet8", **options):
    return timm.create_model(name, num_classes=5, **options)


def batch():
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(6) % 5, torch.arange(6))


def test_dividing_is_the_identity_forwards_and_divides_backwards():
    tensor = torch.randn(4, 3, requires_grad=True)
    divided = DivideGradient.apply(tensor, 2)
    assert torch.equal(divided, tensor)
    (divided * torch.arange(3.0)).sum().backward()
    torch.testing.assert_close(tensor.grad, torch.arange(3.0).expand(4, 3) / 2)


def test_parameters_of_the_tree_are_the_papers():
    """methods: ResNet-32 for 100 classes, four heads on a tree, 1 642 016 parameters."""
    data = DataSpec(100, torch.arange(200) % 100, (3, 32, 32))
    tree = PeerTree(timm.create_model("resnet32", num_classes=100), data, 4)
    assert count_parameters(tree) == 1_642_016


def test_who_follows_whom():
    tree = PeerTree(student(), DATA, 4).eval()
    outputs = tree(batch().images)
    first = [output.stages[0] for output in outputs]
    assert all(map(torch.equal, first, [first[-1]] * 4))
    second = [output.stages[1] for output in outputs]
    assert torch.equal(second[3], second[2])
    assert torch.equal(second[1], second[0])
    assert not torch.equal(second[3], second[1])
    assert len({tuple(output.logits.flatten().tolist()) for output in outputs}) == 4
    assert torch.equal(outputs[-1].logits, tree.student(batch().images))
    assert all(not trunk.outputs for trunk in tree.trunks)


def test_the_trunk_is_trained_at_the_pace_of_one_network():
    """With four equal branches the divided gradients of four equal losses are the gradient of one."""
    tree = PeerTree(student(), DATA, 4, start="same")
    for peer in tree.networks[:-1]:
        peer.fc.load_state_dict(tree.student.fc.state_dict())
    images, labels, *_ = batch()
    tree.eval()
    shared = tree.student.layer1[0].conv1.weight
    (together,) = torch.autograd.grad(sum(losses_of(tree, images, labels)), shared)
    (alone,) = torch.autograd.grad(torch.nn.functional.cross_entropy(tree.student(images), labels), shared)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    own = tree.student.layer3[0].conv1.weight
    (beside,) = torch.autograd.grad(sum(losses_of(tree, images, labels)), own)
    (alone,) = torch.autograd.grad(torch.nn.functional.cross_entropy(tree.student(images), labels), own)
    torch.testing.assert_close(beside, alone, rtol=1e-4, atol=1e-6)


def losses_of(tree, images, labels):
    return [torch.nn.functional.cross_entropy(output.logits, labels) for output in tree(images)]


def test_consensus_by_loops():
    logits = torch.randn(3, 4, 5)
    slowly = sum(softened_kl(logits[h], sum(logits[j] for j in range(3) if j != h) / 2, 2.0) for h in range(3))
    torch.testing.assert_close(consensus_kl(logits, 2.0), slowly)
    assert consensus_kl(logits[:1].expand(3, -1, -1), 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_consensus_is_made_in_float32():
    logits = torch.randn(3, 4, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = consensus_kl(logits, 2.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, consensus_kl(logits.float(), 2.0), rtol=1e-6, atol=0)


def test_the_consensus_is_held_constant():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    consensus_kl(logits, 2.0).backward()
    p = (logits.detach() / 2).softmax(-1)
    torch.testing.assert_close(logits.grad[0], (p[0] - p[1]) / 3 / 2, rtol=1e-4, atol=1e-6)


def test_total_and_the_ensemble_of_all_heads():
    method = CLILR(student(), DATA, hard=0.25)
    outputs, terms, total = method(batch())
    torch.testing.assert_close(total, 0.25 * terms["ce"] + 0.75 * 4 * terms["consensus"])
    ensemble = method.predictions(outputs)["ensemble"]
    torch.testing.assert_close(ensemble, sum(output.logits for output in outputs) / 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"peers": 3}, "2, 4, 8"),
        ({"peers": 8}, "at most 4"),
        ({"hard": 2.0}, "hard"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_what_cannot_work(wrong, message):
    with pytest.raises(UserError, match=message):
        CLILR(student(), DATA, **wrong)
