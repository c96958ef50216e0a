"""The arguments of a function or class as the command line has them, from its signature and docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from docstring_parser import parse as parse_docstring

WORDS = {str: "TEXT", int: "INT", float: "NUMBER", bool: "true|false", Path: "PATH", NoneType: "null", Any: "VALUE"}
"""The types that can be typed on a command line, and their words in help and errors."""
ELSEWHERE = {
    **{name: f"optimizer_args.{name}" for name in ("weight_decay", "momentum", "nesterov", "betas", "eps")},
    "learning_rate": "lr",
    "clip_grad": "gradient_clip",
    "gpus": "devices",
    "num_gpus": "devices",
    "amp": "precision bf16-mixed",
    "bf16": "precision bf16-mixed",
    "fp16": "precision 16-mixed",
    "workers": "num_workers",
    "arch": "model",
    "label_smoothing": "method LabelSmoothing",
    "early_stopping": "patience",
    "tensorboard": "loggers tensorboard",
    "wandb": "loggers wandb",
    "output_dir": "out",
}
"""By what other programs call a setting: its name here, and perhaps the value."""
ANY_NAME = "NAME"
"""Stands for a part of any name, in the place of those that are known."""
QUOTED = re.compile(r'``(\w+)(?:="?([^`"]+)"?)?``')
"""A word of a docstring that may be the name of an argument, and the value that it is given there."""
IN_PYTHON = re.compile(r"[,;.] (?:or )?in Python .*?(?=[.;](?: |$)|$)", re.IGNORECASE)
"""A clause or sentence of a docstring on what can be given in Python alone."""


@dataclass(frozen=True)
class Argument:
    """One argument. type: its annotation, without what cannot be typed. help: what the docstring says of it."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def takes_null(self) -> bool:
        return self.default is None or self.type is Any or NoneType in alternatives(self.type)

    @property
    def base(self) -> Any:
        """The class from which those derive that it takes by name, their options after a dot; None for all else."""
        return next((get_args(part)[-1] for part in alternatives(self.type) if get_origin(part) is Callable), None)

    @property
    def item_type(self) -> Any:
        """The type of a list's items; None for all else."""
        lists = (part for part in alternatives(self.type) if get_origin(part) in (list, Sequence))
        return next((get_args(part)[0] for part in lists), None)

    @property
    def parts(self) -> dict[str, Argument]:
        """What follows its name and a dot: the fields of a dataclass, any name of a mapping; empty for all else."""
        if isinstance(self.type, type) and is_dataclass(self.type):
            return arguments_of(self.type)
        mapping = any(get_origin(part) is Mapping for part in alternatives(self.type))
        return {ANY_NAME: Argument(ANY_NAME, Any, None, self.help)} if mapping else {}


def arguments_of(
    thing: Callable[..., Any], parameters: Mapping[str, inspect.Parameter] | None = None
) -> dict[str, Argument]:
    """Return every argument that can be typed, by name; the others (a Lightning callback) are for Python alone.

    parameters: those of ``thing``, where they are more than its signature tells.
    """
    if parameters is None:
        parameters = inspect.signature(thing, eval_str=True).parameters
    hints = {name: typable(parameter.annotation) for name, parameter in parameters.items()}
    texts = described(thing)
    return {
        name: Argument(name, hint, parameters[name].default, texts.get(name, ""))
        for name, hint in hints.items()
        if hint is not None
    }


def described(thing: Callable[..., Any]) -> dict[str, str]:
    """Return what docstrings say of each argument: of a class, its own docstring and those of its base classes."""
    documented = reversed(inspect.getmro(thing)) if inspect.isclass(thing) else [thing]
    entries = [entry for one in documented for entry in parse_docstring(one.__doc__ or "").params]
    return {
        entry.arg_name: " ".join((entry.description or "").split())
        for entry in entries
        if entry.args[0] != "attribute"
    }


def flat(arguments: Mapping[str, Argument]) -> dict[str, Argument]:
    """Return what is given a value, by name: an argument itself, or each of its parts (``augmentation.flip``)."""
    found: dict[str, Argument] = {}
    for name, argument in arguments.items():
        found |= {f"{name}.{part}": inner for part, inner in argument.parts.items()} or {name: argument}
    return found


def named(name: str, known: Mapping[str, Argument]) -> Argument | None:
    """Return what has this name among those that ``flat`` gives; None where there is none."""
    head, dot, _ = name.partition(".")
    return known.get(name) or known.get(f"{head}{dot}{ANY_NAME}")


def spellings(arguments: Mapping[str, Argument], positions: Sequence[str]) -> dict[str, str]:
    """Return how each argument is typed: ``--lr``, ``--augmentation.flip``; ``RUN`` for one of the positions."""
    return {name: name.upper() if name in positions else f"--{name}" for name in flat(arguments)}


def for_terminal(text: str, typed: Mapping[str, str]) -> str:
    """Return a part of a docstring as a terminal shows it: arguments as they are typed, nothing on Python alone.

    typed: how each argument is typed, by name; it is known by the double backquotes around it.
    """

    def word(found: re.Match[str]) -> str:
        name, value = found.groups()
        return " ".join(filter(None, (typed[name], value))) if name in typed else found[0]

    return IN_PYTHON.sub("", QUOTED.sub(word, text)).replace("``", "")


def from_elsewhere(name: str, known: Mapping[str, Argument]) -> str | None:
    """Return how a setting is given that other programs call so: ``--lr``; None where ``known`` has none."""
    here, space, value = ELSEWHERE.get(name, "").partition(" ")
    flags = (here, f"{here}s", f"train.{here}") if here else ()
    return next((f"--{flag}{space}{value}" for flag in flags if named(flag, known)), None)


def likely(name: str, known: Mapping[str, Argument], see: str) -> str:
    """Return what an unknown name means elsewhere, or else the known ones that end in it or are most like it.

    see: the command that shows every one, for where none is like it.
    """
    if meant := from_elsewhere(name, known):
        return f"did you mean {meant}?"
    own = [one for one in known if not one.endswith(ANY_NAME)]
    close = [one for one in own if one.endswith(f".{name}")] or get_close_matches(name, own, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"`{see}` shows every one"


def typable(hint: Any) -> Any:
    """Return an annotation without the classes whose objects cannot be typed; None where nothing is left."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kept = [part for part in map(typable, parts) if part is not None]
        return Union[tuple(kept)] if any(part is not NoneType for part in kept) else None  # noqa: UP007
    if origin in (list, Sequence, tuple):
        item = typable(parts[0])
        items = (item, ...) if origin is tuple else item  # a tuple is one of any length
        return None if item is None else origin[items]
    if origin in (Literal, Callable, Mapping) or hint in WORDS or is_dataclass(hint):
        return hint
    return None


def in_words(hint: Any) -> str:
    """Say what an argument of this type takes: ``INT``, ``a|b``, ``[TEXT,...]``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        a_text = Path in parts or any(get_origin(part) is Callable for part in parts)  # which says what it names
        parts = tuple(part for part in parts if part is not NoneType and not (part is str and a_text))
        return "|".join(map(in_words, parts))
    if origin is Literal:
        return "|".join(map(str, parts))
    if origin in (list, Sequence, tuple):
        return f"[{in_words(parts[0])},...]"
    if origin is Mapping:
        return "{NAME: VALUE,...}"
    return WORDS.get(hint, "NAME")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types of which an annotation takes one."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
