import pytest
import timm
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.losses.rkd import relational_angle, relational_distance
from classmates.methods import RKD

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def network(name: str = "resnet8") -> nn.Module:
    return timm.create_model(name, num_classes=4, in_chans=1)


def test_distances_and_angles_of_embeddings_of_any_width() -> None:
    method = RKD(network(), DATA, teacher=network("resnet18_cifar")).eval()
    output = method(BATCH)
    embeddings = output.outputs[-1].embedding, method.teacher(BATCH.images).embedding
    distance, angle = relational_distance(*embeddings).item(), relational_angle(*embeddings).item()
    assert output.total.item() == pytest.approx(output.terms["ce"].item() + 25 * distance + 50 * angle, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "terms"), [({"angle": 0}, {"ce", "distance"}), ({"distance": 0}, {"ce", "angle"})]
)
def test_distance_or_angle_alone(options: dict[str, float], terms: set[str]) -> None:
    assert set(RKD(network(), DATA, teacher=network(), **options)(BATCH).terms) == terms
