"""What `import sgdr_jax` offers: lazily, without jax, and under names that hide no module."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sgdr_jax

ROOT = Path(sgdr_jax.__file__).parent
PACKAGES = sorted(path.parent.relative_to(ROOT.parent).as_posix().replace("/", ".") for path in ROOT.rglob("__init__.py"))


def in_a_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent).stdout


def test_the_import_loads_no_module_of_the_package() -> None:
    loaded = in_a_fresh_process(
        "import sys, sgdr_jax; print([m for m in sys.modules if m.startswith('sgdr_jax.') or m in ('jax', 'numpy')])"
    )
    assert loaded.strip() == "[]"


def test_what_experiment_files_need_does_not_load_jax() -> None:
    names = ", ".join(name for name in sgdr_jax.__all__ if name != "run")
    assert in_a_fresh_process(f"import sys; from sgdr_jax import {names}; print('jax' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("name", sgdr_jax.__all__)
def test_every_name_resolves_and_is_listed(name: str) -> None:
    value = getattr(sgdr_jax, name)
    assert name in dir(sgdr_jax) and getattr(value, "__name__", name).rpartition(".")[2] == name


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="module 'sgdr_jax' has no attribute 'Sdgr'"):
        sgdr_jax.Sdgr  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_type_checkers_see_every_name() -> None:
    tree = ast.parse(Path(sgdr_jax.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(seen) == set(sgdr_jax.__all__) and seen == {name: sgdr_jax._HOME.get(name) for name in seen}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_of_a_package_hides_a_module(package: str) -> None:
    module = importlib.import_module(package)
    folder = Path(module.__file__ or "").parent
    inner = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    public = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    for name in inner & set(public):
        assert getattr(module, name) is importlib.import_module(f"{package}.{name}"), f"{package}.{name} is not the module {name}"
