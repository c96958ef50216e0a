import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.losses.ramps import progress
from classmates.losses.soft_targets import soft_cross_entropy
from classmates.methods import PSKD
from classmates.methods.pskd import label_share


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 9))
def test_two_weighted_terms_are_the_papers_cross_entropy_with_mixed_targets(seed, alpha, epoch):
    """Cross-entropy is linear in its targets: (1 − α_t) CE(z, y) + α_t CE(z, P) = CE(z, (1 − α_t) y + α_t P)."""
    random = torch.Generator().manual_seed(seed)
    logits, past = (torch.randn(5, 3, generator=random, dtype=torch.float64) for _ in range(2))
    labels, past = torch.randint(3, (5,), generator=random), past.softmax(-1)
    share = alpha * progress(epoch, 10)
    assert label_share(epoch, 10, alpha=alpha) == pytest.approx(1 - share)
    terms = (1 - share) * F.cross_entropy(logits, labels) + share * soft_cross_entropy(logits, past)
    targets = (1 - share) * torch.eye(3, dtype=torch.float64)[labels] + share * past
    assert terms.item() == pytest.approx(-(targets * logits.log_softmax(-1)).sum(-1).mean().item(), rel=1e-5)


@pytest.fixture
def make(tiny_network, tiny_data):
    def make(epoch=0, epochs=10, **options):
        method = PSKD(tiny_network(), tiny_data, **options)
        method.epoch, method.epochs = epoch, epochs
        return method

    return make


def test_the_first_epoch_is_cross_entropy(make, tiny_batch):
    output = make()(tiny_batch)
    torch.testing.assert_close(output.total, F.cross_entropy(output.outputs[-1].logits, tiny_batch.labels))


@pytest.mark.parametrize(("epoch", "share"), [(1, 0.16), (4, 0.4), (9, 0.8)])
def test_the_share_of_the_past_grows_to_alpha(make, tiny_batch, epoch, share):
    method = make(epoch)
    past = torch.randn(36, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    method.memory.copy_(past)
    output = method(tiny_batch)
    targets = (1 - share) * torch.eye(4)[tiny_batch.labels] + share * past[tiny_batch.indices]
    expected = -(targets * output.outputs[-1].logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(output.total, expected)


def test_gradient_is_prediction_less_target(make, tiny_batch):
    method = make(9)
    method.memory.fill_(0.25)
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    past = method.past(logits, tiny_batch)
    ce = F.cross_entropy(logits, tiny_batch.labels)
    (method.weight("ce") * ce + method.weight("past") * past).backward()
    targets = 0.2 * torch.eye(4)[tiny_batch.labels] + 0.8 * 0.25
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - targets).detach() / 9)


@pytest.mark.parametrize("memory_dtype", ["float32", "float16"])
def test_a_step_remembers_its_own_predictions_by_index(make, tiny_batch, memory_dtype):
    method = make(memory_dtype=memory_dtype)
    before, storage = method.memory.clone(), method.memory.data_ptr()
    output = method(tiny_batch)
    predictions = output.outputs[-1].logits.detach().softmax(-1).to(before.dtype)
    assert torch.equal(method.memory[tiny_batch.indices], predictions)
    others = [index for index in range(36) if index not in tiny_batch.indices.tolist()]
    assert torch.equal(method.memory[others], before[others])
    assert method.memory.data_ptr() == storage
    assert not method.memory.requires_grad


def test_evaluation_remembers_nothing(make, tiny_batch):
    method = make().eval()
    before = method.memory.clone()
    method(tiny_batch)
    assert torch.equal(method.memory, before)


def test_a_resumed_method_goes_on_with_what_was_remembered(make, tiny_batch):
    method = make(3)
    method(tiny_batch)
    state = method.state_dict()
    assert state["memory"].shape == (36, 4)
    resumed = make(3)
    resumed.load_state_dict(state)
    resumed.epoch = method.epoch = 4
    torch.testing.assert_close(resumed(tiny_batch).total, method(tiny_batch).total, rtol=0, atol=0)
    assert torch.equal(resumed.memory, method.memory)


def test_all_processes_batches_are_remembered(make, tiny_batch, monkeypatch):
    """The other process saw samples 4 and 20; of sample 4, which both saw, the higher rank's counts."""
    other_indices, other = torch.tensor([4, 20]), torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])
    theirs = iter([other_indices, other])
    monkeypatch.setattr("classmates.methods.pskd.gather", lambda own: torch.cat([own, next(theirs)]))
    method = make()
    method(tiny_batch)
    assert torch.equal(method.memory[[4, 20]], other)


@pytest.mark.parametrize(
    ("options", "message"), [({"alpha": 1.5}, "alpha=1.5"), ({"memory_dtype": "half"}, "unknown memory_dtype 'half'")]
)
def test_wrong_options_are_named(make, options, message):
    with pytest.raises(UserError, match=message):
        make(**options)
