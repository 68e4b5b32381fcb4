"""README and docs: their programs run, and every command, option, file and link that they name exists."""

import ast
import contextlib
import csv
import dataclasses
import functools
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
from PIL import Image

import sgdr_jax
from sgdr_jax import Experiment, load
from sgdr_jax.cli.commands import find_command, names
from sgdr_jax.cli.launch import TARGETS
from sgdr_jax.cli.main import main
from sgdr_jax.cli.options import ExperimentCommand
from sgdr_jax.datasets.detect import KINDS
from sgdr_jax.models import ResNet18
from sgdr_jax.runs import records
from sgdr_jax.runs.folder import read

from .helpers import Tiny, same_bits

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
NOTEBOOKS = [name for name, text in PAGES.items() if "file_format: mystnb" in text]
FEATURES = "docs/explanation/features.md"
EXPORT = "docs/guides/export.md"
FIRST = "docs/tutorials/notebook.md"
SLOW = [f"docs/tutorials/{name}.md" for name in ("ablation", "cluster", "lesson2")]
FENCE = re.compile(r"^```(\S[^\n]*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"--[a-z][\w.-]*")
EXPERIMENT = ROOT / "experiments" / "dog_breeds.py"
SWEEP = ROOT / "experiments" / "ablations" / "schedule.py"


def blocks(name: str, language: str) -> list[str]:
    """Return the contents of the code blocks of a page in one language."""
    return [body for kind, body in FENCE.findall(PAGES[name]) if kind.strip() == language]


def cells(name: str) -> list[str]:
    """Code cells of a notebook, without their tags."""
    return [re.sub(r"\A(:.*\n)+\n*", "", body) for body in blocks(name, "{code-cell} python")]


def inline(name: str) -> list[str]:
    """Code spans in the text of a page."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", PAGES[name]))


def command_lines(name: str) -> list[list[str]]:
    """Every `sgdr-jax …` of a page's shell blocks, cells and code spans, as words without comments."""
    shell = [*blocks(name, "sh"), *(cell.partition("\n")[2] for cell in cells(name) if cell.startswith("%%bash"))]
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()] + inline(name)
    return [line.partition(" #")[0].split()[1:] for line in lines if line.startswith("sgdr-jax ")]


@functools.cache
def options(*words: str) -> frozenset[str]:
    """Options that the help of a command lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code in (0, None)
    return frozenset(OPTION.findall(text.getvalue())) | {"--help"}


def known_options(words: list[str]) -> frozenset[str]:
    """Options that a command line may have."""
    command = words[0]
    assert command in names(), f"sgdr-jax {command}: no such command"
    if command == "launch":
        targets = [word for word in words[1:2] if word in TARGETS]
        return options("train", str(EXPERIMENT)) | (options("launch", *targets) if targets else frozenset())
    if command == "sweep":
        return options("sweep", str(SWEEP)) | (options("launch", "slurm") if "--launch" in words else frozenset())
    if command == "new":
        fields = {field.name for kind in KINDS.values() for field in dataclasses.fields(kind)}
        return options("new") | {f"--data.{name.replace('_', '-')}" for name in fields}
    return options(command, str(EXPERIMENT)) if issubclass(find_command(command), ExperimentCommand) else options(command)


@functools.cache
def all_options() -> frozenset[str]:
    """Options of all commands."""
    lines = [[command] for command in names()] + [["launch", target] for target in TARGETS]
    return frozenset[str]().union(*(known_options(line) for line in lines))


def is_known(option: str, known: frozenset[str]) -> bool:
    """Whether an option exists; a stage's rates are accepted whatever the stage holds."""
    return option in known or re.fullmatch(r"--stages\.(\d+|N)\.lr", option) is not None


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_options_exist(name: str) -> None:
    for words in command_lines(name):
        if words[0] in ("--help", "COMMAND"):
            continue
        known = known_options(words)
        for option in OPTION.findall(" ".join(words[1:])):
            assert is_known(option, known), f"sgdr-jax {' '.join(words)}: there is no {option}"
    for span in inline(name):
        if span.startswith("--"):
            for option in OPTION.findall(span):
                assert is_known(option, all_options()), f"{span}: there is no {option}"


