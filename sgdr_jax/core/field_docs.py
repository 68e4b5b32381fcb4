"""The docstring of a dataclass with those of its fields, which Python itself drops: for `help(Stage)`, and `Stage?` in a notebook."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import tokenize
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

HEADING = "Attributes:"
"""Heading of the section of fields, which is the last one."""


class FieldDocs:
    """Docstring of a class that goes on with a section of its fields, read from the source when somebody asks for it.

    Source: the descriptor protocol; `type.__doc__` calls `__get__` of what a class has under that name.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __get__(self, instance: object, kind: type) -> str:
        # `dataclass` asks whether there is a docstring, at import, before it adds __match_args__.
        complete = {"__dataclass_fields__", "__match_args__"} <= vars(kind).keys()
        return with_fields(kind, self.text) if complete else self.text


class Documented:
    """Base class of dataclasses whose docstrings go on with those of their fields."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if isinstance(text := vars(cls).get("__doc__"), str):
            cls.__doc__ = cast("str", FieldDocs(text))


@functools.cache
def with_fields(kind: Any, text: str) -> str:
    """Return the docstring of a dataclass, followed by those of its fields; those of one paragraph are wrapped to 100 columns."""
    docs = {name: doc for base in reversed(kind.__mro__) for name, doc in field_docs(base).items()}
    entries = [_entry(field.name, docs[field.name]) for field in dataclasses.fields(kind) if field.name in docs]
    return "\n".join([inspect.cleandoc(text), "", HEADING, *entries]) if entries else text


def _entry(name: str, doc: str) -> str:
    entry = f"{name}: {doc}"
    if "\n\n" in doc:
        return textwrap.indent(entry, " " * 8)[4:]
    wrap = textwrap.TextWrapper(
        width=100, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False, break_long_words=False
    )
    return wrap.fill(entry)


def field_docs(kind: type) -> Mapping[str, str]:
    """Return the docstrings below the fields of a class, of its own alone; {} where its source is not at hand.

    >>> from sgdr_jax import Sgdr
    >>> field_docs(Sgdr)["cycles"]
    'Number of cycles, at least 1.'
    """
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError, ValueError, tokenize.TokenError):
        return {}
    if not isinstance(node, ast.ClassDef) or node.name != kind.__name__:  # the file has changed since it was imported
        return {}
    found = dict[str, str]()
    for field, below in pairwise(node.body):
        doc = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, str):
            found[field.target.id] = inspect.cleandoc(doc)
    return found
