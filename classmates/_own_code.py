"""Classes in Python files of the user's own, named by path and class: ``FILE.py:CLASS``.

The file alone is run, whatever else lies beside it: no folder is put on the path where modules are looked for.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.random import fork_rng

from classmates._files import at_home, recipes_folder
from classmates.errors import UserError, unknown

PREFIX = "classmates_file_"
"""How the names of such modules begin."""
WHATEVER = (Exception, SystemExit)
"""What the user's code may raise; a script without a main guard ends the program."""


def is_file_name(name: str) -> bool:
    """Return whether a name means a Python file, and not something that is known by name."""
    return name.endswith(".py") or ".py:" in name


def file_of(name: str) -> Path:
    """Return the file that ``FILE.py:CLASS`` names, or ``FILE.py``, which lacks the class.

    One of ``recipes/`` that is not in the current folder is the package's, as such recipes name it.
    """
    path = at_home(name if name.endswith(".py") else name.rpartition(":")[0])
    bundled = recipes_folder().parent / path
    return bundled if path.parts[:1] == ("recipes",) and bundled.is_file() and not path.is_file() else path


def load_class(kind: str, name: str) -> Any:
    """Return the class or function that ``path/to/file.py:Class`` names; runs the file, once.

    Args:
        kind: what messages call it, such as "model".
        name: of the file and of what is in it.

    Raises:
        UserError: the class is not named, there is no such file or class, or the file fails when run.
    """
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py"):
        raise UserError(f"{kind} '{name}' names a file but nothing in it: write '{name}:NAME', a class or function's")
    path = file_of(name)
    if not path.is_file():
        raise UserError(f"{kind} '{name}': there is no file '{file}' (seen from {Path.cwd()})")
    try:
        module = _module(path.resolve(), path.stat().st_mtime_ns)
    except WHATEVER as error:
        raise UserError(
            f"{kind} file '{file}' could not be run: {type(error).__name__}: {error} "
            "(modules beside it are found if their folder is in PYTHONPATH)"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise unknown(f"class or function in {file}", attribute, own)
    return found


def load_named(kind: str, name: str) -> Any:
    """Return what ``FILE.py:CLASS`` or the path to import it by, ``package.module.Class``, names.

    A module that is not installed is looked for as a file in the current folder, which is then run by its path.

    Raises:
        UserError: there is no such thing; the errors of ``load_class``.
    """
    if is_file_name(name):
        return load_class(kind, name)
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two: '.a.B', 'a..B'
        file = Path(f"{module.replace('.', '/')}.py")
        if isinstance(error, ModuleNotFoundError) and file.is_file():
            return load_class(kind, f"{file}:{attribute}")
        raise UserError(f"{kind} '{name}' cannot be imported: {error}; one of your own is FILE.py:CLASS") from error
    except WHATEVER as error:
        raise UserError(f"{kind} '{name}': its module could not be run: {type(error).__name__}: {error}") from error


def file_name_of(kind: type) -> str | None:
    """Return the ``FILE.py:CLASS`` of a class that comes from such a file, from here where it lies below.

    None for any other class.
    """
    if not kind.__module__.startswith(PREFIX):
        return None
    path = Path(str(sys.modules[kind.__module__].__file__))
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{kind.__qualname__}"


def code_hash(name: str) -> str:
    """Return the SHA-256 of the file that ``FILE.py:CLASS`` names."""
    return hashlib.sha256(file_of(name).read_bytes()).hexdigest()


@cache
def _module(path: Path, changed: int) -> ModuleType:
    """Run a file, as it was when it was changed last."""
    name = f"{PREFIX}{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a name that ends in .py always has one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a class's module up by its name
    try:
        with fork_rng(devices=[]):  # a file that seeds or draws leaves the run's own random numbers as they are
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
