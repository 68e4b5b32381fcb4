"""The shape of the package, read from its source: rooms, one door per dependency, what imports without jax, what may run code."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sgdr_jax

ROOT, TESTS = Path(sgdr_jax.__file__).parent, Path(__file__).parent
FILES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}

# A room imports only from those before it; the modules beside the rooms (the facade, `python -m`) from all.
ROOMS = "core schedules augment datasets models distributed data evaluation train runs recipes report sweeps cli".split()  # noqa: SIM905

# Dependency to the only files or folders that import it.
DOORS = {
    "optax": "core/optimizers train/optim",
    "flax": "models",
    "orbax": "runs/checkpoint",
    "scipy": "augment/mix evaluation/intervals sweeps/analysis/significance",
    "PIL": "data/decode data/square data/thumbnails",
    "pillow_heif": "data/decode",
    "jinja2": "report/html",
    "simplejpeg": "data/image_integrity",
    "pyarrow": "datasets/hugging_face",
    "matplotlib": "report sweeps/analysis/plots",
    "tensorflow_datasets": "datasets/tfds",
    "array_record": "datasets/tfds",
    "safetensors": "models/pretrained/read models/pretrained/save",
    "jax2onnx": "runs/export/onnx",
    "onnxruntime": "runs/export/onnx",
    "huggingface_hub": "models/pretrained/locate runs/export/hub",
    "tyro": "cli",
    "submitit": "cli/launch/slurm",
    "yaml": "cli/launch/kubernetes cli/launch/skypilot",
    "optuna": "sweeps/shared_queue sweeps/optuna_storage sweeps/optuna_study",
    "cmaes": "sweeps/optuna_study",
    "sqlalchemy": "sweeps/optuna_storage",
    "filelock": "runs/folder data/image_cache sweeps/shared_queue",
    "psutil": "core/machine",
    "tensorboardX": "runs/trackers/tensorboard",
    "wandb": "runs/trackers/wandb",
    "mlflow": "runs/trackers/mlflow",
    "pickle": None,
    "tensorflow": None,
    "torch": None,
    "marshal": None,
    "shelve": None,
    "dill": None,
    "cloudpickle": None,
}

# What needs jax to import; everything else (configuration, plans, what reads run folders) works without it.
NEEDS_JAX = """core/rng augment/kernel augment/resampling augment/gather_free models/chain models/head models/layers models/cpu
    models/gpu models/pallas_depthwise models/shifts models/winograd models/blocks models/precision models/summary models/pretrained/load
    models/attention models/position_embedding models/tokens models/window_attention
    distributed/backend distributed/compilation_cache distributed/hosts distributed/memory distributed/mesh distributed/preemption
    distributed/self_test data/loader evaluation/evaluate
    evaluation/grad_cam evaluation/tta train runs recipes/domain_similarity recipes/probe recipes/timing
    report/batch_preview sweeps/runner"""
# Test file to the modules that it tests besides the one whose name it bears; names without a folder lie in the same one.
ALSO_TESTS = {
    "augment/test_augmentations": "affine arithmetic checks colour crop curves elastic erase pixels symmetries warp",
    "augment/test_kernel": "choice lighting policies presets",
    "augment/test_resampling": "gather_free plain",
    "cli/test_experiment_source": "core/expression",
    "cli/commands/test_clean": "runs/out_of_fold",
    "cli/commands/test_predict": "cli/predictions",
    "cli/commands/test_launch": "cli/launch/job",
    "data/test_summary": "cli/commands/data",
    "datasets/test_csv_labels": "table_columns table_images",
    "datasets/test_tfds": "cli/commands/prepare",
    "core/test_experiment": "errors learning_rates optimizers types validation",
    "core/test_plan": "lengths",
    "cli/commands/test_report": "report/write_page",
    "data/test_decode": "square",
    "data/test_image_cache": "pixels placement",
    "datasets/test_image_folder": "files",
    "datasets/test_derived_sets": "fold mix part train_and_valid",
    "distributed/test_allocator": "backend",
    "distributed/test_hosts": "runs/null_folder cli/commands/train",
    "models/test_layers": "cpu precision shifts winograd",
    "models/test_models": "base blocks chain head inverted_residual",
    "models/test_parity": "convnext densenet efficientnet efficientnet_lite mobilenet resnet vgg wide_resnet",
    "models/test_swin": "window_attention",
    "models/test_vit": "attention position_embedding tokens",
    "models/pretrained/test_load": "read torch_pickle",
    "recipes/test_auto": "timing cli/commands/new",
    "recipes/test_fine_tune": "measured",
    "recipes/test_probe": "cli/commands/probe",
    "report/test_charts": "run_charts",
    "report/test_run_page": "html",
    "report/test_run_plots": "run_curves style",
    "runs/test_ensemble": "snapshots core/snapshots",
    "runs/test_kept_runs": "core/first_tags core/paths",
    "test_session": "runs/fitting",
    "runs/export/test_write": "network onnx stablehlo timm models/pretrained/save",
    "runs/test_compile_ahead": "train/programs",
    "runs/test_folder": "environment records",
    "runs/trackers/test_tracking": "mlflow tensorboard wandb",
    "runs/test_run": "finalize predictor recorder refit resume recipes/lesson2 train/context train/find_lr train/stage train/stage_inputs",
    "schedules/test_schedules": "combined constant cosine first_cycles one_cycle plateau polynomial sgdr step_decay",
    "sweeps/test_runner": "local_queue options run_status",
    "sweeps/analysis/test_compare": "run_results",
    "sweeps/analysis/test_render": "tables cli/commands/compare",
    "train/test_loop": "loss_log model_selection",
    "train/test_lr_range_test": "lr_curve",
    "train/test_solve_head": "core/solve",
    "train/test_steps": "core/state span",
}
HEAVY = (
    "jax",
    "flax",
    "orbax",
    "optax",
    "matplotlib",
    "tensorflow_datasets",
    "submitit",
    "yaml",
    "optuna",
    "sqlalchemy",
    "cmaes",
    "jinja2",
    "tensorboardX",
    "wandb",
    "mlflow",
)


def nodes(name: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8")))


def room(name: str) -> str:
    """The folder below the package that a module lies in; "" for the modules beside the rooms."""
    return name.partition("/")[0] if "/" in name else ""


def within(name: str, places: str) -> bool:
    """Whether a module is, or lies in, one of several places."""
    return any(name == place or name.startswith(place + "/") for place in places.split())


def imports(name: str) -> Iterator[str]:
    """What a module imports, wherever in the file: modules of the package as "./core/types", others by their dotted names."""
    package = name.split("/")[:-1]
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *((node.module or "").split(".") if node.module else [])]
            for alias in node.names:
                inner, outer = "/".join([*base, alias.name]), "/".join(base)
                options = (inner, f"{inner}/__init__", outer, f"{outer}/__init__".lstrip("/"))
                yield "./" + next(option for option in options if option in FILES)


@pytest.mark.parametrize("name", FILES)
def test_rooms_import_downwards_and_dependencies_have_one_door(name: str) -> None:
    for imported in imports(name):
        top = imported.split(".")[0]
        assert top != "sgdr_jax", f"{name}.py imports {imported}: inside the package imports are relative"
        if imported.startswith("./"):
            mine, other = room(name), room(imported[2:])
            if mine and mine != other:
                assert other in ROOMS, f"{name}.py imports {imported[2:]}, which lies in no room"
                assert ROOMS.index(other) < ROOMS.index(mine), f"{name}.py imports {imported[2:]}: {mine} may not import from {other}"
        elif top in DOORS:
            assert within(name, DOORS[top] or ""), f"{name}.py imports {top}: only {DOORS[top] or 'nobody'} does"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: {found[2:] for found in imports(name) if found.startswith("./")} - {name} for name in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_root_holds_rooms_and_little_else() -> None:
    assert {room(name) for name in FILES} - {""} == set(ROOMS)
    assert len([name for name in FILES if "/" not in name]) <= 3 and len(ROOMS) <= 14


def test_what_plans_and_reports_does_not_import_jax() -> None:
    names = [name for name in FILES if not within(name, NEEDS_JAX) and name != "__main__"]
    modules = ["sgdr_jax" + ("." + name.removesuffix("__init__").strip("/").replace("/", ".")).rstrip(".") for name in names]
    code = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    found = [m for m in {HEAVY} if m in sys.modules]
    assert not found, f"{{name}} imports {{found}}"
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
            names = called == "import_module" and name in ("__init__", "cli/commands/__init__")  # of modules of the package
            assert names or name == "cli/experiment_file", f"{name}.py line {node.lineno} calls {called}: only cli/experiment_file does"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False, f"{name}.py reads pickles"


# What only one command calls, whose messages name its options.
OF_A_COMMAND = "cli sweeps report/suspects recipes/probe runs/out_of_fold"


@pytest.mark.parametrize("name", [name for name in FILES if not within(name, OF_A_COMMAND)])
def test_messages_of_what_python_calls_name_arguments_and_no_options(name: str) -> None:
    for node in nodes(name):
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and called in ("require", "InputError"):
            named = ast.unparse(node.args[called == "require"]).lstrip("f'\"")
            assert not named.startswith("--"), f"{name}.py line {node.lineno} says {named}: name the argument"


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
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        count = len([a for a in parameters if a and a.arg not in ("self", "cls")])
        assert count <= 8, f"{name}.py: {node.name} has {count} parameters, over 8: some belong together"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.py: {node.name} has no docstring"
        # A method of a subclass does what the base class says, so only classes of their own have to say it.
        if isinstance(node, ast.ClassDef) and not node.bases and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    assert ast.get_docstring(method), f"{name}.py: {node.name}.{method.name} has no docstring"


def listed(file: str) -> list[str]:
    """Modules that `ALSO_TESTS` lists under a test file."""
    folder = file.rpartition("/")[0]
    return [name if name in FILES else f"{folder}/{name}" for name in ALSO_TESTS[file].split()]


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(("__init__", "__main__"))])
def test_every_module_has_a_test_file(name: str) -> None:
    folder, _, base = name.rpartition("/")
    own = f"{folder}/test_{base}".lstrip("/")
    files = [file for file in (own, *(file for file in ALSO_TESTS if name in listed(file))) if (TESTS / f"{file}.py").exists()]
    assert files, f"{name}.py has no tests/{own}.py; write it, or list in ALSO_TESTS the file that tests it"


@pytest.mark.parametrize("file", ALSO_TESTS)
def test_the_list_of_tests_has_only_what_there_is(file: str) -> None:
    assert (TESTS / f"{file}.py").exists(), f"ALSO_TESTS lists tests/{file}.py, which does not exist"
    assert set(listed(file)) <= FILES.keys(), f"ALSO_TESTS lists {set(listed(file)) - FILES.keys()}, which do not exist"
