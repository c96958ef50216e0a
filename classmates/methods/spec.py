"""A method's specification: its class and its options, in YAML, flags, results and plans; from that it is built."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack, get_args, get_origin, get_type_hints, is_typeddict

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
        options: by name, as plain values or as objects (a teacher given as a module). Names of earlier versions
            become the present ones, and those at their defaults are left out.

    Raises:
        UserError: there is no such class, or it is no method.
    """

    class_path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    _kind: type[Method] | None = field(default=None, compare=False, repr=False)  # a class that no path leads to

    def __post_init__(self) -> None:
        kind = self.kind
        defaults = options_of(kind)
        given = {kind.renamed.get(name, name): value for name, value in self.options.items()}
        options = {
            name: value
            for name, value in given.items()
            if name not in defaults or plain_option(value) != plain_option(defaults[name])
        }
        object.__setattr__(self, "class_path", class_path(kind))
        object.__setattr__(self, "options", options)

    @classmethod
    def of(cls, method: MethodLike | str | Mapping[str, Any]) -> MethodSpec | None:
        """Return the spec of a class, a partial of one, a name, or ``{class_path: ..., init_args: {...}}``.

        None for any other function: what it will make cannot be told without calling it.

        Raises:
            UserError: an unknown name, or one that is no method.
        """
        if isinstance(method, MethodSpec):
            return method
        if isinstance(method, str):
            return cls(method)
        if isinstance(method, Mapping):
            options = method.get("init_args") or {}
            if not isinstance(options, Mapping):
                raise UserError(f"method: init_args must have lines 'option: value', not {options!r}")
            return cls(method.get("class_path", ""), dict(options))
        if isinstance(method, functools.partial) and not method.args:
            inner = cls.of(method.func)
            return None if inner is None else cls(inner.class_path, {**inner.options, **method.keywords}, inner.kind)
        if inspect.isclass(method) and issubclass(method, Method):
            return cls(class_path(method), _kind=method)
        return None

    @property
    def kind(self) -> type[Method]:
        """The class."""
        return self._kind or find_method(self.class_path)

    @property
    def name(self) -> str:
        """The class's own name, without the path to it."""
        return self.class_path.rpartition(".")[2]

    def __call__(self, network: nn.Module, data: DataSpec) -> Method:
        """Build the method.

        Raises:
            UserError: an option that it does not have or refuses.
        """
        kind: Any = self.kind  # whose arguments are not Method's own
        known = options_of(kind)
        for option in self.options:
            if option not in known and not takes_any_option(kind):
                raise unknown(f"option of {self.name}", option, known)
        return kind(network, data, **self.options)

    def resolved(self) -> dict[str, Any]:
        """Return every option, those left at their defaults included."""
        return {**options_of(self.kind), **self.options}

    def scaled(self, factor: float) -> MethodSpec:
        """Return the same with every option that is a number of epochs times a factor, rounded to 1 or more."""
        return MethodSpec(self.class_path, self.kind.scale_lengths(self.resolved(), factor), self._kind)

    def from_weights(self) -> MethodSpec:
        """Return the same for networks that begin from trained weights: peers begin from them too."""
        return MethodSpec(self.class_path, self.kind.from_weights(self.resolved()), self._kind)

    def plain(self) -> dict[str, Any]:
        """Return the spec as YAML has it, every option included; ``of`` of it gives the same method.

        An option that is an object, such as a teacher's module, becomes its type's name in brackets.
        """
        options = {name: plain_option(value) for name, value in self.resolved().items()}
        return {"class_path": self.class_path, "init_args": options}

    def __str__(self) -> str:
        """Return ``MCL(peers=2)``, with the options that are not at their defaults."""
        options = ", ".join(f"{name}={plain_option(value)!r}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


def plain_option(value: Any) -> Any:
    """Return the value of an option as YAML can hold it; a method among them as its class and options."""
    if isinstance(value, list | tuple):
        return [plain_option(item) for item in value]
    spec = None if isinstance(value, str | Mapping) else MethodSpec.of(value)
    return plain_value(value) if spec is None else spec.plain()


def parameters_of(kind: type[Method]) -> dict[str, inspect.Parameter]:
    """Return the parameter of every option by name, with its type: all arguments but the network and the data.

    Options that a class hands on to its base class are among them: those that it names by a TypedDict
    (``**teacher: Unpack[TeacherOptions]``), or else all of the base class's, unless that is abstract.
    """
    signature = inspect.signature(kind)
    hints = get_type_hints(kind.__init__)
    found = {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in list(signature.parameters.items())[2:]
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
        found = {**parameters_of(bases[0]), **found}
    return found


def options_of(kind: type[Method]) -> dict[str, Any]:
    """Return the default of every option by name."""
    return {name: parameter.default for name, parameter in parameters_of(kind).items()}


def takes_any_option(kind: type[Method]) -> bool:
    """Return whether a class takes options whose names its signature does not tell."""
    handed_on = _keywords(kind)
    return handed_on is not None and not is_typeddict(handed_on)


def _keywords(kind: type[Method]) -> Any:
    """Return the type of ``**options``: a TypedDict where it names them; None where there is no such argument."""
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            hint = get_type_hints(kind.__init__).get(name, Any)
            return get_args(hint)[0] if get_origin(hint) is Unpack else hint
    return None


def known_methods() -> dict[str, type[Method]]:
    """Return the methods of this package by name."""
    from classmates import methods  # which imports this module

    public = {name: getattr(methods, name) for name in methods.__all__}
    return {
        name: found
        for name, found in public.items()
        if inspect.isclass(found) and issubclass(found, Method) and not inspect.isabstract(found)
    }


def find_method(name: Any) -> type[Method]:
    """Return the method class that is called ``MCL``, ``classmates.MCL`` or ``my_module.MyMethod``; a class itself.

    Raises:
        UserError: there is no such thing, or it is no Method.
    """
    if inspect.isclass(name) and issubclass(name, Method):
        return name
    if not isinstance(name, str):
        raise UserError(f"method {name!r} is no name: give one, such as MCL, or class_path and init_args")
    known = known_methods()
    if name in known:
        return known[name]
    module, _, attribute = name.rpartition(".")
    if module in ("", "classmates"):
        if attribute in known:
            return known[attribute]
        raise unknown("method", attribute, known)
    try:
        found: Any = importlib.import_module(module)
        found = getattr(found, attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two: '.a.B', 'a..B'
        raise UserError(f"method '{name}' cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise UserError(f"method '{name}' is no method: it must be a class derived from classmates.Method")
    return found


def class_path(kind: type) -> str:
    """Return the name that the command line and YAML have for a class: ``classmates.MCL``, ``my_module.MyMethod``."""
    package = kind.__module__.split(".")[0]
    return f"{package}.{kind.__name__}" if package == "classmates" else f"{kind.__module__}.{kind.__qualname__}"
