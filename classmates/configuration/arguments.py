"""The arguments of a function or class as the command line has them, from its signature and docstring."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring

WORDS = {str: "TEXT", int: "INT", float: "NUMBER", bool: "true|false", Path: "PATH", NoneType: "null", Any: "VALUE"}
"""The types that can be typed on a command line, and their words in help and errors."""


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
    def is_class(self) -> bool:
        """Return whether it takes the name of a class; that class's options then follow with a dot."""
        return self.returns is not None

    @property
    def returns(self) -> Any:
        """The class that those that it takes by name derive from; None for all else."""
        made = [get_args(part)[-1] for part in alternatives(self.type) if get_origin(part) is Callable]
        return made[0] if made else None

    @property
    def is_mapping(self) -> bool:
        """Return whether it takes names of any kind; they follow with a dot."""
        return any(get_origin(part) is Mapping for part in alternatives(self.type))

    @property
    def is_list(self) -> bool:
        return self.item_type is not None

    @property
    def item_type(self) -> Any:
        """The type of a list's items; None for all else."""
        lists = [part for part in alternatives(self.type) if get_origin(part) in (list, Sequence)]
        return get_args(lists[0])[0] if lists else None

    @property
    def has_parts(self) -> bool:
        """Return whether something may follow its name and a dot."""
        return self.is_class or self.is_mapping or bool(self.fields)

    @property
    def fields(self) -> dict[str, Argument]:
        """The arguments of a dataclass, which follow with a dot; empty for all else."""
        return arguments_of(self.type) if is_dataclass(self.type) and isinstance(self.type, type) else {}


def arguments_of(thing: Callable[..., Any]) -> dict[str, Argument]:
    """Return every argument that can be typed, by name; the others (a Lightning callback) are for Python alone."""
    hints = get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
    parameters = {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(thing).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return arguments_from(parameters, described(thing))


def arguments_from(parameters: Mapping[str, inspect.Parameter], help_texts: Mapping[str, str]) -> dict[str, Argument]:
    """Return those of the parameters, whose annotations are types, that can be typed."""
    found = {}
    for name, parameter in parameters.items():
        hint = typable(parameter.annotation)
        if hint is not None:
            found[name] = Argument(name, hint, parameter.default, help_texts.get(name, ""))
    return found


def described(thing: Callable[..., Any]) -> dict[str, str]:
    """Return what docstrings say of each argument: of a class, its own docstring and those of its base classes."""
    documented = reversed(inspect.getmro(thing)) if inspect.isclass(thing) else [thing]
    entries = [entry for one in documented for entry in parse_docstring(one.__doc__ or "").params]
    return {
        entry.arg_name: " ".join((entry.description or "").split())
        for entry in entries
        if entry.args[0] != "attribute"
    }


def typable(hint: Any) -> Any:
    """Return an annotation without the classes whose objects cannot be typed; None where nothing is left."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kept = [part for part in map(typable, parts) if part is not None]
        return Union[tuple(kept)] if any(part is not NoneType for part in kept) else None  # noqa: UP007
    if origin in (list, Sequence):
        item = typable(parts[0])
        return None if item is None else origin[item]
    if origin is tuple:  # of any length
        item = typable(parts[0])
        return None if item is None else tuple[item, ...]  # type: ignore[valid-type]
    if origin in (Literal, Callable, Mapping) or hint in WORDS or is_dataclass(hint):
        return hint
    return None


def in_words(hint: Any) -> str:
    """Say what an argument of this type takes: ``INT``, ``a|b``, ``[TEXT,...]``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        parts = tuple(part for part in parts if part is not NoneType and not (part is str and Path in parts))
        return "|".join(map(in_words, parts))
    if origin is Literal:
        return "|".join(map(str, parts))
    if origin in (list, Sequence, tuple):
        return f"[{in_words(parts[0])},...]"
    if origin is Mapping:
        return "{NAME: VALUE,...}"
    return WORDS.get(hint, "NAME")


def names_of(arguments: Mapping[str, Argument]) -> Iterator[str]:
    """Yield what can be typed before a value, but for the options of a class that is chosen by name."""
    for name, argument in arguments.items():
        if not argument.fields:
            yield f"{name}.NAME" if argument.is_mapping else name
        yield from (f"{name}.{part}" for part in argument.fields)


def nearly(name: str, names: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """Return the names most like another. cutoff: the least likeness, 1 for the same name."""
    return difflib.get_close_matches(name, list(names), cutoff=cutoff)


def likely(name: str, names: Iterable[str], see: str) -> str:
    """Return the names most like an unknown one, or else the command that shows every one."""
    close = nearly(name, names)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"`{see}` shows every one"


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types of which an annotation takes one."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
