"""Recipes of comparisons: what they may say, and every wrong one."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from classmates import _files
from classmates._files import recipes_folder
from classmates.comparisons.recipe import (
    Recipe,
    ScoreChoice,
    find_recipe,
    find_settings,
    load_recipe,
    read,
    read_seeds,
)
from classmates.errors import UserError

WHOLE = """
title: A table
source: Somebody, Table 1
base: common
settings: {epochs: 3}
models: [resnet8]
data: [digits]
seeds: 2
reference: Baseline
score: {who: student, metric: top1, as: error}
rows:
  Baseline: {method: {class_path: classmates.Baseline}}
  Two peers: {method: {class_path: classmates.MCL, init_args: {peers: 2}}, lr: 0.1}
models_settings: {vgg16: {lr: 0.01, rows: {Two peers: {epochs: 4}}}}
scores: {Two peers: {who: ensemble}}
published: {resnet8: {Baseline: "71.24 ± 0.18", Two peers: 73.9}}
notes: [none]
"""


def test_a_whole_recipe_is_read(tmp_path):
    (tmp_path / "table.yaml").write_text(WHOLE)
    recipe = load_recipe(str(tmp_path / "table.yaml"))
    assert recipe.seeds == (0, 1)
    assert list(recipe.rows) == ["Baseline", "Two peers"]
    assert recipe.score_of("Baseline") == ScoreChoice("student", "top1", "error")
    assert recipe.score_of("Two peers") == ScoreChoice("ensemble", "top1", "error")  # the rest as in `score`
    assert recipe.published["resnet8"]["Two peers"] == 73.9


def test_rows_may_have_names_that_yaml_takes_for_numbers(tmp_path):
    (tmp_path / "table.yaml").write_text(
        "rows: {1: {method: MCL}, 0.5: {method: DML}}\nscores: {0.5: {who: ensemble}}\n"
        "published: {resnet8: {1: 70}}\nmodels_settings: {resnet8: {lr: 0.1, rows: {1: {epochs: 3}}}}"
    )
    recipe = load_recipe(str(tmp_path / "table.yaml"))
    assert [*recipe.rows] == ["1", "0.5"]
    assert recipe.score_of("0.5").who == "ensemble"
    assert recipe.published == {"resnet8": {"1": 70}}
    assert recipe.models_settings == {"resnet8": {"lr": 0.1, "rows": {"1": {"epochs": 3}}}}


def test_a_row_may_leave_its_method_to_the_settings_of_all_rows(tmp_path):
    (tmp_path / "table.yaml").write_text(
        "settings: {method: MCL}\nrows: {A: {lr: 1}, B: {method: {init_args: {beta: 1}}}}"
    )
    assert list(load_recipe(str(tmp_path / "table.yaml")).rows) == ["A", "B"]


def test_plain_values_give_the_same_recipe_back():
    recipe = read(yaml.safe_load(WHOLE), "here")
    assert read(yaml.safe_load(yaml.safe_dump(recipe.plain())), "here").plain() == recipe.plain()


WRONG = {
    "tilte: A table": ["unknown key in", "'tilte'", "'title'"],
    "base: comon": ["unknown base in", "'comon'", "'common'"],
    "reference: MLC\nrows: {MCL: {}}": ["unknown reference in", "'MLC'", "MCL"],
    "published: {resnet8: {MLC: 1}}\nrows: {MCL: {}}": ["published row of resnet8", "'MLC'"],
    "rows: {A: {method: MCL}, B: {}}": ["row 'B' names no method", "method: ..."],
    "rows: {B: {lr: 1, method: {init_args: {beta: 1}}}}": ["row 'B' names no method"],
    "settings: {method: MCL}\nrows: {B: {method: }}": ["row 'B' names no method"],
    "scores: {MLC: {who: student}}\nrows: {MCL: {}}": ["row among the scores", "'MLC'"],
    "models_settings: {vgg: {rows: {MLC: {}}}}\nrows: {MCL: {}}": ["row among the settings of vgg", "'MLC'"],
    "score: {who: teacher}": ["unknown word in", "score 'teacher'"],
    "score: {whose: student}": ["'whose'", "'who'"],
    "rows: [MCL]": ["rows must have lines"],
    "models: resnet8": ["models must be a list of texts"],
    "seeds: 0": ["seeds is 0"],
    "[1]": ["must have lines"],
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_recipes(text, tmp_path):
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(UserError, match=r"table\.yaml|seeds") as error:
        load_recipe(str(tmp_path / "table.yaml"))
    for part in WRONG[text]:
        assert part in str(error.value)


def test_settings_of_the_package_are_found_from_any_folder_unless_the_user_has_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundled = recipes_folder() / "mcl.yaml"
    assert find_settings("mcl") == find_settings("mcl.yaml") == find_settings("recipes/mcl.yaml") == bundled
    (tmp_path / "mcl.yaml").write_text("epochs: 1")
    assert find_settings("mcl.yaml") == Path("mcl.yaml")
    assert find_settings("nothing.yaml") == Path("nothing.yaml")
    with pytest.raises(UserError, match="unknown file of settings 'mlc': did you mean 'mcl'"):
        find_settings("mlc")


def test_an_installed_package_has_its_recipes_inside_and_finds_each_by_the_name_it_has_in_a_checkout(
    tmp_path, monkeypatch
):
    names = {path.relative_to(recipes_folder()) for path in recipes_folder().rglob("*.yaml")}
    shutil.copytree(recipes_folder(), tmp_path / "classmates" / "recipes")
    monkeypatch.setattr(_files, "__file__", str(tmp_path / "classmates" / "_files.py"))
    monkeypatch.chdir(tmp_path)
    for name in names:
        inside = tmp_path / "classmates" / "recipes" / name
        for spelled in (f"recipes/{name}", str(name), str(name.with_suffix(""))):
            assert find_settings(spelled) == inside
        assert len(name.parts) == 1 or find_recipe(f"recipes/{name}") == find_recipe(str(name)) == inside
    with pytest.raises(UserError, match=r"'recipes/evidence/photo\.yaml': did you mean 'evidence/photos'"):
        find_settings("recipes/evidence/photo.yaml")


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_recipe(str(tmp_path / "nothing.yaml"))
    with pytest.raises(UserError, match="unknown recipe 'papers/nothing'"):
        load_recipe("papers/nothing")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=r"broken\.yaml is no YAML file"):
        load_recipe(str(tmp_path / "broken.yaml"))


@given(st.lists(st.integers(0, 100), min_size=1, unique=True))
def test_seeds_are_kept_in_order(seeds):
    assert read_seeds(seeds) == tuple(seeds)


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1], [-1], [0.5], True, "3"])
def test_seeds_that_cannot_be(seeds):
    with pytest.raises(UserError, match="seeds"):
        read_seeds(seeds)


def test_a_number_of_seeds_counts_from_zero():
    assert read_seeds(3) == (0, 1, 2)
    assert Recipe().seeds == (0, 1, 2)
