"""How results are shown: whole as text, in a line where Python represents them, and whole in a notebook."""

from __future__ import annotations

from html import escape


class Shown:
    """A result whose ``str`` is what there is to read of it."""

    @property
    def headline(self) -> str:
        """What it amounts to, in a line."""
        return next(iter(str(self).splitlines()), "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"

    def _repr_html_(self) -> str:
        """Return it as notebooks show it, on web pages of them too."""
        return f"<pre>{escape(str(self))}</pre>"
