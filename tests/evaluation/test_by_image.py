"""What a student says of each image, and what images are called."""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from classmates._csv import as_csv
from classmates.data import load
from classmates.data.parts import Encoded, Split
from classmates.data.readers.paths import Paths
from classmates.errors import UserError
from classmates.evaluation.by_image import answer_table, file_names, pictured
from classmates.evaluation.collect import Predictions, as_arrays
from classmates.evaluation.evaluate import evaluate, student_predictions
from classmates.evaluation.predict import predict
from classmates.runs.student import StudentCard
from classmates.tasks.classification import Classification, ClassificationProtocol

HERE = {"accelerator": "cpu", "num_workers": 0}
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, -1.0]])
LABELS = torch.tensor([0, 0, 1])
CARD = StudentCard("resnet8", ("cat", "dog"), (1, 1, 1), (0.5,), (0.5,), 1)


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    """Four digits of each of two classes as image files, one of them with a name that needs quotes."""
    root, digits = tmp_path_factory.mktemp("digits"), load("digits").test
    for name in "38":
        (root / name).mkdir()
        for number, row in enumerate((digits.labels == int(name)).nonzero()[:4, 0].tolist()):
            Image.fromarray(digits.images[row].squeeze(2).numpy()).save(root / name / f"{number}.png")
    (root / "3" / "0.png").rename(root / "3" / 'a, "b".png')
    return root


def test_files_are_called_by_their_place_in_the_folder_of_the_data():
    files = Paths(Path("/data/photos"), [["cat/1.jpg", "cat/deep/2.jpg", os.fsdecode(b"dog/caf\xe9.jpg")]])
    assert file_names(files, [2, 0]) == ["dog/caf\\udce9.jpg", "cat/1.jpg"]
    assert file_names(files.take(torch.tensor([1])), [0]) == ["cat/deep/2.jpg"]
    assert file_names(files, []) == []


def test_what_lies_within_a_file_is_called_as_in_messages_and_other_images_are_not():
    assert file_names([Encoded("in row 3 of test", b"")], [0]) == ["in row 3 of test"]
    assert file_names(None, [0, 1]) is None
    assert file_names([Image.new("L", (2, 2))], [0]) is None


def test_each_image_has_its_class_and_the_one_that_is_predicted():
    table = answer_table(LOGITS, LABELS, ["cat", "dog"], Paths(Path("x"), [["a", "b", "c"]]))
    assert table.columns.tolist() == ["file", "class", "predicted", "probability", "right"]
    assert table["file"].tolist() == ["a", "b", "c"]
    assert table["class"].tolist() == ["cat", "cat", "dog"]
    assert table["predicted"].tolist() == ["cat", "dog", "cat"]
    assert table["probability"].tolist() == pytest.approx([0.880797078, 0.731058579, 0.982013790])
    assert table["right"].tolist() == ["true", "false", "false"]


def test_images_that_come_from_no_files_have_their_index():
    table = answer_table(LOGITS, LABELS, ["cat", "dog"], None)
    assert table["index"].tolist() == [0, 1, 2]
    assert "file" not in table


def test_no_image_and_a_single_class():
    assert as_csv(answer_table(torch.empty(0, 2), LABELS[:0], ["cat", "dog"], None)).splitlines() == [
        "index,class,predicted,probability,right"
    ]
    assert answer_table(LOGITS[:1, :1], LABELS[:1], ["cat"], None).to_numpy().tolist() == [
        [0, "cat", "cat", 1, "true"]
    ]


def test_names_that_a_spreadsheet_would_run_or_that_are_not_unicode_are_harmless():
    files = Paths(Path("x"), [["=cmd()/1.png", "a\nb.png", "caf\udce9.png"]])
    written = as_csv(answer_table(LOGITS, LABELS, ["@cat", "d\udce9g"], files))
    assert written.encode("utf-8")
    read = pd.read_csv(io.StringIO(written))
    assert read["file"].tolist() == ["'=cmd()/1.png", "a\nb.png", "caf\\udce9.png"]
    assert read["predicted"].tolist() == ["'@cat", "d\\udce9g", "'@cat"]


