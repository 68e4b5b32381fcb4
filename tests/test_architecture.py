"""The shape of the package, read from its source: layers, one door per dependency, what imports without jax, what may run code."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sgdr_jax

ROOT = Path(sgdr_jax.__file__).parent
FILES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}

# A module imports from earlier lines only, or from its own folder.
LAYERS = (
    "types rng trees progress labels caches style",
    "examples significance snapshots spans first_tags",
    "config decode",
    "config_json",
    "search",
    "placement canvas sweep",
    "schedules augment models datasets metrics sampling torch_file state",
    "compilation hosts calibrate rescale",
    "preemption watch",
    "optim mesh pipeline weights checkpoint logbook lesson2 experiment_file",
    "bystander choices refit ledger store crew survey steps plan loop lr_finder precompute tta pretrained measure",
    "trials findings",
    "study",
    "feed report tables options compare launch",
    "engine charts parsing",
    "evaluate setting show familiar answers",
    "bn",
    "stage trained",
    "rehearsal ensemble pace",
    "memory",
    "outcome",
    "recipe",
    "workers",
    "commands",
    "session cli __init__",
    "__main__",
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}

# Dependency to the only files or folder that import it.
DOORS = {
    "optax": "optim",
    "flax": "models",
    "orbax": "checkpoint",
    "scipy": "significance augment/mix",
    "PIL": "decode",
    "pyarrow": "datasets/hugging_face",
    "matplotlib": "report style charts",
    "tensorflow_datasets": "datasets/tfds",
    "array_record": "datasets/tfds",
    "safetensors": "pretrained",
    "huggingface_hub": "weights",
    "tyro": "options parsing launch",
    "submitit": "launch/slurm",
    "yaml": "launch/kubernetes",
    "optuna": "store study",
    "cmaes": "study",
    "sqlalchemy": "store",
    "filelock": "store",
    "pickle": "torch_file",
    "tensorflow": None,
    "torch": None,
    "marshal": None,
    "shelve": None,
    "dill": None,
    "cloudpickle": None,
}

# What works before jax is imported: configuration, plans, and everything that only reads run folders.
WITHOUT_JAX = """__init__ types progress labels caches style examples significance snapshots config config_json weights decode
    placement canvas lesson2 choices refit sampling pipeline survey spans plan report compare findings charts answers logbook tables
    options parsing cli experiment_file sweep ledger store crew launch commands schedules augment models datasets metrics calibrate
    rescale
    search
    trials
    study"""
NEEDS_JAX = {
    "augment/kernel",
    "augment/resampling",
    "augment/gather_free",
    "models/chain",
    "models/head",
    "models/layers",
    "models/cpu",
    "models/shifts",
    "models/winograd",
    "models/blocks",
    "models/precision",
}


def nodes(name: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8")))


def unit(name: str) -> str:
    """What the table of layers lists: a file, or the folder it is in."""
    return name.split("/")[0]


def imports(name: str) -> Iterator[str]:
    """Dotted names of everything a module imports, wherever in the file; of the package itself as a path below it, after a "."."""
    package = name.split("/")[:-1]
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ([node.module] if node.module != "sgdr_jax" else (f"sgdr_jax.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *((node.module or "").split(".") if node.module else [])]
            yield from ["." + base[0]] if base else ["." + alias.name for alias in node.names]


@pytest.mark.parametrize("name", FILES)
def test_layers_and_doors(name: str) -> None:
    own = unit(name)
    assert own in LEVEL, f"{name}.py is in no layer: add it to the table LAYERS of this test"
    for imported in imports(name):
        top = imported.split(".")[0]
        assert top != "sgdr_jax", f"{name}.py imports {imported}: inside the package imports are relative"
        if not top:
            other = imported[1:]
            assert other in LEVEL, f"{name}.py imports .{other}, which is in no layer: add it to the table LAYERS of this test"
            assert other == own or LEVEL[other] < LEVEL[own], f"{name}.py imports .{other}, which is not in an earlier layer"
        elif top in DOORS:
            allowed = (DOORS[top] or "").split()
            assert name in allowed or own in allowed, f"{name}.py imports {top}: only {DOORS[top] or 'nobody'} does"


def test_what_plans_and_reports_does_not_import_jax() -> None:
    names = [name for name in FILES if unit(name) in WITHOUT_JAX.split() and name not in NEEDS_JAX]
    modules = ["sgdr_jax" + ("." + name.removesuffix("__init__").strip("/").replace("/", ".")).rstrip(".") for name in names]
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    heavy = ("jax", "flax", "orbax", "optax", "matplotlib", "tensorflow_datasets", "submitit", "yaml", "optuna", "sqlalchemy", "cmaes")
    found = [m for m in heavy if m in sys.modules]
    assert not found, f"{name} imports {found}"
"""
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", FILES)
def test_nothing_runs_code_that_it_is_given(name: str) -> None:
    for node in nodes(name):
        called = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert called not in ("eval", "exec", "compile", "__import__"), f"{name}.py line {node.lineno} calls {called}"
        if called in ("import_module", "spec_from_file_location", "exec_module", "run_path"):
            assert name == "experiment_file", f"{name}.py line {node.lineno} calls {called}: only experiment_file does"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False, f"{name}.py reads pickles"


@pytest.mark.parametrize("name", FILES)
def test_sizes_and_docstrings(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= 400, f"{name}.py has over 400 lines: it is two things"
    assert not tree.body or ast.get_docstring(tree), f"{name}.py does not say what it is for"
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in functions:
        lines = (node.end_lineno or 0) - node.lineno + 1
        assert lines <= 80, f"{name}.py: {node.name} has {lines} lines, over 80: it is two things"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.py: {node.name} has no docstring"
        # A method of a subclass does what the base class says, so only classes of their own have to say it.
        if isinstance(node, ast.ClassDef) and not node.bases and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    assert ast.get_docstring(method), f"{name}.py: {node.name}.{method.name} has no docstring"
