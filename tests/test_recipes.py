"""Every recipe is one that ``train`` understands, and every method has both of its recipes."""

import inspect
from pathlib import Path

import pytest
import yaml

from classmates import methods
from classmates.catalog import methods as methods_by_name
from classmates.training.train import train

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
FILES = sorted([*RECIPES.glob("*.yaml"), *RECIPES.glob("common/*.yaml")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(RECIPES)))
def test_its_keys_are_arguments(file):
    recipe = yaml.safe_load(file.read_text())
    assert recipe.keys() <= inspect.signature(train).parameters.keys()
    method = getattr(methods, recipe["method"]["class_path"].removeprefix("classmates."))
    options = recipe["method"].get("init_args", {})
    assert options.keys() <= inspect.signature(method).parameters.keys()


def test_every_method_has_its_published_and_its_common_recipe():
    for folder in (RECIPES, RECIPES / "common"):
        found = {yaml.safe_load(file.read_text())["method"]["class_path"] for file in folder.glob("*.yaml")}
        assert {f"classmates.{name}" for name in methods_by_name() if name != "Combined"} <= found


def test_the_common_recipes_differ_in_the_method_alone():
    recipes = [yaml.safe_load(file.read_text()) for file in (RECIPES / "common").glob("*.yaml")]
    for recipe in recipes:
        recipe.pop("method")
        recipe.pop("batch_size")  # a multiple of three for triplets, pairs count twice
    assert all(recipe == recipes[0] for recipe in recipes)
