"""Random cases of the multi-view contrast, and its equations as loops, for every test of it."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.losses.contrast import anchor_log_mean, multi_view_contrast
from classmates.losses.negatives import (
    ClassOrder,
    IndependentNegatives,
    Negatives,
    all_negatives,
    independent_negatives,
    shared_negatives,
)

PEERS, BATCH, SAMPLES, DIMENSION, K, TEMPERATURE = 3, 5, 30, 6, 7, 0.2
DRAWS = {"independent": independent_negatives, "shared": shared_negatives, "all": all_negatives}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
each_normaliser = pytest.mark.parametrize("normaliser", ["batch", "anchor", "first_batch"])


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def contrast_loss(*arguments, **options) -> Tensor:
    return multi_view_contrast(*arguments, **options).loss


def contrast_log_mean(*arguments, **options) -> Tensor:
    return multi_view_contrast(*arguments, **options).log_mean


class Case:
    """Random banks and a batch: every sample has its class, and its row in the banks."""

    def __init__(
        self,
        draw,
        peers=PEERS,
        batch=BATCH,
        samples=SAMPLES,
        dimension=DIMENSION,
        k=K,
        dtype=torch.float64,
        written=None,
    ):
        torch.manual_seed(0)
        self.classes = ClassOrder(torch.arange(samples) % 4)
        self.indices = torch.randperm(samples)[:batch]
        self.labels = self.classes.labels[self.indices]
        self.embeddings = unit(peers, batch, dimension).requires_grad_()
        self.rows = unit(peers, samples, dimension).to(dtype)
        self.negatives: Negatives = draw(self.rows, self.classes, self.labels, k, written=written)

    def positives(self, kind: str) -> Tensor:
        return self.embeddings if kind == "live" else self.rows[:, self.indices]

    def normaliser(self, kind: str) -> str | Tensor:
        if kind == "batch":
            return kind
        if kind == "anchor":
            return anchor_log_mean(self.embeddings, self.rows, TEMPERATURE)
        earlier = unit(*self.embeddings.shape)
        return contrast_log_mean(earlier, self.positives("bank"), self.negatives, temperature=TEMPERATURE)


def negatives_of(negatives: Negatives, peer: int, sample: int) -> list[Tensor]:
    """The rows of one peer's bank that one sample is contrasted with."""

    def written(row) -> bool:
        return negatives.written is None or bool(negatives.written[row])

    if isinstance(negatives, IndependentNegatives):
        return [negatives.rows[peer, j] for j in negatives.indices[sample] if written(j)]
    other = negatives.row_labels != negatives.labels[sample]
    return [row for j, row in enumerate(negatives.rows[peer]) if other[j] and written(j)]


def published(embeddings, positives, negatives, normaliser, temperature=TEMPERATURE, pairs=None) -> Tensor:
    """Eq. 6 to 8 for each ordered pair and sample; the expectation of Eq. 8 is the mean over the given negatives."""
    n, k = SAMPLES, negatives.num_negatives
    total = torch.zeros((), dtype=torch.float64)
    for a, b in pairs or itertools.permutations(range(len(embeddings)), 2):
        positive, negative, z = [], [], []
        for i in range(embeddings.shape[1]):
            rows = negatives_of(negatives, b, i)
            positive.append(torch.exp(embeddings[a, i] @ positives[b, i].detach().double() / temperature))
            negative.append([torch.exp(embeddings[a, i] @ row.double() / temperature) for row in rows])
            z.append(n * (positive[i] + k * sum(negative[i]) / len(rows)).detach() / (k + 1))
        if isinstance(normaliser, Tensor):
            z = list(n * normaliser[a, b].exp().expand(len(z)))
        else:
            z = [sum(z) / len(z)] * len(z)
        for i in range(len(z)):
            posterior = [(e / z[i]) / (e / z[i] + k / n) for e in (positive[i], *negative[i])]
            rejected = [torch.log(1 - p) for p in posterior[1:]]
            total = total - (torch.log(posterior[0]) + k * sum(rejected) / len(rejected)) / len(z)
    return total
