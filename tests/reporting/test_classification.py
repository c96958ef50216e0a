"""What a page says of the classes of a run, and how it calls the images that are most wrong."""

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from classmates.reporting.classification import LONGEST_FILE, without_middle
from classmates.reporting.run_page import render
from classmates.runs.reading import FinishedRun, read_run
from tests.reporting.conftest import Page

ROW = re.compile(r'<tr><th scope="row">(.*?)</th>((?:<td.*?</td>\s*){3})</tr>', re.DOTALL)


def rendered(run: FinishedRun, **arrays: Any) -> str:
    """The page of a run without t-SNE, with other arrays."""
    few = replace(run.evaluation, feature_labels=run.evaluation.feature_labels[:3], **arrays)
    return render(replace(run, evaluation=few, class_names=few.class_names))


def of_classes(run: FinishedRun, labels: ArrayLike, predicted: ArrayLike, names: list[str]) -> str:
    """The page of a run with these test images and predictions."""
    logits = np.eye(len(names), dtype=np.float32)[predicted]
    none = {"wrong_rows": run.evaluation.wrong_rows[:0], "wrong_images": run.evaluation.wrong_images[:0]}
    return rendered(run, labels=np.asarray(labels), logits=logits, class_names=names, **none)


def table(text: str) -> list[list[str]]:
    """The table of classes, a list of cells a row."""
    section = text[text.index('<section id="classes">') : text.index('<section id="calibration">')]
    return [
        [html.unescape(name), *(html.unescape(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", cells))]
        for name, cells in ROW.findall(section)
    ]


@pytest.fixture
def run(finished_run: Path) -> FinishedRun:
    return read_run(finished_run)


def test_the_worst_classes_are_first_with_their_images_and_mistakes(run: FinishedRun) -> None:
    labels = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    text = of_classes(run, labels, [0, 0, 0, 2, 1, 1, 0, 0, 1, 2], ["<b>oak</b>", "elm", '"fir" & co', "yew"])
    assert table(text) == [
        ['"fir" & co', "4", "25.00 %", "<b>oak</b> (2)"],
        ["<b>oak</b>", "4", "75.00 %", '"fir" & co (1)'],
        ["elm", "2", "100.00 %", ""],
    ]
    assert "<b>oak" not in text
    said = Page(text).text
    assert "Balanced accuracy: 66.67 % , the mean over the classes" in said
    assert "which are 2 to 4 test images." in said
    assert f"Over all images that share is {100 * run.record.headline().value:.2f} % (top-1)" in said
    assert "1 class has no test image." in said
    assert "left out" not in said


def test_the_table_of_a_run_is_that_of_its_predictions(run: FinishedRun) -> None:
    """Of one without names of files, as those of earlier versions are."""
    rows, labels = table(rendered(run)), run.evaluation.labels
    right = run.evaluation.logits.argmax(1) == labels
    assert {name: (images, share) for name, images, share, _ in rows} == {
        str(number): (str((labels == number).sum()), f"{100 * right[labels == number].mean():.2f} %")
        for number in range(10)
    }
    shares = [float(share.removesuffix(" %")) for _, _, share, _ in rows]
    assert shares == sorted(shares)


def test_classes_of_one_size_have_no_other_mean_than_top_1(run: FinishedRun) -> None:
    text = of_classes(run, [0, 0, 1, 1], [0, 1, 1, 1], ["cat", "dog"])
    assert table(text) == [["cat", "2", "50.00 %", "dog (1)"], ["dog", "2", "100.00 %", ""]]
    assert "Balanced accuracy" not in text
    assert "no test image." not in text


def test_test_images_of_a_single_class(run: FinishedRun) -> None:
    text = of_classes(run, [1, 1], [1, 1], ["cat", "dog"])
    assert table(text) == [["dog", "2", "100.00 %", ""]]
    assert "Balanced accuracy" not in text


@pytest.mark.parametrize(("classes", "said"), [(30, None), (31, "1 more class is left"), (40, "10 more classes are")])
def test_of_many_classes_the_worst_are_shown_and_the_others_counted(
    run: FinishedRun, classes: int, said: str | None
) -> None:
    labels = np.arange(classes).repeat(2)
    predicted = labels.copy()
    predicted[-2:] = 0  # the last class is the worst, and the one before it half right
    predicted[-3] = 1
    text = of_classes(run, labels, predicted, [f"class {number}" for number in range(classes)])
    rows = table(text)
    assert len(rows) == 30
    assert rows[0] == [f"class {classes - 1}", "2", "0.00 %", "class 0 (2)"]
    assert rows[1] == [f"class {classes - 2}", "2", "50.00 %", "class 1 (1)"]
    assert rows[2][0] == "class 0"
    if said is None:
        assert "left out" not in text
    else:
        assert said in Page(text).text
        assert "of which the student gets 100.00 % or more right" in Page(text).text


def test_images_are_called_by_their_files(run: FinishedRun) -> None:
    odd, long = """cat/"o'brien" <b>&amp;.jpg""", f"dog/{'x' * 300}/IMG_0007.jpg"
    files = np.array([odd, long, *(f"cat/{number}.jpg" for number in range(10))])
    text = rendered(run, more={"wrong_files": files})
    assert "<b>&amp;" not in text
    page = Page(text)
    assert page.tags.count("bdi") == 12
    assert [value for name, value in page.attributes if name == "title"] == files.tolist()
    assert odd in page.texts
    assert "cat/9.jpg" in page.texts
    (short,) = [shown for shown in page.texts if shown.endswith("x/IMG_0007.jpg")]
    assert len(short) == LONGEST_FILE
    assert short.startswith("dog/xxx")


def test_images_without_files_have_no_names(run: FinishedRun) -> None:
    assert "bdi" not in Page(rendered(run)).tags


def test_a_name_is_cut_in_the_middle() -> None:
    assert without_middle("abcdefghij", 10) == "abcdefghij"
    assert without_middle("abcdefghijk", 10) == "abc…fghijk"
    assert without_middle("") == ""
