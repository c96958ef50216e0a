"""Functions of this package as their sources declare them: signature and docstring, and nothing that they import.

The command line is made of signatures, and PyTorch takes seconds to import. What an annotation or a default names is
looked up in the sources, from import to import; what comes from other packages stays a name.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from classmates._sources import Package


class Elsewhere(type):
    """The type of what is not looked up: a name; with a dot after it another one, with brackets the same."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Elsewhere(name, (), {})

    def __getitem__(cls, parameters: Any) -> Any:
        return cls


class Outlines:
    """What the modules of a package define, without importing them.

    Args:
        package: its sources.
    """

    def __init__(self, package: Package):
        self.package = package
        self.known: dict[tuple[str, str], Any] = {}

    def named(self, module: str, name: str) -> Any:
        """Return what a name means in a module.

        Functions have their signature and docstring, but no body; dataclasses and named tuples their fields; values
        are computed. All else, other classes among it, is a class of that name, with its docstring.
        """
        key = (module, name)
        if key not in self.known:
            self.known[key] = self.find(module, name)
        return self.known[key]

    def find(self, module: str, name: str) -> Any:
        source = self.package.source(module)
        assert source is not None  # only such modules are asked for
        for node in statements(source.tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.imported(node, alias)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                return self.declared(module, node)
            elif name in assigned(node):
                return self.run(module, node, name)
        return getattr(builtins, name, None) or Elsewhere(name, (), {})

    def imported(self, node: ast.ImportFrom | ast.Import, alias: ast.alias) -> Any:
        home = node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
        if isinstance(node, ast.ImportFrom) and self.package.source(home) is not None:
            return self.named(home, alias.name)
        if home.partition(".")[0] in sys.stdlib_module_names:
            found = import_module(home)
            return getattr(found, alias.name) if isinstance(node, ast.ImportFrom) else found
        return Elsewhere(alias.asname or alias.name, (), {})

    def declared(self, module: str, node: ast.FunctionDef | ast.ClassDef) -> Any:
        """Run a declaration, without what is done when it is called."""
        text = ast.get_docstring(node)
        documented: list[ast.stmt] = [ast.Expr(ast.Constant(text or ""))]
        if isinstance(node, ast.FunctionDef):
            return self.run(module, plain_function(node, documented), node.name)
        heads = {ast.unparse(head).partition("(")[0] for head in (*node.bases, *node.decorator_list)}
        if not heads & {"NamedTuple", "dataclass"}:
            return Elsewhere(node.name, (), {"__doc__": text, "__module__": module})
        fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
        made = copy.copy(node)
        made.body = [*documented, *fields]
        return self.run(module, made, node.name, later=False)

    def attribute(self, outline: type, name: str) -> Any:
        """Return the value that a class, given as ``named`` has it, assigns to an attribute in its body."""
        source = self.package.source(outline.__module__)
        assert source is not None  # as for ``named``
        (found,) = (node for node in source.tree.body if getattr(node, "name", "") == outline.__name__)
        assert isinstance(found, ast.ClassDef)
        (line,) = (one for one in found.body if name in assigned(one))
        return self.run(outline.__module__, line, name)

    def run(self, module: str, node: ast.stmt, name: str, *, later: bool = True) -> Any:
        """Execute a statement with the names that it uses, and return what it calls ``name``.

        later: whether annotations stay texts, as most modules have it.
        """
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        names = {one: self.named(module, one) for one in used} | {"__name__": module}
        tree = ast.fix_missing_locations(ast.Module([node], []))
        flags = __future__.annotations.compiler_flag if later else 0
        exec(compile(tree, module, "exec", flags, dont_inherit=True), names)
        return names[name]


def plain_function(node: ast.FunctionDef, body: list[ast.stmt]) -> ast.FunctionDef:
    """Return a function with another body and without decorators."""
    made = copy.copy(node)
    made.body, made.decorator_list = body, []
    return made


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those for type checkers among them."""
    for node in tree.body:
        yield from node.body if isinstance(node, ast.If) else [node]


def assigned(node: ast.stmt) -> set[str]:
    """Return the names that a statement assigns to."""
    targets = (
        node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    )
    return {target.id for target in targets if isinstance(target, ast.Name)}


OUTLINES = Outlines(Package(Path(__file__).resolve().parent))
"""Those of this package."""