@pytest.mark.parametrize("name", PAGES)
def test_files_targets_and_links_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shell = [line for block in blocks(name, "sh") for line in block.splitlines()]
    for span in inline(name) + shell:
        for path in re.findall(r"(?<![\w./])((?:experiments|tests|sgdr_jax|docs)/[\w./-]*\w/?)", span):
            assert (ROOT / path).exists(), f"{span}: there is no {path}"
        if target := re.match(r"make ([a-z-]+)", span):
            assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), f"the Makefile has no target {target[1]}"
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", PAGES[name])):
        if not re.match(r"https?://", link):
            assert ((ROOT / name).parent / link).exists(), f"{name}: there is no {link}"


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as the site makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_yes_of_the_feature_table_links_to_the_place_that_shows_it() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGES[FEATURES].splitlines() if line.startswith("| ")]
    features = [row for row in rows[2:] if any(row[1:])]
    assert len(features) > 40 and {len(row) for row in rows} == {6}
    for name, ours, *others in features:
        assert all(re.match(r"(yes|part|no)\b", other) for other in others), name
        if ours not in ("no", "part"):
            link = re.match(r"\[yes\]\(([^)#]+)#?([^)]*)\)", ours)
            assert link, f"{name}: {ours}"
            page = (ROOT / FEATURES).parent / link[1]
            assert not link[2] or link[2] in headings(page), f"{name}: {ours}"


