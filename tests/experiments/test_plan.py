"""What is run: whose settings go over whose, and what makes two runs the same."""

import os
from itertools import product

import pytest
from PIL import Image

from classmates.comparisons.recipe import Recipe
from classmates.errors import UserError
from classmates.experiments.identity import config_hash
from classmates.experiments.plan import Job, choose, choose_reference, jobs_of, short, slug

BASELINE = {"method": {"class_path": "classmates.Baseline"}}
ONE_PEER = {"class_path": "classmates.MCL", "init_args": {"peers": 1}}
TWO_PEERS = {"method": {"class_path": "classmates.MCL", "init_args": {"peers": 2}}}


def plan(*methods, recipe="none", models=("resnet8",), data=("digits",), seeds=1, reference=None, **overrides):
    return jobs_of(choose(recipe, methods, models, data, seeds, reference), overrides)


def jobs(overrides=None, **parts):
    given = {"models": ("resnet8",), "data": ("digits",), "seeds": (0,), "rows": {"A": BASELINE}}
    return jobs_of(Recipe(**{**given, **parts}), overrides or {})


def test_seeds_are_outermost():
    made = plan("Baseline", "MCL", models=("resnet8", "resnet14"), seeds=[3, 5])
    assert [(job.seed, job.model, job.row) for job in made] == [
        (seed, model, row) for seed in (3, 5) for model in ("resnet8", "resnet14") for row in ("Baseline", "MCL")
    ]
    assert [job.settings["seed"] for job in made] == [job.seed for job in made]


def test_images_that_have_changed_within_a_session_are_other_data(tmp_path):
    for number in range(24):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(folder / f"{number}.png")
    given = {"data": (str(tmp_path / "photos"),), "recipe": "none", "models": ("resnet8",)}
    before = plan("Baseline", **given)
    assert [job.name for job in plan("Baseline", **given)] == [job.name for job in before]
    Image.new("L", (8, 8), 200).save(tmp_path / "photos" / "a" / "0.png")
    (job,), (changed,) = before, plan("Baseline", **given)
    assert job.identity.data != changed.identity.data


def test_bases():
    common = {job.row: job.settings for job in plan("Baseline", "CORSD", recipe="common")}
    assert (common["Baseline"]["batch_size"], common["CORSD"]["batch_size"]) == (128, 129)
    assert common["Baseline"]["epochs"] == common["CORSD"]["epochs"] == 200
    (paper,) = plan("MCL", recipe="paper")
    assert (paper.settings["epochs"], paper.settings["batch_size"]) == (300, 64)
    (none,) = plan("MCL", recipe="none")
    assert none.settings["epochs"] == 100


def test_equal_settings_are_the_same_run_and_others_are_not():
    (plain,) = jobs()
    assert jobs()[0].name == plain.name
    assert (
        jobs({"lr": 0.05, "num_workers": 0, "report": False})[0].name == plain.name
    )  # the default; nothing computed
    changed = [{"lr": 0.1}, {"epochs": 3}, {"train_size": 60}, {"augmentation": {"flip": True}}]
    assert len({job.name for given in ({}, *changed) for job in jobs(given)}) == 5
    (other_data,) = jobs({"image_size": 9})
    assert other_data.identity.data != plain.identity.data
    assert other_data.identity.code == plain.identity.code


def test_other_images_are_other_data(tmp_path):
    def photos(name, test_colour=0, swapped=False):
        for part, number in product(("train", "test"), range(6)):
            shade = 20 * number + (test_colour if part == "test" else 0)
            folder = tmp_path / name / "photos" / part / f"class{number % 2 ^ swapped}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), shade).save(folder / f"{number}.png")
        (job,) = jobs({"epochs": 1, "val_fraction": 0, "batch_size": 6}, data=(str(tmp_path / name / "photos"),))
        return job.identity.data

    assert photos("one") == photos("same")
    assert len({photos("one"), photos("corrupt", test_colour=3), photos("relabelled", swapped=True)}) == 3


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("weights.pt", lambda folder: {"model_weights": f"{folder}/weights.pt"}),
        ("network.py", lambda folder: {"model": f"{folder}/network.py:Network"}),
        ("teacher/student.safetensors", lambda folder: {"stages": [f"{folder}/teacher"]}),
    ],
)
def test_of_files_that_are_named_the_content_counts_and_not_where_they_lie(tmp_path, monkeypatch, file, settings):
    (job,) = jobs()

    def hashed(folder, content=None):
        if content is not None:
            path = tmp_path / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(0, content[0]))  # clocks of file systems are coarser than this test
        return config_hash({**job.settings, **settings(folder)})

    monkeypatch.chdir(tmp_path)
    first = hashed("here", b"1")
    assert hashed(tmp_path / "here") == hashed("moved", b"1") == first
    assert len({hashed("nowhere"), first, hashed("here", b"2")}) == 3


def test_of_a_models_file_the_name_in_it_counts_too(tmp_path):
    (job,) = jobs()
    (tmp_path / "networks.py").touch()
    names = (f"{tmp_path}/networks.py:{name}" for name in ("Small", "Large"))
    assert len({config_hash({**job.settings, "model": name}) for name in names}) == 2


