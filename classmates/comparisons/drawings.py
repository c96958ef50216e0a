"""The figures of a comparison's report: the numbers behind each, the drawing, title and caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from classmates.comparisons import curves, figure_data
from classmates.comparisons import figures as comparison_figures
from classmates.comparisons.figure_data import Member
from classmates.comparisons.numbers import difference_unit, unit
from classmates.comparisons.panels import crowded
from classmates.comparisons.ranking import in_order
from classmates.reporting.theme import MOST_CLASSES_TOLD_APART, TEN

USUAL = ("ablation", "learning_curves", "accuracy_against_time", "calibration")
"""The figures that are drawn where a recipe names none."""


@dataclass(frozen=True)
class Material:
    """The material of figures: the comparison's table, its finished runs with their files, its rows in order."""

    table: pd.DataFrame
    finished: pd.DataFrame
    members: Sequence[Member]
    rows: Sequence[str]

    @property
    def reference(self) -> str:
        """The row that the others are compared with."""
        return str(self.table["reference"].iloc[0])

    def in_order(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame with the rows in the order of the printed table."""
        place = [*figure_data.PLACE]
        printed = in_order(self.table)[place]
        return printed.merge(frame, on=place, how="inner")

    def small(self, frame: pd.DataFrame) -> str:
        """Return what a caption adds where each row has a small panel of its own."""
        return f" Each row has a panel; behind it, in grey, {self.reference}." if crowded(frame) else ""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with its file's ``name``, its title and caption, and the tables behind it by their files' names."""

    name: str
    title: str
    caption: str
    figure: Figure
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def ablation(material: Material) -> Iterator[Drawing]:
    """Draw the differences to the reference."""
    frame = figure_data.ablation(in_order(material.table))
    if len(frame):
        of_what = difference_unit(material.table)
        yield Drawing(
            "ablation",
            "Differences to the reference",
            f"How far each row lies from the reference, in {of_what}, paired by seed. Whiskers are 95 % intervals "
            "(Student’s t), absent where there are too few seeds; a whisker across zero means that the difference is "
            "not established. A bar far out is cut at the edge, its value beside zero; whiskers may go on beyond "
            "the edge. Open diamonds: the published difference.",
            comparison_figures.ablation(frame, of_what),
            {"ablation": frame},
        )


def learning_curves(material: Material) -> Iterator[Drawing]:
    """Draw the student's headline on validation images by epoch."""
    frame = figure_data.learning_curves(material.members)
    if len(frame):
        main = material.members[0].run.record.protocol.main
        yield Drawing(
            "learning_curves",
            "Learning curves",
            f"The student’s {main.name} on validation images by epoch: the mean over seeds, and a band of one "
            f"standard deviation to either side.{material.small(frame)}",
            curves.learning_curves(
                material.in_order(frame), material.rows, f"validation {main.heading}", material.reference
            ),
            {"learning_curves": frame},
        )


def accuracy_against_time(material: Material) -> Iterator[Drawing]:
    """Draw the score against the training time."""
    frame = figure_data.accuracy_against_time(material.finished)
    if len(frame):
        yield Drawing(
            "accuracy_against_time",
            "Score against training time",
            "Mean and standard deviation over seeds, both ways. The time is that of training alone, on the machine "
            "as it was; runs that shared a machine or ran on different ones cannot be compared in it.",
            comparison_figures.accuracy_against_time(frame, material.rows, unit(material.table)),
            {"accuracy_against_time": frame},
        )


def calibration(material: Material) -> Iterator[Drawing]:
    """Draw how far the student's probabilities can be taken at their word."""
    frame = figure_data.calibration(material.members)
    if len(frame):
        yield Drawing(
            "calibration",
            "Calibration",
            "How often the student’s prediction is right, by the probability it gives to it, in ten bins over the "
            "test images of all seeds. Below the diagonal it is too sure. Bins of few images say little; the CSV has "
            f"their numbers.{material.small(frame)}",
            curves.calibration(material.in_order(frame), material.rows, material.reference),
            {"calibration": frame},
        )


def sensitivity(material: Material) -> Iterator[Drawing]:
    """Draw the score by each setting that varies alone, a drawing for each model and data set."""
    frame = figure_data.sensitivity(material.table, material.members)
    for (data, model), part in frame.groupby(["data", "model"], sort=False):
        if (part["setting"] != "").any():
            yield Drawing(
                f"sensitivity-{model}-{data}",
                f"Sensitivity to settings: {model}, {data}",
                "One setting is varied at a time, the others stay at their usual values; mean and standard deviation "
                "over seeds. Dashed: the best row of another method, and the reference where it is of another one.",
                comparison_figures.sensitivity(part, unit(material.table)),
                {f"sensitivity-{model}-{data}": part},
            )


def tsne(material: Material) -> Iterator[Drawing]:
    """Draw the features at each depth, a drawing for each model and data set."""
    points, numbers = figure_data.tsne(material.members)
    for (data, model), part in points.groupby(["data", "model"], sort=False):
        names = next(one.run.class_names for one in material.members if (one.data, one.model) == (data, model))
        said = numbers[(numbers["data"] == data) & (numbers["model"] == model)]
        grey = f" Of the {len(names)} classes the first {len(TEN)} have a colour; the others are grey."
        told = grey if len(names) > MOST_CLASSES_TOLD_APART else ""
        yield Drawing(
            f"tsne-{model}-{data}",
            f"Features at each depth: {model}, {data}",
            "t-SNE of the student’s features of the same test images, by row and depth, for the first seed. Under "
            "each: the silhouette (−1 to 1; higher means tighter, better separated classes) and the share of images "
            "whose nearest neighbour is of their own class, means over seeds, both measured on the features "
            f"themselves: trust these numbers, as distances between clusters in a t-SNE picture mean little.{told}",
            comparison_figures.tsne(part, said, names),
            {f"tsne-{model}-{data}": part, f"tsne-{model}-{data}-numbers": said},
        )


FIGURES: Mapping[str, tuple[Callable[[Material], Iterator[Drawing]], str]] = {
    "ablation": (ablation, "no row but the reference has finished, and none has a published value"),
    "learning_curves": (learning_curves, "no finished run had a validation split"),
    "accuracy_against_time": (accuracy_against_time, "no run has finished"),
    "calibration": (calibration, "no run that classifies has finished"),
    "sensitivity": (sensitivity, "no two finished rows of one method differ in a single setting that is a number"),
    "tsne": (tsne, "no finished run stored the features of enough test images"),
}
"""By the name that recipes have for it: what draws it, and the reason where there is nothing to draw."""


def draw(names: Sequence[str], material: Material) -> tuple[list[Drawing], dict[str, str]]:
    """Draw the figures of these names, and say why those are missing of which there is nothing to draw."""
    drawings: list[Drawing] = []
    missing = {}
    for name in names or USUAL:
        make, reason = FIGURES[name]
        made = list(make(material))
        drawings += made
        if not made:
            missing[name] = reason
    return drawings, missing
