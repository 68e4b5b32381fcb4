"""Errors that the command line reports in one line, and helpers to word them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Invalid input, in one line that names field, value and fix. Commands print it and exit with code 2."""


def did_you_mean(word: str, names: Iterable[str], most: int = 3) -> str:
    """Suggest known names similar to an unknown one, ignoring case; "" if there are none.

    Args:
        word: unknown name.
        names: known names.
        most: largest number of suggestions.

    Example:
        >>> did_you_mean("resnt34", ["VGG16", "ResNet34", "ResNet50"], 1)
        'did you mean ResNet34? '
    """
    known = {name.lower(): name for name in names}
    near = [known[name] for name in difflib.get_close_matches(word.lower(), known, most)]
    return f"did you mean {' or '.join(near)}? " if near else ""


def without_password(text: str) -> str:
    """Replace the passwords of URLs in a text by stars.

    Example:
        >>> without_password("postgresql://me:secret@host/base")
        'postgresql://me:***@host/base'
    """
    return re.sub(r"(://[^:/@\s]*:)[^\s]*@", r"\1***@", text)


class Preempted(Exception):
    """A preempted run has saved its state and ends with exit code `code`; the same command with --resume continues it."""

    code = 75
    """EX_TEMPFAIL of sysexits.h: temporary failure, try again."""


class InUse(InputError):
    """Another process uses the run folder."""


class ImagesChanged(InputError):
    """The images are not those that the other runs of a sweep have."""


class Diverged(InputError):
    """The training loss is not finite."""


class Pruned(Exception):
    """A run is stopped at a cycle's end because others are better."""
