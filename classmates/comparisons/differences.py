"""The settings of a comparison's rows: what is the same in all of them once, what differs by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from classmates.reporting.page import flat
from classmates.runs.folder import FREE_SETTINGS
from classmates.runs.spec import class_name

NO_DIFFERENCE = {*FREE_SETTINGS, "seed", "model", "data"}  # the table itself says the last three


def setting_differences(
    runs: Iterable[tuple[str, Mapping[str, Any]]],
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Compare the settings of runs, each with the row it is of.

    Returns:
        Settings that are equal in every run, and by row its method with all options and every other setting that is
        not the same everywhere. Where a row's own runs differ, as those on another model or of another machine may,
        all values are there.
    """
    rows: dict[str, dict[str, list[str]]] = {}
    for label, settings in runs:
        values = {name: value for name, value in settings.items() if name not in NO_DIFFERENCE}
        said = {"method": method_text(values.pop("method"))}
        said |= {name: value_text(value) for name, value in flat(values).items()}
        row = rows.setdefault(label, {})
        for name, text in said.items():
            if text not in row.setdefault(name, []):
                row[name].append(text)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    every = {name: {text for row in rows.values() for text in row.get(name, ["–"])} for name in names}
    equal = {name: next(iter(texts)) for name, texts in every.items() if len(texts) == 1 and name != "method"}
    different = {
        row: {name: " / ".join(said.get(name, ["–"])) for name in names if name not in equal}
        for row, said in rows.items()
    }
    return equal, different


def value_text(value: Any) -> str:
    """Return a setting's value as pages have it."""
    return "none" if value is None else str(value)


def method_text(method: Mapping[str, Any]) -> str:
    """Return ``MCL(peers=4, beta=0.1)`` of a method's class and options."""
    name = class_name(method["class_path"])
    options = ", ".join(f"{option}={value}" for option, value in method.get("init_args", {}).items())
    return f"{name}({options})"
