"""What a comparison's figures show, read back from their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from classmates.comparisons import curves
from classmates.comparisons import figures as comparison_figures
from classmates.comparisons.panels import GREY, robust_limits
from classmates.reporting.theme import BLUE, TEN, VERMILION

ROWS = ["Baseline", "DML", "MCL"]
PLACE = {"data": "digits", "model": "tiny"}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_learning_curves_have_a_line_and_a_band_a_row() -> None:
    frame = pd.DataFrame(
        [{**PLACE, "row": row, "epoch": n, "mean": 10.0 * n, "std": 2.0} for row in ROWS[:2] for n in (1, 2)]
    )
    both = pd.concat([frame, frame.assign(model="other")])
    figure = curves.learning_curves(both, ROWS, "validation top-1, %", "Baseline")
    tiny, other = figure.axes
    assert (tiny.get_title(), other.get_title()) == ("tiny, digits", "other, digits")
    assert [line.get_color() for line in tiny.lines] == [BLUE, VERMILION]
    np.testing.assert_array_equal(tiny.lines[0].get_ydata(), [10, 20])
    band = tiny.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (8, 22)
    assert tiny.get_ylabel() == "validation top-1, %"
    assert legend(figure) == ["Baseline", "DML"]


def test_accuracy_against_time_has_a_point_a_row_with_both_spreads() -> None:
    frame = pd.DataFrame(
        [
            {**PLACE, "row": "DML", "minutes": 2.0, "minutes_std": 0.5, "mean": 70.0, "std": 1.0},
            {**PLACE, "row": "MCL", "minutes": 3.0, "minutes_std": np.nan, "mean": 72.0, "std": np.nan},
        ]
    )
    figure = comparison_figures.accuracy_against_time(frame, ROWS, "accuracy, %")
    (axes,) = figure.axes
    assert [tuple(line.get_xydata()[0]) for line in axes.lines] == [(2, 70), (3, 72)]
    across = axes.collections[0].get_segments()[0]
    np.testing.assert_array_equal(across, [[1.5, 70], [2.5, 70]])
    assert len(axes.collections) == 2  # the row of one seed has no whiskers
    assert axes.get_xlim()[0] == 0


def test_a_score_far_out_does_not_squeeze_the_others() -> None:
    means = [70.0, 71.0, 70.5, 71.5, 30.0]
    rows = [*"abcd", "AT"]
    frame = pd.DataFrame({**PLACE, "row": rows, "minutes": 1.0, "minutes_std": 0.1, "mean": means, "std": 0.5})
    (axes,) = comparison_figures.accuracy_against_time(frame, rows, "accuracy, %").axes
    assert axes.get_ylim() == pytest.approx((69.425, 72.075))
    assert [text.get_text() for text in axes.texts] == ["↓ AT 30.00"]


def test_ablation_bars_start_at_zero_and_published_ones_are_diamonds() -> None:
    frame = pd.DataFrame(
        {**PLACE, "row": ["DML", "MCL"], "reference": "Baseline", "difference": [-1.0, np.nan]}
        | {"low": [-3.0, np.nan], "high": [1.0, np.nan], "published_difference": [np.nan, 2.5], "clear": ""}
    )
    (axes,) = comparison_figures.ablation(frame, "points").axes
    assert [bar.get_width() for bar in axes.patches] == [-1, 0]
    whisker = axes.collections[0].get_segments()[0]
    np.testing.assert_array_equal(whisker, [[-3, 0], [1, 0]])
    diamonds = next(line for line in axes.lines if line.get_marker() == "D")
    np.testing.assert_array_equal(diamonds.get_xdata(), [np.nan, 2.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["DML", "MCL"]


def test_what_is_clear_is_told_by_colour_pattern_and_sign() -> None:
    frame = pd.DataFrame(
        {**PLACE, "row": ["MCL", "DML", "AT"], "reference": "Baseline", "difference": [2.0, 1.0, -2.0]}
        | {"low": [1.0, -1.0, -3.0], "high": [3.0, 3.0, -1.0], "published_difference": np.nan}
        | {"clear": ["better", "", "worse"]}
    )
    figure = comparison_figures.ablation(frame, "points")
    (axes,) = figure.axes
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3
    assert [bar.get_hatch() for bar in axes.patches] == [None, None, "////"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["▲ MCL", "DML", "▼ AT"]
    assert legend(figure) == ["▲ clearly better", "not told apart", "▼ clearly worse"]


def test_a_bar_far_out_is_cut_and_has_its_value() -> None:
    differences = [0.5, 0.4, 0.3, 0.2, 0.1, -0.1, -40.0]
    frame = pd.DataFrame(
        {**PLACE, "row": [f"row {n}" for n in range(7)], "reference": "Baseline", "difference": differences}
        | {"low": np.subtract(differences, 0.2), "high": np.add(differences, 0.2)}
        | {"published_difference": np.nan, "clear": ""}
    )
    (axes,) = comparison_figures.ablation(frame, "points").axes
    low, high = axes.get_xlim()
    assert -0.4 < low < -0.3
    assert 0.7 < high < 0.8
    assert [text.get_text() for text in axes.texts] == ["← −40.00"]
    assert len(comparison_figures.ablation(frame.iloc[:6], "points").axes[0].texts) == 0


def test_rows_that_equal_the_reference_are_drawn() -> None:
    frame = pd.DataFrame(
        {**PLACE, "row": ["DML"], "reference": "Baseline", "difference": 0.0, "low": np.nan, "high": np.nan}
        | {"published_difference": np.nan, "clear": ""}
    )
    (axes,) = comparison_figures.ablation(frame, "points").axes
    low, high = axes.get_xlim()
    assert low < 0 < high


def test_limits_leave_out_what_is_far_out_alone() -> None:
    assert robust_limits([0, 1, 2, 3, 4, np.nan]) == (0, 4)
    assert robust_limits([0, 1, 2, 3, 4, 90]) == (0, 4)
    assert robust_limits([0, 0, 0, 0, 5]) == (0, 5)
    assert robust_limits([2.0]) == (2, 2)
    assert robust_limits([np.nan]) == (0, 1)


def many(columns: dict[str, list[float]], models: tuple[str, ...] = ("tiny",)) -> tuple[pd.DataFrame, list[str]]:
    """The points of nineteen rows and their names, the reference in the middle."""
    rows = [*(f"row {n}" for n in range(9)), "Baseline", *(f"row {n}" for n in range(9, 18))]
    frames = [pd.DataFrame({**PLACE, "model": model, "row": row, **columns}) for model in models for row in rows]
    return pd.concat(frames, ignore_index=True), rows


def test_many_learning_curves_have_a_panel_each_before_the_reference() -> None:
    frame, rows = many({"epoch": [1, 2], "mean": [50.0, 60.0], "std": [1.0, 1.0]}, ("tiny", "other"))
    figure = curves.learning_curves(frame, rows, "validation top-1, %", "Baseline")
    drawn = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in drawn] == 2 * [row for row in rows if row != "Baseline"]
    for axes in drawn:
        behind, line = axes.lines
        assert (behind.get_color(), line.get_color()) == (GREY["color"], BLUE)
    assert legend(figure) == ["Baseline, the reference"]
    assert [part.get_suptitle() for part in figure.subfigs] == ["tiny, digits", "other, digits"]
    alone = frame[
        (frame["model"] == "tiny") | (frame["row"] == "Baseline")
    ]  # all that has finished of the other model
    assert len(curves.learning_curves(alone, rows, "validation top-1, %", "Baseline").subfigs) == 1
    few = curves.learning_curves(frame[frame["row"].isin(rows[:8])], rows, "validation top-1, %", "Baseline")
    assert [len(axes.lines) for axes in few.axes] == [8, 8]


def test_many_calibrations_have_a_panel_each() -> None:
    frame, rows = many({"confidence": [0.5, 0.9], "accuracy": [0.4, 0.8], "images": [10, 20]})
    figure = curves.calibration(frame, rows, "Baseline")
    drawn = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in drawn] == [row for row in rows if row != "Baseline"]
    assert {len(axes.lines) for axes in drawn} == {3}  # the diagonal, the reference, the row


def test_calibration_leaves_out_empty_bins() -> None:
    frame = pd.DataFrame(
        {**PLACE, "row": "MCL", "confidence": [np.nan, 0.4, 0.9], "accuracy": [np.nan, 0.5, 0.8], "images": [0, 3, 9]}
    )
    (axes,) = curves.calibration(frame, ROWS, "Baseline").axes
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[0.4, 0.5], [0.9, 0.8]])


def test_sensitivity_has_a_panel_a_setting_and_levels_through_all() -> None:
    lines = [("alpha", value, 70 + value) for value in (0.01, 0.1)] + [("lam", value, 71.0) for value in (0.6, 0.8)]
    swept = [{"setting": s, "value": v, "mean": m, "std": 0.5, "row": f"{s}={v}"} for s, v, m in lines]
    levels = [{"setting": "", "value": np.nan, "mean": 69.0, "std": 0.1, "row": row} for row in ("Baseline", "DML")]
    figure = comparison_figures.sensitivity(pd.DataFrame(swept + levels), "accuracy, %")
    alpha, lam, *_ = figure.axes
    assert (alpha.get_xlabel(), lam.get_xlabel()) == ("alpha", "lam")
    assert (alpha.get_xscale(), lam.get_xscale()) == ("log", "linear")
    np.testing.assert_array_equal(alpha.lines[0].get_xydata(), [[0.01, 70.01], [0.1, 70.1]])
    assert sum(line.get_linestyle() == "--" for line in lam.lines) == 2
    assert legend(figure) == ["with this value", "Baseline", "DML"]


@pytest.mark.parametrize("classes", [3, 40])
def test_tsne_has_a_line_of_panels_a_row(classes: int) -> None:
    at = [{"row": row, "depth": depth, "stage": f"stage{depth}"} for row in ROWS[:2] for depth in range(3)]
    points = pd.concat(
        [pd.DataFrame({**one, "x": range(40), "y": 0.0, "label": np.arange(40) % classes}) for one in at]
    )
    numbers = pd.DataFrame([{**one, "silhouette": -0.25, "purity": 0.5} for one in at])
    figure = comparison_figures.tsne(points, numbers, [f"class {n}" for n in range(classes)])
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[:3]] == ["stage0", "stage1", "stage2"]
    assert (figure.axes[0].get_ylabel(), figure.axes[3].get_ylabel()) == ("Baseline", "DML")
    assert figure.axes[0].get_xlabel() == "−0.25 | 50.0 %"
    rest, *coloured = figure.axes[0].collections
    assert len(coloured) == min(classes, len(TEN))
    assert len(rest.get_offsets()) == (30 if classes == 40 else 0)


def test_rows_beyond_the_colours_differ_in_shape() -> None:
    rows = [f"row {n}" for n in range(75)]
    frame = pd.DataFrame({**PLACE, "row": rows, "minutes": 1.0, "minutes_std": 0.1, "mean": 70.0, "std": 1.0})
    (axes,) = comparison_figures.accuracy_against_time(frame, rows, "accuracy, %").axes
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 75
