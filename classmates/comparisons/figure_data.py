"""The numbers behind a comparison's figures: from the folders of finished runs to one table each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.extmath import softmax

from classmates._progress import bar
from classmates.comparisons.statistics import spread
from classmates.errors import UserError
from classmates.reporting import analysis
from classmates.reporting.page import flat
from classmates.runs.reading import FinishedRun, read_run
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.metrics import ECE

PLACE = ["data", "model", "row"]


class Member(NamedTuple):
    """A finished run and its place in the comparison."""

    data: str
    model: str
    row: str
    seed: int
    run: FinishedRun


def read_members(finished: pd.DataFrame, rows: Sequence[str]) -> tuple[list[Member], list[str]]:
    """Read the finished runs with all their files, rows in the order given; say what is wrong with damaged ones."""
    members, problems = [], []
    for line in finished.to_dict("records"):
        try:
            run = read_run(Path(line["folder"]))
        except UserError as error:
            problems.append(str(error))
        else:
            members.append(Member(line["data"], line["model"], line["row"], int(line["seed"]), run))
    data, models = list(finished["data"].unique()), list(finished["model"].unique())

    def order(one: Member) -> tuple[int, ...]:
        return data.index(one.data), models.index(one.model), rows.index(one.row), one.seed

    return sorted(members, key=order), problems


def learning_curves(members: Iterable[Member]) -> pd.DataFrame:
    """Return the student's headline on validation images by epoch, shares in percent: mean and std over seeds.

    Empty without validation.
    """
    lines = [
        (member.data, member.model, member.row, int(epoch), protocol.main.scale * float(value))
        for member in members
        if (protocol := member.run.record.protocol).monitored in (metrics := member.run.metrics)
        for epoch, value in zip(metrics["epoch"], metrics[protocol.monitored], strict=True)
    ]
    frame = pd.DataFrame(lines, columns=[*PLACE, "epoch", "value"])
    curves = frame.groupby([*PLACE, "epoch"], sort=False)["value"]
    return curves.agg(seeds="count", mean="mean", std="std").reset_index()


def accuracy_against_time(finished: pd.DataFrame) -> pd.DataFrame:
    """Return training time in minutes and the table's score: mean and std over seeds."""
    minutes = finished.assign(minutes=pd.to_numeric(finished["seconds"]) / 60)
    return (
        minutes.groupby(PLACE, sort=False)
        .agg(
            seeds=("score", "count"),
            minutes=("minutes", "mean"),
            minutes_std=("minutes", "std"),
            mean=("score", "mean"),
            std=("score", "std"),
        )
        .reset_index()
    )


def ablation(table: pd.DataFrame) -> pd.DataFrame:
    """Return differences to the reference with 95 % interval, ours and those of the published values.

    clear: "better" or "worse" where the difference outlasts Holm's correction, else nothing.
    """
    is_reference = table["row"] == table["reference"]
    printed = table[is_reference].set_index(["data", "model"])["published_number"]
    beside = pd.MultiIndex.from_frame(table[["data", "model"]])
    frame = table[[*PLACE, "reference", "seeds", "difference", "low", "high"]].copy()
    frame["clear"] = np.select([table["marked"], table["marked_worse"]], ["better", "worse"], "")
    frame["published_difference"] = table["published_number"].to_numpy() - printed.reindex(beside).to_numpy()
    drawn = frame[["difference", "published_difference"]].notna().any(axis=1)
    return frame[~is_reference & drawn].reset_index(drop=True)


