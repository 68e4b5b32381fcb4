"""Jobs, and the base class of the targets that start them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole
from ...core.validation import require


@dataclass(frozen=True)
class Job:
    """Command `sgdr-jax train` that is started in several processes.

    Attributes:
        file: experiment file.
        run: run folder, which all processes share.
        words: other options of the command.
        name: name of the experiment.
    """

    file: Path
    run: Path
    words: tuple[str, ...]
    name: str

    def command(self, python: tuple[str, ...] = (sys.executable, "-m", "sgdr_jax")) -> list[str]:
        """Return the command line of a process, which continues the run if there is one, so that it can be restarted.

        Args:
            python: words that start the program.

        Example:
            >>> Job(Path("x.py"), Path("runs/a"), ("--seed", "1"), "x").command(("sgdr-jax",))
            ['sgdr-jax', 'train', 'x.py', '--seed', '1', '--run', 'runs/a', '--resume']
        """
        return [*python, "train", str(self.file), *self.words, "--run", str(self.run), "--resume"]


@dataclass(frozen=True)
class Target:
    """Base class of the places where processes are started; the fields are the options."""

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Start the job, or write what starts it, and return the exit code. Raises InputError if that is impossible."""
        raise NotImplementedError


def check_mounted(job: Job, mount: str, why: str) -> None:
    """Raise InputError for a run folder that does not lie below a mount, on which it would be kept."""
    below = job.run.is_relative_to(mount) and ".." not in job.run.parts
    require(below, "--run", str(job.run), f"use a folder below {mount}, {why}")
