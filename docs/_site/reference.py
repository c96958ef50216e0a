"""Directives for what is listed nowhere by hand: every command, every method, every module of losses."""

import io
import pkgutil
from contextlib import redirect_stdout

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from classmates import catalog, cli, losses


def printed(*typed: str) -> str:
    """Return what a command prints."""
    with redirect_stdout(io.StringIO()) as out:
        cli.main(typed)
    return out.getvalue().rstrip()


class Sections(SphinxDirective):
    """Sections with a title each, in the order of :meth:`found`."""

    def run(self) -> list[nodes.Node]:
        return [
            nodes.section("", nodes.title(text=title), *content, ids=[nodes.make_id(title)], names=[title])
            for title, content in self.found()
        ]

    def documented(self, *directives: str) -> list[nodes.Node]:
        """Return what autodoc makes of reStructuredText."""
        text = "\n".join(["```{eval-rst}", *directives, "```"])
        return self.parse_text_to_nodes(text)


class Commands(Sections):
    """The help of every command."""

    def found(self):
        for name in cli.COMMANDS:
            text = printed(name, "--help")
            yield f"classmates {name}", [nodes.literal_block(text, text, language="text")]


class Methods(Sections):
    """Every method, by what its student learns from."""

    def found(self):
        methods = catalog.methods()
        for group, title in catalog.GROUPS.items():
            members = [name for name, kind in methods.items() if kind.about.group == group]
            yield title, self.documented(*(f".. autoclass:: classmates.methods.{name}" for name in members))


class Losses(Sections):
    """Every module of losses."""

    def found(self):
        for module in pkgutil.iter_modules(losses.__path__):
            name = f"{losses.__name__}.{module.name}"
            yield module.name, self.documented(f".. automodule:: {name}", "   :members:")


def setup(app: Sphinx) -> dict[str, bool]:
    for name, directive in (("commands", Commands), ("methods", Methods), ("losses", Losses)):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
