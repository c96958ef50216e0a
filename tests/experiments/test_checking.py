"""What is told before the first run: figures that a table will not have, and which rows cannot work."""

import pytest
from PIL import Image

from classmates.comparisons.recipe import ScoreChoice
from classmates.errors import UserError
from classmates.experiments.compare import compare
from classmates.experiments.improve import improve
from classmates.experiments.plan import choose, jobs_of
from classmates.experiments.sweep import sweep
from tests.experiments.test_plan import BASELINE, TWO_PEERS, jobs, plan

AVERAGED = {"class_path": "MCL", "init_args": {"start": "identical", "views": "own", "deploy": "average"}}
SCORING = {
    "exits": {"method": {"class_path": "SD"}},
    "peers": TWO_PEERS,
    "average": {"method": AVERAGED, "augmentation": {"flip": True}},
    "branches": {"method": {"class_path": "ONE"}},
    "both": {"method": {"class_path": "Combined", "init_args": {"methods": ["SD", "MCL"]}}},
}
FEW_SHOT = {
    "task": {"class_path": "few_shot", "init_args": {"way": 4, "eval_way": 2}},
    "batch_size": 64,
}


@pytest.mark.parametrize("who", ["student", "peers", "ensemble"])
@pytest.mark.parametrize("row", SCORING)
def test_a_table_may_ask_for_whatever_a_method_scores(row, who):
    assert jobs(rows={row: SCORING[row]}, scores={row: ScoreChoice(who)})


@pytest.mark.parametrize("who", ["peers", "ensemble"])
def test_a_table_asks_a_single_network_for_itself_alone(who):
    rows = {"Baseline": BASELINE, **SCORING}
    told = (
        rf"^row 'Baseline' with model 'resnet8' on 'digits': the table asks for the {who}.* only the student: say who"
    )
    for parts in ({"scores": {"Baseline": ScoreChoice(who)}}, {"score": ScoreChoice(who)}):
        with pytest.raises(UserError, match=told):
            jobs(rows=rows, **parts)


def test_the_ensemble_of_embeddings_is_the_tasks_to_give():
    rows = {"Baseline": {**BASELINE, **FEW_SHOT}, "peers": {**TWO_PEERS, **FEW_SHOT}}
    assert jobs(rows=rows, scores={"peers": ScoreChoice("ensemble")})
    with pytest.raises(UserError, match=r"row 'Baseline' .* only the student"):
        jobs(rows=rows, scores={"Baseline": ScoreChoice("ensemble")})


def test_a_network_is_not_compiled_to_be_asked():
    assert jobs({"step": "compile"}, rows={"two": TWO_PEERS}, scores={"two": ScoreChoice("ensemble")})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (ScoreChoice(metric="top1x"), "unknown metric of the table 'top1x': did you mean 'top1'"),
        (ScoreChoice(metric="nll", as_="error"), "as: error, but it is no accuracy"),
        (ScoreChoice("ensemble", metric="nll"), "there are only the student's"),
    ],
)
def test_a_table_asks_for_what_runs_are_judged_by(choice, message):
    rows = {"A": TWO_PEERS, "B": BASELINE}
    for parts in ({"scores": {"A": choice}}, {"score": choice}):
        with pytest.raises(UserError, match=f"^every row on 'digits': .*{message}"):
            jobs(rows=rows, **parts)


@pytest.mark.parametrize("name", ["label", "on_bad_image", "task", "data_dir"])
def test_rows_that_are_judged_by_other_labels_or_in_another_way_do_not_compare(name, tmp_path):
    for number in range(20):
        Image.new("L", (8, 8), 12 * number).save(tmp_path / f"{number}.png")
    lines = [f"{number}.png,{number % 2},{number % 3}" for number in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,kind,other", *lines]))
    of_table = {"data": (str(tmp_path / "labels.csv"),), "settings": {"label": "kind", "epochs": 1}}
    other = {"label": "other", "on_bad_image": "skip", "data_dir": str(tmp_path)}
    own, shared = (FEW_SHOT, {}) if name == "task" else ({name: other[name]}, of_table)
    with pytest.raises(UserError, match=f"row 'B' has another {name} than row 'A' on "):
        jobs(rows={"A": BASELINE, "B": BASELINE | own}, **shared)


def test_a_batch_that_the_processes_of_each_run_cannot_share_is_told():
    with pytest.raises(
        UserError, match=r"^row 'Baseline' with .*: batch_size is 18, shared by 4 processes; .*: use 16 or 20"
    ):
        jobs_of(choose("none", ["Baseline"], ["resnet8"], ["digits"], 1, None), {"batch_size": 18}, devices=4)


def test_one_reason_of_many_rows_is_told_once(tmp_path):
    nothing = str(tmp_path / "nothing")
    with pytest.raises(UserError, match=f"^every row on '{nothing}': "):
        plan("Baseline", "MCL", models=("resnet8", "resnet14"), data=("digits", nothing))
    with pytest.raises(UserError, match=f"^row 'Baseline' with model 'resnet8' on '{nothing}': "):
        plan("Baseline", data=(nothing,))


def test_one_reason_of_many_models_or_rows_is_told_for_what_it_holds():
    deep = {"resnet14": {"stages": ["nowhere"]}}
    rows = {"A": BASELINE, "B": TWO_PEERS}
    with pytest.raises(UserError, match=r"^every row with model 'resnet14' on 'digits': "):
        jobs(rows=rows, models=("resnet8", "resnet14"), models_settings=deep)
    with pytest.raises(
        UserError, match=r"^row 'KD' with model 'resnet8' on 'digits', row 'KD' with model 'resnet14' on "
    ):
        plan("Baseline", "KD", models=("resnet8", "resnet14"))


def test_learning_curves_of_no_validation_images_are_noted(capsys):
    rows = {"A": BASELINE, "B": {**TWO_PEERS, "val_fraction": 0}}
    jobs(rows=rows, figures=["learning_curves"])
    assert "the figure learning_curves is without 'B' on 'digits'" in capsys.readouterr().err
    jobs(rows=rows)
    assert "learning_curves" not in capsys.readouterr().err


@pytest.mark.parametrize("make", [compare, improve, sweep])
def test_it_is_tried_before_the_first_of_several_runs(make, tmp_path):
    (tmp_path / "own.py").write_text("def make():\n    return lambda images: None")
    asked = {"method": "MCL"} if make is sweep else {"methods": ["MCL"]}
    with pytest.raises(UserError, match=r"own\.py:make' makes NoneType of images"):
        make(
            **asked,
            data="digits",
            train={"train_size": 120, "epochs": 1, "augmentation.policy": f"{tmp_path}/own.py:make"},
            out=tmp_path / "runs",
        )
    assert not (tmp_path / "runs").exists()
