import multiprocessing
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from classmates.data.readers.cache import cache_folder, cached, fingerprint


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """Makes the same tensors every time, and counts."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return {"images": torch.arange(24, dtype=torch.uint8).view(2, 3, 4), "grey": torch.tensor([True, False])}


@pytest.fixture
def build():
    return Builder()


def get(build, of=("photos", 32), content="as it was", kind="images"):
    notes = []
    tensors = cached(kind, of, content, build, notes)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in Builder()().items()
    }
    assert [tensors["images"].dtype, tensors["grey"].dtype] == [torch.uint8, torch.bool]
    return notes


def only_file(folder):
    [path] = folder.glob("*.safetensors")
    return path


def test_it_is_built_once(build, folder):
    assert [get(build) for _ in range(3)] == [[], [], []]
    assert build.times == 1
    assert only_file(folder).name.startswith("images-")


def test_what_is_read_may_be_written_to_without_changing_the_file(build):
    get(build)
    cached("images", ("photos", 32), "as it was", build, [])["images"].zero_()
    assert get(build) == []
    assert build.times == 1


def test_each_thing_has_one_file_and_changed_content_replaces_it(build, folder):
    get(build)
    get(build, of=("photos", 64))
    get(build, kind="checks")
    assert build.times == len(list(folder.glob("*.safetensors"))) == 3
    assert get(build, content="changed") == []
    assert get(build, content="changed") == []
    assert build.times == 4
    assert len(list(folder.glob("*.safetensors"))) == 3


@pytest.mark.parametrize("length", [0, 5, 40, 200, -1])
def test_a_cache_cut_off_is_made_again_and_said(build, folder, length):
    get(build)
    path = only_file(folder)
    path.write_bytes(path.read_bytes()[:length])
    [note] = get(build)
    assert note.startswith(f"the cache {path} is damaged, and was made again: ")
    assert get(build) == []
    assert build.times == 2


def test_a_foreign_file_or_header_is_not_trusted(build, folder):
    get(build)
    path = only_file(folder)
    tensors = load_file(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    header = {"format": "another", "key": "", "layout": "", "content": "as it was"}
    for metadata in (None, header):
        save_file(tensors, path, metadata=metadata)
        [note] = get(build)
        assert note == f"the file {path} is no cache of these images, and was made again"
    path.write_bytes(b"\x89PNG" * 100)
    assert "is damaged" in get(build)[0]
    assert build.times == 4


def test_a_flipped_bit_anywhere_in_the_header_is_found(build, folder):
    get(build)
    path = only_file(folder)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = range(0, header, 7)
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        get(build)
    assert build.times == 1 + len(places)


def test_a_cache_renamed_to_another_ones_name_is_not_taken_for_it(build, folder):
    get(build)
    mine = only_file(folder)
    get(build, of=("photos", 64))
    [other] = set(folder.glob("*.safetensors")) - {mine}
    os.replace(mine, other)
    assert "no cache of these images" in get(build, of=("photos", 64))[0]


def test_where_nothing_can_be_written_it_is_built_every_time(build, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path / "a file" / "below"))
    for _ in range(2):
        [note] = get(build)
        assert note.startswith("no place for a cache: ")
        assert "CLASSMATES_CACHE" in note
    assert build.times == 2


def test_a_full_disk_is_said_and_leaves_nothing_behind(build, folder, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("classmates.data.readers.cache.save_file", full)
    [note] = get(build)
    assert "could not be written: [Errno 28] No space left on device" in note
    assert not list(folder.glob("*.safetensors"))


def test_what_the_builder_raises_is_passed_on_and_nothing_is_kept(build):
    def fail():
        raise OSError("the images' disk is gone")

    with pytest.raises(OSError, match="the images' disk is gone"):
        cached("images", ("photos", 32), "as it was", fail, [])
    assert get(build) == []
    assert build.times == 1


def build_slowly(started, log):
    def build():
        with Path(log).open("a") as file:
            file.write("built\n")
        started.wait()  # until the other process is on its way
        return {"images": torch.arange(6)}

    return build


def fill(started, log, results):
    started.wait()
    notes = []
    tensors = cached("images", ("photos",), "as it was", build_slowly(started, log), notes)
    results.put((tensors["images"].tolist(), notes))


def test_of_two_processes_at_once_one_builds_and_both_end_well(tmp_path):
    context = multiprocessing.get_context("fork")
    started, results = context.Barrier(2), context.Queue()
    # The barrier is passed once together; then the one that builds would wait for ever, were the other not let in
    # by this thread, which gives it a moment to come to the lock.
    processes = [context.Process(target=fill, args=(started, tmp_path / "log", results)) for _ in range(2)]
    for process in processes:
        process.start()
    helper = threading.Thread(target=started.wait)
    try:
        helper.start()
        outcomes = [results.get(timeout=60) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=60)
    assert outcomes == [([0, 1, 2, 3, 4, 5], [])] * 2
    assert (tmp_path / "log").read_text() == "built\n"


def test_the_place_is_the_users_choice(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("CLASSMATES_CACHE", "~/here")
    assert cache_folder() == Path.home() / "here"
    monkeypatch.delenv("CLASSMATES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "classmates"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "classmates"


def test_a_fingerprint_changes_with_any_file_and_not_with_the_way_to_it(tmp_path, monkeypatch):
    root = tmp_path / "fotos für später 猫"
    (root / "a b").mkdir(parents=True)
    files = [root / "a b" / name for name in ("ä.png", "猫.png", os.fsdecode(b"\xff.png"))]
    for file in files:
        file.write_bytes(b"12")
        os.utime(file, ns=(0, 1_000_000_007))
    first = fingerprint(files)
    assert fingerprint(iter(files)) == first
    monkeypatch.chdir(root)
    assert fingerprint([Path("..") / file.relative_to(tmp_path) for file in files]) == first
    assert fingerprint(files[:2]) != first
    assert fingerprint(files[::-1]) != first
    os.utime(files[1], ns=(0, 1_000_000_008))
    changed = fingerprint(files)
    assert changed != first
    files[1].write_bytes(b"123")
    os.utime(files[1], ns=(0, 1_000_000_007))
    assert fingerprint(files) not in (first, changed)
    os.rename(files[1], root / "a b" / "dog.png")
    files[1] = root / "a b" / "dog.png"
    assert len({first, changed, fingerprint(files)}) == 3


def test_a_link_to_nothing_has_a_fingerprint_that_changes_when_it_is_mended(tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nothing.png")
    broken = fingerprint([link])
    (tmp_path / "nothing.png").touch()
    assert fingerprint([link]) != broken
