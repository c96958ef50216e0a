import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from safetensors.torch import save_file

from classmates._files import exclusive, output_file, regular_text, remove_unfinished, require_writable, whole_file
from classmates._yaml import read_yaml
from classmates.comparisons.recipe import Recipe
from classmates.data.readers.cache import cached
from classmates.errors import UserError
from classmates.experiments.ledger import Ledger
from classmates.runs.folder import read_record, stored_settings


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
    with pytest.raises(UserError, match=f"'{path}' cannot be written .*: mend that, .* with --out"):
        require_writable(path)
    with pytest.raises(UserError, match=f"'{path}' cannot be written"), output_file(path) as temporary:
        temporary.write_text("content")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "file", tmp_path / "folder"]


def test_what_a_writer_raises_is_not_taken_for_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    for error in (UserError("it answers otherwise"), ValueError("a bug"), KeyError("a bug")):
        with pytest.raises(type(error)) as told, output_file(tmp_path / "x"):
            raise error
        assert told.value is error
    assert list(tmp_path.iterdir()) == []


def test_an_address_is_no_place_for_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/x", "memory://x", "file:///x/y", "https://a.b/c"):
        with pytest.raises(UserError, match="it is an address, and results are written to folders of this machine"):
            require_writable(Path(address))
    for name in ("a::b/x", "a:b", "~/x", "c:/x"):
        require_writable(Path(name))
    assert list(tmp_path.iterdir()) == []


def test_trying_whether_a_place_can_be_written_leaves_it_as_it_is(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folders" / "x.csv")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.csv").write_text("kept")
    require_writable(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "kept"


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[int, int]] = []
    sync, replace = os.fsync, os.replace

    def fsync(file: int) -> None:
        kept.append((os.fstat(file).st_ino, os.fstat(file).st_size))
        sync(file)

    def named(source: Path, target: Path) -> None:
        assert kept == [(source.stat().st_ino, len("content"))]
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", named)
    with whole_file(tmp_path / "file.txt") as path:
        path.write_text("content")
    assert (tmp_path / "file.txt").read_text() == "content"
    assert kept


def save_with_safetensors(path: Path) -> None:
    save_file({"a": torch.ones(1)}, path)  # which makes a file for its owner alone


WRITERS = {"text": lambda path: path.write_text("text"), "safetensors": save_with_safetensors}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_are_for_whom_the_umask_says(tmp_path: Path, writer: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "file.safetensors") as path:
            WRITERS[writer](path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.safetensors").stat().st_mode) == 0o666 & ~umask


def test_what_a_killed_process_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("result.json", "resnet-8.1.yaml", "log"):
        with whole_file(tmp_path / name) as temporary:
            shutil.copy(temporary, tmp_path / "left")
        (tmp_path / "left").rename(temporary)
        (tmp_path / name).unlink()
    (tmp_path / ".hidden.json").touch()
    (tmp_path / "result.json").touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden.json", "result.json"]
    remove_unfinished(tmp_path / "nowhere")


def left_behind(folder: Path, name: str, hours: float) -> str:
    """Leave what a process leaves that was killed so long ago while it wrote a file of that name."""
    path = folder / f".{Path(name).stem}.{uuid4().hex}{Path(name).suffix}"
    path.touch()
    then = path.stat().st_mtime - 3600 * hours
    os.utime(path, (then, then))
    return path.name


def test_what_was_left_of_a_file_goes_when_it_is_written_again(tmp_path: Path) -> None:
    left_behind(tmp_path, "result.csv", hours=2)
    kept = [left_behind(tmp_path, "result.csv", hours=0.5), left_behind(tmp_path, "other.csv", hours=2)]
    with whole_file(tmp_path / "result.csv"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "result.csv"])


def test_what_was_left_in_a_cache_or_a_ledger_goes_when_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path))
    kept = left_behind(tmp_path, "of-another-program.txt", hours=2)
    left_behind(tmp_path, "images-0.safetensors", hours=2)
    cached("images", ["photos"], "content", lambda: {"images": torch.zeros(1)}, [])
    assert [path.name for path in tmp_path.glob(".*")] == [kept]
    ledger = Ledger(tmp_path / "ledger")
    ledger.jobs.mkdir(parents=True)
    left_behind(ledger.jobs, "job.yaml", hours=2)
    ledger.write_plan(Recipe(rows={}, models=(), data=(), seeds=()), [])
    assert not any(ledger.jobs.iterdir())


HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, 2 | 4); print(flush=True); sys.stdin.read()"
)


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with exclusive(path) as mine:
            assert not mine
        assert path.exists()
        holder.kill()
    with exclusive(path) as mine:
        assert mine
    assert not path.exists()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, link_to_a_pipe, link_to_a_device, Path.mkdir])
def test_what_would_be_read_for_ever_is_refused_in_run_folders_ledgers_and_settings(make, tmp_path: Path) -> None:
    make(tmp_path / "result.json")
    with pytest.raises(OSError, match="not a file"):
        regular_text(tmp_path / "result.json")
    assert read_record(tmp_path / "result.json") is None
    make(tmp_path / "config.yaml")
    assert stored_settings(tmp_path) == {}
    with pytest.raises(UserError, match=r"settings: it is a \w+, not a file"):
        read_yaml(tmp_path / "config.yaml", "settings")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_stays_what_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("devices are for root to make")
    mode = path.stat().st_mode
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(UserError, match=rf"'{name}' cannot be written \(it is a {kind}, not a file\)"):
            require_writable(name)
        with pytest.raises(UserError, match=f"it is a {kind}"), output_file(name) as temporary:
            temporary.write_text("content")
    assert path.stat().st_mode == mode
    assert link.is_symlink()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one_and_its_file_is_written(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "shared" / "x.csv"
    if there:
        target.parent.mkdir()
        target.write_text("old")
    (tmp_path / "x.csv").symlink_to(target)
    require_writable(tmp_path / "x.csv")
    with output_file(tmp_path / "x.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "x.csv").is_symlink()
    assert target.read_text() == "new"
    assert [*target.parent.iterdir()] == [target]


@pytest.mark.parametrize("name", ["", ".", "/", ".."])
def test_a_name_that_is_none_is_a_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be written \(it is a folder, not a file\)"):
        require_writable(Path(name))
