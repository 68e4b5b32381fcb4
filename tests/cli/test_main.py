"""The program: help, unknown words, exit codes."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from sgdr_jax.cli import commands
from sgdr_jax.cli.main import main
from sgdr_jax.cli.options import Section
from sgdr_jax.core.errors import InputError, Preempted

Fails = Callable[..., str]


@pytest.mark.parametrize("name", commands.names())
def test_every_command_helps_and_is_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = commands.find_command(name)
    for argv in (["--help"], [name, "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(argv)
        out = capsys.readouterr().out
        assert exit_.value.code == 0 and "usage" in out and name in out
    assert command.section in get_args(Section) and f"sgdr-jax {name}" in (sys.modules[command.__module__].__doc__ or "")


def test_every_option_has_a_help_text(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in commands.names():
        file = [str(place / "photos.py")] if commands.find_command(name).arguments == "FILE" and name != "sweep" else []
        with pytest.raises(SystemExit):
            main([name, *file, "--help"])
        for line, after in itertools.pairwise(capsys.readouterr().out.splitlines()):
            assert not re.match(r"│ --[a-z-]+(, --[a-z-]+)*( [A-Z{].*)? +│$", line) or re.match(r"│ {7}\w", after), f"{name}: {line}"


def test_help_is_fast_to_import() -> None:
    code = "import sys; from sgdr_jax.cli import commands; [commands.find_command(name) for name in commands.names()]; "
    code += "assert not {'jax', 'flax', 'matplotlib', 'optuna', 'submitit', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str], fails: Fails) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2 and "usage" in capsys.readouterr().out
    assert "sgdr-jax train needs an experiment file first: sgdr-jax train FILE [options]" in fails("train")
    assert "needs an experiment file first" in fails("plan", "--seed", "1")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Preempted("saved"), 75, "saved"),
        (InputError("seed is x; y"), 2, "error: seed is x; y"),
        (PermissionError(13, "Permission denied", "a.csv"), 2, "error: Permission denied: a.csv"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(self: object, ui: object) -> None:
        raise error

    monkeypatch.setattr(commands.find_command("models"), "execute", execute)
    with pytest.raises(SystemExit) as exit_:
        main(["models"])
    assert exit_.value.code == code and capsys.readouterr().err == f"{line}\n"


def test_wrong_names_are_met_with_the_nearest(place: Path, fails: Fails) -> None:
    file = place / "photos.py"
    assert "--seed" in fails("plan", file, "--sede", "1")
    assert "unknown command 'trian'; did you mean train? " in fails("trian", file)
    assert "early, late, head" in fails("plan", file, "--train-size", "100", "--stages.2.lr", "0.1", "0.2")
    assert "--stages.1.lr is ['foo']; use {None}|FLOAT|" in fails("plan", file, "--stages.1.lr", "foo")
    assert "did you mean --stages.0.lr" in fails("plan", file, "--stages.9.lr", "1")
    assert "nofile.py" in fails("plan", place / "nofile.py")
    assert "experiment" in fails("plan", __file__)


IMPORTING = """
import runpy, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "sgdr_jax.cli.options":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
runpy.run_module("sgdr_jax", run_name="__main__")
"""


def test_an_interrupt_during_the_imports_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


WRITING = """
import sys
from pathlib import Path
from sgdr_jax.cli.main import main

main(sys.argv[1:])
"""


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["eval", "--help"]])
def test_help_without_a_reader_is_no_error(words: list[str]) -> None:
    """tyro prints the help of a command by itself: it ended with "error: Broken pipe", exit code 2."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", WRITING, *words], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["nothing"]])
def test_a_full_disk_as_stdout_is_one_line(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", WRITING, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr


ENDING = {
    "exit_now": "from sgdr_jax.distributed.hosts import exit_now\nexit_now('another host has failed', 75)",
    "leave_at_once": """
import os, signal, time
from sgdr_jax.distributed.signals import leave_at_once
with leave_at_once():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
""",
}


@pytest.mark.parametrize("how", ENDING)
def test_a_process_ends_though_nobody_reads_why(how: str) -> None:
    """The line on stderr failed in the thread that was to end the process, which SIGTERM then no longer did."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", ENDING[how]], stdout=writing, stderr=writing, timeout=15)
    os.close(writing)
    assert done.returncode == 75
