import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from classmates import cli
from classmates.errors import UserError
from classmates.evaluation.new_classes import NONE
from classmates.evaluation.predict import predict
from classmates.evaluation.reading import read
from classmates.networks.building.build import build_model
from classmates.runs.prototypes import load_prototypes
from classmates.runs.student import StudentCard, load_embedder, save_student

Capture = pytest.CaptureFixture[str]
COLOURS = {"grün": (10, 200, 30), "red": (220, 10, 10), "sky": (90, 140, 250)}
WITHOUT_EMBEDDING = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, num_classes))

    def forward(self, images):
        return images.mean((2, 3)) @ self.weight
"""


def write(path: Path, colour: tuple[int, int, int], number: int, noise: int = 25) -> None:
    random = np.random.default_rng([number, *colour])
    pixels = np.clip(np.array(colour) + random.integers(-noise, noise + 1, (12, 12, 3)), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def save_run(run: Path, output: str = "logits", channels: int = 3, model: str = "test_resnet") -> Path:
    run.mkdir(exist_ok=True)
    torch.manual_seed(0)
    args = {} if ".py" in model else {"in_chans": channels}
    network = build_model(model, 2 if output == "logits" else 0, **args)
    mean, std = (0.5,) * channels, (0.25,) * channels
    card = StudentCard(model, ("a", "b"), (channels, 8, 8), mean, std, (8, 8), args, output=output)
    save_student(run, network, card)
    return run


@pytest.fixture(params=["logits", "embedding"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A student trained as a classifier, or for few-shot learning; of random weights, which know colours apart."""
    return save_run(tmp_path / "run", request.param)


