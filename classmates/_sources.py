"""The source files of a package that a module depends on: its own and, from there on, all that are imported."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from classmates.errors import UserError


class Source:
    """A Python file: what it imports, and its code.

    Args:
        path: of the file.
        package: the name of the package that it is in, to which relative imports refer; "" for a file on its own.
    """

    def __init__(self, path: Path, package: str = ""):
        self.path = path
        self.package = package

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.path.read_bytes())
        except SyntaxError as error:
            raise UserError(f"{self.path} is no Python: {error}") from error

    @cached_property
    def code(self) -> str:
        """The code without docstrings, comments and layout, which change no result."""
        tree = ast.parse(self.path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                body = [line for line in node.body if not is_text(line)]
                node.body = body or [ast.Pass()]
        return ast.unparse(tree)

    @cached_property
    def imports(self) -> list[tuple[str, str | None]]:
        """(module, name) of every import that is executed, also within functions; the name is None for a module."""
        nodes = [*ast.walk(self.tree)]
        skipped = {id(node) for part in nodes if for_types_only(part) for node in inside(part)}
        return [found for node in nodes if id(node) not in skipped for found in self.imported_by(node)]

    def imported_by(self, node: ast.AST) -> Iterator[tuple[str, str | None]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = self.package.split(".")[: len(self.package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)

    def home_of(self, name: str) -> str | None:
        """Return the module that this file imports a name from, if only for type checkers; None where it does not."""
        every = None
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                names = [alias.asname or alias.name for alias in node.names]
                module = next(self.imported_by(node))[0]
                if name in names:
                    return module
                every = module if names == ["*"] else every
        return every


class Package:
    """The sources of a package.

    Args:
        folder: of the package, named as it is.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = folder.name
        self.sources: dict[str, Source | None] = {}

    def source(self, module: str) -> Source | None:
        """Return the source of a module of the package; None where there is no such module."""
        if module not in self.sources:
            self.sources[module] = self.find(module)
        return self.sources[module]

    def code(self, module: str) -> str:
        """Return the code of a module that there is."""
        source = self.source(module)
        assert source is not None
        return source.code

    def find(self, module: str) -> Source | None:
        top, *parts = module.split(".")
        place = self.folder.joinpath(*parts)
        if top != self.name:
            return None
        if (place / "__init__.py").is_file():
            return Source(place / "__init__.py", module)
        file = place.with_suffix(".py")
        return Source(file, module.rpartition(".")[0]) if parts and file.is_file() else None

    def modules_of(self, source: Source) -> Iterator[str]:
        """Yield the modules of the package that a file imports from.

        A name that a package only hands on (``from classmates.methods import MCL``) counts where it is defined.
        """
        for module, name in source.imports:
            found = module if name is None else self.defining(module, name)
            if self.source(found) is not None:
                yield found

    def defining(self, module: str, name: str) -> str:
        """Return the module that a name imported from ``module`` is, or is defined in."""
        if self.source(f"{module}.{name}") is not None:
            return f"{module}.{name}"
        source = self.source(module)
        home = source.home_of(name) if source is not None and source.path.name == "__init__.py" else None
        return module if home is None or home == module else self.defining(home, name)

    def closure(self, roots: Iterable[str], counts: Callable[[str, str], bool]) -> set[str]:
        """Return the modules that the roots depend on, themselves included.

        Args:
            roots: names of modules.
            counts: whether an import counts, by the names of the importing and of the imported module.
        """
        left = [root for root in roots if self.source(root) is not None]
        found = set(left)
        while left:
            module = left.pop()
            source = self.source(module)
            assert source is not None  # only such modules are in the list
            new = {one for one in self.modules_of(source) if one not in found and counts(module, one)}
            found |= new
            left += new
        return found


def is_text(node: ast.stmt) -> bool:
    """Return whether a statement is a text and nothing else: a docstring, or one after an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def for_types_only(node: ast.AST) -> bool:
    """Return whether it is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is executed where the condition holds."""
    assert isinstance(node, ast.If)
    for statement in node.body:
        yield from ast.walk(statement)


def beside(sources: Sequence[Source]) -> list[Source]:
    """Return the files that these import from their own folders (``import x``), and those that they import so."""
    known, left, found = {source.path.resolve() for source in sources}, [*sources], []
    while left:
        source = left.pop()
        for module, name in source.imports:
            first = (module.strip(".") or str(name)).partition(".")[0]  # `from . import x` is of no module
            path = source.path.resolve().with_name(f"{first}.py")
            if path not in known and path.is_file():
                known.add(path)
                found.append(Source(path))
                left.append(found[-1])
    return found
