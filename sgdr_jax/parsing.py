"""Words of a command line to what they say: tyro's parser, with errors of one line, and the rates of stages."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections import deque
from typing import Any

import tyro

from . import experiment_file
from .config import Experiment, require
from .launch import Slurm
from .options import TrainCommand
from .types import InputError


def parse(kind: type, argv: list[str], prog: str, default: Any = None, *, some: bool = False) -> Any:
    """The options of a command from its words, by tyro; with `some`, (options, the words that are none of them).

    Raises InputError, of one line, for words that do not fit.
    """
    caught = io.StringIO()
    extra: dict[str, Any] = ({} if default is None else {"default": default}) | ({"return_unknown_args": True} if some else {})
    try:
        with contextlib.redirect_stderr(caught):
            return tyro.cli(kind, args=argv, prog=prog, description=kind.__doc__, config=(tyro.conf.AvoidSubcommands,), **extra)
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise InputError(_one_line(caught.getvalue())) from None


def _one_line(framed: str) -> str:
    """tyro's framed message as one line: what is wrong, and the nearest option names where it offers any."""
    text = " ".join(re.sub(r"[│╭╮╰╯─]+", " ", framed).split())
    wrong, _, near = text.partition("Perhaps you meant:")
    names = list(dict.fromkeys(re.findall(r"--[a-z][\w.-]*", near.partition("For full helptext")[0])))
    wrong = wrong.partition("For full helptext")[0].strip()
    # Of "Title sentence" only the sentence.
    wrong = re.sub(r"^(Unrecognized options|Parsing error|Invalid choice|Value error|Missing \w+) ", "", wrong)
    wrong = re.sub(r"^Error parsing [\w.]+: ", "", wrong)
    return wrong + (f"; did you mean {', '.join(names[:3])}?" if names else "; --help lists the options")


def train(file: str, words: list[str], prog: str) -> TrainCommand:
    """What `sgdr-jax train FILE WORDS…` says. Raises InputError as `parse` and `experiment_file.load`."""
    experiment, rest = take_rates(experiment_file.load(file), words)
    return parse(TrainCommand, rest, prog, TrainCommand(experiment=experiment))


def take_slurm(argv: list[str]) -> tuple[Slurm | None, list[str]]:
    """What `--launch slurm` submits with, from the words that say so, and the other words; None and all words where it is not there."""
    asked = any(word == "--launch" or word.startswith("--launch=") for word in argv)
    if not asked or {"-h", "--help"} & set(argv):
        return None, argv
    return parse(Slurm, argv, "sgdr-jax sweep FILE --launch slurm", some=True)


def take_rates(experiment: Experiment, argv: list[str]) -> tuple[Experiment, list[str]]:
    """The experiment with the rates of `--stages.N.lr RATE [RATE …]`, and the other words of the command line.

    They are taken before tyro, which narrows a field to the type that it holds: where a stage has Find, it offers Find's fields alone.
    """
    stages, rest, words = list(experiment.stages), [], deque(argv)
    while words:
        word = words.popleft()
        match = re.fullmatch(r"--stages\.(\d+)\.lr(?:=(.+))?", word)
        if not match:
            rest.append(word)
            continue
        given = [match[2]] if match[2] else []
        while words and not words[0].startswith("--"):
            given.append(words.popleft())
        try:
            rates = [float(text) for text in given]
        except ValueError:
            rates = []
        require(bool(rates), word.partition("=")[0], " ".join(given), "give one rate, or one for each trained layer group")
        index = int(match[1])
        require(
            index < len(stages),
            word.partition("=")[0],
            " ".join(given),
            f"the stages are {', '.join(f'{i} ({s.name})' for i, s in enumerate(stages))}",
        )
        stages[index] = dataclasses.replace(stages[index], lr=tuple(rates) if len(rates) > 1 else rates[0])
    return dataclasses.replace(experiment, stages=tuple(stages)), rest
