"""Groups of images, such as those of one patient, which a split does not divide."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from classmates.data.parts import Split
from classmates.data.splits import stratified_split
from classmates.errors import UserError

DIVIDED = "groups of images are both in training and in another part"
"""The words by which a note on groups is known."""

DRAWS = 10
"""How often groups are drawn until every class is on both sides: of one that two groups have, both may be drawn."""


def grouped_split(labels: Tensor, groups: Tensor, size: float, seed: int, **told: Any) -> tuple[Tensor, Tensor]:
    """Split a part off as ``stratified_split`` does, so that all samples of a group are on the same side.

    Groups are drawn, as many as the size says of all, but one of each class at least; a group counts for that of its
    classes which the fewest groups have, or where it would then be alone, for the commonest. One that is alone with
    its class is divided, so that the class is on both sides. Without groups of several samples the split is that of
    ``stratified_split``, and so it is, with any group divided, where in every draw some class is on one side only.

    Args:
        groups: [N], the number of each sample's group.
        told: for the error messages, as ``stratified_split`` has them.

    The rest, and what is returned and raised, is as there.
    """
    plain = stratified_split(labels, size, seed, **told)
    units, classes = _units(labels, groups)
    if len(classes) == len(labels):
        return plain
    classes = _without_single(classes)
    least = len(classes.unique())
    count = size if isinstance(size, int) else round(size * len(classes))
    with suppress(UserError):  # a class has too few groups
        for draw in range(DRAWS):
            _, drawn = stratified_split(classes, min(max(count, least), len(classes) - least), seed + draw)
            off = torch.isin(units, drawn)
            if len(labels[off].unique()) == len(labels[~off].unique()) == len(labels.unique()):
                return (~off).nonzero()[:, 0], off.nonzero()[:, 0]
    return plain


def _without_single(classes: Tensor) -> Tensor:
    """Return the classes of what is drawn, where a class of one is replaced by the commonest."""
    counts = classes.bincount()
    return torch.where(counts[classes] == 1, counts.argmax(), classes)


def _units(labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is drawn as one: its number for each sample, [N], in the order of the first ones, and its class."""
    groups = groups.unique(return_inverse=True)[1]
    having, classes = torch.stack([groups, labels]).unique(dim=1)
    rarest_first = classes.bincount()[classes].argsort(stable=True)
    by_group = rarest_first[having[rarest_first].argsort(stable=True)]
    counts = having.bincount()
    of_groups = classes[by_group][counts.cumsum(0) - counts]
    alone = torch.isin(groups, having[classes.bincount()[classes] == 1])
    apart = torch.where(alone, len(of_groups) + torch.arange(len(labels)), groups)
    _, firsts, numbers = np.unique(apart.numpy(), return_index=True, return_inverse=True)
    order = firsts.argsort()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    of_samples = torch.where(alone, labels, of_groups[groups])
    return torch.from_numpy(rank[numbers]), of_samples[torch.from_numpy(firsts[order])]


def connected(first: Tensor, second: Tensor) -> Tensor:
    """Return the groups, [N], of samples that are of one group in either numbering, or through others that are."""
    ends = torch.stack([first, second + first.max() + 1]).numpy()
    size = int(ends.max()) + 1
    links = coo_array((np.ones(len(first), dtype=np.int8), (ends[0], ends[1])), shape=(size, size))
    _, numbers = connected_components(links, directed=False)
    return torch.from_numpy(numbers[ends[0]]).long()


def tell_divided(name: str, parts: Mapping[str, Split | None]) -> str | None:
    """Return how many groups of the data set of this name are divided between training and another part, if any."""
    groups = {part: split.groups for part, split in parts.items() if split is not None and split.groups is not None}
    trained = groups.pop("train", torch.tensor([], dtype=torch.int64)).unique()
    divided = int(torch.isin(trained, torch.cat([*groups.values()])).sum()) if groups else 0
    if not divided:
        return None
    return f"{DIVIDED} of '{name}': {divided}; the scores of that part are too good"
