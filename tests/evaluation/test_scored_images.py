"""Images to score are known by the names of their classes, however a system writes these."""

import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data.parts import Split
from classmates.data.readers.python_dataset import read_dataset
from classmates.deployment.export import export
from classmates.errors import UserError
from classmates.evaluation.evaluate import evaluate
from classmates.evaluation.new_classes import find_support
from classmates.evaluation.scored_images import load_as_trained, numbered_as
from classmates.runs.folder import read_record
from classmates.runs.student import StudentCard
from classmates.tasks.few_shot import FewShot
from classmates.training.train import train
from tests.fixtures.class_folders import write

COMPOSED, APART = (unicodedata.normalize(form, "crêpe") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("ours", [COMPOSED, APART])
@pytest.mark.parametrize("theirs", [COMPOSED, APART])
def test_classes_are_the_same_with_accents_together_or_apart(ours, theirs):
    images = Split(torch.tensor([0, 1, 1]), torch.zeros(3, 8, 8, 1, dtype=torch.uint8), class_names=(theirs, "crab"))
    found = numbered_as(("crab", ours), images, "photos")
    assert found.labels.tolist() == [1, 0, 0]
    assert found.class_names == ("crab", ours)
    with pytest.raises(UserError, match="images of classes that the student does not know, 'crab'"):
        numbered_as(("cress", ours), images, "photos")


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (("löffel", "Gabel"), r"'löffel' \(it knows .*\): .* as in training: did you mean 'Löffel' by 'löffel'\?$"),
        (("Löfel", "gabeln"), r": did you mean 'Löffel' by 'Löfel', 'Gabel' by 'gabeln'\?$"),
        (("Löffel", "Löffel2"), "as in training$"),  # which is another class than the one beside it
        (("car", "Gabel"), "as in training$"),
    ],
)
def test_a_class_that_is_only_spelled_otherwise_is_named(theirs, told):
    images = Split(torch.tensor([0, 1]), torch.zeros(2, 8, 8, 1, dtype=torch.uint8), class_names=theirs)
    with pytest.raises(UserError, match=told):
        numbered_as(("Gabel", "Löffel", "cat"), images, "photos")


def test_a_dataset_in_python_has_composed_names():
    class Photos(torch.utils.data.Dataset):
        classes = ("crab", APART)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.zeros(8, 8), index

    assert read_dataset(Photos(), image_size=None, channels=None).train.class_names == ("crab", COMPOSED)


def test_a_support_of_two_folders_that_are_written_alike(tmp_path):
    for name in (COMPOSED, APART, "crab"):
        write(tmp_path / name / "0.png")
    with pytest.raises(UserError, match="two folders that are both written 'crêpe'"):
        find_support(tmp_path)


@pytest.mark.parametrize("part", ["", "test"])
def test_of_new_classes_without_parts_every_image_is_judged(tmp_path, part):
    """Nothing is split off, for nothing of them was learnt from."""
    names = [f"class {number}" for number in range(7)]
    for name in names:
        for number in range(3):
            photo(tmp_path / "new" / part / name / f"{number}.png", 10 * int(name[-1]) + number)
    card = StudentCard("resnet8", ("a", "b"), (3, 8, 8), (0.5,) * 3, (0.25,) * 3, (8, 8), output="embedding")
    settings = dict.fromkeys(("data_dir", "label", "train_size", "image_size"))
    settings |= {"data": "cifar-fs", "val_fraction": 0.1, "seed": 0, "on_bad_image": "error"}
    task = FewShot(eval_way=7, shot=1, queries=2)
    given = (settings, card, tmp_path / "new", None, None, "test", None, None, task)
    images = load_as_trained(tmp_path / "run", *given)
    assert list(images.test.class_names) == names
    assert len(images.test) == 21


def photo(path, number, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def trained(data, run, size):
    settings = {"model": "resnet8", "method": "Baseline", "epochs": 1, "batch_size": 8, "num_workers": 0}
    where = {"accelerator": "cpu", "precision": "32-true", "loggers": [], "report": False}
    train(data=str(data), out=run, image_size=size, val_fraction=0.25, **settings, **where)


@pytest.mark.parametrize("size", [8, 70], ids=["in memory", "streamed"])
def test_what_is_split_off_other_images_than_the_runs_is_not_scored(tmp_path, size):
    for number in range(40):
        photo(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", number, size)
    run = tmp_path / "run"
    trained(tmp_path / "photos", run, size)
    told = read_record(run / "result.json").images
    assert told.keys() == {"train", "val", "test"}
    scores = evaluate(run, accelerator="cpu")
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "copy").rename(tmp_path / "photos")
    assert evaluate(run, accelerator="cpu") == scores  # the same, though written anew
    for number in range(5):
        photo(tmp_path / "photos" / "cat" / f"00{number}.png", 100 + number, size)
    for split in ("test", "val"):
        with pytest.raises(UserError, match=rf"the {split} images of 'photos' are not those of the run: .* put them"):
            evaluate(run, split=split, accelerator="cpu")
    with pytest.raises(UserError, match="are not those of the run"):
        export(run, formats=["torch"])
    for number in range(5):
        (tmp_path / "photos" / "cat" / f"00{number}.png").unlink()
    assert evaluate(run, accelerator="cpu") == scores


def test_other_images_in_a_test_folder_are_told(tmp_path, capsys):
    for part, count in {"train": 16, "test": 8}.items():
        for number in range(count):
            photo(
                tmp_path / "photos" / part / ("cat", "dog")[number % 2] / f"{part}{number}.png", number + 50 * count
            )
    run = tmp_path / "run"
    trained(tmp_path / "photos", run, 8)
    evaluate(run, accelerator="cpu")
    assert "are not those of the run" not in capsys.readouterr().err
    photo(tmp_path / "photos" / "test" / "cat" / "new.png", 999)
    evaluate(run, accelerator="cpu")
    assert "the test images of 'photos' are not those of the run: some were added" in capsys.readouterr().err
