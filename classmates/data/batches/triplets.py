"""A data set as triplets (anchor o, positive p, negative n): y_o = y_p ≠ y_n."""

from __future__ import annotations

import torch
from torch import Tensor

from classmates.data.batches.randomness import shuffled_by_class
from classmates.errors import UserError


def disjoint_triplets(labels: Tensor, generator: torch.Generator) -> Tensor:
    """As CORSD's paper trains: every image in at most one triplet of an epoch (section 2).

    About a third of each class becomes (o, p) pairs, the rest negatives: ⌊N/3⌋ triplets unless one class outnumbers
    the negatives that the others can give. How many there are depends on the class sizes alone. The released code
    draws with replacement instead: ``triplets_with_replacement``.

    labels: [N], class numbers from 0. Returns [P, 3] sample indices in random order.

    Raises:
        UserError: no triplet can be made of these labels.
    """
    require_triplets(labels)
    pairs = _pairs_per_class(labels.bincount(), generator)
    order, rank = shuffled_by_class(labels, generator)
    paired = rank < 2 * pairs[labels[order]]
    positives = order[paired].view(-1, 2)
    pool = order[~paired]
    pool = pool[torch.randperm(len(pool), generator=generator)]
    negatives = _without_conflicts(labels[positives[:, 0]], pool, labels, generator)
    triplets = torch.column_stack([positives, negatives])
    return triplets[torch.randperm(len(triplets), generator=generator)]


def triplets_with_replacement(labels: Tensor, generator: torch.Generator) -> Tensor:
    """As CORSD's released code trains: every image once as the anchor, its positive (which may be the anchor itself)
    and its negative drawn at random.

    labels: [N], class numbers from 0. Returns [N, 3] sample indices, the anchors in random order.

    Raises:
        UserError: there is one class only, or no class has two images.
    """
    require_triplets(labels)
    by_class = labels.argsort()
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    anchors = torch.randperm(len(labels), generator=generator)
    same, first = counts[labels[anchors]], starts[labels[anchors]]
    positives = by_class[first + _random_below(same, generator)]
    place = _random_below(len(labels) - same, generator)  # among the other classes: skip the anchor's own
    negatives = by_class[place + same * (place >= first)]
    return torch.column_stack([anchors, positives, negatives])


def require_triplets(labels: Tensor) -> None:
    """Raise UserError unless a triplet can be made: two images of one class and one of another."""
    counts = labels.bincount()
    if (counts > 0).sum() < 2:
        raise UserError(f"all {len(labels)} training images are of one class; triplets need two classes or more")
    if counts.max() < 2:
        raise UserError("no class has two training images; triplets need a class with two images or more")


def _pairs_per_class(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Return the number of (o, p) pairs that each class gives, [K], so that every pair finds a negative."""
    total = int(counts.sum())
    pairs = counts // 3
    spare = total // 3 - int(pairs.sum())  # what rounding down per class has left over
    takers = (counts // 2 > pairs).nonzero()[:, 0]
    takers = takers[torch.randperm(len(takers), generator=generator)]

    largest = int(counts.argmax())
    rest = int(pairs.sum()) + min(spare, len(takers)) - int(pairs[largest])
    if pairs[largest] > total - int(counts[largest]) - 2 * rest:
        # The largest class will be cut below. Were the extra pair sometimes its own and sometimes another's, the
        # number of triplets would change with the epoch: serve it first.
        takers = torch.cat([takers[takers == largest], takers[takers != largest]])
    pairs[takers[:spare]] += 1

    rest = int(pairs.sum() - pairs[largest])
    pairs[largest] = min(int(pairs[largest]), total - int(counts[largest]) - 2 * rest)
    return pairs


def _without_conflicts(pair_labels: Tensor, pool: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Choose a negative from the pool for each pair: the next one, exchanged where it is of the pair's own class.

    pair_labels: [P]. pool: [L ≥ P] sample indices, shuffled. Returns [P] sample indices.
    """
    count = len(pair_labels)
    partner = torch.full_like(pool, -1)  # the class of the pair that each slot of the pool serves; -1: unused
    partner[:count] = pair_labels
    conflict = labels[pool] == partner
    per_class = pair_labels[conflict[:count]].bincount(minlength=int(labels.max()) + 1)
    worst = int(per_class.argmax())
    excess = 2 * int(per_class[worst]) - int(per_class.sum())
    if excess > 0:  # more of one class than of all others: these cannot settle it among themselves
        stuck = (conflict & (partner == worst)).nonzero()[:excess, 0]
        free = (~conflict & (partner != worst) & (labels[pool] != worst)).nonzero()[:excess, 0]
        pool[stuck], pool[free] = pool[free], pool[stuck]
        conflict[stuck] = False
        per_class[worst] -= excess
    # What is left, sorted by class and rolled by the largest class's share, meets no class of its own. The classes
    # are sorted in a random order, so that none always gets the same neighbour's.
    left = conflict.nonzero()[:, 0]
    left = left[torch.randperm(len(per_class), generator=generator)[partner[left]].argsort()]
    pool[left] = pool[left].roll(int(per_class.max()))
    return pool[:count]


def _random_below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an integer from 0 to each limit, exclusive. Double precision: exact for any data that fit in memory."""
    return (torch.rand(len(limits), generator=generator, dtype=torch.float64) * limits).long()
