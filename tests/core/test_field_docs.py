"""Docstrings of fields, as Python's own help shows them."""

import dataclasses
import importlib
import io
import pydoc
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from sgdr_jax import Session, Stage, sweeps
from sgdr_jax.core.field_docs import HEADING, field_docs
from sgdr_jax.core.kinds import Config

from .test_kinds import KINDS

SWEEPS = [kind for name in sweeps.__all__ if isinstance(kind := getattr(sweeps, name), type)]


@dataclasses.dataclass(frozen=True)
class Part(Config):
    """A part.

    Example:
        >>> Part(2).size
        2
    """

    size: int = 1
    """Side in pixels:
    of a square."""
    bare: int = 0
    name: str = ""
    """Whatever it is called."""

    def __post_init__(self) -> None:
        """Not a field."""


@dataclasses.dataclass(frozen=True)
class Longer(Part):
    """A longer part."""

    name: str = "x"
    """Replaces the other."""
    more: float = dataclasses.field(default=0.5, kw_only=True)
    """A share, and """ + "no docstring: an expression"  # noqa: B018


@dataclasses.dataclass(frozen=True)
class Wordy(Config):
    """A part."""

    plain: int = 0
    """One that is long enough to be broken where it should not be, in the midst of the option --no-keep-best-of-all."""
    list: int = 0
    """Either

    * one
    * or the other.
    """


def test_a_docstring_goes_on_with_those_of_the_fields() -> None:
    own = f"A part.\n\nExample:\n    >>> Part(2).size\n    2\n\n{HEADING}\n"
    assert Part.__doc__ == own + "    size: Side in pixels: of a square.\n    name: Whatever it is called."
    assert Part().__doc__ == Part.__doc__


def test_inherited_fields_are_described_in_the_order_of_the_arguments() -> None:
    assert (Longer.__doc__ or "").splitlines()[2:] == [HEADING, "    size: Side in pixels: of a square.", "    name: Replaces the other."]


@pytest.mark.parametrize("kind", [*KINDS, *SWEEPS, Session], ids=lambda kind: kind.__name__)
def test_python_helps_with_every_field_of_what_the_package_offers(kind: type) -> None:
    with redirect_stdout(io.StringIO()) as out:
        pydoc.help(kind)
    text = " ".join(out.getvalue().replace(" |  ", " ").split())
    for name in (field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")):
        doc = next(docs[name] for base in kind.__mro__ if name in (docs := field_docs(base)))
        assert " ".join(f" {name}: {doc}".split()) in text


def test_words_stay_whole_and_paragraphs_apart() -> None:
    """A line that ended in a hyphen, or within an address, became two words in the help of the command line."""
    head, *lines = (Wordy.__doc__ or "").split(f"{HEADING}\n")[1].splitlines()
    assert head == "    plain: One that is long enough to be broken where it should not be, in the midst of the option"
    assert lines[0] == "        --no-keep-best-of-all."
    assert lines[1:] == ["    list: Either", "", "        * one", "        * or the other."]


def test_a_class_without_source_keeps_its_docstring() -> None:
    scope = {"__name__": "nowhere", "Config": Config, "dataclasses": dataclasses}
    exec('@dataclasses.dataclass\nclass Made(Config):\n    """Made."""\n    x: int = 1\n    """Lost."""', scope)
    assert scope["Made"].__doc__ == "Made."


def test_a_source_that_has_changed_since_the_import_describes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of another class, or a traceback in place of help."""
    head = "import dataclasses\nfrom sgdr_jax.core.kinds import Config\n@dataclasses.dataclass\n"
    part = head + 'class {}(Config):\n    """A part."""\n    x: int = 1\n    """Of {}."""\n'
    monkeypatch.syspath_prepend(tmp_path)
    same, other = part.format("A", "A") + "\n", part.format("B", "B")
    for name, later, shown in [("same", same, True), ("other", other, False), ("broken", "\n\nx = '''\n", False)]:
        file = tmp_path / f"changed_{name}.py"
        file.write_text(part.format("A", "A"))
        kind = importlib.import_module(file.stem).A
        file.write_text(later)
        assert kind.__doc__ == "A part." + f"\n\n{HEADING}\n    x: Of A." * shown


def test_a_class_that_is_no_dataclass_keeps_its_docstring() -> None:
    class Plain(Config):
        """Plain."""

        __match_args__ = ("x",)

    assert Plain.__doc__ == "Plain."


def test_importing_the_package_reads_no_source() -> None:
    code = (
        "import sgdr_jax, sgdr_jax.augment, sgdr_jax.datasets, sgdr_jax.models, sgdr_jax.schedules\n"
        "from sgdr_jax.core.field_docs import with_fields\n"
        "print(with_fields.cache_info().misses, 'size: Side' in sgdr_jax.Stage.__doc__, with_fields.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "1"]


def test_the_first_line_stays_first() -> None:
    assert (Stage.__doc__ or "").startswith("One fit: what trains")
