"""Python expressions of configuration values."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, cast

_WIDTH = 120


def given_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        held = getattr(value, field.name)
        if held != default or type(held) is not type(default):
            fields[field.name] = held
    return fields


def expression(value: Any, indent: int = 0, before: int = 0) -> str:
    """Return the Python expression of a value in a line with this indent and `before` characters in front; over several lines if long.

    Example:
        >>> from sgdr_jax.schedules import Sgdr
        >>> expression(Sgdr(cycles=3))
        'Sgdr(cycles=3)'
    """
    value = value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        head, parts, tail = f"{type(value).__name__}(", [(f"{name}=", item) for name, item in given_fields(value).items()], ")"
    elif isinstance(value, tuple):
        items = cast(tuple[Any, ...], value)
        head, parts, tail = "(", [("", item) for item in items], ",)" if len(items) == 1 else ")"
    elif isinstance(value, Path):
        return f"Path({_text(str(value))})"
    elif isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    else:
        return _text(value) if isinstance(value, str) else repr(value)
    one = head + ", ".join(name + expression(item) for name, item in parts) + tail
    if indent + before + len(one) <= _WIDTH and "\n" not in one:
        return one
    inner = " " * (indent + 4)
    lines = [f"{inner}{name}{expression(item, indent + 4, len(name))},\n" for name, item in parts]
    return f"{head}\n{''.join(lines)}{' ' * indent}{tail.lstrip(',')}"


def _text(value: str) -> str:
    """Return a string in double quotes where that needs no more escapes."""
    text = repr(value)
    return f'"{value}"' if text == f"'{value}'" and '"' not in value else text
