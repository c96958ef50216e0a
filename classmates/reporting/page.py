"""Pages: how templates are filled, how values are written in them, and how a page gets to the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from classmates._files import whole_file
from classmates.errors import UserError
from classmates.runs.record import Kept
from classmates.tasks.protocol import Metric, MetricFormat

KEPT: Mapping[Kept, str] = {"last": "the last epoch", "best": "the epoch that was best on validation images"}
"""The epoch whose networks are scored and deployed, as pages name it."""


def fill(template: str, **values: Any) -> str:
    """Return the page that ``template`` of this package makes of ``values``; everything put into it is escaped."""
    environment = Environment(
        loader=PackageLoader("classmates", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "interval": interval, "percent": percent}
    environment.filters |= {"sentence": sentence, "shown": shown}
    return environment.get_template(template).render(values)


class CannotWrite(UserError):
    """A page cannot be written."""


def write(page: str, out: Path) -> None:
    """Write a page; either the whole of it is there afterwards or what was there before.

    Raises:
        CannotWrite: ``out`` cannot be written.
    """
    try:
        with whole_file(out) as path:
            path.write_text(page, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode
    except OSError as error:
        raise CannotWrite(f"cannot write the report to {out}: {error.strerror}") from error


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def percent(share: float, digits: int = 2) -> str:
    """Return a share in percent: ``98.75 %``."""
    return f"{100 * share:.{digits}f} %"


def shown(value: float, how: MetricFormat) -> str:
    """Return a metric's value as pages have it: ``98.75 %`` or ``0.053``."""
    return how.text(value).replace("%", " %")


def interval(metric: Metric, how: MetricFormat) -> str:
    """Return a metric's interval as pages have it, ``96.10 to 98.75 %``; empty without one."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{shown(metric.low, how).removesuffix(' %')} to {shown(metric.high, how)}"


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """Return a time as people say it: ``5.2 s``, ``2 min 5 s`` or ``1 h 1 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
