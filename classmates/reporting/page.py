"""What every page shares: how templates are filled, and how a page gets to the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from classmates.errors import UserError
from classmates.runs.files import whole_file


def fill(template: str, **values: Any) -> str:
    """The page that ``template`` of this package makes of ``values``; everything put into it is escaped."""
    environment = Environment(
        loader=PackageLoader("classmates", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration}
    return environment.get_template(template).render(values)


def write(page: str, out: Path) -> None:
    """Either the whole page is there afterwards or what was there before.

    Raises:
        UserError: ``out`` cannot be written.
    """
    try:
        with whole_file(out) as path:
            path.write_text(page, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode
    except OSError as error:
        raise UserError(f"cannot write the report to {out}: {error.strerror}; give another file as `out`") from error


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