@pytest.mark.parametrize(("files", "kept"), [(Paths(Path("x"), [["a", "b", "c"]]), ["c", "b"]), (None, None)])
def test_a_runs_arrays_have_the_files_of_the_images_that_are_shown(files, kept):
    split = Split(LABELS, torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1), files)
    found = Predictions(LABELS, {"student": LOGITS}, [torch.zeros(3, 2)], split)
    protocol = ClassificationProtocol()
    shown = pictured(LOGITS, split, protocol, CARD)
    arrays = as_arrays(found, protocol, ("cat", "dog"), shown, [])
    assert arrays["wrong_rows"].tolist() == [2, 1]
    assert arrays["wrong_images"].ravel().tolist() == [2, 1]
    assert (arrays["wrong_files"].tolist() if "wrong_files" in arrays else None) == kept


def test_without_a_mistake_there_are_no_names():
    right = torch.eye(2)[LABELS]
    split = Split(LABELS, paths=Paths(Path("x"), [["a", "b", "c"]]))
    shown = pictured(right, split, ClassificationProtocol(), CARD)
    found = Predictions(LABELS, {"student": right}, [torch.zeros(3, 2)], split)
    arrays = as_arrays(found, ClassificationProtocol(), ("cat", "dog"), shown, [])
    assert (arrays["wrong_files"].shape, arrays["wrong_files"].dtype.kind) == ((0,), "U")
    assert (arrays["wrong_images"].shape, arrays["wrong_images"].dtype) == ((0, 1, 1, 1), np.uint8)


def test_answers_on_other_images_are_those_of_predict(sd_run, digits_folder, tmp_path):
    scores = evaluate(sd_run, digits_folder, answers=tmp_path / "new" / "answers.csv", **HERE)
    table = pd.read_csv(tmp_path / "new" / "answers.csv", dtype={"class": str, "predicted": str})
    assert table["file"].tolist() == sorted(
        str(path.relative_to(digits_folder)) for path in digits_folder.rglob("*.png")
    )
    assert table["class"].tolist() == ["3"] * 4 + ["8"] * 4
    predicted = predict(sd_run, [str(digits_folder / file) for file in table["file"]], accelerator="cpu")
    assert table["predicted"].tolist() == predicted["class"].tolist()
    assert table["probability"].tolist() == pytest.approx(predicted["probability"].tolist(), abs=1e-5)
    assert table["right"].tolist() == (table["class"] == table["predicted"]).tolist()
    assert table["right"].mean() == scores["top1"].value


def test_the_files_that_were_written_are_named(sd_run, tmp_path):
    answers, scores = tmp_path / "answers.csv", tmp_path / "scores.json"
    assert "Table:" not in str(evaluate(sd_run, **HERE))
    assert str(evaluate(sd_run, answers=answers, **HERE)).splitlines()[-1] == f"Table: {answers}"
    both = str(evaluate(sd_run, answers=answers, out=scores, **HERE)).splitlines()
    assert both[-2:] == [f"Scores: {scores}", f"Table: {answers}"]


def test_calibrated_answers_have_calibrated_probabilities_and_images_in_memory_an_index(sd_copy, tmp_path):
    scores = evaluate(sd_copy, calibrated=True, answers=tmp_path / "answers.csv", **HERE)
    table = pd.read_csv(tmp_path / "answers.csv")
    logits = student_predictions(sd_copy, task=Classification(), **HERE).logits["student"]
    expected = (logits / scores.temperature).softmax(1).max(1).values
    assert scores.temperature != pytest.approx(1, abs=0.01)
    assert table["probability"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert table["index"].tolist() == list(range(797))
    assert table["right"].mean() == pytest.approx(scores["top1"].value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"answers": "/proc/x/answers.csv"}, r"'/proc/x/answers.csv' cannot be written"),
        ({"answers": "answers.json"}, r"answers is 'answers.json'; give a file that ends in .csv"),
        ({"answers": "a.csv", "out": "a.csv"}, "out and answers are both 'a.csv'"),
        (
            {"answers": "a.csv", "task": "few_shot"},
            "answers are classes of single images, which the protocol 'few_shot' does not judge",
        ),
    ],
)
def test_answers_that_cannot_be_had_are_told_before_images_are_read(
    sd_run, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        evaluate(sd_run, "./nowhere", **arguments)
    assert not [*tmp_path.iterdir()]
