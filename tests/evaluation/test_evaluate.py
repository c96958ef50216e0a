import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from classmates.data import eval_loader, load
from classmates.errors import UserError
from classmates.evaluation.evaluate import evaluate, fitted_in_card, load_as_trained, student_predictions
from classmates.evaluation.temperature import fitted_temperature
from classmates.evaluation.transfer import transfer
from classmates.runs.folder import read_record
from classmates.runs.student import StudentCard, load_student
from classmates.tasks.classification import Classification
from classmates.tasks.metrics import score
from classmates.training.train import train

QUICK = {"epochs": 1, "batch_size": 50, "accelerator": "cpu", "loggers": (), "report": False, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One epoch on 100 digits: enough for scores that differ from image to image."""
    return train(
        **QUICK, train_size=100, val_fraction=0.3, seed=3, out=tmp_path_factory.mktemp("runs") / "run"
    ).folder


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    """The test digits as image files, with colours that are not there, in folders of class folders."""
    root = tmp_path_factory.mktemp("digits")
    digits = load("digits")
    for part in ("train", "test"):
        for name in digits.class_names:
            (root / part / name).mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(digits.test.images, digits.test.labels.tolist(), strict=True)):
        image = Image.fromarray(pixels.squeeze(2).numpy()).convert("RGB")
        for part in ("train", "test"):
            image.save(root / part / str(label) / f"{number}.png")
    return root


def values(scores):
    return {name: metric.value for name, metric in scores.items()}


def close_to(scores):
    return pytest.approx(values(scores), abs=1e-6)


def record(run):
    return read_record(run / "result.json")


def test_on_the_same_data_the_scores_are_those_of_training_to_the_last_digit(run):
    assert evaluate(run, accelerator="cpu") == record(run).test["student"]
    validation = record(run).validation.last.scores["student"]
    assert validation["top1"].count == 300
    assert evaluate(run, split="val", accelerator="cpu") == validation


def test_scores_are_a_table_as_text(run):
    scores = evaluate(run, accelerator="cpu")
    heads, line = str(scores).splitlines()
    assert heads.split() == ["images", "top-1", "95", "%", "interval", "top-5", "NLL", "Brier", "ECE"]
    assert line.split()[:2] == ["797", f"{scores['top1'].value:.2%}"]


def test_the_training_split_is_the_one_that_was_trained_on(run):
    student, card = load_student(run)
    images = load("digits", train_size=100, val_fraction=0.3, seed=3)
    assert images.mean == card.mean
    with torch.no_grad():
        logits = torch.cat([student(batch.images) for batch in eval_loader(images, images.train, 100)])
    assert values(evaluate(run, split="train", accelerator="cpu")) == close_to(score(logits, images.train.labels))


def test_other_data_are_prepared_as_the_students_own(run, digits_folder):
    scores = evaluate(run, digits_folder, accelerator="cpu")
    own = record(run).test["student"]
    assert scores["top1"].count == own["top1"].count
    assert values(scores) == close_to(own)  # files lie in another order


def test_the_batch_size_changes_rounding_at_most(run):
    assert values(evaluate(run, batch_size=7, accelerator="cpu")) == close_to(evaluate(run, accelerator="cpu"))


def test_batches_are_as_large_as_in_training_and_by_the_workers_asked_for(run, monkeypatch):
    asked = []

    def note(images, split, batch_size, **how):
        asked.append((batch_size, how["num_workers"]))
        return eval_loader(images, split, batch_size, **how)

    monkeypatch.setattr("classmates.evaluation.evaluate.eval_loader", note)
    evaluate(run, accelerator="cpu")
    evaluate(run, batch_size=7, num_workers=0, accelerator="cpu")
    assert asked == [(50, 2), (7, 0)]


def test_scores_are_written_whole(run, tmp_path):
    scores = evaluate(run, out=tmp_path / "new" / "scores.json", accelerator="cpu")
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert written == json.loads((run / "result.json").read_text())["test"]["student"]
    assert written["top1"]["value"] == scores["top1"].value
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.json"]


def test_every_image_of_a_folder_without_parts_is_scored(run, digits_folder, capsys):
    own = record(run).test["student"]
    for data in (digits_folder / "test", digits_folder.parent / "parts"):
        data.mkdir(exist_ok=True)
        if data.name == "parts":
            (data / "Testing").symlink_to(digits_folder / "test")
        scores = evaluate(run, data, accelerator="cpu")
        assert scores["top1"].count == own["top1"].count
        assert values(scores) == close_to(own)
    assert f"note: every image of {digits_folder / 'test'} is scored, as it is not divided" in capsys.readouterr().err


def test_classes_that_are_missing_are_said_and_the_others_keep_their_numbers(run, digits_folder, tmp_path, capsys):
    for name in "258":
        (tmp_path / "some" / name).mkdir(parents=True)
    for name in "28":
        for image in (digits_folder / "test" / name).iterdir():
            shutil.copy(image, tmp_path / "some" / name)
    scores = evaluate(run, tmp_path / "some", accelerator="cpu")
    student, card = load_student(run)
    images = load("digits").test
    chosen = ((images.labels == 2) | (images.labels == 8)).nonzero()[:, 0]
    pixels = (images.images[chosen].permute(0, 3, 1, 2) / 255 - card.mean[0]) / card.std[0]
    with torch.no_grad():
        assert values(scores) == close_to(score(student(pixels), images.labels[chosen]))
    assert "'some' has no image of classes '0', '1', '3', '4', '5' and 3 more classes" in capsys.readouterr().err


def test_a_student_that_is_no_better_than_the_commonest_class_there_is_told(run, digits_folder, tmp_path):
    """The last line, by the rule of training; not of images of one class, which none can do better on."""
    answers = tmp_path / "answers.csv"
    assert "WARNING" not in str(evaluate(run, digits_folder, answers=answers, accelerator="cpu"))
    table = pd.read_csv(answers, dtype=str)
    wrong = table["file"][~table["predicted"].isin(["3", "8"])]  # in either class
    for name, files in (("3", wrong[:6]), ("8", wrong[6:10])):
        (tmp_path / "other" / name).mkdir(parents=True)
        for number, file in enumerate(files):
            shutil.copy(digits_folder / file, tmp_path / "other" / name / f"{number}.png")
    scores = evaluate(run, tmp_path / "other", answers=answers, accelerator="cpu")
    assert scores.at_chance == "its top-1 is 0.00%, and always giving the commonest answer has 60.00%"
    *_, table, warning = str(scores).split("\n\n")
    assert table.startswith("Table: ")
    assert " ".join(warning.split()).startswith(
        f"WARNING: the student is useless on these images: {scores.at_chance}"
    )
    assert max(map(len, warning.splitlines())) <= 80
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "3").symlink_to(digits_folder / "test" / "3")
    for other in "012":
        (tmp_path / "alone" / other).mkdir()
    assert evaluate(run, tmp_path / "alone", accelerator="cpu").at_chance is None


def test_a_dataset_in_python_is_scored_whole(run):
    digits = load("digits").test
    items = [
        (image.squeeze(2).numpy(), label) for image, label in zip(digits.images, digits.labels.tolist(), strict=True)
    ]
    assert values(evaluate(run, items, accelerator="cpu")) == close_to(record(run).test["student"])


def test_a_folder_with_other_parts_only_says_how_to_take_them(run, digits_folder, tmp_path):
    for part in ("train", "Valid"):
        (tmp_path / part).symlink_to(digits_folder / "test")
    with pytest.raises(UserError, match=r"no test/ folder: take another part \(--split train or --split val\)"):
        evaluate(run, tmp_path)
    assert evaluate(run, tmp_path, split="val", accelerator="cpu")["top1"].count == 797


def test_the_runs_own_folder_is_divided_as_in_training(tmp_path, digits_folder):
    own = tmp_path / "own"
    shutil.copytree(digits_folder / "test", own)
    result = train(**QUICK, data=str(own), out=tmp_path / "run")
    assert evaluate(result.folder, f"{own}/../own", accelerator="cpu") == result.test["student"]


def test_the_runs_own_folder_is_known_from_elsewhere_and_wherever_it_lies_now(tmp_path, digits_folder, monkeypatch):
    """Else it would be taken for other data without parts, of which every image is scored, those trained on too."""
    shutil.copytree(digits_folder / "test", tmp_path / "own")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    result = train(**QUICK, data="own", out=tmp_path / "run")
    shutil.copytree("own", "copy")
    monkeypatch.chdir(tmp_path / "below")
    for data in ("../own", str(tmp_path / "own"), "../copy"):
        assert evaluate(result.folder, data, accelerator="cpu") == result.test["student"]
    (tmp_path / "own").rename(tmp_path / "gone")
    fitted, fit = [], lambda logits, labels: fitted.append(len(labels)) or 2.0
    monkeypatch.setattr("classmates.evaluation.evaluate.fitted_temperature", fit)
    evaluate(result.folder, "../copy", calibrated=True, accelerator="cpu")  # to validation images of there, too
    assert fitted == [result.record.validation.last.scores["student"]["top1"].count]
    next((tmp_path / "copy/3").iterdir()).unlink()  # other images, then
    assert evaluate(result.folder, "../copy", accelerator="cpu")["top1"].count == 796


def test_a_size_that_the_network_cannot_take_is_told(tmp_path):
    sized = {"model": "gmlp_ti16_224", "model_args": {"img_size": 32}, "image_size": 32}
    result = train(**QUICK, **sized, train_size=40, out=tmp_path / "run")
    with pytest.raises(UserError, match=r"cannot take images of 1 channels and 48x48 pixels"):
        evaluate(result.folder, image_size=48, accelerator="cpu")
    with pytest.raises(UserError, match=r"cannot take images of 1 channels and 48x48 pixels"):
        transfer(result.folder, "digits", image_size=48, accelerator="cpu")


def test_validation_images_that_the_temperature_was_fitted_on_are_told(sd_copy, capsys):
    said = "note: the temperature was fitted on these very images"
    evaluate(sd_copy, calibrated=True, accelerator="cpu")
    assert said not in capsys.readouterr().err
    for data in (None, "digits"):
        evaluate(sd_copy, data, calibrated=True, split="val", accelerator="cpu")
        assert said in capsys.readouterr().err


def test_other_classes_are_named(run, tmp_path):
    names = [*"012345678", "nine"]
    for name in names:
        (tmp_path / name).mkdir()
        for number in range(5):
            pixels = np.full((8, 8), 10 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UserError, match=r"the student does not know, 'nine' \(it knows '0', .* and 5 more\)"):
        evaluate(run, tmp_path)


def test_images_of_another_size_are_brought_to_the_students(run, digits_folder, tmp_path):
    large = tmp_path / "large"
    for path in digits_folder.rglob("*.png"):
        target = large / path.relative_to(digits_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((16, 16), Image.Resampling.NEAREST).save(target)
    scores = evaluate(run, large, accelerator="cpu")
    assert scores["top1"].count == 797
    assert scores["nll"].value == pytest.approx(record(run).test["student"]["nll"].value, abs=0.05)
    assert evaluate(run, large, image_size=16, accelerator="cpu")["nll"] != scores["nll"]


@pytest.mark.parametrize(("side", "image_size"), [(224, None), (128, None), (96, 96)])
def test_photos_of_different_sizes_are_used_as_in_training(tmp_path, side, image_size):
    """224 is what earlier versions chose for them, 128 is what the rule says by now."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            photo = Image.fromarray(np.full((100 + number, 140, 3), 10 * number, np.uint8))
            photo.save(tmp_path / "photos" / name / f"{number}.png")
    card = StudentCard(
        "resnet8", ("cat", "dog"), (3, side, side), (0.5,) * 3, (0.25,) * 3, side, interpolation="bicubic"
    )
    settings = {
        **dict.fromkeys(("data_dir", "label", "train_size")),
        "data": str(tmp_path / "photos"),
        "image_size": image_size,
        "val_fraction": 0.1,
        "seed": 0,
        "on_bad_image": "error",
    }
    for data in (None, tmp_path / "photos"):
        images = load_as_trained(tmp_path, settings, card, data, None, None, "test", None, None, Classification())
        assert images.image_size == (side, side)
        assert (images.mean, images.std, images.interpolation) == (card.mean, card.std, "bicubic")


def test_which_folder_was_taken_for_the_runs_own_is_said(tmp_path, monkeypatch):
    """A relative name means another folder in another working folder."""
    card = StudentCard("resnet8", ("cat", "dog"), (3, 9, 9), (0.5,) * 3, (0.25,) * 3, (9, 9))
    settings = dict.fromkeys(("data_dir", "label", "train_size", "image_size"))
    settings |= {"val_fraction": 0.1, "seed": 0, "on_bad_image": "error"}
    for name in ("here/pics/cat", "here/pics/dog"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (9, 9), (number, 0, 9)).save(tmp_path / name / f"{number}.png")
    monkeypatch.chdir(tmp_path / "here")
    pics = tmp_path / "here" / "pics"

    def notes(own, data):
        given = (settings | {"data": own}, card, data, None, None, "test", None, None, Classification())
        return [note for note in load_as_trained(tmp_path, *given).notes if "is taken for" in note]

    for data in (None, "./pics", pics):
        said = f"{pics} is taken for the data of training, which the run calls './pics'"
        assert notes("./pics", data) == [said]
    assert notes(str(pics), "./pics") == notes("other", "./pics") == []


def test_a_student_that_is_an_object_needs_its_network_again(tmp_path):
    def network():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 10)
        )

    result = train(model=network(), **QUICK, train_size=100, out=tmp_path / "run")
    with pytest.raises(UserError, match="network"):
        evaluate(result.folder)
    assert evaluate(result.folder, network=network(), accelerator="cpu") == result.test["student"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"split": "tset"}, "unknown split 'tset': did you mean 'test'"),
        ({}, {"data": Path("nowhere"), "on_bad_image": "eror"}, "unknown on_bad_image 'eror': did you mean 'error'"),
        ({}, {"batch_size": 0}, "batch_size is 0"),
        ({}, {"image_size": 0}, "image_size is 0"),
        ({}, {"num_workers": -1}, "num_workers is -1"),
        ({"data": "digist"}, {"out": Path("/proc/x/y.json")}, "'/proc/x/y.json' cannot be written"),
        ({}, {"accelerator": "abacus"}, "accelerator 'abacus' cannot be used"),
        ({"val_fraction": 0}, {"split": "val"}, "no validation images"),
        ({"data": "<my.Dataset object>"}, {}, "dataset given in Python, .*: give images to score as data"),
        (
            {"data": "<my.Dataset object>"},
            {"data": "digits", "calibrated": True},
            r"run's own .* cannot be had",
        ),
        ({"data": "digist"}, {}, "unknown data set 'digist'"),
        ({"seed": None}, {}, None),
    ],
)
def test_wrong_input(run, tmp_path, change, arguments, message):
    changed = tmp_path / "run"
    shutil.copytree(run, changed)
    settings = yaml.safe_load((run / "config.yaml").read_text()) | change
    settings = {name: value for name, value in settings.items() if value is not None or name not in change}
    (changed / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=message or r"config.yaml' is missing or damaged \('seed'\)"):
        evaluate(changed, **arguments)


def test_a_folder_without_a_student(tmp_path):
    with pytest.raises(UserError, match=r"student.json is missing"):
        evaluate(tmp_path)


def test_the_temperature_is_fitted_on_validation_images(sd_copy):
    fitted = {}
    for split in ("val", "test"):
        found = student_predictions(sd_copy, task=Classification(), split=split, accelerator="cpu")
        fitted[split] = fitted_temperature(found.logits["student"], found.labels)
    assert fitted["val"] != pytest.approx(fitted["test"], rel=0.01)
    assert evaluate(sd_copy, calibrated=True, accelerator="cpu").temperature == pytest.approx(fitted["val"])


def test_a_card_that_cannot_be_written_is_told_before_a_temperature_is_fitted(run, monkeypatch):
    def refused(path):
        raise UserError(f"{path.name} cannot be written")

    monkeypatch.setattr("classmates.evaluation.evaluate.require_writable", refused)
    with pytest.raises(UserError, match=r"student\.json cannot be written"):
        fitted_in_card(run, lambda: pytest.fail("it was fitted"))
