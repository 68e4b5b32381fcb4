"""README and docs: their programs run, and every command, option, file and link that they name exists."""

import ast
import contextlib
import functools
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sgdr_jax.cli.commands import find_command, names
from sgdr_jax.cli.launch import TARGETS
from sgdr_jax.cli.main import main
from sgdr_jax.cli.options import ExperimentCommand

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
NOTEBOOKS = [name for name, text in PAGES.items() if "file_format: mystnb" in text]
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


def test_readme_is_short_and_its_program_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert PAGES["README.md"].count("\n") <= 150
    (program,) = blocks("README.md", "python")
    lines = [line for line in program.splitlines() if line.strip() and not line.startswith(('"""', ")"))]
    assert len(lines) <= 12
    file = tmp_path / "dog_breeds.py"
    file.write_text(program, encoding="utf-8")
    main(["plan", str(file), "--train-size", "8178"])
    assert "cached head" in capsys.readouterr().out


def show(cell: str, name: str, variables: dict[str, object]) -> None:
    """Run a cell, and show its last expression as a notebook would."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), variables)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), variables)
        shown = [getattr(value, name)() for name in ("_repr_html_", "_repr_png_") if hasattr(value, name)]
        assert not shown or any(shown)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the cells of a page in order, as the build of the site does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    variables: dict[str, object] = {}
    for cell in cells(name):
        first, _, rest = cell.partition("\n")
        if first.startswith("%%writefile "):
            Path(first.split()[1]).write_text(rest, encoding="utf-8")
        elif first == "%%bash":
            for line in filter(None, rest.replace("\\\n", " ").splitlines()):
                program, *words = shlex.split(line)
                assert program in ("sgdr-jax", "cat"), f"{line}: run it here as well"
                with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
                    main(words) if program == "sgdr-jax" else print(Path(words[0]).read_text(encoding="utf-8"))
        else:
            show(cell, name, variables)


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