def calibration(members: Sequence[Member]) -> pd.DataFrame:
    """Return the reliability of the student's probabilities, the test predictions of all seeds together.

    Of runs that classify; empty without any.
    """
    frames = []
    classifying = [one for one in members if one.run.record.protocol.name == ClassificationProtocol.name]
    for place, group in by_row(classifying):
        logits = [member.run.evaluation.logits for member in group]
        probabilities = softmax(np.concatenate(logits))
        labels = np.concatenate([member.run.evaluation.labels for member in group])
        correct = probabilities.argmax(axis=1) == labels
        bins = analysis.reliability(probabilities.max(axis=1), correct, bins=10)
        ece = float(np.mean([member.run.record.test["student"][ECE].value for member in group]))
        frames.append(pd.DataFrame({**place, "runs": len(group), ECE: ece, **bins._asdict()}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=PLACE)


def sensitivity(table: pd.DataFrame, members: Sequence[Member]) -> pd.DataFrame:
    """Return scores by the value of each numeric setting that varies alone among the rows of one method.

    The method is the one with the most rows; where all its rows but one agree, a setting has its usual value. A row
    belongs to the line of a setting if all others are usual, so the row of usual values belongs to every line. Lines
    without a ``setting`` are those to compare with: the reference and the best row of another method.
    """
    frames = []
    for (data, model), part in table[table["seeds"] > 0].groupby(["data", "model"], sort=False):
        here = {member.row: member.run.settings for member in members if member[:2] == (data, model)}
        frames += _sensitivity(part[part["row"].isin(here)].set_index("row", drop=False), here)
    columns = ["data", "model", "setting", "value", "row", "seeds", "mean", "std"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _sensitivity(part: pd.DataFrame, settings: dict[str, dict[str, Any]]) -> list[pd.DataFrame]:
    """Return the lines of one model and data set."""
    methods = part["row"].map(lambda row: settings[row]["method"]["class_path"])
    if not methods.duplicated().any():
        return []
    most = methods.value_counts().index[0]
    swept = pd.DataFrame({row: numbers_of(settings[row]) for row in part.index[methods == most]}).T
    usual = swept.mode().iloc[0]
    unusual = swept.ne(usual) & ~(swept.isna() & usual.isna())
    frames = []
    for setting in unusual.columns[unusual.any()]:
        rows = swept.index[~unusual.drop(columns=setting).any(axis=1)]
        if swept.loc[rows, setting].nunique() > 1:
            line = part.loc[rows].assign(setting=setting, value=swept.loc[rows, setting])
            frames.append(line.sort_values("value"))
    others = part[methods != most].sort_values("mean", ascending=bool(part["better_if"].eq("less").all()))
    is_reference = others["row"] == others["reference"]
    levels = pd.concat([others[is_reference], others[~is_reference].head(1)])
    return [*frames, levels.assign(setting="", value=np.nan)]


def numbers_of(settings: dict[str, Any]) -> dict[str, float]:
    """Return the numeric settings under short names; a method's options go by their own."""
    return {
        name.removeprefix("method.init_args."): float(value)
        for name, value in flat(settings).items()
        if isinstance(value, Real) and not isinstance(value, bool) and name != "seed"
    }


def tsne(members: Sequence[Member]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lay out the student's features at every depth, and measure how they cluster by class.

    Returns:
        Of each row's first seed the points of the layout (``x``, ``y`` of each test image with its ``label``), and of
        all its seeds the mean and std of silhouette and of nearest-neighbour purity, both of the features themselves.
    """
    points, numbers = [], []
    for place, group in bar(list(by_row(members)), "t-SNE of the features", "row"):
        first, labels = group[0].run.evaluation, group[0].run.evaluation.feature_labels
        if len(labels) < analysis.FEWEST_SAMPLES:
            continue
        for depth, (name, features) in enumerate(first.features):
            layout = analysis.feature_map(name, features, labels)
            x, y = layout.points.T
            at = {**place, "depth": depth, "stage": name}
            points.append(pd.DataFrame({**at, "seed": group[0].seed, "x": x, "y": y, "label": labels}))
            clustered = [
                analysis.clustering(member.run.evaluation.features[depth][1], member.run.evaluation.feature_labels)
                for member in group
            ]
            silhouettes = spread([silhouette if silhouette is not None else np.nan for silhouette, _ in clustered])
            purities = spread([purity for _, purity in clustered])
            numbers.append(
                {**at, "width": features.shape[1], "seeds": len(group)}
                | {"silhouette": silhouettes.mean, "silhouette_std": silhouettes.std}
                | {"purity": purities.mean, "purity_std": purities.std}
            )
    return pd.concat(points, ignore_index=True) if points else pd.DataFrame(columns=PLACE), pd.DataFrame(numbers)


def by_row(members: Sequence[Member]) -> Iterator[tuple[dict[str, str], list[Member]]]:
    """Yield the runs of each row on each model and data set; members must be in the order of ``read_members``."""
    for place, group in groupby(members, key=lambda one: one[:3]):
        yield dict(zip(PLACE, place, strict=True)), list(group)
