"""The catalog of methods, models and data sets, by the names that the commands take."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

import timm

import classmates.models
from classmates.data.readers.by_name import NAMED
from classmates.errors import check_choice
from classmates.methods.spec import known_methods as methods

__all__ = ["Catalog", "list", "methods", "models"]

Kind = Literal["all", "methods", "models", "datasets"]


def models() -> dict[str, Callable[..., object]]:
    """Return the constructors of this package's own models by name; timm knows them by the same names."""
    return {name: getattr(classmates.models, name) for name in classmates.models.__all__}


@dataclass(frozen=True)
class Catalog:
    """Names that fit a pattern, with a line on each; as text, a list to read.

    names: {kind: {name: line}}, the kinds being methods, models (of this package) and datasets.
    timm_models: the other models of timm's that fit, where models were asked for.
    """

    pattern: str
    names: dict[str, dict[str, str]]
    timm_models: Sequence[str]

    def __str__(self) -> str:
        return "\n\n".join(self._section(kind) for kind in self.names)

    def _section(self, kind: str) -> str:
        wrapper = textwrap.TextWrapper(100, subsequent_indent=" " * 30)
        rows = [wrapper.fill(f"  {name:<28}{line}") for name, line in self.names[kind].items()]
        return "\n".join([TITLES[kind], *rows, *self._more(kind)])

    def _more(self, kind: str) -> Sequence[str]:
        """Return lines on what there is beyond this package's own names."""
        if kind == "models" and self.pattern:
            return [f"  {name:<28}of timm" for name in self.timm_models]
        if kind == "models":
            return [
                f"  and {len(self.timm_models)} of timm; to find them: classmates list models --pattern 'vit*'",
                "  and your own: --model FILE.py:CLASS",
            ]
        if kind == "datasets" and not self.pattern:
            return [
                "  and hf:NAME, a data set of the Hugging Face Hub, and your own: a folder with train/CLASS/* and",
                "  perhaps val/ and test/, a folder with CLASS/*, or one of parquet files",
            ]
        return []


TITLES = {
    "methods": "Methods (--method NAME; classmates train --method.help NAME shows its options)",
    "models": "Models (--model NAME; classmates describe NAME shows its stages and size)",
    "datasets": "Data (--data NAME)",
}


def list(what: Kind = "all", *, pattern: str = "") -> Catalog:
    """List methods, models and data sets by name.

    Args:
        what: which of them.
        pattern: only names like this one, * standing for anything; timm's 1,000 and more models are searched too.

    Returns:
        The names, with a line on each.

    Raises:
        UserError: ``what`` is none of these.
    """
    every = {
        "methods": {name: first_sentence(cls) for name, cls in methods().items()},
        "models": {name: first_sentence(constructor) for name, constructor in models().items()},
        "datasets": {name: first_sentence(known.readers[0]) for name, known in NAMED.items()},
    }
    check_choice("kind of thing to list", what, Kind)

    def fits(name: str) -> bool:
        return not pattern or fnmatch(name.lower(), pattern.lower())

    return Catalog(
        pattern=pattern,
        names={
            kind: {name: line for name, line in known.items() if fits(name)}
            for kind, known in every.items()
            if what in ("all", kind)
        },
        timm_models=[name for name in timm.list_models() if fits(name) and name not in every["models"]]
        if what in ("all", "models")
        else [],
    )


def first_sentence(thing: object) -> str:
    """Return the first sentence of its docstring, or what of it is on the first line."""
    return (thing.__doc__ or "").strip().partition("\n")[0].partition(". ")[0].rstrip(".")
