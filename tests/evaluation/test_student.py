"""A student in Python: pair and whole, answers for files, open images and tensors, calibrated or not."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import classmates
from classmates.cli import main
from classmates.errors import UserError
from classmates.runs.student import read_card


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Image files of some digits."""
    folder = tmp_path_factory.mktemp("digits")
    for number, image in enumerate(load_digits().images[:5]):
        Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_it_is_a_pair_and_answers(sd_run, digits):
    student = classmates.load_student(sd_run)
    network, card = student
    assert not network.training
    assert student.classes == card.class_names
    files = sorted(digits.iterdir())
    images = student.preprocess(files)
    assert images.shape == (5, *card.input_shape)
    with torch.no_grad():
        probabilities, numbers = network(images).double().softmax(1).max(1)
    expected = classmates.predict(sd_run, [str(digits)])
    for given in (files, [str(file) for file in files], [Image.open(file) for file in files], images):
        found = student.predict(given, batch_size=2)
        assert (
            found["class"].tolist() == [card.class_names[number] for number in numbers] == expected["class"].tolist()
        )
        np.testing.assert_allclose(found["probability"], probabilities, rtol=1e-5)
    one = student.predict(files[0], top=3)
    assert len(one) == 3
    assert one["probability"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ([], {}, "no image is given"),
        (torch.zeros(0, 1, 8, 8), {}, "no image is given"),
        (torch.zeros(1, 8, 8), {}, r"torch.float32 of shape \(1, 8, 8\), and the student takes .* \[N, 1, 8, 8\]"),
        (torch.zeros(2, 3, 8, 8), {}, r"shape \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {}, "is torch.uint8 of shape"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.float64), {}, "is torch.float64 of shape"),
        (np.zeros((2, 8, 8)), {}, "an image is a ndarray: .* Image.fromarray"),
        (torch.full((2, 1, 8, 8), torch.nan), {}, "images holds numbers that are not finite"),
        (torch.full((2, 1, 8, 8), 3e38), {}, "the student gives numbers that are not finite of 2 of 2 images"),
        (torch.zeros(2, 1, 8, 8), {"top": 11}, "top is 11, but the student knows 10 classes: give 1 to 10"),
        (torch.zeros(2, 1, 8, 8), {"top": 0}, "top is 0"),
        (torch.zeros(2, 1, 8, 8), {"batch_size": 0}, "batch_size is 0; give 1 or more"),
    ],
)
def test_slips_are_told(sd_run, images, options, said):
    student = classmates.load_student(sd_run)
    with pytest.raises(UserError, match=said):
        student.predict(images, **options)
    if isinstance(images, list):
        with pytest.raises(UserError, match=said):
            student.preprocess(images)


def test_embeddings_are_not_taken_for_logits(sd_run):
    student = classmates.load_student(sd_run)
    student = student._replace(card=replace(student.card, output="embedding"))
    with pytest.raises(UserError, match=r"this student gives embeddings, not classes: .* --support FOLDER"):
        student.predict(torch.zeros(2, 1, 8, 8))


def test_calibration_is_fitted_once_kept_and_applied(sd_copy, digits, capsys):
    with pytest.raises(UserError, match=r"not calibrated yet: `classmates evaluate .* --calibrated`"):
        classmates.load_student(sd_copy, calibrated=True)
    plain = classmates.evaluate(sd_copy, accelerator="cpu")
    scores = classmates.evaluate(sd_copy, calibrated=True, accelerator="cpu", out=sd_copy / "scores.json")
    temperature = read_card(sd_copy).temperature
    assert scores.temperature == temperature
    assert scores.before == dict(plain)
    assert scores["top1"] == plain["top1"]
    assert scores["nll"].value != plain["nll"].value
    assert json.loads((sd_copy / "scores.json").read_text())["temperature"] == temperature
    text = str(scores)
    assert f"{plain['ece'].value:.2%}" in text
    assert f"{scores['ece'].value:.2%}" in text
    *lines, written = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert written == f"Scores: {sd_copy / 'scores.json'}"

    network, card = classmates.load_student(sd_copy)
    divided, told = classmates.load_student(sd_copy, calibrated=True)
    images = torch.randn(3, *card.input_shape)
    torch.testing.assert_close(divided(images), network(images) / temperature)
    assert told.temperature == 1
    assert main(["predict", str(sd_copy), str(digits / "*.png"), "--calibrated", "--show", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = classmates.load_student(sd_copy, calibrated=True).predict(sorted(digits.iterdir()))
    assert [row["probability"] for row in rows] == pytest.approx(expected["probability"].tolist())
    for how in ([], ["--calibrated"]):  # a temperature changes no explanation
        explain = ["--explain", str(sd_copy / f"why{len(how)}")]
        assert main(["predict", str(sd_copy), str(digits / "*.png"), "--accelerator", "cpu", *how, *explain]) == 0
    plain, divided_by_it = (sorted((sd_copy / f"why{number}").iterdir()) for number in (0, 1))
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in divided_by_it]
    assert capsys.readouterr().err.count("Grad-CAM of 'layer3'") == 2
    path = classmates.export(sd_copy, format="torch", calibrated=True, out=sd_copy / "calibrated.pt2")
    torch.testing.assert_close(torch.export.load(path).module()(images), network(images) / temperature)


def test_answers_are_explained_and_written(sd_run, digits, tmp_path, capsys):
    words = [str(sd_run), str(digits / "0.png"), str(digits / "1.png"), "--explain", str(tmp_path / "why")]
    assert main(["predict", *words, "--show", "csv", "--out", str(tmp_path / "x.jsonl")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "file,class,probability"
    assert "2 pictures in" in said.err
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    names = sorted(path.name for path in (tmp_path / "why").iterdir())
    assert names == [f"{number}-{number}-{row['class']}.png" for number, row in enumerate(rows)]
    assert Image.open(tmp_path / "why" / names[0]).size == (224, 224)


def test_a_list_of_images_on_standard_input(sd_run, digits, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{digits / '1.png'}\n{digits / '0.png'}\n"))
    assert main(["predict", str(sd_run), "-", "--show", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [str(digits / "1.png"), str(digits / "0.png")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"show": "jsn"}, "unknown show 'jsn'"),
        ({"early_exit": True, "explain": "x"}, "explain looks into the whole network"),
        ({"calibrated": True, "support": "x"}, "calibrated is of the classes that the student was trained on"),
        ({"early_exit": True}, "no thresholds yet"),
        ({"out": "x.txt"}, r"a file that ends in .csv or .json or .jsonl"),
    ],
)
def test_wrong_input(sd_run, digits, given, said):
    with pytest.raises(UserError, match=said):
        classmates.predict(sd_run, [str(digits)], **given)
