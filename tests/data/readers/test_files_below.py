"""What a table calls a file is found by the end of its path, below one folder and nowhere else."""

import unicodedata
from pathlib import Path

import pytest

from classmates.data.readers.files_below import FilesBelow
from classmates.errors import UserError

TABLE = Path("labels.csv")


@pytest.fixture
def below(tmp_path):
    """Files below photos/, by their names."""

    def make(*names):
        for name in names:
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return FilesBelow(tmp_path / "photos")

    return make


@pytest.mark.parametrize("written", ["a/x.png", "a/x", "./a/x.png", "a\\x.png", "/home/me/a/x.png", "C:\\me\\a\\x"])
def test_a_path_is_known_by_its_end(below, written):
    files, notes = below("a/x.png", "b/x.png").named([written], TABLE)
    assert files == ["a/x.png"]
    assert bool(notes) == ("me" in written)


def test_two_files_that_could_be_meant_are_told(below):
    files = below("a/x.png", "b/x.png", "x.jpg", "only.png")
    with pytest.raises(UserError, match=r"'x\.png', which may be a/x\.png or b/x\.png .*: write it as"):
        files.named(["only.png", "x.png"], TABLE)
    assert files.named(["x.jpg", "b/x.png"], TABLE)[0] == ["x.jpg", "b/x.png"]  # the very path is no question
    with pytest.raises(UserError, match=r"may be y\.jpg or y\.png"):
        below("y.png", "y.jpg").named(["y"], TABLE)


def test_steps_that_nothing_here_has_are_left_out_of_all_rows_alike(below):
    """As patients have: every file is called alike, and the table's paths begin elsewhere."""
    names = [f"train/patient{number}/view.png" for number in range(40)]
    found, (note,) = below(*names).named([f"set/{name}" for name in names], TABLE)
    assert found == names
    assert (
        note == "'set/train/patient0/view.png' of labels.csv is train/patient0/view.png here, and so for the others"
    )


def test_a_name_is_known_in_other_capitals_and_with_accents_written_apart(below):
    """As it is when files were copied from one system to another, and the table was not."""
    apart = unicodedata.normalize("NFD", "mûre.jpg")
    files = below("a/IMG_1.JPG", apart, "x.png", "X.png")
    found, (note,) = files.named(["A/img_1.jpg", "mûre", "a/IMG_1.JPG", "x.png", "X.png"], TABLE)
    assert found == ["a/IMG_1.JPG", apart, "a/IMG_1.JPG", "x.png", "X.png"]
    assert note == "names of labels.csv in another spelling: 2, such as 'A/img_1.jpg' for a/IMG_1.JPG"
    with pytest.raises(UserError, match=r"'x\.PNG', which may be X\.png or x\.png"):
        files.named(["x.PNG"], TABLE)


def test_steps_are_left_out_before_spelling_is(below):
    """Names of Train/ are those of the files here, not of train/, which is another folder."""
    files, notes = below("1.png", "2.png", "train/1.png").named(["Train/1.png", "Train/2.png"], TABLE)
    assert files == ["1.png", "2.png"]
    assert len(notes) == 1


@pytest.mark.parametrize("written", ["{outside}", "../outside.png", "gone.png", ""])
def test_what_is_elsewhere_or_nowhere_is_not_here(below, tmp_path, written):
    (tmp_path / "outside.png").write_bytes(b"")
    files = below("x.png")
    missing, found = files.named([written.format(outside=tmp_path / "outside.png"), "x.png"], TABLE)[0]
    assert found == "x.png"
    assert not Path(missing).is_absolute()
    assert ".." not in Path(missing).parts
    assert not (files.root / missing).exists()
