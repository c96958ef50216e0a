"""The parts of a folder: found by their names, wherever they lie, and said."""

import shutil

import pytest

from classmates.data.readers.folder import list_folder, list_part
from classmates.data.readers.listing import read_listing
from classmates.errors import UserError
from tests.fixtures.class_folders import write, write_classes


def read(folder, image_size=None, channels=None, on_bad_image="error"):
    return read_listing(list_folder(folder), image_size=image_size, channels=channels, on_bad_image=on_bad_image)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", None, "Testing"),
        ("Train", "Valid", "Test"),
        ("TRAIN", "dev", "eval"),
        ("train_set", None, "test-set"),
    ],
)
def test_parts_are_known_in_any_spelling_and_said(tmp_path, train, val, test):
    names = {"train": train, "val": val, "test": test}
    for number, name in enumerate(filter(None, names.values())):
        write_classes(tmp_path / name, count=3 - number)
    source = read(tmp_path)
    assert source.train.class_names == ("cat", "dog")
    assert [len(source.train), len(source.test)] == [6, 2 if val else 4]
    assert (source.val is None) == (val is None)
    said = ", ".join(f"{name}/ is {part}/" for part, name in names.items() if name)
    assert f"the parts are known by their names: {said}" in source.notes


def test_of_two_folders_for_a_part_the_very_name_is_taken_or_none(tmp_path):
    for name in ("train", "test", "eval"):
        write_classes(tmp_path / name)
    assert "beside train/, test/, not used: eval/" in read(tmp_path).notes
    (tmp_path / "test").rename(tmp_path / "Testing")
    with pytest.raises(UserError, match="several parts for test: Testing, eval; call the right one test"):
        read(tmp_path)


def test_classes_may_be_called_like_parts(tmp_path):
    write_classes(tmp_path, ("bus", "train", "test"))
    source = read(tmp_path)
    assert source.train.class_names == ("bus", "test", "train")
    assert "taken for classes, as they hold no class folders: train/, test/" in source.notes


@pytest.mark.parametrize("other", ["test1", "unlabelled_test", "validation2"])
@pytest.mark.parametrize("table", [False, True])
def test_parts_whose_images_are_in_no_class_folders_are_no_classes(tmp_path, other, table):
    for name in ("train", other):
        (tmp_path / name).mkdir()
        for number in range(3):
            write(tmp_path / name / f"cat.{number}.png")
    if table:
        (tmp_path / "labels.csv").touch()
    said = r"hold no class folders: put the images of each class into a folder of its own \(train/CLASS/\.\.\.\)"
    with pytest.raises(UserError, match=f"{said}{'; if labels.csv says' if table else ''}"):
        read(tmp_path)


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("images", [0, 3])
def test_a_part_without_class_folders_is_told(tmp_path, part, images):
    write_classes(tmp_path / "train")
    (tmp_path / part).mkdir()
    for number in range(images):
        write(tmp_path / part / f"{number}.png")
    message = rf"{tmp_path}/{part} has no class folders: put .* a folder of its own, or move {part}/ away"
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}/{part} has no class folders: put .* its own$"):
        list_part(tmp_path, part)


def test_a_folder_that_wraps_the_data_set_is_looked_through_and_it_is_said(tmp_path):
    write_classes(tmp_path / "archive" / "training_set" / "training_set")
    write_classes(tmp_path / "archive" / "test_set" / "test_set", count=1)
    (tmp_path / "__MACOSX" / "archive").mkdir(parents=True)
    (tmp_path / "readme.txt").write_text("")
    source = read(tmp_path)
    assert source.name == tmp_path.name
    assert [len(source.train), len(source.test)] == [6, 2]
    assert f"the data set is archive/, the only folder in {tmp_path}" in source.notes
    write_classes(tmp_path / "two down" / "archive" / "photos")
    with pytest.raises(UserError, match="one class only, 'archive'"):
        read(tmp_path / "two down")


def test_classes_that_differ_between_parts(tmp_path):
    write_classes(tmp_path / "train", ("cat", "dog", "emu"))
    write_classes(tmp_path / "test", ("cat", "dgo", "emu"))
    with pytest.raises(UserError, match="has a class 'dgo' that train/ has not: did you mean 'dog'"):
        read(tmp_path)
    (tmp_path / "test" / "dgo").rename(tmp_path / "elsewhere")
    (tmp_path / "test" / "cat").rename(tmp_path / "elsewhere" / "cat")
    source = read(tmp_path)
    assert source.test.labels.tolist() == [2, 2, 2]
    assert f"{tmp_path} (test) has no image of classes 'cat', 'dog': it is not measured there" in source.notes


def test_one_part_alone_has_the_classes_that_it_has(tmp_path):
    write_classes(tmp_path / "Test", ("emu",))
    part = read_listing(list_part(tmp_path, "test"), image_size=None, channels=None, on_bad_image="error")
    assert part.train is part.val is None
    assert part.test.class_names == ("emu",)
    with pytest.raises(UserError, match=r"has no val/ folder: take another part \(--split test\)"):
        list_part(tmp_path, "val")
    every = list_part(tmp_path / "Test", "val")
    assert [*every.parts] == ["test"]
    assert every.notes[0].startswith("every image of")


@pytest.mark.parametrize("name", ["test", "Val"])
def test_a_part_that_is_a_link_to_nothing_is_not_missing(tmp_path, name):
    write_classes(tmp_path / "train")
    (tmp_path / name).symlink_to(tmp_path / "not mounted")
    with pytest.raises(
        UserError, match=rf"{name} is a link to .*not mounted, which does not exist: mend or remove it"
    ):
        list_folder(tmp_path)
    (tmp_path / name).rename(tmp_path / "notes")
    assert [*list_folder(tmp_path).parts] == ["train"]


def test_parts_are_not_taken_for_classes(tmp_path):
    for name in ("cat", "dog"):
        write_classes(tmp_path / "divided" / name, ("train", "test"))
        write_classes(tmp_path / name, ("front", "side"))  # folders within a class are no parts
    with pytest.raises(
        UserError, match=r"hold test/, train/, .*: put the classes into the parts \(test/cat/\.\.\.\)"
    ):
        list_folder(tmp_path / "divided")
    shutil.rmtree(tmp_path / "divided")
    assert list_folder(tmp_path).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "names",
    [
        ("train2017", "val2017"),
        ("train1", "test1"),
        ("flowers_test", "flowers_train", "flowers_val"),
        ("2019 Training", "2019 Eval"),
        ("my-trainset-2", "my-testset-2"),
    ],
)
def test_parts_of_unusual_names_are_not_taken_for_classes_that_hold_folders(tmp_path, names):
    for name in names:
        write_classes(tmp_path / "parts" / name)
    said = (
        rf"{names[0]}/.* in .*parts hold folders of the same names: if they are the parts .*, call them train/, val/"
    )
    with pytest.raises(UserError, match=said):
        list_folder(tmp_path / "parts")
    write_classes(tmp_path / "classes", names)
    assert list_folder(tmp_path / "classes").class_names == tuple(sorted(names))


def test_a_test_folder_without_a_train_folder(tmp_path):
    write_classes(tmp_path / "test")
    with pytest.raises(UserError, match="has test/ but no train/"):
        read(tmp_path)
