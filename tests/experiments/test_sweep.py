"""A search: chooses on validation images, goes on where it stopped."""

from dataclasses import replace

import pytest
import yaml

from classmates.data import load
from classmates.errors import UserError
from classmates.experiments import sweep as module
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import choose, jobs_of
from classmates.experiments.report import report
from classmates.experiments.sweep import sweep
from classmates.runs.record import EpochScores, RunRecord, Validation
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.protocol import Metric, MetricFormat

TINY = {"train_size": 60, "batch_size": 20, "epochs": 1, "accelerator": "cpu", "loggers": []}


FEW_SHOT = {"task": "few_shot", "task.way": 4, "task.eval_way": 2, "batch_size": 64}


def search(folder, **arguments):
    given = {"space": {"lr": [0.05, 0.0001]}, "recipe": "none", "train": TINY, "workers": 0, "out": folder}
    return sweep("Baseline", **{**given, **arguments})


def test_the_best_on_validation_is_chosen_whatever_the_test_says(tmp_path, finished_run, monkeypatch):
    records = {}

    def result(ledger, job):
        lr = job.settings["lr"]
        value = {0.05: 0.6, 0.0001: 0.7}[lr]
        chosen_by, other = ({"student": {"top1": Metric(one)}} for one in (value, 1 - value))
        record = RunRecord.from_json((finished_run / "result.json").read_text())
        last = EpochScores(1, chosen_by)
        records[lr] = replace(record, validation=Validation(last, last), test=other, protocol=protocol)
        return records[lr]

    protocol = ClassificationProtocol().record
    monkeypatch.setattr(Ledger, "result", result)
    found = search(tmp_path / "sweep")
    assert found.best["lr"] == 0.0001
    assert found.trials["lr"].tolist() == [0.0001, 0.05]
    assert found.trials["val"].tolist() == [0.7, 0.6]
    assert "70.00%" in str(found)
    less = {"top1": MetricFormat("rank", "mean rank", better="less")}
    protocol = replace(protocol, metrics=less)
    found = search(tmp_path / "sweep")
    assert found.best["lr"] == 0.05
    assert found.trials["val"].tolist() == [0.6, 0.7]
    assert "0.600" in str(found)


def test_a_real_search_leaves_settings_that_compare_takes(tmp_path):
    found = search(tmp_path / "sweep", seeds=2)
    assert found.trials["runs"].tolist() == [2, 2]
    assert found.trials["status"].tolist() == ["done", "done"]
    assert found.trials["val"].is_monotonic_decreasing
    assert found.trials["val_std"].notna().all()
    with pytest.raises(UserError, match=r"a search of settings.* trials\.csv"):
        report(tmp_path / "sweep")
    assert "best.yaml" in str(found)
    assert yaml.safe_load((tmp_path / "sweep" / "best.yaml").read_text())["lr"] == found.best["lr"]
    (job,) = jobs_of(choose("none", [str(tmp_path / "sweep" / "best.yaml")], [], [], 1, None), {})
    assert (job.row, job.settings["lr"]) == ("best", found.best["lr"])
    compared = jobs_of(choose(str(tmp_path / "sweep" / "against_baseline.yaml"), [], [], [], None, None), {})
    assert [(job.row, job.seed) for job in compared] == [(row, s) for s in (2, 3, 4) for row in ("Baseline", "best")]
    assert {(job.model, job.data) for job in compared} == {("resnet8", "digits")}
    assert {(job.settings["epochs"], job.settings["val_fraction"]) for job in compared} == {(1, 0)}
    assert compared[1].settings["lr"] == found.best["lr"]

    def no_run(*arguments):
        raise AssertionError("a run was repeated")

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("classmates.experiments.workers.train", no_run)
        assert search(tmp_path / "sweep", seeds=2).trials.equals(found.trials)


