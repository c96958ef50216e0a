"""How a method is named: its class and its options, in YAML, flags, results and plans; from that it is built."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from classmates.contracts import DataSpec
from classmates.errors import UserError, unknown
from classmates.methods.base import Method
from classmates.runs.plain_values import plain_value

MethodLike = Callable[[nn.Module, DataSpec], Method]
"""Anything that makes a method of a network and what is known of the data: a class, a ``MethodSpec``, a partial."""


@dataclass(frozen=True)
class MethodSpec:
    """A method's class and those of its options that are not left at their defaults; called, it builds the method.

    Args:
        class_path: ``classmates.MCL`` for a method of this package, else the import path of its class.
        options: by name, as plain values or as objects (a teacher given as a module).
    """

    class_path: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, method: MethodLike | str | Mapping[str, Any]) -> MethodSpec | None:
        """The spec of a class, a partial of one, a name, or of ``{class_path: ..., init_args: {...}}``.

        None for any other function: what it will make cannot be told without calling it.

        Raises:
            UserError: an unknown name, or one that is no method.
        """
        if isinstance(method, MethodSpec):
            return method
        if isinstance(method, str):
            return cls(class_path(find_method(method)))
        if isinstance(method, Mapping):
            kind = find_method(method.get("class_path", ""))
            return cls(class_path(kind), present_names(kind, dict(method.get("init_args") or {})))
        if isinstance(method, functools.partial) and not method.args:
            inner = cls.of(method.func)
            return None if inner is None else cls(inner.class_path, {**inner.options, **method.keywords})
        if inspect.isclass(method) and issubclass(method, Method):
            return cls(class_path(method))
        return None

    @property
    def kind(self) -> type[Method]:
        """The class."""
        return find_method(self.class_path)

    @property
    def name(self) -> str:
        """The class's own name, without the path to it."""
        return self.class_path.rpartition(".")[2]

    def __call__(self, network: nn.Module, data: DataSpec) -> Method:
        """Build the method.

        Raises:
            UserError: an option that it does not have or refuses.
        """
        kind = self.kind
        known = {name for name, _ in options_of(kind)}
        for option in self.options:
            if option not in known:
                raise unknown(f"option of {self.name}", option, known)
        return kind(network, data, **self.options)

    def resolved(self) -> dict[str, Any]:
        """Every option, those left at their defaults included."""
        return {**dict(options_of(self.kind)), **self.options}

    def scaled(self, factor: float) -> MethodSpec:
        """The same with every option that is a number of epochs times a factor, whole, and 0 only where it was."""
        return MethodSpec(self.class_path, self.kind.scale_lengths(self.resolved(), factor))

    def plain(self) -> dict[str, Any]:
        """As YAML has it, every option included; ``of`` of it gives the same method.

        An option that is an object, such as a teacher's module, becomes its type's name in brackets.
        """
        return {"class_path": self.class_path, "init_args": plain_value(self.resolved())}

    def __str__(self) -> str:
        """``MCL(peers=2)``, with the options that are not at their defaults."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


def options_of(kind: type[Method]) -> Iterator[tuple[str, Any]]:
    """(name, default) of every option: all arguments but the network and the data.

    Those of the base class follow where a class hands unnamed options on to it.
    """
    parameters = list(inspect.signature(kind).parameters.values())[2:]
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            yield parameter.name, parameter.default
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        named = {parameter.name for parameter in parameters}
        base = next(one for one in kind.__mro__[1:] if "__init__" in vars(one))
        yield from ((name, default) for name, default in options_of(base) if name not in named)


def present_names(kind: type[Method], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their present names, where they are given by names that earlier versions had."""
    return {kind.renamed.get(name, name): value for name, value in options.items()}


def known_methods() -> dict[str, type[Method]]:
    """The methods of this package by name."""
    from classmates import methods  # which imports this module

    public = {name: getattr(methods, name) for name in methods.__all__}
    return {
        name: found
        for name, found in public.items()
        if inspect.isclass(found) and issubclass(found, Method) and not inspect.isabstract(found)
    }


def find_method(name: Any) -> type[Method]:
    """The method class that is called ``MCL``, ``classmates.MCL`` or ``my_module.MyMethod``.

    Raises:
        UserError: there is no such thing, or it is no Method.
    """
    known = known_methods()
    if name in known:
        return known[name]
    module, _, attribute = str(name).rpartition(".")
    if module in ("", "classmates"):
        if attribute in known:
            return known[attribute]
        raise unknown("method", attribute, known)
    try:
        found: Any = importlib.import_module(module)
        found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"method '{name}' cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise UserError(f"method '{name}' is no method: it must be a class derived from classmates.Method")
    return found


def class_path(kind: type) -> str:
    """The name that the command line and YAML have for a class: ``classmates.MCL``, ``my_module.MyMethod``."""
    package = kind.__module__.split(".")[0]
    return f"{package}.{kind.__name__}" if package == "classmates" else f"{kind.__module__}.{kind.__qualname__}"
