"""Settings as plain values, which YAML and JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from classmates._names import in_unicode


def in_unicode_throughout(value: Any) -> Any:
    """Return plain values with every text, names too, as ``in_unicode`` writes it."""
    if isinstance(value, Mapping):
        return {in_unicode_throughout(key): in_unicode_throughout(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_unicode_throughout(item) for item in value]
    return in_unicode(value) if isinstance(value, str) else value


def plain_value(value: Any) -> Any:
    """Return a value as YAML can hold it; an object of another kind becomes its type's name in brackets."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}  # without a copy of what it holds
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):  # np.float64 is a float, and nothing that YAML can hold
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = type(value)
    return (
        f"<{kind.__qualname__}>"
        if isinstance(value, nn.Module)
        else f"<{kind.__module__}.{kind.__qualname__} object>"
    )


def texts(value: Any) -> Iterator[str]:
    """Yield every text among nested plain values."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value