def test_what_was_searched_and_what_was_trained_stand_beside_each_other(tmp_path):
    found = search(tmp_path / "sweep", space={"epochs": [1, 2]})
    assert sorted(zip(found.trials["epochs"], found.trials["trained"], strict=True)) == [(1, 1), (2, 2)]
    early = search(tmp_path / "early", space={"epochs": [8, 9]}, train={**TINY, "patience": 1, "lr": 1e-12})
    assert sorted(early.trials["epochs"]) == [8, 9]
    assert early.trials["trained"].max() < 8


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Return what plans a search: a run of its last trial, and by row one of the comparison that it leaves."""
    planned = []
    monkeypatch.setattr(module, "run_all", lambda *_: None)
    monkeypatch.setattr(module, "chosen", lambda ledger, plan, jobs, settings: planned.extend([plan, jobs]))

    def plan_of(method, space, train, **arguments):
        module.sweep(method, space=space, train=train, workers=0, out=tmp_path / "sweep", **arguments)
        recipe, jobs = planned[-2:]
        left = module.against_baseline(recipe, jobs[-1].row, jobs[-1]).plain()
        (tmp_path / "left.yaml").write_text(yaml.safe_dump(left, sort_keys=False))
        made = jobs_of(choose(str(tmp_path / "left.yaml"), [], [], [], None, None), {})
        return jobs[-1], {job.row: job for job in made}

    return plan_of


def test_a_rate_that_was_searched_is_baselines_too_in_a_row_of_its_own(compared):
    _, jobs = compared("LabelSmoothing", {"lr": [0.3, 0.2]}, TINY)
    assert {row: job.settings["lr"] for row, job in jobs.items() if row != "Baseline"} == {
        "best": 0.2,
        "Baseline (settings of best)": 0.2,
    }
    assert jobs["Baseline"].settings["lr"] not in (0.3, 0.2)
    _, jobs = compared("MCL", {"method.beta": [0.1, 0.2]}, TINY)
    assert [*jobs] == ["Baseline", "best"]
    assert jobs["best"].settings["method"]["init_args"]["beta"] == 0.2


@pytest.mark.parametrize(
    ("train", "share"), [({}, 0.0), ({"keep": "best"}, 0.1), ({"patience": 2}, 0.1), ({"test": False}, 0.0)]
)
@pytest.mark.parametrize("in_file", [True, False])
def test_the_comparison_with_baseline_can_run(compared, tmp_path, train, share, in_file):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"method": "LabelSmoothing", "val_fraction": 0.3, **train}))
    method = str(tmp_path / "mine.yaml") if in_file else "LabelSmoothing"
    _, jobs = compared(method, {"lr": [0.3, 0.2]}, TINY if in_file else {**TINY, **train})
    assert {job.settings["val_fraction"] for job in jobs.values()} == {share}
    assert all(job.settings["test"] for job in jobs.values())


IN_FILE = {
    "method": {"class_path": "DML", "init_args": {"peers": 3}},
    "augmentation": {"flip": True},
    "lr": 0.3,
    "epochs": 3,
    "patience": 2,
}


@pytest.mark.parametrize("train", [{}, {"epochs": 2, "lr": 0.2, "method.temperature": 2}])
@pytest.mark.parametrize("space", [{"method.peers": [2, 4]}, {"batch_size": [10, 20], "lr": [0.4, 0.1]}])
@pytest.mark.parametrize("method", ["mine.yaml", "mine.yaml (3 x as long)", "DML (3 x as long)", "DML + CutMix"])
def test_the_comparison_with_baseline_differs_in_what_was_searched_alone(compared, tmp_path, method, space, train):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(IN_FILE))
    trial, jobs = compared(method.replace("mine", str(tmp_path / "mine")), space, train, recipe="none")
    found = any(not module.is_of_method(name) for name in space)

    def settings(job, *but):
        return {name: value for name, value in job.settings.items() if name not in {*LEFT_ASIDE, *but}}

    assert [*jobs] == ["Baseline", "best", *([module.FAIR] if found else [])]
    assert jobs["best"].settings["method"] == trial.settings["method"]
    assert {job.method.name for row, job in jobs.items() if row != "best"} == {"Baseline"}
    assert settings(jobs["best"]) == settings(trial)
    assert settings(jobs["Baseline"], *space) == settings(trial, *space)
    assert settings(jobs[module.FAIR] if found else jobs["Baseline"]) == settings(trial)


LEFT_ASIDE = ("method", "seed", "val_fraction", "test")


def test_the_plan_of_a_random_search(tmp_path):
    space = {"lr": "loguniform(0.001, 0.1)", "method.peers": [2, 3]}
    given = {"space": space, "search": "random", "trials": 4, "workers": 0, "out": tmp_path, "dry_run": True}
    plan = module.sweep("MCL", recipe="common", **given)
    assert len(plan.jobs) == 4
    assert all(job.settings["val_fraction"] == 0.1 for job in plan.jobs)  # the common recipe has none
    assert {job.settings["method"]["init_args"]["peers"] for job in plan.jobs} <= {2, 3}
    assert plan.jobs[0].row.startswith("lr=")
    assert list(tmp_path.iterdir()) == []


def test_all_trials_are_judged_on_the_same_images(tmp_path):
    assert load("digits", train_size=100).val.labels.equal(load("digits").val.labels)
    few_shot = {**TINY, **FEW_SHOT, "batch_size": 4 * 5 * 7}
    for space, train in (({"train_size": [60, 80]}, TINY), ({"task.queries": [4, 6]}, few_shot)):
        assert len(search(tmp_path / "sweep", space=space, train=train, dry_run=True).jobs) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": {}}, "Baseline has no weights of its own to try"),
        ({"space": {"lr": "uniform(0, 1)"}}, "a grid needs a list"),
        ({"space": {"rl": [1]}}, "unknown key 'rl' in .* row 'rl=1'"),
        ({"space": {"method.beta": [1]}}, "unknown option of Baseline 'beta'"),
        ({"search": "gird"}, "unknown search 'gird'"),
        ({"recipe": "papers/x"}, "unknown recipe"),
        ({"val_fraction": 0}, "val_fraction=0"),
        ({"train": {"val_fraction": 0}}, "give it as --val_fraction"),
        ({"train": {"method": "CSKD"}}, "--train: method 'CSKD' would take the place .* --method;"),
        (
            {"space": {"val_fraction": [0.1, 0.2]}},
            "--space.val_fraction: .* different validation images.* --val_fraction",
        ),
        ({"space": {"label": ["fine", "coarse"]}}, "--space.label: .* different validation images.* --train.label"),
        (
            {"space": {"task.eval_episodes": [5, 6]}, "train": FEW_SHOT},
            "row 'eval_episodes=6' has another task than row",
        ),
        ({"trials": 0, "search": "random"}, "trials=0"),
        ({"workers": 0, "on": "ray"}, "workers=0"),
    ],
)
def test_wrong_input(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        search(tmp_path / "sweep", **given)
    assert list(tmp_path.iterdir()) == []


def test_no_trial_came_to_its_end(tmp_path):
    with pytest.raises(UserError, match="no trial came to its end"):
        search(tmp_path / "sweep", space={"lr": [1e30], "optimizer": ["Adam"]})


def tried(capsys, **given):
    """The trials that a search plans, and what it says."""
    plan = sweep(**{"recipe": "none", "train": TINY, "workers": 0, "dry_run": True, **given})
    return [job.method.resolved() for job in plan.jobs], capsys.readouterr().err


def test_without_a_space_the_methods_own_weights_are_tried(tmp_path, capsys):
    options, said = tried(capsys, method="MCL", out=tmp_path / "sweep")
    assert [(one["beta"], one["distillation"]) for one in options] == [
        (beta, distillation) for beta in (0.008, 0.025, 0.08) for distillation in (0.3, 1, 3)
    ]
    assert "searching beta [0.008, 0.025, 0.08], distillation [0.3, 1, 3]" in said


@pytest.mark.parametrize(
    ("recipe", "train", "model"),
    [("none", {}, "resnet8"), ("auto", {}, "resnet8"), ("auto", {"image_size": 32}, "resnet20")],
)
def test_without_a_model_the_one_that_train_takes_is_searched(tmp_path, capsys, recipe, train, model):
    given = {"recipe": recipe, "train": {**TINY, **train}, "out": tmp_path / "sweep", "dry_run": True}
    plan = sweep("Baseline", space={"lr": [0.05]}, workers=0, **given)
    assert [job.model for job in plan.jobs] == [model]
    assert f"model {model}, as train chooses for these data" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["variant", "nested", "dotted", "train"])
def test_what_the_method_is_given_stays(tmp_path, capsys, way):
    texts = {"nested": "method: {class_path: MCL, beta: 0.5}", "dotted": "method: MCL\nmethod.beta: 0.5"}
    (tmp_path / "own.yaml").write_text(texts.get(way, ""))
    method = {"variant": "MCL(beta=0.5)", "train": "MCL"}.get(way, str(tmp_path / "own.yaml"))
    train = {**TINY, "method": {"beta": 0.5}} if way == "train" else TINY
    options, said = tried(capsys, method=method, train=train, out=tmp_path / "sweep")
    assert [(one["beta"], one["distillation"]) for one in options] == [(0.5, 0.3), (0.5, 1), (0.5, 3)]
    assert "searching distillation" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "Baseline"}, "Baseline has no weights of its own to try; give settings, such as --space.lr"),
        ({"method": "LabelSmoothing(epsilon=0.2)"}, "LabelSmoothing has no weights"),
        ({"method": "MCL", "search": "random"}, "random search needs ranges; give settings"),
    ],
)
def test_without_a_space_something_must_be_there_to_try(tmp_path, capsys, given, message):
    with pytest.raises(UserError, match=message):
        tried(capsys, out=tmp_path / "sweep", **given)


def test_a_method_of_ones_own_that_declares_nothing_needs_a_space(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from classmates.methods import Method\nfrom classmates.networks.peers.peers import Peers\n\n\n"
        "class Mine(Method):\n    def __init__(self, network, data):\n"
        "        super().__init__(Peers(network, data), data)\n"
    )
    with pytest.raises(UserError, match="Mine has no weights of its own to try"):
        tried(capsys, method=f"{tmp_path / 'mine.py'}:Mine", out=tmp_path / "sweep")
