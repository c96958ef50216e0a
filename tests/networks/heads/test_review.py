import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.networks.heads.review import Review

STUDENT = [(4, 8, 8), (6, 4, 4), (6, 1, 1)]
TEACHER = [(5, 8, 8), (7, 2, 2), (9, 1, 1)]


def maps(shapes: list[tuple[int, int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *shape, generator=generator) for shape in shapes]


def test_every_map_is_the_teachers_in_shape() -> None:
    fused = Review(STUDENT, TEACHER)(maps(STUDENT))
    assert [tuple(one.shape[1:]) for one in fused] == TEACHER


def test_each_stage_is_weighed_against_what_is_deeper() -> None:
    review = Review(STUDENT, TEACHER).eval()
    for module in review.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
    given = maps(STUDENT)
    deeper = None
    for own, fusion, found in reversed(list(zip(given, review.fusions, review(given), strict=True))):
        reduced = fusion.reduce(own)
        if deeper is not None:
            # nearest neighbours: every pixel of the deeper map is repeated
            times = reduced.shape[-1] // deeper.shape[-1]
            repeated = deeper.repeat_interleave(times, 2).repeat_interleave(times, 3)
            weights = fusion.attention(torch.cat([reduced, repeated], 1)).sigmoid()
            reduced = weights[:, :1] * reduced + weights[:, 1:] * repeated
        step = reduced.shape[-1] // fusion.size[-1]
        deeper = reduced[:, :, ::step, ::step]
        torch.testing.assert_close(found, fusion.expand(deeper))
    assert review.fusions[-1].attention is None


def test_a_deep_stage_learns_from_the_teachers_shallow_one() -> None:
    given = [one.requires_grad_() for one in maps(STUDENT)]
    F.mse_loss(Review(STUDENT, TEACHER)(given)[0], maps(TEACHER)[0]).backward()
    assert all(one.grad.any() for one in given)
    shallow, deep, embedding = (one.requires_grad_() for one in maps(STUDENT))
    F.mse_loss(Review(STUDENT, TEACHER)([shallow, deep, embedding])[2], maps(TEACHER)[2]).backward()
    assert embedding.grad.any()
    assert shallow.grad is None
    assert deep.grad is None


@pytest.mark.parametrize(("width", "reviewed"), [(6, 6), (2048, 512)])
def test_channels_are_the_embeddings_up_to_512(width: int, reviewed: int) -> None:
    review = Review([(4, 2, 2), (width, 1, 1)], [(5, 2, 2), (9, 1, 1)])
    assert {fusion.reduce[0].out_channels for fusion in review.fusions} == {reviewed}
