import tarfile

import pytest

from classmates.data.readers.tar_index import index_shard
from classmates.errors import UserError
from tests.data.readers.conftest import encoded, pack


def test_every_image_is_found_with_its_label(tmp_path):
    images = [encoded(number) for number in range(3)]
    long = "a folder/" * 30 + "last"  # beyond what the first tar format has room for
    members = [
        ("./b.d/one.cls", "3\n"),
        ("./b.d/one.PNG", images[0]),
        ("./b.d/one.json", "{}"),
        ("two.png", images[1]),
        (f"{long}.png", images[2]),
        (f"{long}.cls", "tench, Tinca tinca"),
        ("README", "about"),
    ]
    path = pack(tmp_path / "train.tar", members)
    found = index_shard(path, None)
    content = path.read_bytes()
    assert [content[at.offset : at.offset + at.size] for at in found.samples] == images
    assert [sample.label for sample in found.samples] == ["3", None, "tench, Tinca tinca"]
    assert [sample.name for sample in found.samples] == ["./b.d/one.PNG", "two.png", f"{long}.png"]
    assert (found.unused, found.example) == (2, "./b.d/one.json")


def test_labels_are_another_member_or_a_field(tmp_path):
    image = encoded(0)
    path = pack(tmp_path / "a.tar", [("a.png", image), ("a.txt", "cat"), ("a.json", '{"id": 7, "x": [1]}')])
    assert index_shard(path, "txt").samples[0].label == "cat"
    assert index_shard(path, "id").samples[0].label == "7"
    with pytest.raises(UserError, match=r"label is 'idd', but a\.json in .*a\.tar has no such field: did you mean"):
        index_shard(path, "idd")
    with pytest.raises(UserError, match=r"label a\.json in .*a\.tar is \[1\]: give a whole number or a text"):
        index_shard(path, "x")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["a.png", "a.cls", "b.png", "b.cls", "a.png"], "the key 'a' twice"),
        (["a.png", "a.png"], r"has a\.png twice"),
        (["a.png", "a.jpg"], r"several images of one sample: a\.png, a\.jpg"),
        (["a.cls"], r"has a\.cls, but no image 'a' beside it"),
    ],
)
def test_samples_that_are_none_are_named(tmp_path, members, said):
    path = pack(tmp_path / "train.tar", [(name, "1") for name in members])
    with pytest.raises(UserError, match=rf"train\.tar .*{said}"):
        index_shard(path, None)


@pytest.mark.parametrize("content", [b"", b"  ", b"\n"])
def test_a_label_that_says_nothing_is_none(tmp_path, content):
    path = pack(tmp_path / "train.tar", [("a.png", b"x"), ("a.cls", content), ("a.json", '{"x": "", "y": null}')])
    for label in (None, "x", "y"):
        assert index_shard(path, label).samples[0].label is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.cls", b"\xff\xfe", "cannot be read"),
        ("a.cls", b"5\0", r"is '5\\x00': give a whole number or a text, without zero bytes"),
        ("a.json", '{"cls": "a\\u0000b"}', r"is 'a\\x00b': give a whole number or a text, without zero bytes"),
        ("a.json", '{"cls": true}', r"is True: give a whole number or a text"),
    ],
)
def test_a_label_that_is_no_text_is_named(tmp_path, name, content, said):
    path = pack(tmp_path / "train.tar", [("a.png", b"x"), (name, content)])
    with pytest.raises(UserError, match=rf"the label {name} in .*train\.tar {said}"):
        index_shard(path, "cls")


def test_a_label_that_utf_8_does_not_hold_is_written_so_that_it_does(tmp_path):
    path = pack(tmp_path / "train.tar", [("a.png", b"x"), ("a.json", '{"x": "a\\ud800"}')])
    assert index_shard(path, "x").samples[0].label == "a\\ud800"


def test_a_file_cut_off_anywhere_is_named(tmp_path):
    path = pack(
        tmp_path / "train.tar", [("a.png", bytes(700)), ("a.cls", "1"), ("b.png", bytes(700)), ("b.cls", "1")]
    )
    content = path.read_bytes()
    end = 2 * (3 + 2) * 512  # headers and blocks of content
    assert len(index_shard(path, None).samples) == 2
    for size in (0, 100, *range(512, end + 1, 256)):  # in and after every header and content
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"train\.tar (is|cannot be read, it is no tar file or is) cut off"):
            index_shard(path, None)


def test_no_tar_file_and_links_are_named(tmp_path):
    path = tmp_path / "train.tar"
    path.write_bytes(encoded(0))
    with pytest.raises(UserError, match=r"train\.tar cannot be read, it is no tar file"):
        index_shard(path, None)
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(UserError, match=r"a\.png in .*train\.tar is a link"):
        index_shard(path, None)
