"""What the report's figures show, read back from their artists."""

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from classmates.reporting import figures
from classmates.reporting.analysis import FeatureMap, reliability
from classmates.reporting.theme import BLUE, TEN, VERMILION
from classmates.tasks.metrics import METRICS
from classmates.tasks.protocol import Metric

EPOCHS = np.arange(1, 4)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_intervals_show_each_network_in_its_row() -> None:
    metrics = {"student": Metric(0.9, 0.85, 0.95), "peer1": Metric(0.8, 0.7, 0.9)}
    (panel,) = figures.metric_intervals(metrics, METRICS["top1"]).axes
    assert panel.get_xlabel() == "test top-1 accuracy"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["student", "peer1"]
    interval, dot = panel.lines[2:]
    np.testing.assert_allclose(interval.get_xdata(), [0.7, 0.9])
    np.testing.assert_allclose(dot.get_xdata(), [0.8])


def test_validation_curves_make_the_student_stand_out() -> None:
    curves = {"student": np.array([0.1, 0.2, 0.3]), "peer1": np.array([0.1, 0.1, 0.2]), "ensemble": np.ones(3)}
    figure = figures.validation_curves(EPOCHS, {METRICS["top1"]: curves, METRICS["nll"]: curves})
    accuracy, likelihood = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["top-1 accuracy", "negative log-likelihood"]
    assert legend(figure) == ["student", "peer1", "ensemble"]
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), curves["student"])
    np.testing.assert_array_equal(likelihood.lines[1].get_ydata(), curves["peer1"])
    widths = [line.get_linewidth() for line in accuracy.lines]
    assert widths[0] == max(widths)
    assert accuracy.lines[2].get_linestyle() == "--"


def test_loss_curves_are_logarithmic_only_where_terms_are_far_apart() -> None:
    raw = {"ce": np.array([2.0, 1, 0.5]), "contrast": np.array([80.0, 70, 60])}
    weighted = {"ce": raw["ce"], "contrast": raw["contrast"] / 40, "total": raw["ce"] + raw["contrast"] / 40}
    figure = figures.loss_curves(EPOCHS, raw, weighted)
    left, right = figure.axes
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert "log scale" in left.get_title()
    assert legend(figure) == ["ce", "contrast", "total"]
    assert [line.get_color() for line in left.lines] == [line.get_color() for line in right.lines[:2]]
    np.testing.assert_allclose(right.lines[2].get_ydata(), weighted["total"])


def test_accuracy_by_shot_has_a_line_and_a_band_a_way() -> None:
    grid = {(way, shot): Metric(shot / way / 10, 0.1, 0.2) for way in (2, 5) for shot in (1, 5)}
    figure = figures.accuracy_by_shot(grid, METRICS["top1"])
    (panel,) = figure.axes
    assert legend(figure) == ["2 classes", "5 classes"]
    for way, line in zip((2, 5), panel.lines, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 5])
        np.testing.assert_allclose(line.get_ydata(), [1 / way / 10, 5 / way / 10])
    assert len({to_hex(line.get_color()) for line in panel.lines}) == 2
    assert len(panel.collections) == 2
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "5"]


def test_a_term_that_reaches_zero_is_drawn_on_a_linear_scale() -> None:
    raw = {"ce": np.array([100.0, 1, 0]), "nothing": np.full(3, np.nan)}
    figure = figures.loss_curves(EPOCHS, raw, raw)
    assert figure.axes[0].get_yscale() == "linear"


def test_confusion_matrix_shows_counts_and_shades_by_share() -> None:
    confusion = np.array([[9, 1, 0], [0, 0, 0], [0, 5, 5]])
    (axes,) = figures.confusion_matrix(confusion, ["cat", "dog", "a name that is too long for the axis"]).axes
    texts = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "9", (1, 0): "1", (1, 2): "5", (2, 2): "5"}  # (column, row)
    cells = axes.images[0].get_array()
    np.testing.assert_allclose(cells[0, 1], [*to_rgba(VERMILION)[:3], np.sqrt(0.1)])
    np.testing.assert_allclose(cells[2, 2], [*to_rgba(BLUE)[:3], np.sqrt(0.5)])
    assert cells[1, 1, 3] == 0  # a class without test images is empty, not a division by zero
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["cat", "dog (no image)", "a name that is too long…"]


def test_reliability_bars_stand_over_their_bins() -> None:
    bins = reliability(np.array([0.51, 0.52, 0.99]), np.array([True, False, True]), bins=10)
    above, below = figures.reliability_diagram(bins).axes
    heights = [bar.get_height() for bar in above.patches]
    assert heights == [0, 0, 0, 0, 0, 0.5, 0, 0, 0, 1]
    assert [bar.get_height() for bar in below.patches] == pytest.approx([0, 0, 0, 0, 0, 2 / 3, 0, 0, 0, 1 / 3])


@pytest.fixture
def maps() -> list[FeatureMap]:
    points = np.random.default_rng(0).normal(size=(80, 2))
    return [FeatureMap(f"stage {n}", points + n, 16, -0.004 if n else None, 0.875) for n in range(5)]


def test_feature_maps_have_a_panel_a_depth_with_its_numbers(maps: list[FeatureMap]) -> None:
    labels = np.arange(80) % 4
    figure = figures.feature_maps(maps, labels, ["cat", "dog", "_hidden", "$4$"])
    assert [axes.get_title() for axes in figure.axes[:5]] == [f"stage {n}\n16 numbers" for n in range(5)]
    assert figure.axes[0].get_xlabel() == "silhouette undefined\nnearest neighbour 87.5 %"
    assert figure.axes[1].get_xlabel() == "silhouette 0.00\nnearest neighbour 87.5 %"
    assert not figure.axes[5].axison  # the last row is not full
    assert legend(figure) == ["cat", "dog", "_hidden", "$4$"]
    of_dog = figure.axes[3].collections[2]
    np.testing.assert_allclose(of_dog.get_offsets(), maps[3].points[labels == 1])
    assert to_hex(of_dog.get_facecolor()[0]) == TEN[1]


def test_of_many_classes_ten_are_coloured_and_the_others_grey(maps: list[FeatureMap]) -> None:
    labels = np.arange(80) % 40
    figure = figures.feature_maps(maps[:1], labels, [f"class {n}" for n in range(40)])
    rest, *coloured = figure.axes[0].collections
    assert len(rest.get_offsets()) == 60
    assert [len(points.get_offsets()) for points in coloured] == [2] * 10
    assert legend(figure) == [f"class {n}" for n in range(10)]


def test_thirty_classes_differ_in_colour_or_shape(maps: list[FeatureMap]) -> None:
    figure = figures.feature_maps(maps[:1], np.arange(80) % 30, [f"a class with a long name {n}" for n in range(30)])
    styles = {
        (to_hex(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in figure.axes[0].collections[1:]
    }
    assert len(styles) == 30