def test_lengths_of_a_schedule_follow_the_epochs():
    given = {"epochs": 200, "schedule": "MultiStepLR", "schedule_args": {"milestones": [100, 150], "gamma": 0.1}}
    (job,) = jobs(given)
    half = job.with_epochs(100)
    assert half.settings["schedule_args"] == {"milestones": [50, 75], "gamma": 0.1}
    assert half.name != job.name
    assert half.with_epochs(200).name == job.name
    (warmed,) = jobs({"epochs": 200, "warmup_epochs": 5, "freeze_stages": 1, "freeze_epochs": 10})
    assert warmed.with_epochs(2).settings["warmup_epochs"] == 0.05
    assert warmed.with_epochs(100).settings["freeze_epochs"] == 5


@pytest.mark.parametrize(("times", "patience"), [("3", 15), ("0.5", 2), ("0.1", 1)])
def test_the_patience_of_a_longer_or_shorter_run_is_so_too(times, patience):
    plain, other = plan("Baseline", f"Baseline ({times} x as long)", epochs=30, patience=5, val_fraction=0.2)
    assert (plain.settings["patience"], other.settings["patience"]) == (5, patience)
    assert plain.with_epochs(other.epochs).settings == other.settings
    (endless,) = plan(f"Baseline ({times} x as long)", epochs=30)
    assert endless.settings["patience"] is None


def test_what_a_method_counts_in_epochs_follows_too():
    (job,) = jobs({"epochs": 300}, rows={"ONE": {"method": {"class_path": "classmates.ONE"}}})
    assert job.with_epochs(30).settings["method"]["init_args"]["ramp"] == 8
    (constant,) = jobs({"epochs": 300}, rows={"ONE": {"method": {"class_path": "ONE", "init_args": {"ramp": 0}}}})
    assert constant.with_epochs(30).settings["method"]["init_args"]["ramp"] == 0


def test_a_job_survives_its_file():
    (job,) = jobs()
    assert Job.read(job.plain()) == job


def test_names_of_folders_are_names():
    assert slug("MCL (K=256), lr 0.1") == "MCL-K-256-lr-0.1"
    assert slug(short("/data/my photos")) == "my-photos"
    assert slug(short("vit.py:Tiny")) == "vit.py-Tiny"


def test_a_row_is_not_named_after_a_path_among_its_options(tmp_path):
    model = tmp_path / "mine.py"
    model.write_text("from classmates.models import resnet8 as Mine")
    model = f"{model}:Mine"
    (job,) = plan(f"MCL(peer_models=['{model}'], peers=2, share='nothing')")
    assert job.name.startswith("MCL-peer_models-")
    assert slug("dkd.DKD(teacher='runs/t')") == "dkd.DKD-teacher-runs-t"


def test_settings_of_a_model_that_nobody_names_are_told(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "models: [resnet8]\nrows: {Baseline: {method: Baseline}}\nmodels_settings: {resnet88: {lr: 0.1}}"
    )
    mine = str(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match=r"unknown model among models_settings 'resnet88': did you mean 'resnet8'"):
        choose(mine, [], [], [], None, None)
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("resnet88", "resnet14"))
    assert choose(mine, [], ["resnet14"], [], None, None).models_settings == {"resnet14": {"lr": 0.1}}


