"""A real Ray on this machine, of two nodes: the same ledger, the same results."""

import os
from math import ceil

import pytest

from classmates.errors import UserError
from classmates.experiments.compare import compare
from classmates.experiments.ledger import Ledger
from classmates.experiments.ray_workers import cores_of_each, first_rung
from classmates.experiments.sweep import sweep

TINY = {"train_size": 60, "batch_size": 20, "epochs": 2, "accelerator": "cpu", "loggers": [], "report": False}


@pytest.mark.parametrize(("machines", "count", "each"), [([8], 2, 4), ([1, 1], 1, 1), ([3, 5], 2, 3), ([2], 4, 1)])
def test_runs_take_the_cores_of_one_machine_each(machines, count, each):
    nodes = [{"Alive": True, "Resources": {"CPU": float(cores)}} for cores in machines]
    lost = {"Alive": False, "Resources": {}}
    assert cores_of_each([*nodes, lost], count) == each


@pytest.mark.parametrize("epochs", [1, 2, 5, 9, 10, 20, 30, 90, 99, 100, 200, 300])
def test_runs_are_compared_twice_at_most_and_not_just_before_their_end(epochs):
    first = first_rung(epochs)
    rungs = [rung for rung in (first * 3**number for number in range(9)) if rung < epochs]
    assert len(rungs) <= 2
    assert all(rung <= ceil(epochs / 3) + 2 for rung in rungs)
    assert epochs / 9 <= first < epochs / 9 + 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"devices_per_run": 2}, "devices_per_run=2: only on Ray"),
        ({"devices_per_run": 0, "on": "ray"}, "devices_per_run=0: processes of each run, 1 or more"),
        ({"devices_per_run": 2, "on": "ray", "gpus_per_run": 0.5}, "gpus_per_run=0.5 and devices_per_run=2"),
        ({"workers": 0, "on": "ray"}, "workers=0"),
        ({"train": {"on": "ray"}}, "'on' is for the comparison to say"),
        ({"train": {"devices": 2}}, "on Ray --devices_per_run"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        compare(["Baseline"], recipe="none", out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Ray's processes are of low priority otherwise, and hardly run on a machine that does something else.
    os.environ.setdefault("RAY_worker_niceness", "0")
    two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": True})
    two.add_node(num_cpus=1)
    ray.init(address=two.address, log_to_driver=False)
    yield
    ray.shutdown()
    two.shutdown()


@pytest.mark.ray
def test_runs_on_ray_are_the_runs_of_this_process(cluster, tmp_path):
    given = {"seeds": 2, "recipe": "none", "train": TINY}
    there = compare(["Baseline"], out=tmp_path / "there", on="ray", workers=2, **given)
    here = compare(["Baseline"], out=tmp_path / "here", workers=0, **given)
    assert there.runs["status"].tolist() == ["done", "done"]
    assert there.runs["student"].tolist() == here.runs["student"].tolist()
    diverging = given | {"train": TINY | {"lr": 1000.0}}
    failed = compare(["Baseline"], out=tmp_path / "there", on="ray", workers=2, **diverging)
    assert failed.runs["status"].tolist()[:2] == ["failed", "failed"]
    assert "NonFiniteLoss" in failed.runs["failure"][0]


@pytest.mark.ray
def test_each_run_has_several_devices(cluster, tmp_path):
    given = {"recipe": "none", "train": TINY, "out": tmp_path / "several", "on": "ray", "devices_per_run": 2}
    several = compare(["Baseline", "LabelSmoothing"], seeds=1, **given)
    assert several.runs["status"].tolist() == ["done", "done"]
    for job in several.plan:
        config = Ledger(several.folder).result(job).config
        assert (config["devices"], config["strategy"]) == (2, "ddp")
    with pytest.raises(UserError, match=r"workers=2 runs at a time with devices_per_run=2: .* it has 2:"):
        compare(["Baseline"], seeds=2, workers=2, **given)


@pytest.mark.ray
def test_several_devices_need_the_dashboard_that_frees_them(cluster, tmp_path, monkeypatch):
    from ray.util.state.exception import ServerUnavailable

    def unavailable(**how):
        raise ServerUnavailable("no dashboard")

    monkeypatch.setattr("ray.util.state.list_nodes", unavailable)
    with pytest.raises(UserError, match=r"need the cluster.s dashboard.*--include-dashboard=true"):
        compare(["Baseline"], recipe="none", train=TINY, out=tmp_path / "out", on="ray", devices_per_run=2)
    assert not [*(tmp_path / "out").glob("runs/*")]


@pytest.mark.ray
@pytest.mark.parametrize("devices", [1, 2])
def test_asha_stops_what_falls_behind(cluster, tmp_path, devices):
    rates = [0.05, 1e-5, 1e-6]
    found = sweep(
        space={"lr": rates},
        recipe="none",
        train=TINY | {"epochs": 9, "train_size": 400},
        out=tmp_path / "sweep",
        on="ray",
        workers=1,
        devices_per_run=devices,
    )
    assert found.best["lr"] == 0.05
    epochs = dict(zip(found.trials["lr"], found.trials["epochs"], strict=True))
    assert epochs[0.05] == 9
    assert min(epochs.values()) < 9
