from pathlib import Path

import pytest

from classmates._files import output_file, require_writable, whole_file
from classmates.errors import UserError


def test_two_writers_of_one_file_are_not_in_each_others_way(tmp_path: Path) -> None:
    """Also those of two machines, whose processes may have the same number."""
    path = tmp_path / "file.txt"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["file/new/x.csv", "folder", "/proc/nothing/x.csv"])
def test_a_place_that_cannot_be_written_is_named_and_nothing_left(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    path = tmp_path / place
    with pytest.raises(UserError, match=f"'{path}' cannot be written .*--out"):
        require_writable(path)
    with pytest.raises(UserError, match=f"'{path}' cannot be written"), output_file(path) as temporary:
        temporary.write_text("content")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "file", tmp_path / "folder"]


def test_trying_whether_a_place_can_be_written_leaves_it_as_it_is(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folders" / "x.csv")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.csv").write_text("kept")
    require_writable(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "kept"