def test_a_model_beside_those_that_the_recipe_has_settings_for_is_told_of(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(
        "models: [resnet8, resnet14]\nrows: {Baseline: {method: Baseline}}\nmodels_settings: {resnet8: {lr: 0.1}}"
    )
    mine = str(tmp_path / "mine.yaml")
    for models in ([], ["resnet8"], ["resnet14"]):  # the recipe's own, which say what they mean
        choose(mine, [], models, [], None, None)
        assert capsys.readouterr().err == ""
    choose(mine, [], ["resnet8", "resnet20"], [], None, None)
    assert "model resnet20: the recipe has settings for resnet8 alone" in capsys.readouterr().err


def test_published_values_stand_beside_results_on_the_recipes_own_data_alone(tmp_path):
    recipe = "rows: {Baseline: {method: Baseline}}\npublished: {resnet8: {Baseline: 70}}\n"
    for own, asked, shown in (("[digits]", [], True), ("[digits]", ["cifar10"], False), ("[]", [], False)):
        (tmp_path / "mine.yaml").write_text(f"{recipe}data: {own}")
        assert bool(choose(str(tmp_path / "mine.yaml"), [], [], asked, None, None).published) is shown


def test_a_folder_that_an_earlier_version_named_is_found_by_that_name():
    (job,) = jobs()
    assert Job.read(job.plain(), job.name) == job
    old = Job.read(job.plain(), "t-resnet8-digits-0-12345678")
    assert old.name == "t-resnet8-digits-0-12345678"
    assert old.plain() == job.plain()


def test_combined_methods_are_planned_with_their_options():
    (named,) = plan("Combined(methods=['CORSD', 'MCL'])")
    assert named.settings["method"]["init_args"] == {"methods": ["CORSD", "MCL"]}
    parts = ["CORSD", {"class_path": "classmates.MCL", "init_args": {"peers": 2}}]
    (nested,) = jobs(rows={"A": {"method": {"class_path": "Combined", "init_args": {"methods": parts}}}})
    assert nested.settings["method"] == {"class_path": "classmates.Combined", "init_args": {"methods": parts}}
    with pytest.raises(UserError, match=r"row 'A'.*peers=1"):
        jobs(rows={"A": {"method": {"class_path": "Combined", "init_args": {"methods": ["CORSD", ONE_PEER]}}}})


WRONG = [
    ({"methods": ["MLC"]}, "unknown method 'MLC': did you mean 'MCL'"),
    ({"methods": ["MCL(peer=2)"]}, "unknown option of MCL 'peer': did you mean 'peers'"),
    ({"methods": ["MCL(2)"]}, "write a variant as"),
    ({"methods": ["MCL(peers=)"]}, "write a variant as"),
    ({"methods": ["MCL(**{})"]}, "every option needs its name"),
    ({"methods": ["MCL", "MCL"]}, "'MCL' comes twice"),
    ({"methods": []}, "nothing to compare"),
    ({"models": ["resnet9"]}, "unknown model 'resnet9'"),
    ({"data": ["digit"]}, "unknown data set 'digit'"),
    ({"recipe": "papers/none"}, "unknown recipe 'papers/none'"),
    ({"reference": "Baselin"}, "unknown reference 'Baselin'.*--methods"),
    ({"models": ["resnet8", "resnet14", "resnet8"]}, "models: 'resnet8' comes twice"),
    ({"data": ["digits", "digits"]}, "data: 'digits' comes twice"),
    ({"seeds": 0}, "seeds is 0"),
    ({"epohcs": 3}, "unknown key 'epohcs' in --train: did you mean 'epochs'"),
    ({"epochs": "three"}, "key 'epochs' in --train takes INT"),
    ({"devices": 2}, "takes one device"),
    ({"out": "here"}, "'out' is for the comparison to say"),
    (
        {"methods": ["Baseline", "CORSD"], "batch_size": 32},
        "row 'CORSD' with model 'resnet8' on 'digits': .*: use 30 or 33",
    ),
    ({"methods": ["Baseline", "MCL(peers=1)"]}, "row 'MCL.peers=1.' with model 'resnet8' on 'digits': .*peers=1"),
    ({"methods": ["KD"]}, "row 'KD' with model 'resnet8' on 'digits': KD needs a teacher"),
    ({"methods": ["KD"], "recipe": "common"}, "row 'KD' .*runs/common-teacher"),
    ({"methods": ["KD", "AT"]}, "(?s)2 rows cannot work:.*row 'KD'.* needs a teacher.*row 'AT'"),
    ({"optimizer": "SDG"}, "row 'Baseline' .*unknown optimizer 'SDG'"),
    ({"schedule": "StepLR"}, "row 'Baseline' .*schedule StepLR needs its step_size"),
    ({"schedule_args": {"T_min": 3}}, "row 'Baseline' .*argument of schedule CosineAnnealingLR 'T_min'"),
    ({"epochs": 0}, "row 'Baseline' with model 'resnet8': epochs=0"),
    ({"train_size": 5}, "row 'Baseline' .*train_size is 5"),
    ({"recipe": "paper", "methods": ["Combined"]}, "Combined has no published settings"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input_is_told_before_any_run(given, message):
    methods = given.pop("methods", ["Baseline"])
    with pytest.raises(UserError, match=message):
        plan(*methods, **given)


def test_the_reference_is_baseline_or_the_first():
    assert choose("none", ["MCL", "Baseline"], [], [], 1, None).reference == "Baseline"
    assert choose("none", ["MCL", "DML"], [], [], 1, None).reference == "MCL"
    assert choose("none", ["MCL", "DML"], [], [], 1, "DML").reference == "DML"


def test_the_reference_may_be_spelled_like_a_row():
    rows = {"Baseline": {}, "Baseline (3 × as long)": {}}
    assert choose_reference(rows, "Baseline (3 x as long)", asked=True) == "Baseline (3 × as long)"


def test_a_folder_by_a_dot_has_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {short(name) for name in (".", "./")} == {tmp_path.name}
    assert short("..") == tmp_path.parent.name
    assert [short(name) for name in ("./photos", "photos", "hf:owner/pets")] == ["photos", "photos", "pets"]


def test_rows_of_a_recipe_can_be_chosen_and_added_to(tmp_path):
    file = tmp_path / "table.yaml"
    file.write_text(
        "reference: Plain\nrows: {Plain: {method: Baseline}, Big: {method: MCL, lr: 1}}\nmodels: [resnet14]"
    )
    part = choose(str(file), ["Plain", "DML"], [], [], None, None)
    assert list(part.rows) == ["Plain", "DML"]
    assert part.models == ("resnet14",)
    assert list(choose(str(file), [], [], [], None, None).rows) == ["Plain", "Big"]
    with pytest.raises(UserError, match="unknown reference of the recipe 'Plain'"):
        choose(str(file), ["Big"], [], [], None, None)
