"""Errors that the command line reports in one line, and helpers to word them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a person: one line that names the field, the value and the fix. Commands print it and exit with code 2."""


def did_you_mean(word: str, names: Iterable[str], most: int = 3) -> str:
    """What somebody may have meant who wrote a name that there is not, case apart; "" where nothing is near.

    >>> did_you_mean("resnt34", ["VGG16", "ResNet34", "ResNet50"], 1)
    'did you mean ResNet34? '
    """
    known = {name.lower(): name for name in names}
    near = [known[name] for name in difflib.get_close_matches(word.lower(), known, most)]
    return f"did you mean {' or '.join(near)}? " if near else ""


def without_password(text: str) -> str:
    """A text in which the passwords of URLs are stars.

    >>> without_password("postgresql://me:secret@host/base")
    'postgresql://me:***@host/base'
    """
    return re.sub(r"(://[^:/@\s]*:)[^\s]*@", r"\1***@", text)


class Preempted(Exception):
    """A run that was told to make room has saved and ends; the same command goes on from there. The process ends with `code`."""

    code = 75
    """EX_TEMPFAIL of sysexits.h: a failure that passes, try again."""


class InUse(InputError):
    """Another process has the run folder."""


class Diverged(InputError):
    """The training loss is no longer a number."""


class Pruned(Exception):
    """A run is ended at a cycle's end, because others do better."""
