"""Rows by what the command line calls them, and the settings that a row starts from."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping
from math import inf
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from classmates._files import recipes_folder
from classmates._yaml import read_yaml
from classmates.comparisons.recipe import Base, names_method
from classmates.configuration.choosing import for_method
from classmates.errors import UserError
from classmates.experiments.given import named_method
from classmates.methods.spec import MIXING, MethodSpec
from classmates.runs.spec import class_path

DECIDED = ("model", "data", "seed", "out", "resume", "on")
"""Arguments of ``train`` that the comparison decides for each run."""
TIMES = "times_as_long"
"""Key of a row: the factor by which its runs are longer than the recipe for its data has them, as ``with_epochs``."""
LONGER = re.compile(r"(?P<entry>.+?) *\((?P<times>\d+(\.\d+)?) *[x×] as long\)")


def row_of(entry: Any) -> tuple[str, dict[str, Any]]:
    """Return (label, settings) of a row by what the user calls it.

    Args:
        entry: a method (``MCL``), a variant of it (``MCL(peers=2, beta=0.1)``), or a YAML file of settings, such as
            the config.yaml of a run, of which what the comparison decides is left out; any of them on mixed images
            (``DML + CutMix``; alone, ``CutMix`` is Baseline on them) or trained longer (``Baseline (3 x as long)``).
            In Python also a method's class or a partial of one.

    Raises:
        UserError: no such method or file, or a variant that is not written so.
    """
    if not isinstance(entry, str | PathLike):
        spec = named_method(entry)
        options = {name: spec.plain_option(value) for name, value in spec.options.items()}
        return str(spec), {"method": {"class_path": spec.class_path, "init_args": options}}
    entry = fspath(entry)
    if longer := LONGER.fullmatch(entry.strip()):
        label, settings = row_of(longer["entry"])
        times = float(longer["times"]) * times_as_long(settings, label)
        return f"{label} ({longer['times']} × as long)", {**settings, TIMES: times}
    before, _, last = entry.rpartition(" + ")
    if last.lower() in MIXING:
        mixed = read_settings(recipes_folder() / f"{last.lower()}.yaml")["augmentation"]
        label, settings = row_of(before or "Baseline")
        return f"{label} + {last}" if before else last, {
            **settings,
            "augmentation": {**settings.get("augmentation", {}), **mixed},
        }
    if entry.endswith((".yaml", ".yml")):
        settings = read_settings(Path(entry))
        if not names_method(settings):
            raise UserError(f"{entry} names no method: it needs a line 'method: ...'")
        return Path(entry).stem, settings
    name, options = variant(entry) if "(" in entry else (entry, {})
    return entry, {"method": {"class_path": class_path(MethodSpec.find(name)), "init_args": options}}


def times_as_long(row: Mapping[str, Any], label: str) -> float:
    """Return by how much the runs of a row are longer than others; UserError for what is no factor.

    It is told apart from ``epochs`` because the recipe for the data may be what says how many epochs there are.
    """
    times = row.get(TIMES, 1)
    if isinstance(times, bool) or not isinstance(times, int | float) or not 0 < times < inf:
        raise UserError(f"row '{label}': {TIMES} is {times!r}; give a factor of its epochs, such as 3")
    return float(times)


def variant(entry: str) -> tuple[str, dict[str, Any]]:
    """Return (method, options) of ``MCL(peers=2, beta=0.1)``; UserError where it is not written so."""
    try:
        name, _, options_given = entry.strip().partition("(")
        call = ast.parse(f"method({options_given}", mode="eval").body  # the name may be that of a file
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        options = [(keyword.arg, ast.literal_eval(keyword.value)) for keyword in call.keywords]
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"method '{entry}': write a variant as MCL(peers=2, start='same'), a longer row as 'MCL (3 x as long)'"
        ) from error
    names = [option for option, _ in options]
    if None in names:
        raise UserError(f"method '{entry}': every option needs its name, as in MCL(peers=2)")
    if twice := [option for option, count in Counter(names).items() if count > 1]:
        raise UserError(f"method '{entry}': the option '{twice[0]}' comes twice: give it once")
    return name, {str(option): value for option, value in options}


def base_settings(method: type, base: Base) -> dict[str, Any]:
    """Return the settings that a row with this method starts from.

    Args:
        method: the row's.
        base: "common" (``recipes/common.yaml``), "paper" (the method's own recipe), or "auto" or "none", as ``train``
            has them.

    Raises:
        UserError: the method has no published settings.
    """
    if base in ("auto", "none"):
        return {"recipe": base}
    if base == "common":
        settings = read_settings(recipes_folder() / "common.yaml")
        return settings | for_method(settings.pop("methods"), method)
    files = {path.stem.replace("_", ""): path for path in recipes_folder().glob("*.yaml")}
    if method.__name__.lower() not in files:
        raise UserError(f"{method.__name__} has no published settings: use --recipe common, or a recipe of your own")
    return read_settings(files[method.__name__.lower()])


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings in a YAML file, without what the comparison decides."""
    content = read_yaml(path, str(path))
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must have lines 'name: value', the names those of train's arguments")
    return {str(name): value for name, value in content.items() if name not in DECIDED}
