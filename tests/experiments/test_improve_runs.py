"""Making a network better where its runs do not all come to their end, or their images are not to be trusted."""

import functools
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
from tests.fixtures.improving import TINY, better


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
    assert found.headline.startswith("nothing was compared, for no method came to its end: Baseline has ")
    assert [one.status for one in found.tried] == ["done", "failed"]
    assert code_of_runs(found) == 4
    assert "RuntimeError: no memory" in str(found)
    assert "WARNING: the student of Baseline, seed 0, is no better than" in str(found)
    with pytest.raises(UserError, match="were not tested"):
        report(tmp_path)


def test_test_images_that_were_trained_on_are_told_at_the_start_and_in_the_verdict(tmp_path, capsys):
    draw = torch.Generator().manual_seed(0)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for number in range(12):
                pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=draw).numpy()
                Image.fromarray(pixels).save(tmp_path / "photos" / part / name / f"{number}.png")
    shutil.copy(tmp_path / "photos/train/cat/0.png", tmp_path / "photos/test/cat/copy.png")
    tiny = {**TINY, "train_size": None, "batch_size": 8}
    found = improve(
        str(tmp_path / "photos"),
        "resnet8",
        methods=["LabelSmoothing", "CutMix"],  # with images of their own: augmented
        seeds=1,
        train=tiny,
        workers=0,
        out=tmp_path / "out",
    )
    told = "with the same pixels as one in another part: 1, such as"
    assert capsys.readouterr().err.count(f"note: images of 'photos' {told}") == 1
    assert f"WARNING: images of 'photos' {told}" in " ".join(str(found).split())
