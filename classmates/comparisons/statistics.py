"""Statistics of a few runs with different seeds: spreads, paired differences with intervals, corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, isfinite, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 9_999
IMAGE_RESAMPLES = 2_000
ROUNDING = 1e-12
"""The error of differences of fractions of images in floating point, relative to their size."""


class Spread(NamedTuple):
    """Mean and standard deviation (n - 1 in the denominator) of ``size`` values; NaN where it takes more of them."""

    mean: float
    std: float
    size: int


def spread(values: Sequence[float]) -> Spread:
    """Return mean ± standard deviation over seeds; values that are NaN are left out."""
    known = np.asarray([value for value in values if isfinite(value)], np.float64)
    mean = float(known.mean()) if known.size else nan
    return Spread(mean, float(known.std(ddof=1)) if known.size > 1 else nan, known.size)


class Difference(NamedTuple):
    """The difference of one row from the reference, over the ``pairs`` seeds that both have.

    low, high: 95 % interval of the mean by Student's t. bootstrap_low, bootstrap_high: by resampling the pairs.
    p: of the paired t test that the mean is zero. seeds_needed: :func:`seeds_needed` at the spread that was seen.
    All of these are NaN (None) for fewer than two pairs, and for pairs without any spread: equal differences, as
    small test sets give them, say nothing of how far other seeds would spread.
    """

    pairs: int
    mean: float
    std: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    p: float
    seeds_needed: int | None


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """Return the mean of ``values[seed] - reference[seed]`` over the seeds that both have, with its 95 % intervals.

    Runs with one seed share their split and the order of their images, so pairing takes out what these contribute.
    The t interval is mean ± t(0.975, n - 1) · std / √n; the bootstrap interval is that of percentiles of 9,999
    resamples, with a fixed seed, and is too narrow for few seeds (for n = 3 it cannot leave the range of the three).
    """
    seeds = [seed for seed in values if seed in reference and isfinite(values[seed] - reference[seed])]
    differences = np.asarray([values[seed] - reference[seed] for seed in seeds], np.float64)
    mean, std, pairs = spread(differences.tolist())
    # Accuracies are fractions of images: differences that agree but for rounding have no spread.
    if pairs < 2 or std <= ROUNDING * max(1.0, abs(mean)):
        return Difference(pairs, mean, std, nan, nan, nan, nan, nan, None)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    resampled = stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return Difference(
        pairs,
        mean,
        std,
        float(low),
        float(high),
        float(resampled.low),
        float(resampled.high),
        float(test.pvalue),
        seeds_needed(mean, std),
    )


class ImageDifference(NamedTuple):
    """Mean difference over seeds and images, with its 95 % interval."""

    mean: float
    low: float
    high: float


def image_difference(values: ArrayLike, reference: ArrayLike, groups: ArrayLike | None = None) -> ImageDifference:
    """Return the mean of ``values - reference`` and its 95 % interval over seeds and images.

    The interval is that of percentiles of 2,000 resamples of both seeds and images, each with replacement and
    independently (the bootstrap of two crossed factors: Owen, Annals of Applied Statistics, 2007), with a fixed
    seed. A seed is a pair of runs and an image is the same one for both, so pairing takes out what they share. With
    one seed the images alone are resampled, and the interval says nothing of other seeds; with few it is too narrow.
    Images of one group, such as a patient, are no independent ones: groups are resampled, each with all its images.
    One image or group alone leaves no interval (NaN).

    Args:
        values: [seeds, images], such as whether an image's class is right.
        reference: [seeds, images], the same of the reference, seeds and images in the same order.
        groups: [images], equal for images of one group; each image its own if None.

    Raises:
        ValueError: other shapes than these, or nothing in them.
    """
    mine, other = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if mine.shape != other.shape or mine.ndim != 2 or not mine.size:
        raise ValueError(f"values and reference must be [seeds, images], got {mine.shape} and {other.shape}")
    differences = mine - other
    units = np.arange(differences.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(units)
    sums = np.stack([np.bincount(units, of_seed) for of_seed in differences])
    seeds, count = sums.shape
    if count == 1:
        return ImageDifference(float(differences.mean()), nan, nan)
    random = np.random.default_rng(0)
    means = []
    for _ in range(IMAGE_RESAMPLES):
        of_seeds, drawn = random.integers(seeds, size=seeds), random.integers(count, size=count)
        means.append(sums[of_seeds][:, drawn].sum() / (seeds * sizes[drawn].sum()))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ImageDifference(float(differences.mean()), float(low), float(high))


def seeds_needed(difference: float, std: float) -> int | None:
    """Return how many seeds would show a true difference of this size in four comparisons of five.

    The smallest n at which the two-sided paired t test at 5 % has a power of 80 %: with T' the noncentral t
    distribution of n - 1 degrees of freedom and noncentrality √n · |difference| / std, the n at which
    P(T' > t(0.975, n - 1)) >= 0.8; about (1.96 + 0.84)² · (std / difference)² for many.
    Both numbers are themselves estimates from few seeds, and so is this one. None for a difference of zero, rounding
    aside, which no number of seeds tells from zero.
    """
    effect = abs(difference) / std
    if abs(difference) <= ROUNDING * max(1.0, std):
        return None
    normal = stats.norm.ppf((1 + CONFIDENCE) / 2)
    # Guenther's approximation (The American Statistician, 1981) is from below: a few steps up from it.
    count = max(2, floor(((normal + stats.norm.ppf(POWER)) / effect) ** 2 + normal**2 / 2) - 1)
    while _power(effect, count) < POWER:
        count += 1
    return count


def _power(effect: float, count: int) -> float:
    """Return the power of the two-sided paired t test, ``count`` pairs and a mean of ``effect`` standard deviations.

    Left out is the chance of a significant result in the wrong direction, which is negligible where it matters.
    """
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return float(stats.nct.sf(critical, count - 1, effect * sqrt(count)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values of several comparisons with one reference (Scand. Journal of Statistics, 1979).

    Rejecting those below 0.05 keeps the chance of even one false claim below 5 %, whatever their dependence. NaN, a
    comparison that could not be tested, stays NaN and does not count.
    """
    p = np.asarray(p_values, np.float64)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(len(p), nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted.tolist()


def warning_of_few(seeds: int) -> str | None:
    """Return what has to be said of results over so few seeds; None from five on."""
    if seeds >= 5:
        return None
    if seeds < 2:
        return "One seed has no spread: nothing here says which row is better."
    factor = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) / sqrt(seeds)
    few = "Very few seeds" if seeds < 3 else "Few seeds"
    return f"{few}: with {seeds}, a 95 % interval reaches {factor:.1f} standard deviations to either side."
