"""The page of a few-shot run, against episodes that are answered one query at a time."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classmates.experiments.report import report
from classmates.reporting import few_shot
from classmates.reporting.few_shot import MOST_CLASSES, MOST_IMAGES, by_way_and_shot, new_classes, shown_episodes
from classmates.runs.reading import read_run
from tests.fixtures.few_shot_run import LABELS, NAMES, PROTOCOL, embeddings
from tests.reporting.conftest import Change, Page


def nearest(episode: np.ndarray, found: np.ndarray) -> list[list[int]]:
    """The class of the episode that each query is nearest to, class by class."""
    centres = [found[images[: PROTOCOL.shot]].mean(axis=0) for images in episode]
    return [
        [int(np.argmin([np.square(found[row] - centre).sum() for centre in centres])) for row in queries]
        for queries in episode[:, PROTOCOL.shot :]
    ]


def test_episodes_are_shown_as_they_are_answered(few_shot_run: Path) -> None:
    run = read_run(few_shot_run)
    found = run.evaluation.logits
    shown = shown_episodes(run, PROTOCOL, torch.from_numpy(found))
    assert len(shown) == 2
    wrong = 0
    for episode, classes in zip(run.evaluation.more["episodes"], shown, strict=False):
        names = [NAMES[run.evaluation.labels[images[0]]] for images in episode]
        assert [one.name for one in classes] == names
        assert [[image.row for image in (*one.support, *one.queries)] for one in classes] == episode.tolist()
        assert [len(one.support) for one in classes] == [PROTOCOL.shot] * PROTOCOL.way
        assert not any(image.taken_for for one in classes for image in one.support)
        for way, (one, taken) in enumerate(zip(classes, nearest(episode, found), strict=True)):
            expected = [None if answer == way else names[answer] for answer in taken]
            assert [query.taken_for for query in one.queries] == expected
            assert one.right == taken.count(way)
            wrong += len(taken) - one.right
            assert len({image.picture for image in (*one.support, *one.queries)}) == 1  # one grey a class
    assert 0 < wrong < 2 * PROTOCOL.way * PROTOCOL.queries


def test_the_page_says_what_came_out(few_shot_run: Path) -> None:
    run = read_run(few_shot_run)
    page = Page(report(few_shot_run).read_text("utf-8"))
    student, last = run.record.headline(), run.record.test_last["student"]["accuracy"]
    answers = [nearest(episode, run.evaluation.logits) for episode in run.evaluation.more["episodes"][:2]]
    right = [sum(taken.count(way) for way, taken in enumerate(one)) for one in answers]
    for expected in (
        f"{100 * student.value:.2f} % of the queries in 40 episodes are taken for the right class by the student",
        "one of 3 classes that it was never trained on, each learned from 2 images (after 8 epochs of training; 33 %",
        f"The last one’s student has {100 * last.value:.2f} %",
        f"Episode 1: {right[0]} of 12 queries right",
        f"Episode 2: {right[1]} of 12 queries right",
        "5-way",
        "6 classes, which bound the way, and 10 images of the smallest",
        "t-SNE of the student’s embeddings of 60 test images, of 6 classes that it was never trained on.",
        "The results are of the epoch that was best on validation images",
        PROTOCOL.caution,
    ):
        assert expected in page.text, expected
    assert "“Best” is the epoch" not in page.text  # without validation
    assert page.tags.count("img") == 2 * PROTOCOL.way * (PROTOCOL.shot + PROTOCOL.queries)
    alternatives = [value for name, value in page.attributes if name == "alt"]
    assert sum("taken for" in text for text in alternatives) == 24 - sum(right)
    assert sum("support of" in text for text in alternatives) == 12
    assert page.tags.count("i") == 0  # names are escaped
    assert not re.search(r"Mistakes|Calibration|enters the classifier", page.text)


def test_accuracy_by_way_and_shot_goes_through_the_runs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot, "FEWER", 30)
    grid = by_way_and_shot(embeddings(1), LABELS, PROTOCOL)
    assert {pair: one.count for pair, one in grid.items() if one.count != 30} == {(3, 2): PROTOCOL.episodes}
    assert list(grid) == [(way, shot) for way in (2, 3, 5) for shot in (1, 2, 5)]
    own = PROTOCOL.score(embeddings(1), LABELS)["accuracy"]
    assert grid[3, 2] == own
    ways, shots = [grid[way, 2].value for way in (2, 3, 5)], [grid[3, shot].value for shot in (1, 2, 5)]
    assert ways == sorted(ways, reverse=True)
    assert shots == sorted(shots)
    assert all(one.low < one.value < one.high for one in grid.values() if one.low and one.high)


@pytest.mark.parametrize(
    ("of_each", "queries", "shot", "shots"),
    [(10, 8, 2, [1, 2]), (10, 7, 3, [1, 2, 3]), (4, 1, 1, [1, 2]), (30, 10, 1, [1, 2, 5, 10, 20])],
)
def test_shots_go_as_far_as_the_smallest_class(of_each: int, queries: int, shot: int, shots: list[int]) -> None:
    labels = torch.arange(2).repeat_interleave(torch.tensor([of_each + 5, of_each]))
    protocol = replace(PROTOCOL, way=2, shot=shot, queries=queries, episodes=4)
    assert list(by_way_and_shot(torch.randn(len(labels), 3), labels, protocol)) == [(2, one) for one in shots]


def test_new_classes_are_laid_out_in_equal_numbers(few_shot_run: Path) -> None:
    run = read_run(few_shot_run)
    labels = np.repeat(np.arange(40), 30)  # sorted, as folders are
    found = np.stack([labels, np.arange(1200)], axis=1).astype(np.float32)
    names = [f"class {number}" for number in range(40)]
    points = new_classes(
        replace(run, class_names=names, evaluation=replace(run.evaluation, labels=labels, logits=found))
    )
    ((_, features),) = points.features
    assert np.bincount(points.labels).tolist() == [MOST_IMAGES // MOST_CLASSES] * MOST_CLASSES
    assert len(np.unique(features[:, 1])) == MOST_IMAGES
    assert [points.names[label] for label in points.labels] == [f"class {number:.0f}" for number in features[:, 0]]
    assert len(set(points.names)) == MOST_CLASSES


def test_images_that_no_browser_shows_are_told(few_shot_run: Path, change: Change) -> None:
    change(
        few_shot_run / "evaluation.npz",
        lambda arrays: arrays.update(wrong_images=arrays["wrong_images"].repeat(2, axis=-1)),
    )
    page = Page(report(few_shot_run).read_text("utf-8"))
    assert "neither grey nor in colour: they cannot be shown" in page.text
    assert page.tags.count("img") == 0
    assert "Accuracy by way and shot" in page.text


def test_a_browser_finds_nothing_to_complain_about(
    few_shot_run: Path, browse: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shown = browse(report(few_shot_run), "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    ids = [value for name, value in Page(shown.stdout).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {"episodes", "by-shot", "features"} <= set(ids)


def test_the_page_fits_a_phone_and_a_window(few_shot_run: Path, fits: Callable[[Path], None]) -> None:
    fits(report(few_shot_run))
