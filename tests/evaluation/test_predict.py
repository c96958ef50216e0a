import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import classmates
from classmates.data import ImageData, eval_loader, load
from classmates.errors import UserError
from classmates.evaluation.answers import summary
from classmates.evaluation.predict import predict
from classmates.networks.building.build import build_model
from classmates.runs.student import StudentCard, load_student, save_student


def save_images(folder: Path, size: tuple[int, int], count: int = 5) -> None:
    """``count`` colour images in each of three class folders, (width, height) as given; smooth, so that scaling them
    makes a difference that can be seen."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "größer"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize(size).save(folder / name / f"{number}.png")


def save_run(run: Path, data: ImageData) -> None:
    torch.manual_seed(0)
    args = {"in_chans": data.channels}
    network = build_model("test_resnet", data.num_classes, **args)
    network.fc.weight.data.mul_(20)  # an untrained network would find all classes alike
    card = StudentCard(
        model="test_resnet",
        class_names=data.class_names,
        input_shape=data.input_shape,
        mean=data.mean,
        std=data.std,
        resize=data.resize,
        model_args=args,
        interpolation=data.interpolation,
    )
    save_student(run, network, card)


def evaluated(run: Path, data: ImageData) -> list[list[float]]:
    """Probabilities of the test images as the evaluation of a training run finds them."""
    return evaluated_by(load_student(run)[0], data)


@torch.no_grad()
def evaluated_by(student: nn.Module, data: ImageData) -> list[list[float]]:
    loader = eval_loader(data, data.test, batch_size=4, num_workers=0)
    return torch.cat([student(batch.images) for batch in loader]).double().softmax(1).tolist()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 20x16 images with a test/ part, and a run trained on it."""
    for part in ("train", "test"):
        save_images(tmp_path / "photos" / part, (20, 16))
    save_run(tmp_path / "run", load(tmp_path / "photos", val_fraction=0))
    return tmp_path / "photos" / "test"


@pytest.mark.parametrize(
    ("size", "image_size", "published"),
    [
        ((20, 16), None, None),
        ((20, 16), 12, None),
        ((150, 100), 96, None),
        ((100, 150), 40, None),
        ((150, 100), 96, "bicubic"),
        ((100, 150), 40, "bicubic"),
    ],
    ids=[
        "as they are",
        "in memory",
        "streamed",
        "made small",
        "streamed, published",
        "in memory, published",
    ],
)
def test_prediction_sees_what_the_evaluation_saw(
    tmp_path: Path, size: tuple[int, int], image_size: int | None, published: str | None
) -> None:
    for part in ("train", "test"):
        save_images(tmp_path / "photos" / part, size)
    data = load(tmp_path / "photos", val_fraction=0, image_size=image_size)
    if published is not None:
        data = data.prepared_for((0.5, 0.4, 0.3), (0.3, 0.3, 0.2), published)
    save_run(tmp_path / "run", data)
    frame = predict(tmp_path / "run", [str(tmp_path / "photos" / "test")], top=3, batch_size=4)
    expected = evaluated(tmp_path / "run", data)
    assert len(frame) == 3 * len(expected)
    for row, probabilities in enumerate(expected):
        three = frame.iloc[3 * row : 3 * row + 3]
        order = sorted(range(3), key=lambda number: -probabilities[number])
        assert three["class"].tolist() == [data.class_names[number] for number in order]
        assert three["probability"].tolist() == pytest.approx(sorted(probabilities, reverse=True), abs=1e-6)
        assert three["rank"].tolist() == [1, 2, 3]
    assert max(map(max, expected)) > 0.5  # the classes were told apart


def test_files_come_in_the_order_given_and_folders_sorted(photos: Path) -> None:
    (photos / ".hidden").mkdir()
    for stray in (".hidden/0.png", "dog/.0.png", "dog/notes.txt"):
        (photos / stray).write_text("not to be read")
    unusual = photos / "dog" / "image without suffix"
    unusual.write_bytes((photos / "dog" / "0.png").read_bytes())
    given = [photos / "dog" / "4.png", photos / "cat", unusual]
    frame = predict(photos.parents[1] / "run", [str(path) for path in given])
    assert frame.columns.tolist() == ["file", "class", "probability"]
    cats = [str(photos / "cat" / f"{number}.png") for number in range(5)]
    assert frame["file"].tolist() == [str(given[0]), *cats, str(unusual)]
    assert frame["probability"].between(1 / 3, 1).all()


def test_grey_student_reads_colour_images(photos: Path) -> None:
    run = photos.parents[1] / "grey run"
    data = load(photos.parent, val_fraction=0, channels=1)
    save_run(run, data)
    frame = predict(run, [str(photos)])
    assert frame["probability"].tolist() == pytest.approx(list(map(max, evaluated(run, data))), abs=1e-6)


def test_out(photos: Path) -> None:
    run, folder = photos.parents[1] / "run", photos.parents[1] / "new"
    frame = predict(run, [str(photos)], out=folder / "result.csv")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "result.csv"), frame, rtol=1e-12)
    frame = predict(run, [str(photos / "größer")], top=2, out=folder / "result.json")
    assert json.loads((folder / "result.json").read_text(encoding="utf-8")) == frame.to_dict("records")
    assert sorted(path.name for path in folder.iterdir()) == ["result.csv", "result.json"]


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            {"class": ["cat", "ox", "cat"]},
            ["3 images, by the class that was predicted:", "  cat  2", "  ox   1", "Table: answers.csv"],
        ),
        (
            {"rank": [1, 2] * 2, "class": ["ox", "cat"] * 2},
            ["2 images, by the class that was predicted:", "  ox  2", "Table: answers.csv"],
        ),
        (
            {"class": ["cat"]},
            ["1 image, by the class that was predicted:", "  cat  1", "Table: answers.csv"],
        ),
        (
            {"class": ["many"] * 1200 + [str(number) for number in range(12)]},
            [
                "1,212 images, by the class that was predicted:",
                "  many                1,200",
                *(f"  {number}                       1" for number in range(9)),
                "  and 3 more classes      3",
                "Table: answers.csv",
            ],
        ),
    ],
    ids=["each class", "the first of several answers", "one image", "more than ten classes"],
)
def test_a_summary_counts_the_images_of_each_class(columns: dict[str, list[object]], lines: list[str]) -> None:
    assert summary(pd.DataFrame(columns), Path("answers.csv")).splitlines() == lines


