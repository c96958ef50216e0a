import pytest
import torch
from torch import Tensor

from classmates.contracts import NetworkOutput
from classmates.networks.heads.projections import UnitProjections


def outputs(*embeddings: Tensor) -> list[NetworkOutput]:
    return [NetworkOutput(torch.empty(len(embedding), 2), embedding, ()) for embedding in embeddings]


def test_each_peer_has_a_layer_of_its_own_onto_the_unit_sphere() -> None:
    torch.manual_seed(0)
    projections = UnitProjections([3, 5], 4)
    narrow, wide = torch.randn(6, 3), torch.randn(6, 5)
    embeddings = projections(outputs(narrow, wide))
    assert embeddings.shape == (2, 6, 4)
    for embedding, layer, row in zip((narrow, wide), projections.layers, embeddings, strict=True):
        expected = embedding.double() @ layer.weight.double().T + layer.bias.double()
        torch.testing.assert_close(row.double(), expected / expected.norm(dim=1, keepdim=True))


def test_unit_length_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = UnitProjections([8, 8], 16)(outputs(torch.randn(32, 8), torch.randn(32, 8)))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 32), rtol=0, atol=1e-6)


def test_an_embedding_of_zeros_gives_no_infinity() -> None:
    projections = UnitProjections([3], 4)
    torch.nn.init.zeros_(projections.layers[0].bias)
    assert torch.equal(projections(outputs(torch.zeros(2, 3))), torch.zeros(1, 2, 4))


def test_as_many_outputs_as_layers() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        UnitProjections([3], 4)(outputs(torch.zeros(2, 3), torch.zeros(2, 3)))
