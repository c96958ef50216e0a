"""The numbers of a comparison: one row for each method on each model and data set, beside what was published."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import Any

import pandas as pd

from classmates.comparisons.recipe import Recipe
from classmates.comparisons.statistics import CONFIDENCE, holm, paired_difference, spread, warning_of_few
from classmates.tasks.metrics import wilson_interval

COSTS = ("seconds", "steps", "seconds_per_step", "peak_memory_mib", "image_passes")
DONE = "done"


def finished_runs(runs: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The finished ones of ``runs`` (of ``read_runs``) with their ``score``, the table's figure in percent."""
    finished = runs[runs["status"] == DONE].copy()

    def in_percent(run: pd.Series) -> float:
        score = recipe.score_of(str(run["row"]))
        share = float(run[score.who]) if pd.notna(run[score.who]) else nan
        return 100 * (1 - share if score.as_ == "error" else share)

    finished["score"] = [in_percent(run) for _, run in finished.iterrows()]
    return finished


def comparison_table(runs: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """One line for each data set, model and row of the recipe, and for what was run beyond it; also if not run.

    Accuracies, errors and their differences are in percent. ``mean`` ± ``std`` of ``who`` over ``seeds`` runs;
    ``difference`` to the reference paired by seed, with ``low`` to ``high`` by Student's t, by bootstrap, its p value
    and that of Holm's correction over all lines; ``better`` where the t interval excludes zero on the good side, and
    ``marked`` where that outlasts the correction; ``seeds_needed`` to resolve the difference. ``one_run``: half the
    Wilson interval of a single run, which comes of the number of test images. Costs are means over seeds;
    ``time_ratio`` (of a step), ``training_ratio`` (of all steps) and ``memory_ratio`` are to the reference.
    ``published`` is as printed, ``beyond_published`` ours minus theirs. ``note``: what is missing.

    Args:
        runs: of :func:`classmates.experiments.records.read_runs`, one line a run.
        recipe: what was compared; rows and models of its published values have lines too.
    """
    finished = finished_runs(runs, recipe)
    published = [row for values in recipe.published.values() for row in values]
    rows = ordered([*recipe.rows, *published], runs["row"])
    lines = []
    for data in ordered(recipe.data, runs["data"]):
        for model in ordered([*recipe.models, *recipe.published], runs["model"]):
            here = finished[(finished["model"] == model) & (finished["data"] == data)]
            planned = runs[(runs["model"] == model) & (runs["data"] == data)]
            lines += [_line(row, model, data, here, planned, recipe) for row in rows]
    table = pd.DataFrame(lines)
    table["p_holm"] = holm(table["p"].tolist())
    table["marked"] = table["better"] & (table["p_holm"] < 1 - CONFIDENCE)
    return table


def ordered(known: Iterable[str], found: Iterable[str]) -> list[str]:
    """What the recipe names, in its order, then what else was run."""
    return list(dict.fromkeys([*known, *found]))


def _line(
    row: str, model: str, data: str, here: pd.DataFrame, planned: pd.DataFrame, recipe: Recipe
) -> dict[str, Any]:
    reference, score = str(recipe.reference), recipe.score_of(row)
    runs, base = here[here["row"] == row], here[here["row"] == reference]
    mean, std, seeds = spread(runs["score"].tolist())
    difference = paired_difference(by_seed(runs), by_seed(base) if row != reference else {})
    good = difference.low > 0 if score.as_ == "accuracy" else difference.high < 0
    costs = {name: _mean(runs[name]) for name in COSTS}
    sign = -1 if score.as_ == "error" else 1
    others = {
        name: spread([100 * (value if sign > 0 else 1 - value) for value in pd.to_numeric(runs[name])])
        for name in ("peers", "ensemble")
    }
    published, number = _published(recipe, row, model, data)
    return {
        "row": row,
        "model": model,
        "data": data,
        "reference": reference,
        "who": score.who,
        "scale": score.as_,
        "seeds": seeds,
        "mean": mean,
        "std": std,
        "one_run": _half_interval(runs, score.who),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "bootstrap_low": difference.bootstrap_low,
        "bootstrap_high": difference.bootstrap_high,
        "pairs": difference.pairs,
        "p": difference.p,
        "p_holm": nan,
        "better": good,
        "seeds_needed": nan if difference.seeds_needed is None else difference.seeds_needed,
        "peers": others["peers"].mean,
        "peers_std": others["peers"].std,
        "ensemble": others["ensemble"].mean,
        "ensemble_std": others["ensemble"].std,
        "nll": _mean(runs["nll"]),
        "ece": 100 * _mean(runs["ece"]),
        **costs,
        "training_ratio": costs["seconds"] / _mean(base["seconds"]),
        "time_ratio": costs["seconds_per_step"] / _mean(base["seconds_per_step"]),
        "memory_ratio": costs["peak_memory_mib"] / _mean(base["peak_memory_mib"]),
        "published": published,
        "published_number": number,
        "beyond_published": mean - number,
        "note": _note(planned[planned["row"] == row]["status"], seeds, score.who),
    }


def by_seed(runs: pd.DataFrame) -> dict[int, float]:
    """The scores of one row's finished runs."""
    return dict(zip(runs["seed"].astype(int), runs["score"].astype(float), strict=True))


def _mean(values: pd.Series) -> float:
    return float(pd.to_numeric(values).mean())


def _half_interval(runs: pd.DataFrame, who: str) -> float:
    """Half of the Wilson interval, in points, of a run as good as these are on average; NaN of no run."""
    share, images = _mean(runs[who]), _mean(runs["test_images"])
    if not images > 0 or not 0 <= share <= 1:
        return nan
    low, high = wilson_interval(round(share * images), round(images))
    return 50 * (high - low)


def _published(recipe: Recipe, row: str, model: str, data: str) -> tuple[str, float]:
    """The value as printed, and as a number; of the recipe's own data only."""
    value = recipe.published.get(model, {}).get(row) if data in recipe.data else None
    if value is None:
        return "", nan
    if isinstance(value, str):
        return value, float(value.partition("±")[0])
    return f"{value:.2f}", float(value)


def _note(statuses: pd.Series, seeds: int, who: str) -> str:
    if statuses.empty:
        return "not run"
    parts = [f"{count} {status}" for status, count in statuses.value_counts().items() if status != DONE]
    if seeds == 0 and (statuses == DONE).any():
        parts.insert(0, f"has no {who}")
    return ", ".join(parts)


def remarks(table: pd.DataFrame) -> list[str]:
    """What has to be said beside the table of a comparison, as sentences."""
    said = []
    compared = int(table["p"].notna().sum())
    if compared:
        said.append(
            f"Marked (bold, or *): better than {table['reference'].iloc[0]}, as the 95 % interval of the difference "
            "(Student's t, paired by seed) excludes zero, also after Holm's correction for all comparisons. "
            "Marked rows are not thereby better than one another."
        )
        said.append(
            "The intervals are about other seeds of training on these images, tested on these images; what other "
            "test images would show is a further question."
        )
    else:
        said.append("No row is marked as better: an interval takes two seeds or more, and some spread.")
    if compared > 1:
        said.append(
            f"{compared} comparisons with the reference were made, and where there is no difference one interval in "
            f"twenty excludes zero by chance: {int(table['better'].sum())} excluded it on the good side, "
            f"{int(table['marked'].sum())} remain after the correction."
        )
    fewest = table.loc[table["seeds"] > 0, "seeds"]
    few = warning_of_few(int(fewest.min())) if len(fewest) else "Nothing has finished yet."
    if few is not None:
        said.append(few)
    if table["one_run"].notna().any():
        said.append(
            f"The number of test images alone leaves a single run uncertain by up to ± {table['one_run'].max():.2f} "
            "points (Wilson, 95 %); the rows share these images, so differences are surer than that."
        )
    if (table["published"] != "").any():
        said.append(
            "Published values are as printed, of other hardware, software and seeds, and of other settings where the "
            "title or the notes say so; they enter no test here."
        )
    if table["peak_memory_mib"].notna().any():
        said.append(
            "Memory is the peak on the GPU, or without one that of the whole process, the interpreter and the images "
            "included: no measure of what a method needs."
        )
    missing = int((table["seeds"] == 0).sum())
    if missing:
        said.append(f"{missing} of {len(table)} lines have no finished run and stay empty.")
    return said
