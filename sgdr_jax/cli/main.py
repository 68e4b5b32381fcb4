"""Command-line entry point: parses arguments and dispatches to the commands."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn, get_args

from ..core.console import Console, silence, write_text
from ..core.errors import InputError, Preempted, did_you_mean
from ..core.text import one_line
from ..distributed.signals import leave_at_once
from .commands import find_command, names
from .options import Section, summary

USAGE = """usage: sgdr-jax COMMAND …
{commands}

FILE is an experiment file; its fields are options too, such as --seed 1 --stages.1.lr 0.01 --data.root photos.
--stages.N.lr takes one rate, or one for each trained layer group, and replaces the learning-rate finder.
`sgdr-jax COMMAND --help` and `sgdr-jax COMMAND FILE --help` list the options."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line, by default that of the process.

    Raises:
        SystemExit: 2 after one line about invalid input, 75 when a preempted run has saved its state, 130 when interrupted, 1 when a
            run of a sweep has failed or is left; 0 after --help.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × shows ? instead of failing
    try:
        try:
            _dispatch(sys.argv[1:] if argv is None else argv)
        finally:
            _flush()
    except InputError as error:
        _end(f"error: {one_line(error)}", 2)
    except Preempted as error:
        _end(str(error), error.code)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except MemoryError as error:
        why = one_line(f"out of memory: {error}").rstrip(": ")
        _end(f"error: {why}; use fewer or smaller images, or a smaller batch", 2)
    except BrokenPipeError:  # of what tyro prints
        silence(sys.stdout)
    except OSError as error:
        _end(f"error: {one_line(f'{error.strerror or error}: {error.filename or str()}')}".rstrip(": "), 2)


def _flush() -> None:
    """Write what is left for stdout, or Python would report at the end that it cannot.

    Raises:
        OSError: as where the disk is full; what is left is given up.
    """
    try:
        write_text(sys.stdout, "")
    except OSError:
        silence(sys.stdout)
        raise


def _end(line: str, code: int) -> NoReturn:
    """Exit with a code after a line on stderr."""
    write_text(sys.stderr, f"{line}\n")
    raise SystemExit(code) from None


def _dispatch(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        write_text(sys.stdout, f"{_usage()}\n")
        raise SystemExit(0 if argv else 2)
    name, *words = argv
    if name not in names():
        raise InputError(f"unknown command {name!r}; {did_you_mean(name, names(), 1)}sgdr-jax --help lists them")
    command = find_command(name)
    with leave_at_once() if command.resumable else nullcontext():
        command.main(words, f"sgdr-jax {name}", Console())


def _usage() -> str:
    """List the commands by section, each with the first sentence of its help text."""
    commands = {name: find_command(name) for name in names()}
    lines: list[str] = []
    for section in get_args(Section):
        lines += ["", f"{section}:"]
        for name, command in commands.items():
            if command.section == section:
                lines.append(f"  {f'{name} {command.arguments}':<24} {summary(command)}")
    return USAGE.format(commands="\n".join(lines))
