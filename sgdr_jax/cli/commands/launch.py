"""`sgdr-jax launch`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.console import NullConsole, write_text
from ...core.errors import InputError, did_you_mean
from ...core.serialization import config_hash, to_json
from ...core.text import one_line
from ...core.validation import require
from ..options import Command, new_run_folder, summary
from ..parsing import parse, parse_known
from .train import TrainCommand

if TYPE_CHECKING:
    from ..launch import Target

HELP = """usage: sgdr-jax launch TARGET FILE [options]

{about}

{targets}

`sgdr-jax launch TARGET --help` lists the options of a target; all other options are those of `sgdr-jax train FILE`, --run among them."""


@dataclass(frozen=True)
class RunFolderOptions:
    """Options of `train` that are taken from the command line, since a job has them anyway."""

    run: Path | None = None
    """The run folder."""
    resume: bool = False
    """Continue the run in the folder."""


class LaunchCommand(Command):
    """Start `sgdr-jax train FILE` as several processes of one run, on a TARGET."""

    section = "Clusters"
    resumable = True
    arguments = "TARGET FILE"

    @classmethod
    def main(cls, words: Sequence[str], prog: str, ui: NullConsole) -> None:
        """Start the processes and exit with their code. Invalid options of the target and of `train` are rejected before."""
        from ...runs.folder import check_run
        from ..launch import TARGETS, Job

        if not words or words[0] in ("-h", "--help"):
            targets = "\n".join(f"  {name:<8} {summary(kind)}" for name, kind in TARGETS.items())
            write_text(sys.stdout, f"{HELP.format(about=cls.__doc__, targets=targets)}\n")
            raise SystemExit(0 if words else 2)
        name, *words = words
        if name not in TARGETS:
            raise InputError(f"unknown target {name!r}; {_nearest(name, TARGETS)}there are {', '.join(TARGETS)}")
        prog = f"{prog} {name}"
        if words and words[0] in ("-h", "--help"):
            parse(TARGETS[name], words, f"{prog} FILE")
        file, rest = TrainCommand.take_file(words, prog)
        target, rest = parse_known(TARGETS[name], rest, f"{prog} FILE")
        train = TrainCommand.parse(file, rest, "sgdr-jax train")
        folder, rest = parse_known(RunFolderOptions, rest, prog)
        run = folder.run or new_run_folder(train.experiment.name)
        require(one_line(run) == str(run), "--run", str(run), "use a path without control characters")
        if train.per_device is None:  # otherwise the configuration depends on devices of other machines
            check_run(run, to_json(train.experiment), config_hash(train.experiment), resume=folder.resume)
        raise SystemExit(target.launch(Job(Path(file), run, tuple(rest), train.experiment.name), ui))


def _nearest(name: str, targets: Mapping[str, type[Target]]) -> str:
    """Suggest the target that is similar to an unknown one by its name or by that of its class; "" if there is none."""
    long = {kind.__name__.lower(): target for target, kind in targets.items()}
    near = did_you_mean(name, [*targets, *long], 1)
    return next((f"did you mean {target}? " for word, target in long.items() if word in near), near)
