"""Code that results depend on: a change in any of it shows, wherever it is; one of comments or layout does not."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.augment import Flip, Rotate
from sgdr_jax.augment.choice import Slot
from sgdr_jax.train.code_digest import code_only, own_code


def test_comments_docstrings_and_layout_are_no_part_of_the_code() -> None:
    code = "def f(x):\n    return x * 2\n"
    for same in (
        '"""Doubles."""\n' + code,
        "# fast\n" + code,
        'def f(x):\n    """Return the double."""\n    return (x\n     * 2)  # two',
        'def f(x):\n    "Field."\n    return x * 2',
    ):
        assert code_only(same) == code_only(code)
    for other in ("def f(x):\n    return x * 3\n", "def f(y):\n    return y * 2\n", 'def f(x):\n    "Field."\n', code + code):
        assert code_only(other) != code_only(code)


FILES = {
    "own_dim.py": """
from dataclasses import dataclass
import math, numpy
import this  # the user's, which hides Python's
from own_shades import dark
from own_shades.parts.deep import *
from sgdr_jax.augment import Rotate

@dataclass(frozen=True)
class Dim(Rotate):
    def pixels(self, u, s, image):
        import own_late.inner
        return own_late.inner.f(dark.f(image))
""",
    "this.py": "ONE = 1",
    "own_shades/__init__.py": "from .light import pale",
    "own_shades/light.py": "from . import grey\npale = 1",
    "own_shades/grey.py": "LEVEL = 1",
    "own_shades/dark.py": "def f(x):\n    import own_shades.night as n\n    return n.g(x)",
    "own_shades/night.py": "def g(x):\n    return 2 * x",
    "own_shades/parts/deep.py": "from ..grey import LEVEL",
    "own_late/__init__.py": "raise RuntimeError('loaded only to look at it')",
    "own_late/inner.py": "def f(x):\n    return x + 1",
    "own_alone.py": "NOT = 'imported'",
}


@pytest.fixture
def dim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """An augmentation whose module imports others, in files that were written before this process began."""
    for name in FILES:
        write(tmp_path, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("own_dim").Dim
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_dim", "this", "own_shades", "own_late")]:
        del sys.modules[name]


def write(folder: Path, name: str, more: str = "") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(FILES[name] + "\n" + more)
    os.utime(file, (1000, 1000))


@pytest.mark.parametrize("name", FILES)
def test_a_change_shows_in_whatever_module_it_is_but_not_in_one_that_is_not_imported(name: str, dim: type, tmp_path: Path) -> None:
    before = own_code([(dim(5),)])
    assert before and len(before) > 8
    write(tmp_path, name, "# a remark")
    assert own_code([(dim(5),)]) == before
    write(tmp_path, name, "MORE = 1")
    assert (own_code([(dim(5),)]) == before) is (name == "own_alone.py")
    os.utime(tmp_path / name)  # edited while the process runs
    assert (own_code([(dim(5),)]) is None) is (name != "own_alone.py")
    assert "own_late" not in sys.modules


def test_of_a_library_the_version_counts(dim: type, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_code([dim(5)])
    assert before and f"numpy {np.__version__}" in before
    assert not any(line.startswith(("sgdr_jax", "math", "dataclasses")) for line in before)
    monkeypatch.setattr(np, "__version__", "0.0.1")
    assert own_code([dim(5)]) != before


def test_the_packages_own_values_have_no_code_of_others() -> None:
    assert own_code([Rotate(5), (Flip(), [Slot((None, Rotate(5)), 0, 1)])]) == []