def test_the_page_to_try_a_run_on_classifies(run_page: Callable[[str], dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Gradio, which is not a requirement of the tests."""
    run_page(EXPORT)
    program = Path("app.py").read_text(encoding="utf-8")
    assert len([line for line in program.splitlines() if line.strip()]) <= 20
    made: list[Any] = []
    stand_in = SimpleNamespace(Interface=lambda *given, **_: made.append(given), Image=dict, Label=dict)
    monkeypatch.setitem(sys.modules, "gradio", stand_in)
    monkeypatch.setattr(sys, "argv", ["app.py", "runs/rings"])
    exec(compile(program, "app.py", "exec"), {"__name__": "app"})
    ((classify, *_),) = made
    answer = classify(Image.new("RGB", (40, 30), "red"))
    assert list(answer) == list(load("runs/rings").classes) and sum(answer.values()) == pytest.approx(1)


def test_readme_is_short_and_its_program_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert PAGES["README.md"].count("\n") <= 150
    program, _ = blocks("README.md", "python")
    lines = [line for line in program.splitlines() if line.strip() and not line.startswith(('"""', ")"))]
    assert len(lines) <= 12
    file = tmp_path / "dog_breeds.py"
    file.write_text(program, encoding="utf-8")
    main(["plan", str(file), "--train-size", "8178"])
    assert "cached head" in capsys.readouterr().out


def test_the_python_of_the_readme_trains_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, but with a tiny network and a few updates."""
    monkeypatch.chdir(tmp_path)
    for i in range(24):
        folder = tmp_path / "DIR" / ("cats", "dogs")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32), (10 * i, 200 * (i % 2), 60)).save(folder / f"{i}.png")
    shutil.copytree(tmp_path / "DIR" / "cats", tmp_path / "more")
    chosen = sgdr_jax.fine_tune

    def short(name: str) -> Experiment:
        experiment = chosen(name, model=ResNet18(weights=None), similar_to_imagenet=True)
        stages = tuple(replace(stage, size=16) for stage in experiment.stages)
        return replace(experiment, model=Tiny(), stages=stages, refit=False, epoch_steps=1)

    monkeypatch.setattr(sgdr_jax, "fine_tune", short)
    _, program = blocks("README.md", "python")
    variables: dict[str, Any] = {}
    show(program, "README.md", variables)
    assert len(variables["session"].predict("more").value.labels) == 12 and Path("runs/photos/report.html").exists()


def show(cell: str, name: str, variables: dict[str, object]) -> None:
    """Run a cell, and show its last expression as a notebook would."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), variables)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), variables)
        shown = [getattr(value, name)() for name in ("_repr_html_", "_repr_png_") if hasattr(value, name)]
        assert not shown or any(shown)


def run_line(line: str) -> None:
    """Run a line of a shell block that the tests can run without a shell."""
    program, *words = shlex.split(line, comments=True)
    assert program in ("sgdr-jax", "cat"), f"{line}: run it here as well"
    try:
        main(words) if program == "sgdr-jax" else print(Path(words[0]).read_text(encoding="utf-8"))
    except SystemExit as left:
        assert left.code in (0, None), f"{line}: exit code {left.code}"


def run_shell(text: str) -> None:
    """Run the lines of a shell block."""
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        run_line(line)


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, object]]:
    """Return a function that runs the cells of a page in order in an empty folder, as the build of the site does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLBACKEND", "agg")

    def run(name: str) -> dict[str, object]:
        variables: dict[str, object] = {}
        for cell in cells(name):
            first, _, rest = cell.partition("\n")
            if first.startswith("%%writefile "):
                Path(first.split()[1]).write_text(rest, encoding="utf-8")
            elif first == "%%bash":
                run_shell(rest)
            else:
                show(cell, name, variables)
        return variables

    return run


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NOTEBOOKS if n not in (FIRST, EXPORT)]
)
def test_cells_run(name: str, run_page: Callable[[str], dict[str, object]]) -> None:
    run_page(name)


@pytest.mark.slow
def test_fifteen_cells_and_five_commands_train_the_same_network(
    run_page: Callable[[str], dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The stranger's notebook: installation, photographs, batch, finder, run, report, predict, export; then the same by commands."""
    assert len(cells(FIRST)) == 15
    session: Any = run_page(FIRST)["session"]
    commands = [line for line in blocks(FIRST, "sh")[-1].splitlines() if line]
    assert [line.split()[1] for line in commands] == ["new", "train", "report", "predict", "export"]
    capsys.readouterr()
    for line in commands:
        run_line(line)
    out = capsys.readouterr().out
    assert "runs/again/report.html" in out and "exported: runs/again/export/stablehlo" in out
    again = load("runs/again")
    assert same_bits((again.params, again.stats), (session.params, session.stats))
    rows = [[{**row, "seconds": 0} for row in read(f"runs/{name}").rows] for name in ("photos", "again")]
    assert rows[0] == rows[1] and len(rows[0]) > 16
    # The notebook predicts what the file of the command says, to the six digits of the file.
    predictions = session.predict("photos/tulip").value
    with open("predictions.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in table] == [Path(path).name for path in predictions.paths] and len(table) == 15
    assert [row["label"] for row in table] == list(predictions.labels)


def test_the_reference_of_the_run_folder_names_every_field_of_its_records() -> None:
    rows, summary = (part.split("\n## ")[0] for part in PAGES["docs/reference/run_folder.md"].split("\n## ")[1:3])
    for row in get_args(records.Row.__value__):
        (kind,) = get_args(get_type_hints(row)["kind"])
        (line,) = (line for line in rows.splitlines() if line.startswith(f"| `{kind}` |"))
        assert [field for field in row.__annotations__ if field != "kind" and f"`{field}`" not in line] == [], kind
    assert [field for field in records.RunSummary.__annotations__ if f"`{field}`" not in summary] == []


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("docs/")])
def test_every_program_of_the_docs_is_a_cell(name: str) -> None:
    """Programs that stand as text alone are not executed; those of the README and of CONTRIBUTING have tests of their own."""
    assert not blocks(name, "python") and not blocks(name, "python3") and not blocks(name, "py")
    assert name in NOTEBOOKS or "{code-cell}" not in PAGES[name]


def test_recipes_for_contributors_need_one_file_one_name_and_one_test(tmp_path: Path) -> None:
    """Follow CONTRIBUTING in a copy of the package: write each file, add its class to the folder's names, run the tests shown."""
    shutil.copytree(ROOT / "sgdr_jax", tmp_path / "sgdr_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tests = [shutil.copy(ROOT / "tests" / "test_conventions.py", tmp_path)]
    for block in blocks("CONTRIBUTING.md", "python"):
        comment, _, text = block.partition("\n")
        file = tmp_path / comment.removeprefix("# ")
        assert not file.exists(), f"{file.relative_to(tmp_path)} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if file.name.startswith("test_"):
            tests.append(str(file))
        elif "__all__" in (exports := file.parent / "__init__.py").read_text(encoding="utf-8"):
            (kind,) = re.findall(r"^class (\w+)", text, re.MULTILINE)
            with exports.open("a", encoding="utf-8") as added:
                added.write(f'\nfrom .{file.stem} import {kind}\n__all__.append("{kind}")\n')
    assert len(tests) == 6
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "testpaths=", *tests]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
