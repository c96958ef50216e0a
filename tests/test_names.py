"""Names of files that are not UTF-8."""

import os

import pytest

from classmates._names import in_unicode, utf8_path


def test_bytes_that_are_not_utf8_become_escapes() -> None:
    assert in_unicode(os.fsdecode("größe 猫 ".encode() + b"\xff")) == r"größe 猫 \udcff"


@pytest.mark.parametrize("name", [b"plain.txt", "größe 猫.txt".encode(), b"\xff.txt", b"x.\xfe"])
def test_whatever_its_name_a_file_is_reached_by_a_path_of_unicode(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.write_text("content")
    with utf8_path(path) as given:
        assert in_unicode(str(given)) == str(given)
        assert given.read_text() == "content"
    assert path.read_text() == "content"


def test_a_path_of_unicode_is_given_as_it_is(tmp_path):
    with utf8_path(tmp_path / "ä") as given:
        assert given == tmp_path / "ä"
