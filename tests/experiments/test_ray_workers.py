"""A real Ray on this machine: the same ledger, the same results."""

import pytest

from classmates.experiments.compare import compare
from classmates.experiments.sweep import sweep

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray")

TINY = {"train_size": 60, "batch_size": 20, "epochs": 2, "accelerator": "cpu", "loggers": [], "report": False}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


def test_runs_on_ray_are_the_runs_of_this_process(tmp_path):
    given = {"seeds": 2, "recipe": "none", "train": TINY}
    there = compare(["Baseline"], out=tmp_path / "there", on="ray", workers=2, **given)
    here = compare(["Baseline"], out=tmp_path / "here", workers=0, **given)
    assert there.runs["status"].tolist() == ["done", "done"]
    assert there.runs["student"].tolist() == here.runs["student"].tolist()
    failed = compare(["CORSD"], out=tmp_path / "there", on="ray", workers=2, **given)
    assert failed.runs["status"].tolist()[:2] == ["failed", "failed"]
    assert "batch_size is 20" in failed.runs["failure"][0]


def test_asha_stops_what_falls_behind(tmp_path):
    rates = [0.05, 1e-5, 1e-6]
    found = sweep(
        space={"lr": rates},
        recipe="none",
        train=TINY | {"epochs": 9, "train_size": 400},
        out=tmp_path / "sweep",
        on="ray",
        workers=1,
    )
    assert found.best["lr"] == 0.05
    epochs = dict(zip(found.trials["lr"], found.trials["epochs"], strict=True))
    assert epochs[0.05] == 9
    assert min(epochs.values()) < 9
