"""The numbers of a comparison: one row for each method on each model and data set, beside what was published."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import Any

import pandas as pd

from classmates.comparisons.outcomes import outcome_intervals
from classmates.comparisons.ranking import distances
from classmates.comparisons.recipe import Recipe, ScoreChoice
from classmates.comparisons.runs import DONE, further, protocol_of
from classmates.comparisons.statistics import CONFIDENCE, holm, paired_difference, spread
from classmates.errors import UserError, unknown
from classmates.tasks.protocol import MetricFormat, ProtocolRecord

HAS_NO = "has no"
"""How the note of a line begins whose runs do not have the table's figure."""
COSTS = ("seconds", "steps", "seconds_per_step", "peak_memory_mib", "image_passes")


def check_scores(recipe: Recipe, protocol: ProtocolRecord) -> None:
    """Raise UserError where a recipe's table asks for a figure that runs judged by this protocol do not have.

    Also where a row has another figure than the reference, from which no difference can be taken.
    """
    for choice in (recipe.score, *recipe.scores.values()):
        if choice.metric is not None and choice.metric not in protocol.metrics:
            raise unknown("metric of the table", choice.metric, protocol.metrics)
        how = format_of(choice, protocol)
        if choice.who != "student" and choice.metric not in (None, protocol.headline):
            raise UserError(
                f"the table asks for the {choice.metric} of the {choice.who}, but of metrics other than "
                f"{protocol.headline} there are only the student's: say who: student"
            )
        if choice.as_ == "error" and not (how.percent and how.better == "more"):
            raise UserError(f"the table asks for the {how.name} as: error, but it is no accuracy: leave out the 'as'")
    if recipe.reference is None:
        return
    reference = _figure(recipe.score_of(recipe.reference), protocol)
    for row, choice in recipe.scores.items():
        if (figure := _figure(choice, protocol)) != reference:
            raise UserError(
                f"scores: '{row}' has the {figure} and {recipe.reference} the {reference}, so that they do not "
                "compare: a row may have another 'who' alone"
            )


def _figure(choice: ScoreChoice, protocol: ProtocolRecord) -> str:
    """Return the name of the figure that a choice takes: its metric, and whether as error."""
    return f"{choice.metric or protocol.headline}{' error' if choice.as_ == 'error' else ''}"


def format_of(choice: ScoreChoice, protocol: ProtocolRecord) -> MetricFormat:
    """Return how the figure of a table is written."""
    return protocol.metrics[choice.metric or protocol.headline]