def test_an_unreadable_image_is_named_and_nothing_written(photos: Path, tmp_path: Path) -> None:
    whole = (photos / "dog" / "3.png").read_bytes()
    (photos / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=re.escape(str(photos / "dog" / "3.png"))):
        predict(photos.parents[1] / "run", [str(photos)], out=tmp_path / "result.csv", on_bad_image="error")
    assert not (tmp_path / "result.csv").exists()


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_an_unreadable_image_does_not_stop_the_others(
    photos: Path, capsys: pytest.CaptureFixture[str], batch_size: int
) -> None:
    (photos / "dog" / "3.png").write_bytes(b"")
    (photos / "cat" / "0.png").write_bytes(b"no image")
    os.mkfifo(photos / "cat" / "pipe.png")
    (photos / "cat" / "link.png").symlink_to("pipe.png")
    frame = predict(photos.parents[1] / "run", [str(photos)], batch_size=batch_size)
    assert len(frame) == 13
    assert not frame["file"].isin([str(photos / "dog" / "3.png"), str(photos / "cat" / "0.png")]).any()
    said = capsys.readouterr().err
    assert "3 unreadable images skipped" in said
    assert f"{photos}/cat/link.png: it is a pipe, not a file" in said
    assert "pipes, sockets and devices left out: 1, such as cat/pipe.png" in said
    bad = [str(photos / "dog" / "3.png"), str(photos / "cat" / "pipe.png")]
    with pytest.raises(UserError, match=r"none of 2 images can be read, among them: .*3\.png"):
        predict(photos.parents[1] / "run", bad)
    with pytest.raises(UserError, match=r"^cannot read the image .*3\.png"):
        predict(photos.parents[1] / "run", bad[:1])


def test_names_that_are_not_utf8_are_written(photos: Path, tmp_path: Path) -> None:
    (photos / "dog" / "0.png").rename(photos / "dog" / os.fsdecode(b"\xff.png"))
    for out in ("result.csv", "result.json"):
        frame = predict(photos.parents[1] / "run", [str(photos)], out=tmp_path / out)
        assert str(photos / "dog" / r"\udcff.png") in frame["file"].tolist()
        text = (tmp_path / out).read_text(encoding="utf-8")
        assert (r"\\udcff" if out.endswith("json") else r"\udcff") in text


def test_a_link_to_nothing_is_named(photos: Path) -> None:
    (photos / "dog" / "9.jpg").symlink_to("gone.jpg")
    data = load(photos.parent / "train", val_fraction=0, image_size=72)
    save_run(photos.parents[1] / "streamed", data)
    with pytest.raises(UserError, match=r"dog/9\.jpg: it is a link to gone\.jpg"):
        predict(photos.parents[1] / "streamed", [str(photos)], on_bad_image="error")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": ["no such folder"]}, "no image file or folder 'no such folder'"),
        ({"images": []}, "no image found in nothing"),
        ({"top": 0}, "top is 0, but the student knows 3 classes: give 1 to 3"),
        ({"top": 4}, "top is 4"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"on_bad_image": "skipp"}, "unknown on_bad_image 'skipp': did you mean 'skip'"),
        ({"out": Path("result.xlsx")}, r"'result.xlsx'; give a file that ends in .csv or .json"),
        ({"out": Path("/proc/x/y.csv"), "images": ["no such folder"]}, "'/proc/x/y.csv' cannot be written"),
        ({"accelerator": "abacus"}, "accelerator 'abacus' cannot be used"),
        ({"run": "nowhere"}, "no trained student in 'nowhere'"),
    ],
)
def test_wrong_input(photos: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict(**({"run": photos.parents[1] / "run", "images": [str(photos)]} | options))  # type: ignore[arg-type]


def test_empty_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no image found in .*empty"):
        predict(photos.parents[1] / "run", [str(tmp_path / "empty")])


def test_a_student_that_no_name_rebuilds(photos: Path) -> None:
    run = photos.parents[1] / "run"
    student, card = load_student(run)
    save_student(run, student, replace(card, model=None))
    with pytest.raises(UserError, match=r"network object.*predict .*take such a network"):
        predict(run, [str(photos)])
    expected = evaluated_by(student, load(photos.parent, val_fraction=0))
    network = build_model("test_resnet", 3, in_chans=3)
    frame = predict(run, [str(photos)], network=network)
    assert frame["probability"].tolist() == pytest.approx(list(map(max, expected)), abs=1e-6)


def test_an_open_image_of_the_caller_stays_as_it_is(photos, tmp_path):
    Image.new("RGB", (6400, 5600), "red").save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as image:
        classmates.load_student(tmp_path / "run").predict([image])
        assert image.size == (6400, 5600)


def test_an_empty_name_is_not_the_folder_one_is_in(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    with pytest.raises(UserError, match="the name of an image is empty"):
        predict(tmp_path / "run", [""])
