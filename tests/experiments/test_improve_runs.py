"""Making a network better where its runs do not all come to their end, or their images are not to be trusted."""

import functools
import re
import shutil
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from classmates.cli.commands import code_of_runs
from classmates.errors import UserError
from classmates.experiments import running, workers
from classmates.experiments.improve import improve
from classmates.experiments.report import report
from classmates.reporting import page
from tests.fixtures.improving import TINY, better
from tests.reporting.conftest import Page


def test_what_is_finished_in_time_is_judged_and_the_rest_goes_on(tmp_path, monkeypatch):
    begun, late, run = [], [0.0], workers.run_job

    def an_hour(*arguments):
        begun.append(arguments)
        late[0] += 3600
        return run(*arguments)

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0], sleep=time.sleep)
    monkeypatch.setattr(running, "time", clock)
    monkeypatch.setattr(workers, "run_job", an_hour)
    with pytest.raises(UserError, match=r"within --max_time 00:01:00:00; a run takes: Baseline about .* goes on"):
        better(tmp_path, max_time="00:01:00:00")
    assert len(begun) == 1
    part = better(tmp_path, max_time="00:01:00:00")
    assert len(begun) == 2
    assert part.seeds == (0,)
    assert "2 of 4 runs are left to do; the same command goes on with them" in str(part)
    assert code_of_runs(part) == 0
    said = "over images alone" if part.difference is not None else "deploy: "  # where no method did better
    assert said in part.lines[1]


def test_failed_and_useless_runs_are_told(tmp_path, monkeypatch):
    real = workers.train

    @functools.wraps(real)
    def train(**arguments):
        if "LabelSmoothing" in str(arguments["method"]):
            raise RuntimeError("no memory")
        return real(**arguments)

    monkeypatch.setattr(workers, "train", train)
    found = better(tmp_path, seeds=1, train={**TINY, "lr": 1e-12})
    assert (found.chosen, found.seeds) == ("Baseline", (0,))
    assert found.headline.startswith("nothing to deploy: on validation images the student of Baseline is no")
    assert not found.compared
    assert [one.status for one in found.tried] == ["done", "failed"]
    assert code_of_runs(found) == 4
    assert "RuntimeError: no memory" in str(found)
    assert "WARNING: 1 of 1 students are no better than always giving the commonest answer: Baseline (seed 0)" in str(
        found
    ).replace("\n", " ")
    told = Page(found.page.read_text()).text
    assert "nothing to deploy Nothing to deploy: on validation images the student of Baseline" in told
    assert "This student is useless: do not deploy it. Baseline, seed 0:" in told
    assert "once, after that, for Baseline alone." in told
    with pytest.raises(UserError, match="were not tested"):
        report(tmp_path)


def noise(folder, classes=("cat", "dog"), parts=("train", "test"), images=12, seed=0):
    """Make images of noise, ``folder``/PART/CLASS/NUMBER.png."""
    draw = torch.Generator().manual_seed(seed)
    for part in parts:
        for name in classes:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(images):
                pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=draw).numpy()
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


OF_NOISE = {"seeds": 1, "train": {**TINY, "train_size": None, "batch_size": 8}, "workers": 0}


def test_test_images_that_were_trained_on_are_told_at_the_start_and_in_the_verdict(tmp_path, capsys):
    photos = noise(tmp_path / "photos")
    shutil.copy(photos / "train/cat/0.png", photos / "test/cat/copy.png")
    methods = ["LabelSmoothing", "CutMix"]  # with images of their own: augmented
    found = improve(str(photos), "resnet8", methods=methods, out=tmp_path / "out", **OF_NOISE)
    told = "with the same pixels as one in another part: 1, such as"
    assert capsys.readouterr().err.count(f"note: images of 'photos' {told}") == 1
    assert f"WARNING: images of 'photos' {told}" in " ".join(str(found).split())


def test_the_page_calls_the_images_that_are_most_wrong_by_their_files(tmp_path):
    photos = noise(tmp_path / "photos")
    found = improve(str(photos), "resnet8", methods=["LabelSmoothing"], out=tmp_path / "out", **OF_NOISE)
    written = found.page.read_text()
    shown = re.findall(r'<bdi title="test/(cat|dog)/\d+\.png">', written)
    wrong = round(24 * (1 - found.on_test[found.deployed][0]))
    assert len(shown) == wrong > 0
    assert written.count("<li><figure>") == written.count("<img ") == wrong
    assert (photos / re.search(r'title="(test/\S+?\.png)"', written)[1]).is_file()


def test_a_page_that_cannot_be_written_does_not_take_the_verdict_along(tmp_path, capsys, monkeypatch):
    photos = noise(tmp_path / "photos")
    again = functools.partial(
        improve, str(photos), "resnet8", methods=["LabelSmoothing"], out=tmp_path / "out", **OF_NOISE
    )
    first = again()
    assert f"report: {first.page}" in first.lines

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "whole_file", full)
    second = again()
    told = f"(cannot write the report to {first.page}: No space left on device); the same command tries again"
    assert told in capsys.readouterr().err
    assert not second.page.exists()  # that of an earlier verdict would be taken for this one's
    second.page.mkdir()
    assert again().headline == first.headline
    assert not any("report" in line for line in second.lines)
    assert (second.folder / "verdict.md").is_file()
    assert second.headline == first.headline


def test_finished_runs_are_judged_on_images_that_have_moved_and_only_looks_at_the_same_count(tmp_path, monkeypatch):
    photos, moved = noise(tmp_path / "photos"), tmp_path / "elsewhere/photos"
    monkeypatch.chdir(tmp_path)  # a relative path, which leads nowhere from another folder
    given = {"model": "resnet8", "out": tmp_path / "out", **OF_NOISE}
    first = improve("photos", methods=["LabelSmoothing"], **given)
    moved.parent.mkdir()
    photos.rename(moved)
    monkeypatch.setattr(workers, "train", lambda **arguments: pytest.fail("a run was repeated"))
    again = improve(str(moved), methods=["LabelSmoothing"], **given)
    assert str(again) == str(first)
    monkeypatch.undo()
    noise(moved, parts=("test",), images=9, seed=1)
    for number in range(9, 12):
        for name in ("cat", "dog"):
            (moved / f"test/{name}/{number}.png").unlink()
    other = improve(str(moved), methods=["DML"], **given)
    assert (other.images, other.earlier) == (18, [])
    assert [look.headline for look in other.looks] == [first.headline]
    last = improve(str(moved), methods=["LabelSmoothing"], **given)
    assert last.looks == [*other.looks, other.look]
