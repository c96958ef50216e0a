"""Specifications of methods and tasks: a class and its options, in YAML, flags, results and plans."""

from __future__ import annotations

import functools
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, Unpack, get_args, get_origin, get_type_hints, is_typeddict

from classmates._own_code import file_name_of, load_named
from classmates.errors import UserError, unknown
from classmates.runs.plain_values import plain_value

PLAIN: Mapping[Any, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    bool: (bool, "true or false"),
    NoneType: (NoneType, "None"),
}
"""By type of an option: what values of it are instances of, and how it is said."""


@dataclass(frozen=True)
class Spec(ABC):
    """A class of one family and those of its options that are not left at their defaults.

    A subclass says which family, and what its classes are called with beside their options.

    Args:
        class_path: ``classmates.MCL`` for a class of this package, its short name, or else ``FILE.py:CLASS``
            or its import path.
        options: by name, as plain values or as objects (a teacher given as a module). Names of earlier versions
            become the present ones, and those at their defaults are left out.
        chosen: the names of the options that somebody chose, be it the default; all that are given if not given.

    Attributes:
        noun: what a class of the family is called.
        given: how many arguments come before the options.

    Raises:
        UserError: there is no such class, or it is none of the family.
    """

    class_path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    chosen: frozenset[str] | None = field(default=None, compare=False, repr=False)
    _kind: type[Any] | None = field(default=None, compare=False, repr=False)  # a class that no path leads to

    noun: ClassVar[str]
    given: ClassVar[int] = 0

    @classmethod
    @abstractmethod
    def base(cls) -> type[Any]:
        """Return the class that all of the family derive from."""

    @classmethod
    @abstractmethod
    def known(cls) -> dict[str, type[Any]]:
        """Return the classes of this package by the names that flags have for them."""

    def __post_init__(self) -> None:
        kind = self.kind
        defaults = self.options_of(kind)
        given = {kind.renamed.get(name, name): value for name, value in self.options.items()}
        options = {
            name: value
            for name, value in given.items()
            if name not in defaults or self.plain_option(value) != self.plain_option(defaults[name])
        }
        object.__setattr__(self, "class_path", class_path(kind))
        object.__setattr__(self, "options", options)
        if self.chosen is None:
            object.__setattr__(self, "chosen", frozenset(given))

    @classmethod
    def of(cls, thing: Any) -> Self | None:
        """Return the spec of a class, a partial of one, a name, or ``{class_path: ..., init_args: {...}}``.

        None for any other function: what it will make cannot be told without calling it.

        Raises:
            UserError: an unknown name, or one that is none of the family.
        """
        if isinstance(thing, cls):
            return thing
        if isinstance(thing, str):
            return cls(thing)
        if isinstance(thing, Mapping):
            options = thing.get("init_args") or {}
            if not isinstance(options, Mapping):
                raise UserError(f"{cls.noun}: init_args must have lines 'option: value', not {options!r}")
            return cls(thing.get("class_path", ""), dict(options))
        if isinstance(thing, functools.partial) and not thing.args:
            inner = cls.of(thing.func)
            if inner is None:
                return None
            return cls(inner.class_path, {**inner.options, **thing.keywords}, _kind=inner.kind)
        if inspect.isclass(thing) and issubclass(thing, cls.base()):
            return cls(class_path(thing), _kind=thing)
        return None

    @property
    def kind(self) -> type[Any]:
        """The class."""
        return self._kind or self.find(self.class_path)

    @property
    def name(self) -> str:
        """The class's own name, without the path to it."""
        return class_name(self.class_path)

    def __call__(self, *given: Any) -> Any:
        """Build it. given: what comes before the options.

        Raises:
            UserError: an option that it does not have or refuses, or a text for a number and the like.
        """
        known = self.parameters_of(self.kind)
        for option, value in self.options.items():
            if option in known:
                check_type(f"{self.name}: {option}", value, known[option].annotation)
            elif not takes_any_option(self.kind):
                raise unknown(f"option of {self.name}", option, known)
        return self.kind(*given, **self.options)

    def resolved(self) -> dict[str, Any]:
        """Return every option, those left at their defaults included."""
        return {**self.options_of(self.kind), **self.options}

    def plain(self) -> dict[str, Any]:
        """Return the spec as YAML has it, every option included; ``of`` of it gives the same.

        An option that is an object, such as a teacher's module, becomes its type's name in brackets.
        """
        options = {name: self.plain_option(value) for name, value in self.resolved().items()}
        return {"class_path": self.class_path, "init_args": options}

    def __str__(self) -> str:
        """Return ``MCL(peers=2)``, with the options that are not at their defaults."""
        options = ", ".join(f"{name}={self.plain_option(value)!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name

    @classmethod
    def plain_option(cls, value: Any) -> Any:
        """Return the value of an option as YAML can hold it; one of the family as its class and options."""
        if isinstance(value, list | tuple):
            return [cls.plain_option(item) for item in value]
        spec = None if isinstance(value, str | Mapping) else cls.of(value)
        return plain_value(value) if spec is None else spec.plain()

    @classmethod
    def options_of(cls, kind: type[Any]) -> dict[str, Any]:
        """Return the default of every option by name."""
        return {name: parameter.default for name, parameter in cls.parameters_of(kind).items()}

    @classmethod
    def parameters_of(cls, kind: type[Any]) -> dict[str, inspect.Parameter]:
        """Return the parameter of every option by name, with its type: all arguments but those that are given.

        Options that a class hands on to its base class are among them: those that it names by a TypedDict
        (``**teacher: Unpack[TeacherOptions]``), or else all of the base class's, unless that is abstract.
        """
        signature = inspect.signature(kind)
        hints = get_type_hints(kind.__init__)
        found = {
            name: parameter.replace(annotation=hints.get(name, Any))
            for name, parameter in list(signature.parameters.items())[cls.given :]
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }
        handed_on = _keywords(kind)
        bases = [one for one in kind.__mro__[1:] if "__init__" in vars(one)]
        if is_typeddict(handed_on):
            for name, hint in get_type_hints(handed_on).items():
                takers = (inspect.signature(base).parameters for base in bases)
                taken = next(parameters[name] for parameters in takers if name in parameters)
                found.setdefault(name, taken.replace(annotation=hint))
        elif handed_on is not None and not inspect.isabstract(bases[0]):
            found = {**cls.parameters_of(bases[0]), **found}
        return found

    @classmethod
    def is_ours(cls, name: str) -> bool:
        """Return whether a name can mean a class of this package alone, so that nothing is imported to find it."""
        return name in cls.known() or name.rpartition(".")[0] in ("", "classmates")

    @classmethod
    def find(cls, name: Any) -> type[Any]:
        """Return the class that is called ``MCL``, ``classmates.MCL``, ``FILE.py:CLASS`` or ``package.MyMethod``.

        A class itself is returned as it is.

        Raises:
            UserError: there is no such thing, or it is none of the family.
        """
        if inspect.isclass(name) and issubclass(name, cls.base()):
            return name
        if not isinstance(name, str):
            like = next(iter(cls.known()))
            raise UserError(f"{cls.noun} {name!r} is no name: give one, such as {like}, or class_path and init_args")
        known = cls.known()
        by_class = {kind.__name__: kind for kind in known.values()}
        if name in known:
            return known[name]
        if cls.is_ours(name):
            attribute = name.rpartition(".")[2]
            if attribute in by_class:
                return by_class[attribute]
            raise unknown(cls.noun, attribute, known)
        found = load_named(cls.noun, str(name))
        if not (inspect.isclass(found) and issubclass(found, cls.base())):
            raise UserError(
                f"{cls.noun} '{name}' is no {cls.noun}: it must be a class derived from "
                f"classmates.{cls.base().__name__}"
            )
        return found


def check_type(option: str, value: Any, hint: Any) -> None:
    """Raise UserError for a value that is none of the types of its hint, where all of those are plain ones."""
    types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if all(one in PLAIN for one in types) and not any(isinstance(value, PLAIN[one][0]) for one in types):
        raise UserError(f"{option}={value!r}: give {' or '.join(PLAIN[one][1] for one in types)}")


def takes_any_option(kind: type[Any]) -> bool:
    """Return whether a class takes options whose names its signature does not tell."""
    handed_on = _keywords(kind)
    return handed_on is not None and not is_typeddict(handed_on)


def _keywords(kind: type[Any]) -> Any:
    """Return the type of ``**options``: a TypedDict where it names them; None where there is no such argument."""
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            hint = get_type_hints(kind.__init__).get(name, Any)
            return get_args(hint)[0] if get_origin(hint) is Unpack else hint
    return None


def class_path(kind: type[Any]) -> str:
    """Return the name that the command line and YAML have for a class: ``classmates.MCL``, ``FILE.py:CLASS``."""
    return file_name_of(kind) or import_path(kind)


def class_name(path: str) -> str:
    """Return the class's own name of what ``class_path`` gives."""
    return re.split("[.:]", path)[-1]


def import_path(kind: type[Any]) -> str:
    """Return the name by which a class is imported in this process, whether or not it comes from a file's path."""
    package = kind.__module__.split(".")[0]
    return f"{package}.{kind.__name__}" if package == "classmates" else f"{kind.__module__}.{kind.__qualname__}"
