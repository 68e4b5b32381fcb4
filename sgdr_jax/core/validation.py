"""Checks of configuration values."""

from __future__ import annotations

import math

import numpy as np

from .errors import InputError
from .text import one_line


def require(ok: bool, field_name: str, value: object, fix: str) -> None:
    """Raise InputError "field is value; fix" unless `ok`."""
    if not ok:
        raise InputError(f"{field_name} is {shown(value, 200)}; {fix}")


def shown(value: object, most: int) -> str:
    """Return the repr of a value, cut to `most` characters.

    >>> shown("abcdefgh", 6)
    "'abcd…"
    """
    try:
        text = repr(value)
    except ValueError:  # of whole numbers with thousands of digits
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else text[: most - 1] + "…"


def finite(value: object) -> bool:
    """Return whether a value is a finite number; booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: object) -> bool:
    """Return whether a value is an integer, also one of NumPy; booleans are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_name(value: object) -> bool:
    """Return whether a value can name a folder, a job and a line of a log: a text without / and control characters.

    >>> is_name("Dog breeds"), is_name("a/b"), is_name("a\\nb"), is_name("")
    (True, False, False, False)
    """
    return isinstance(value, str) and bool(value) and "/" not in value and one_line(value) == value