@pytest.fixture
def support(tmp_path: Path) -> Path:
    for count, (name, colour) in enumerate(COLOURS.items(), 3):
        for number in range(count):
            write(tmp_path / "support" / name / f"{number}.png", colour, number)
    return tmp_path / "support"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of each class, and one that is of none."""
    for name, colour in COLOURS.items():
        for number in (50, 51):
            write(tmp_path / "images" / name / f"{number}.png", colour, number)
    write(tmp_path / "images" / "strange" / "0.png", (0, 0, 0), 0, noise=0)
    return tmp_path / "images"


@torch.no_grad()
def embed(run: Path, folder: Path) -> Tensor:
    """One by one."""
    network, card = load_embedder(run)
    files = sorted(folder.rglob("*.png"), key=lambda path: (path.parent.name, path.name))
    pixels = [(read(file, card).movedim(-1, 0) / 255 - 0.5) / 0.25 for file in files]
    return torch.cat([network(image[None]) for image in pixels]).double()


def settings(run: Path, distance: str) -> None:
    options = f"{{distance: {distance}, scale: 10}}"
    (run / "config.yaml").write_text(f"task: {{class_path: classmates.FewShot, init_args: {options}}}")


def ask(run: Path, images: Path, **options: object) -> pd.DataFrame:
    return predict(run, [str(images)], batch_size=4, accelerator="cpu", **options)


def test_the_nearest_prototype_answers(run: Path, support: Path, images: Path) -> None:
    settings(run, "euclidean")
    frame = ask(run, images, support=support, top=3)
    assert frame.columns.tolist() == ["file", "rank", "class", "probability", "distance", "novelty"]
    centres = torch.stack([embed(run, support / name).mean(0) for name in COLOURS])
    expected = (embed(run, images)[:, None] - centres).norm(dim=-1)
    first = frame[frame["rank"] == 1]
    assert first["class"].tolist()[:6] == [name for name in COLOURS for _ in range(2)]
    np.testing.assert_allclose(frame["distance"], expected.sort(1).values.flatten(), rtol=1e-4)
    names = [[*COLOURS][number] for number in expected.argsort(1).flatten()]
    assert frame["class"].tolist() == names
    np.testing.assert_allclose(frame.groupby("file")["probability"].sum(), 1)
    assert (frame["probability"].diff()[frame["rank"] > 1] <= 0).all()


def test_novelty_says_what_is_none_of_these(run: Path, support: Path, images: Path) -> None:
    always = ask(run, images, support=support)
    own, strange = always["novelty"][:6], always["novelty"].iloc[6]
    assert strange > 1.5 * own.max()
    threshold = float(own.max() + strange) / 2
    asked = ask(run, images, support=support, none_above=threshold)
    assert asked["class"].tolist() == [*always["class"][:6], NONE]
    assert asked["novelty"].tolist() == pytest.approx(always["novelty"].tolist())


@pytest.mark.parametrize("top", [1, 2, 3])
def test_an_image_is_refused_by_its_first_rank_and_the_others_stay(
    run: Path, support: Path, images: Path, top: int
) -> None:
    always = ask(run, images, support=support, top=top)
    first = always if top == 1 else always[always["rank"] == 1]
    threshold = float(first["novelty"][first["file"].str.contains("strange")].item()) * 0.99
    assert (first["novelty"] > threshold).sum() == 1
    assert top == 1 or (always["novelty"] > threshold).sum() > 1  # of those accepted, classes that are far
    asked = ask(run, images, support=support, top=top, none_above=threshold)
    expected = always["class"].where(~always.index.isin(first.index[first["novelty"] > threshold]), NONE)
    assert asked["class"].tolist() == expected.tolist()
    pd.testing.assert_frame_equal(asked.drop(columns="class"), always.drop(columns="class"))


def test_the_unit_of_novelty_is_how_far_the_photos_are_from_the_others_of_their_class(
    run: Path, support: Path, images: Path
) -> None:
    settings(run, "euclidean")
    left_out = []
    for name in COLOURS:
        points = embed(run, support / name)
        for number, point in enumerate(points):
            others = torch.cat([points[:number], points[number + 1 :]])
            left_out.append(float((point - others.mean(0)).norm()))
    frame = ask(run, images, support=support)  # whose photos are nearest to their own class
    np.testing.assert_allclose(frame["distance"] / frame["novelty"], max(left_out), rtol=1e-4)  # of 12 the largest


def test_saved_prototypes_answer_the_same(
    run: Path, support: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ask(run, images, support=support, save_prototypes=run / "new.safetensors", out=run / "one.json")
    assert "note: 12 of 12 support photos are nearest to the others of their own class" in capsys.readouterr().err
    shutil.rmtree(support)
    again = ask(run, images, prototypes=run / "new.safetensors", out=run / "two.json")
    pd.testing.assert_frame_equal(first, again, check_exact=False, rtol=1e-5)
    assert json.loads((run / "one.json").read_text())[0].keys() == set(first.columns)
    kept = load_prototypes(run / "new.safetensors", run)
    assert kept.class_names == tuple(COLOURS)
    assert kept.photos == (3, 4, 5)


def test_a_photo_in_the_wrong_folder_is_told(
    run: Path, support: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(support / "red" / "wrong.png", COLOURS["sky"], 99)
    ask(run, images, support=support)
    assert "note: 12 of 13 support photos" in (told := capsys.readouterr().err)
    assert "red/wrong.png is nearer to 'sky'" in told


@pytest.mark.parametrize("task", ["cosine", None])
def test_without_a_tasks_distance_it_is_the_cosine(run: Path, support: Path, images: Path, task: str | None) -> None:
    if task is not None:
        settings(run, task)
    frame = ask(run, images, support=support)
    unit = torch.nn.functional.normalize
    centres = torch.stack([unit(embed(run, support / name), dim=1).mean(0) for name in COLOURS])
    expected = 1 - unit(embed(run, images), dim=1) @ unit(centres, dim=1).T
    np.testing.assert_allclose(frame["distance"], expected.min(1).values, rtol=1e-3, atol=1e-6)


def test_a_distance_that_is_not_known_is_said(tmp_path: Path, support: Path, images: Path, capsys: Capture) -> None:
    said = "images are compared by the cosine: how they were in training is in the run's config.yaml"
    classifier, embedder = (save_run(tmp_path / output, output) for output in ("logits", "embedding"))
    for run, told in ((classifier, False), (embedder, True)):
        ask(run, images, support=support)
        assert (said in " ".join(capsys.readouterr().err.split())) is told
    settings(embedder, "euclidean")
    ask(embedder, images, support=support)
    assert said not in " ".join(capsys.readouterr().err.split())


def test_one_photo_a_class(run: Path, support: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for photo in support.rglob("*.png"):
        if photo.stem != "0":
            photo.unlink()
    frame = ask(run, images, support=support)
    assert frame.columns.tolist() == ["file", "class", "probability", "distance"]
    assert frame["class"].tolist()[:6] == [name for name in COLOURS for _ in range(2)]
    assert "note: one photo of each class" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"none_above is 1, but with one photo of each class.* two photos or more"):
        ask(run, images, support=support, none_above=1)


def test_photos_are_turned_into_the_channels_of_the_student(tmp_path: Path, support: Path, images: Path) -> None:
    frame = ask(save_run(tmp_path / "grey", channels=1), images, support=support)
    assert len(frame) == 7
    with pytest.raises(UserError, match="takes images of 2 channels, image files give 1 or 3"):
        ask(save_run(tmp_path / "two", channels=2), images, support=support)


def test_the_support_may_be_the_training_images_of_a_data_set(
    run: Path, support: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ask(run, images, support=support)
    whole = support.parent / "whole"
    for part in ("train", "test"):
        shutil.copytree(support, whole / part)
    (whole / "train" / "red" / "notes.txt").touch()
    (whole / "train" / "loose.png").touch()
    pd.testing.assert_frame_equal(ask(run, images, support=whole), plain)
    told = capsys.readouterr().err
    assert f"the support is train/ in {whole}; of other parts nothing is used" in told
    assert "in no class folder, not used: 1" in told
    assert "notes.txt" in told
    shutil.rmtree(whole / "train")
    with pytest.raises(UserError, match="has test/ but no train/ folder"):
        ask(run, images, support=whole)


def empty(support: Path) -> None:
    (support / "blue").mkdir()


def one_class(support: Path) -> None:
    for name in ("grün", "red"):
        shutil.rmtree(support / name)


def no_class(support: Path) -> None:
    for name in COLOURS:
        shutil.rmtree(support / name)


def damaged(support: Path) -> None:
    for photo in (support / "red").iterdir():
        photo.write_bytes(b"no image")


def all_the_same(support: Path) -> None:
    for photo in support.rglob("*.png"):
        write(photo, (1, 2, 3), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty, "has no photos of 'blue'"),
        (one_class, "has one class only, 'sky'"),
        (no_class, "has no class folders"),
        (damaged, "no photo of 'red' of the support can be read"),
        (shutil.rmtree, "which is no folder"),
        (all_the_same, "finds the photos of all classes of the support the same"),
    ],
)
def test_a_wrong_support_is_one_message_and_nothing_written(
    run: Path, support: Path, images: Path, capsys: pytest.CaptureFixture[str], change: object, message: str
) -> None:
    change(support)
    before = sorted(run.iterdir())
    flags = [
        "--support",
        str(support),
        "--save_prototypes",
        str(run / "new.safetensors"),
        "--out",
        str(run / "o.csv"),
    ]
    assert cli.main(["predict", str(run), str(images), *flags]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert sorted(run.iterdir()) == before


def test_a_photo_that_cannot_be_read_is_left_out_or_refused(
    run: Path, support: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(support, tmp_path / "good")
    (tmp_path / "good" / "red" / "1.png").unlink()
    (support / "red" / "1.png").write_bytes(b"no image")
    pd.testing.assert_frame_equal(ask(run, images, support=support), ask(run, images, support=tmp_path / "good"))
    said = capsys.readouterr().err
    assert "1 unreadable image skipped" in said
    assert str(support / "red" / "1.png") in said
    with pytest.raises(UserError, match=r"support/red/1\.png"):
        ask(run, images, support=support, on_bad_image="error")


def test_a_student_without_an_embedding(tmp_path: Path, support: Path, images: Path) -> None:
    (tmp_path / "odd.py").write_text(WITHOUT_EMBEDDING)
    run = save_run(tmp_path / "run", model=f"{tmp_path / 'odd.py'}:Odd")
    with pytest.raises(UserError, match="no final classifier found in Odd"):
        ask(run, images, support=support, trust_code=True)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_copies_of_a_photo_tell_no_novelty(
    run: Path, support: Path, images: Path, distance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(run, distance)
    for name in COLOURS:
        for copy in ("1.png", "2.png", "3.png"):
            shutil.copy(support / name / "0.png", support / name / copy)
        (support / name / "4.png").unlink(missing_ok=True)
    options = {"support": support, "save_prototypes": run / "new.safetensors"}
    frame = ask(run, images, **options)
    assert "novelty" not in frame
    assert "the photos of a class are copies of one: how far" in capsys.readouterr().err
    kept = load_prototypes(run / "new.safetensors", run)
    assert kept.reach is None
    assert "Infinity" not in kept.to_json()
    with pytest.raises(UserError, match="one photo of each class, or copies of one, it cannot be told"):
        ask(run, images, support=support, none_above=1.0)


def test_options_that_do_not_fit(tmp_path: Path, support: Path, images: Path) -> None:
    run, file = save_run(tmp_path / "run", "embedding"), tmp_path / "new.safetensors"
    for options, message in (
        ({}, r"gives embeddings, not classes: .* --support FOLDER"),
        ({"support": support, "prototypes": file}, "give one of them"),
        ({"prototypes": file}, r"there is no file of prototypes"),
        ({"prototypes": file, "save_prototypes": file}, "none are made: give --support"),
        ({"support": support, "save_prototypes": tmp_path / "new.pt"}, r"use '.*new\.safetensors'"),
        ({"none_above": 1.0}, "which is for new classes"),
        ({"support": support, "none_above": 0.0}, "give a novelty above 0"),
        ({"support": support, "top": 4}, "top is 4, but the student knows 3 classes"),
    ):
        with pytest.raises(UserError, match=message):
            ask(run, images, **options)
