"""The catalog of methods, models and data sets, by the names that the commands take."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Literal

from classmates._outlines import OUTLINES
from classmates._shown import Shown
from classmates.errors import check_choice

if TYPE_CHECKING:
    from classmates.methods import Method
    from classmates.methods.about import About

__all__ = ["Catalog", "list", "methods", "models"]

Kind = Literal["all", "methods", "models", "datasets"]


def methods() -> dict[str, type[Method]]:
    """Return the methods of this package by name."""
    from classmates.methods.spec import known_methods

    return known_methods()


def models() -> dict[str, Callable[..., object]]:
    """Return the constructors of this package's own models by name; timm knows them by the same names."""
    import classmates.models

    return {name: getattr(classmates.models, name) for name in classmates.models.__all__}


@dataclass(frozen=True, repr=False)
class Catalog(Shown):
    """Names that fit a pattern, with a line on each; as text, a list to read.

    names: {kind: {name: line}}, the kinds being methods, models (of this package) and datasets.
    """

    pattern: str
    names: dict[str, dict[str, str]]

    @cached_property
    def timm_models(self) -> Sequence[str]:
        """The other models of timm's that fit, where models were asked for."""
        import timm  # with all of PyTorch, which a list of our own names does not need

        own = OUTLINES.named("classmates.models", "__all__")
        asked = "models" in self.names
        return [name for name in timm.list_models() if asked and fits(name, self.pattern) and name not in own]

    def __str__(self) -> str:
        kinds = [kind for kind in self.names if not self.pattern or self._has(kind)]
        if kinds:
            return "\n\n".join(map(self._section, kinds))
        return f"Nothing fits '{self.pattern}'; * stands for any letters: --pattern '*{self.pattern}*'"

    def _has(self, kind: str) -> bool:
        """Return whether any name of this kind fits."""
        return bool(self.names[kind] or (kind == "models" and self.timm_models))

    def _section(self, kind: str) -> str:
        rows = self._methods() if kind == "methods" else [row(name, line) for name, line in self.names[kind].items()]
        title = textwrap.fill(TITLES[kind], get_terminal_size().columns)
        return "\n".join([title, *rows, *self._more(kind)])

    def _methods(self) -> Iterator[str]:
        """Yield the methods by what their students learn from, the latest last, each with its year and its cost."""
        found = {name: about(name) for name in self.names["methods"]}
        for group, title in GROUPS.items():
            members = sorted((facts.year or 0, name) for name, facts in found.items() if facts.group == group)
            yield from [f"\n{title}"] if members else []
            for year, name in members:
                facts = f"{name:<17}{year or '':<5}{found[name].cost:>4.1f}x  "
                yield row(facts, self.names["methods"][name])

    def _more(self, kind: str) -> Sequence[str]:
        """Return lines on what there is beyond this package's own names."""
        if kind == "models" and self.pattern:
            return [f"  {name:<28}of timm" for name in self.timm_models]
        if kind == "models":
            return [
                "  and more than a thousand of timm: classmates list models --pattern 'vit*'",
                "  and your own: --model FILE.py:CLASS",
            ]
        if kind == "datasets" and not self.pattern:
            return [
                "  and hf:NAME, a data set of the Hugging Face Hub, and your own: a folder with",
                "  train/CLASS/* and perhaps val/ and test/, one with CLASS/*, one of parquet or",
                "  tar files, the address of such, s3://..., or a table of files and labels,",
                "  .csv or .tsv",
            ]
        return []


def row(name: str, line: str) -> str:
    """Return a name and, beside it, what there is to say of it, in lines of the terminal's width."""
    return textwrap.fill(f"  {name:<28}{line}", get_terminal_size().columns, subsequent_indent=" " * 30)


GROUPS = {
    "control": "Controls, which learn from the labels alone: what every method has to beat",
    "self": "Self-distillation: a network that learns from itself",
    "online": "Online distillation: peers that learn side by side from each other; one of them is deployed",
    "several": "Several methods at once",
    "teacher": "With a teacher, which has been trained before (--method.teacher RUN_FOLDER)",
}
TITLES = {
    "methods": "Methods (--method NAME; classmates train --method.help NAME shows its options), with the year of the "
    "paper and the time of a training step over Baseline's; inference costs the same with all of them",
    "models": "Models (--model NAME; classmates describe NAME shows its stages and size)",
    "datasets": "Data (--data NAME)",
}


def list(what: Kind = "all", *, pattern: str = "") -> Catalog:
    """List methods, models and data sets by name.

    Args:
        what: which of them.
        pattern: only names like this one, * standing for anything; timm's 1,000 and more models are searched too,
            and what papers call a method.

    Returns:
        The names, with a line on each.

    Raises:
        UserError: ``what`` is none of these.
    """
    check_choice("kind of thing to list", what, Kind)
    every = {
        "methods": {
            name: sentence + (f" It needs {needs}." if (needs := about(name).needs) else "")
            for name, sentence in lines("classmates.methods", BASES).items()
        },
        "models": lines("classmates.models"),
        "datasets": {
            name: first_sentence(known.find or known.disjoint)
            for name, known in OUTLINES.named("classmates.data.readers.by_name", "NAMED").items()
        },
    }
    return Catalog(
        pattern=pattern,
        names={
            kind: {
                name: line
                for name, line in known.items()
                if fits(name, pattern) or (kind == "methods" and any(fits(one, pattern) for one in in_papers(name)))
            }
            for kind, known in every.items()
            if what in ("all", kind)
        },
    )


BASES = ("Method", "Output")
"""What is public among the methods and is none."""


def lines(module: str, without: Sequence[str] = ()) -> dict[str, str]:
    """Return what a module makes public by name, with a line on each."""
    names = [name for name in OUTLINES.named(module, "__all__") if name not in without]
    return {name: first_sentence(OUTLINES.named(module, name)) for name in names}


def about(method: str) -> About:
    """Return the facts that a method declares."""
    facts: About = OUTLINES.attribute(OUTLINES.named("classmates.methods", method), "about")
    return facts


def in_papers(method: str) -> Sequence[str]:
    """Return what papers call a method, beside its name here."""
    known: dict[str, str] = OUTLINES.named("classmates.methods.spec", "IN_PAPERS")
    return [called for called, here in known.items() if here == method]


def fits(name: str, pattern: str) -> bool:
    return not pattern or fnmatch(name.lower(), pattern.lower())


def first_sentence(thing: Any) -> str:
    """Return the first sentence of its docstring, with its full stop."""
    paragraph = " ".join((thing.__doc__ or "").strip().partition("\n\n")[0].replace("``", "").split())
    return paragraph.partition(". ")[0].rstrip(".") + "."
