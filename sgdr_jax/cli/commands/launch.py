"""`sgdr-jax launch`: one experiment as several processes."""

from __future__ import annotations

import time
from pathlib import Path

from ...core.console import NullConsole
from ...core.errors import InputError, did_you_mean
from ...core.serialization import config_hash, to_json
from ...runs.folder import check_run
from .. import parsing
from ..launch import TARGETS, Job

HELP = """usage: sgdr-jax launch TARGET FILE [options]

Starts `sgdr-jax train FILE` as several processes, which are one run. TARGET is one of

{targets}

`sgdr-jax launch TARGET --help` lists the options of a target; all other options are those of `sgdr-jax train FILE`, --run among them."""


def launch(words: list[str], ui: NullConsole) -> None:
    """Starts what the words say; exits with the code of the processes. All that can be checked here is, before anything starts."""
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(targets="\n".join(f"  {name:<8} {_first_sentence(kind)}" for name, kind in TARGETS.items())))
        raise SystemExit(0 if words else 2)
    name, rest = words[0], words[1:]
    if name not in TARGETS:
        raise InputError(f"{name!r} is no target; {did_you_mean(name, TARGETS, 1)}there are {', '.join(TARGETS)}")
    prog = f"sgdr-jax launch {name} FILE"
    if not rest or rest[0].startswith("-"):
        if rest and rest[0] in ("-h", "--help"):
            parsing.parse(TARGETS[name], ["--help"], prog)
        raise InputError(f"sgdr-jax launch {name} needs an experiment file first: {prog} [options]")
    file = rest[0]
    target, others = parsing.parse(TARGETS[name], rest[1:], prog, some=True)
    command = parsing.train(file, others, f"sgdr-jax train {file}")
    experiment = command.experiment
    run = command.run or Path("runs") / f"{experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if command.per_device is None:  # otherwise it depends on devices that are not here
        check_run(run, to_json(experiment), config_hash(experiment), resume=command.resume)
    raise SystemExit(target.launch(Job(Path(file), run, tuple(_without_run(others)), experiment.name), ui))


def _first_sentence(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split()).partition(". ")[0].rstrip(".")


def _without_run(words: list[str]) -> list[str]:
    """The words without --run DIR and --resume, which a job says itself.

    >>> _without_run(["--seed", "1", "--run", "a", "--resume", "--run=b"])
    ['--seed', '1']
    """
    kept, skip = [], False
    for word in words:
        if skip or word == "--resume" or word.startswith("--run="):
            skip = False
        elif word == "--run":
            skip = True
        else:
            kept.append(word)
    return kept
