"""Conventions of the public classes that experiments are made of: frozen, stored as JSON, documented with formula or source and example."""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap

import pytest

from sgdr_jax import augment, datasets, models, schedules
from sgdr_jax.core.field_docs import FieldDocs
from sgdr_jax.core.serialization import from_json, to_json

ROOMS = (augment, datasets, models, schedules)
CLASSES = [kind for room in ROOMS for name in room.__all__ if isinstance(kind := getattr(room, name), type)]

# Arguments of classes whose fields have no defaults.
ARGUMENTS = {"AugMix": ((augment.Rotate(), augment.Posterize()),), "OneOf": ((augment.Flip(), (augment.Blur(), augment.Noise())),)}

FORMULA_OR_SOURCE = re.compile(r"←| = |\bSource: ")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_is_frozen_and_survives_json(kind: type) -> None:
    value = kind(*ARGUMENTS.get(kind.__name__, ()))
    assert dataclasses.is_dataclass(value)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert from_json(to_json(value)) == value
    assert hash(value) == hash(from_json(to_json(value)))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_docstring_has_a_formula_or_source_and_an_example(kind: type) -> None:
    """Both are in the class's docstring, or in that of its module where it documents a family."""
    own, family = vars(kind).get("__doc__") or "", sys.modules[kind.__module__].__doc__ or ""
    own = own.text if isinstance(own, FieldDocs) else own
    assert own and not own.startswith(f"{kind.__name__}("), "the class has no docstring"
    text = f"{own}\n{family}"
    assert FORMULA_OR_SOURCE.search(re.sub(r"(>>>|\.\.\.) .*", "", text)), "no formula (x ← … or y = …) and no line `Source: …`"
    assert ">>> " in text, "no example (>>> …)"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring(kind: type) -> None:
    """The string after a field is its help on the command line."""
    for base in kind.__mro__:
        if base.__module__.startswith("sgdr_jax."):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
                if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
                    documented = (
                        isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
                    )
                    assert documented, f"{base.__name__}.{ast.unparse(node.target)} has no docstring"
