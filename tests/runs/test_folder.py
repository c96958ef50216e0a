"""The folder of a run: one process at a time, nothing of others touched, leftovers removed, damage named."""

import multiprocessing
import re

import pytest

from classmates._files import exclusive
from classmates.errors import UserError
from classmates.runs.folder import RunFolder

SETTINGS = {"lr": 0.1, "epochs": 3}


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run", SETTINGS, "run")


def hold(path, ready, done):
    with exclusive(path):
        ready.set()
        done.wait(60)


@pytest.fixture
def other():
    """Another process that holds a lock until the test ends."""
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    started = []

    def start(path):
        started.append(context.Process(target=hold, args=(path, ready, done)))
        started[0].start()
        assert ready.wait(60)

    yield start
    done.set()
    for process in started:
        process.join(60)


@pytest.mark.parametrize("resume", [False, True])
def test_one_process_at_a_time(run, other, resume):
    with run.opened(resume=False):
        run.checkpoints.mkdir()
        run.last.touch()
    if not resume:
        run.config.unlink()
        run.last.unlink()
        run.checkpoints.rmdir()
    other(run.lock)
    before = sorted(run.folder.rglob("*"))
    with (
        pytest.raises(UserError, match=r"another process trains in '.*run': wait for its end"),
        run.opened(resume=resume),
    ):
        pass
    assert sorted(run.folder.rglob("*")) == before


def test_the_lock_leaves_nothing_and_what_was_left_half_written_goes(run):
    run.checkpoints.mkdir(parents=True)
    run.lock.touch()  # as a process that was killed leaves it
    left = [run.folder / f".result.{'1' * 32}.json", run.checkpoints / f".last.{'2' * 32}.ckpt"]
    run.checkpoints.rmdir()
    with run.opened(resume=False):
        assert run.lock.exists()
    run.checkpoints.mkdir()
    for path in (run.last, *left):
        path.touch()
    with run.opened(resume=True):
        pass
    assert {path.name for path in run.folder.rglob("*")} == {"config.yaml", "checkpoints", "last.ckpt"}


def test_a_folder_of_something_else_is_left_as_it_is(run):
    run.folder.mkdir()
    (run.folder / "thesis.tex").touch()
    with pytest.raises(UserError, match="already holds something else"), run.opened(resume=False):
        pass
    assert [path.name for path in run.folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", [b"", b"[]", b"lr: [0.1", b"\xff\xfe", b"null"])
def test_damaged_settings_are_named(run, content):
    run.checkpoints.mkdir(parents=True)
    run.last.touch()
    run.config.write_bytes(content)
    with pytest.raises(UserError, match=r"config.yaml' is damaged: the run cannot go on"), run.opened(resume=True):
        pass


@pytest.mark.parametrize("name", ["model_args", "optimizer_args", "schedule_args"])
@pytest.mark.parametrize(
    ("before", "now"), [({"a": 1}, {"a": 1, "b": 2}), ({"a": 1, "b": 2}, {"a": 1}), (None, {"b": 2})]
)
def test_arguments_of_others_code_are_all_the_same_or_another_run(tmp_path, name, before, now):
    with RunFolder(tmp_path / "run", {name: before}, "run").opened(resume=False):
        pass
    run = RunFolder(tmp_path / "run", {name: now}, "run")
    run.checkpoints.mkdir()
    run.last.touch()
    with pytest.raises(UserError, match=f"{name} was {re.escape(repr(before))} and is {re.escape(repr(now))}"):
        run.check_resumable()


@pytest.mark.parametrize(
    "name",
    ["resume", "out", "on", "max_time", "report", "progress", "loggers", "num_workers", "checkpoint_steps"],
)
def test_what_changes_nothing_of_what_is_computed_may_differ_when_a_run_goes_on(tmp_path, name):
    with RunFolder(tmp_path / "run", {**SETTINGS, name: "as it was"}, "run").opened(resume=False):
        pass
    run = RunFolder(tmp_path / "run", {**SETTINGS, name: "as it is"}, "run")
    run.checkpoints.mkdir()
    run.last.touch()
    run.check_resumable()
    run.settings["lr"] = 0.2
    with pytest.raises(UserError, match=r"started with other settings: lr was 0\.1 and is 0\.2\. A run goes on"):
        run.check_resumable()


def test_an_option_of_a_later_version_does_not_keep_a_run_from_going_on(tmp_path):
    before = {"method": {"class_path": "MCL", "init_args": {"beta": 0.1}}}
    with RunFolder(tmp_path / "run", before, "run").opened(resume=False):
        pass
    now = {"method": {"class_path": "MCL", "init_args": {"beta": 0.1, "new": True}}, "recent": 1}
    run = RunFolder(tmp_path / "run", now, "run")
    run.checkpoints.mkdir()
    run.last.touch()
    run.check_resumable()


def test_a_run_that_ended_before_its_first_checkpoint_is_to_be_removed(run):
    """Whether it is to go on or to begin anew."""
    with run.opened(resume=False):
        pass
    said = "holds a run that ended before its first checkpoint: name another folder with --out, or remove it"
    with pytest.raises(UserError, match=said), run.opened(resume=False):
        pass
    with pytest.raises(UserError, match=r"ended before its first\): remove the folder and start anew"):
        run.check_resumable()


def test_a_finished_run_without_its_checkpoints_is_not_to_go_on_nor_to_be_removed(run):
    """docs/going_on.md says that they may be deleted."""
    with run.opened(resume=False):
        pass
    run.result.touch()
    with (
        pytest.raises(UserError, match="holds a finished run: name another folder with --out"),
        run.opened(resume=False),
    ):
        pass
    with pytest.raises(
        UserError, match="holds a finished run without its checkpoints: there is nothing to go on with"
    ):
        run.check_resumable()
