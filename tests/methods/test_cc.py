import math

import pytest
import timm
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.sampling import ClassUniform, Shuffled
from classmates.errors import UserError
from classmates.losses.similarity import correlation_congruence
from classmates.methods import CC

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def network(name: str = "resnet8") -> nn.Module:
    return timm.create_model(name, num_classes=4, in_chans=1)


def test_embeddings_are_compared() -> None:
    method = CC(network(), DATA, teacher=network("resnet18_cifar"), gamma=0.3, order=3).eval()
    output = method(BATCH)
    embeddings = output.outputs[-1].embedding, method.teacher(BATCH.images).embedding
    assert [embedding.shape[1] for embedding in embeddings] == [64, 512]
    expected = correlation_congruence(*embeddings, gamma=0.3, order=3).item()
    assert output.total.item() == pytest.approx(output.terms["ce"].item() + 100 * expected, rel=1e-5)


def test_batches_are_class_uniform_unless_asked_otherwise() -> None:
    assert CC(network(), DATA, teacher=network()).sampling == ClassUniform()
    assert CC(network(), DATA, teacher=network(), class_uniform=False).sampling == Shuffled()


def test_wrong_options_are_told() -> None:
    for gamma in (0.0, math.inf, math.nan):
        with pytest.raises(UserError, match=f"gamma={gamma}"):
            CC(network(), DATA, teacher=network(), gamma=gamma)
    with pytest.raises(UserError, match="order=0"):
        CC(network(), DATA, teacher=network(), order=0)