def finished_runs(runs: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return the finished ones of ``runs`` with their ``score``, the table's figure as shown (shares in percent).

    Raises:
        UserError: the runs do not have that figure.
    """
    finished = runs[runs["status"] == DONE].copy()
    protocol = protocol_of(runs)
    if protocol is None:
        return finished.assign(score=nan)
    check_scores(recipe, protocol)

    def shown(run: pd.Series) -> float:
        choice = recipe.score_of(str(run["row"]))
        column = choice.who if choice.metric in (None, protocol.headline) else str(choice.metric)
        return _shown(run[column], choice, format_of(choice, protocol))

    finished["score"] = [shown(run) for _, run in finished.iterrows()]
    return finished


def _shown(value: Any, choice: ScoreChoice, how: MetricFormat) -> float:
    """Return a metric as the table has it; NaN of none."""
    known = float(value) if pd.notna(value) else nan
    return how.scale * (1 - known if choice.as_ == "error" else known)


def comparison_table(runs: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return one line for each data set, model and row that is compared, run or not.

    Shares and their differences are in percent. ``mean`` ± ``std`` of ``who``'s ``metric`` over ``seeds`` runs, as
    accuracy or error (``scale``), of which more or less is ``better_if``; ``difference`` to the reference paired by
    seed, with ``low`` to ``high`` by Student's t, by bootstrap, its p value and that of Holm's correction over all
    lines; ``better`` and ``worse`` where the t interval excludes zero on that side, ``marked`` and ``marked_worse``
    where that outlasts the correction; ``seeds_needed`` to resolve the difference. ``best``, ``to_best`` with its
    interval, and ``within_noise`` are as ``ranking.distances`` has them. ``one_run``: half the 95 % interval of a
    single run's headline, mean over runs, as their results have it. ``outcome_low`` to ``outcome_high``: the interval
    of the difference over seeds and over the ``outcomes`` that both rows were judged on one by one, where those are
    kept. ``peers`` and ``ensemble`` are of the headline, and one column has each metric of the student beside the
    score's. Costs are means over seeds; ``time_ratio`` (of a step), ``training_ratio`` (of all steps) and
    ``memory_ratio`` are to the reference. ``published`` is as printed, ``beyond_published`` ours minus theirs.
    ``precision``: those that the runs were trained in. ``note``: what is missing. ``protocol``: how the runs were
    judged; None where none has finished.

    Args:
        runs: one line a run, of the columns of :func:`classmates.comparisons.runs.columns`; those of other
            comparisons in the same folder have no line.
        recipe: what was compared; rows and models of its published values have lines too.

    Raises:
        UserError: the runs do not have the figure that the recipe asks for.
    """
    finished = finished_runs(runs, recipe)
    protocol = protocol_of(runs)
    published = [row for values in recipe.published.values() for row in values]
    compared = runs[~runs["status"].str.startswith("other ")]
    rows = ordered([*recipe.rows, *published], compared["row"])
    lines = []
    for data in ordered(recipe.data, compared["data"]):
        for model in ordered([*recipe.models, *recipe.published], compared["model"]):
            here = finished[(finished["model"] == model) & (finished["data"] == data)]
            planned = runs[(runs["model"] == model) & (runs["data"] == data)]
            lines += [_line(row, model, data, here, planned, recipe, protocol) for row in rows]
    table = pd.DataFrame(lines)
    table["p_holm"] = holm(table["p"].tolist())
    outlasts = table["p_holm"] < 1 - CONFIDENCE
    table["marked"], table["marked_worse"] = table["better"] & outlasts, table["worse"] & outlasts
    return table.join(_to_best(table, finished)).join(outcome_intervals(table, finished))


def _to_best(table: pd.DataFrame, finished: pd.DataFrame) -> pd.DataFrame:
    """Return how each line compares with the best of its model and data set."""
    compared = []
    for (data, model), part in table.groupby(["data", "model"], sort=False):
        here = finished[(finished["model"] == model) & (finished["data"] == data)]
        scores = {str(row): by_seed(runs) for row, runs in here.groupby("row", sort=False)}
        compared.append(distances(part, scores))
    return pd.concat(compared)


def ordered(known: Iterable[str], found: Iterable[str]) -> list[str]:
    """Return what the recipe names, in its order, then what else was run."""
    return list(dict.fromkeys([*known, *found]))


def _line(
    row: str,
    model: str,
    data: str,
    here: pd.DataFrame,
    planned: pd.DataFrame,
    recipe: Recipe,
    protocol: ProtocolRecord | None,
) -> dict[str, Any]:
    reference, choice = str(recipe.reference), recipe.score_of(row)
    runs, base = here[here["row"] == row], here[here["row"] == reference]
    mean, std, seeds = spread(runs["score"].tolist())
    difference = paired_difference(by_seed(runs), by_seed(base) if row != reference else {})
    more = choice.as_ == "accuracy" and (protocol is None or format_of(choice, protocol).better == "more")
    costs = {name: _mean(runs[name]) for name in COSTS}
    published, number = _published(recipe, row, model, data)
    return {
        "row": row,
        "model": model,
        "data": data,
        "reference": reference,
        "protocol": protocol,
        "who": choice.who,
        "metric": choice.metric if choice.metric or protocol is None else protocol.headline,
        "scale": choice.as_,
        "better_if": "more" if more else "less",
        "seeds": seeds,
        "mean": mean,
        "std": std,
        "one_run": _half_interval(runs, choice, protocol),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "bootstrap_low": difference.bootstrap_low,
        "bootstrap_high": difference.bootstrap_high,
        "pairs": difference.pairs,
        "p": difference.p,
        "p_holm": nan,
        "better": difference.low > 0 if more else difference.high < 0,
        "worse": difference.high < 0 if more else difference.low > 0,
        "seeds_needed": nan if difference.seeds_needed is None else difference.seeds_needed,
        **_other_networks(runs, choice, protocol),
        **_other_metrics(runs, choice, protocol),
        **costs,
        "training_ratio": costs["seconds"] / _mean(base["seconds"]),
        "time_ratio": costs["seconds_per_step"] / _mean(base["seconds_per_step"]),
        "memory_ratio": costs["peak_memory_mib"] / _mean(base["peak_memory_mib"]),
        "published": published,
        "published_number": number,
        "beyond_published": mean - number,
        "precision": ", ".join(sorted(set(runs["precision"].dropna()))),
        "note": _note(planned[planned["row"] == row]["status"], seeds, choice.who),
    }


def _other_networks(runs: pd.DataFrame, choice: ScoreChoice, protocol: ProtocolRecord | None) -> dict[str, float]:
    """Return mean and deviation of the headline of peers and ensemble, as accuracy or error like the score."""
    found = {}
    for name in ("peers", "ensemble"):
        values = [] if protocol is None else [_shown(value, choice, protocol.main) for value in runs[name]]
        found[name], found[f"{name}_std"], _ = spread(values)
    return found


def _other_metrics(runs: pd.DataFrame, choice: ScoreChoice, protocol: ProtocolRecord | None) -> dict[str, float]:
    """Return the means of the student's metrics beside the score's, shares in percent."""
    if protocol is None:
        return {}
    columns = {name: "student" if name == protocol.headline else name for name in further(protocol, choice.metric)}
    return {name: protocol.metrics[name].scale * _mean(runs[of]) for name, of in columns.items() if of in runs}


def by_seed(runs: pd.DataFrame) -> dict[int, float]:
    """Return the scores of one row's finished runs."""
    return dict(zip(runs["seed"].astype(int), runs["score"].astype(float), strict=True))


def _mean(values: pd.Series) -> float:
    return float(pd.to_numeric(values).mean())


def _half_interval(runs: pd.DataFrame, choice: ScoreChoice, protocol: ProtocolRecord | None) -> float:
    """Return half the 95 % interval of a single run, mean over runs; NaN of no run and of other metrics."""
    if protocol is None or choice.metric not in (None, protocol.headline):
        return nan
    return protocol.main.scale * _mean(runs[f"{choice.who}_interval"])


def _published(recipe: Recipe, row: str, model: str, data: str) -> tuple[str, float]:
    """Return the value as printed, and as a number; of the recipe's own data only."""
    value = recipe.published.get(model, {}).get(row) if data in recipe.data else None
    if value is None:
        return "", nan
    if isinstance(value, str):
        return value, float(value.partition("±")[0].replace("−", "-"))
    return f"{value:.2f}", float(value)


def _note(statuses: pd.Series, seeds: int, who: str) -> str:
    if statuses.empty:
        return "not run"
    parts = [f"{count} {status}" for status, count in statuses.value_counts().items() if status != DONE]
    if seeds == 0 and (statuses == DONE).any():
        parts.insert(0, f"{HAS_NO} {who}")
    return ", ".join(parts)
