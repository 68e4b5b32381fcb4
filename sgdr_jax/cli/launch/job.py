"""What is started, and what starts it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ...core.console import NullConsole


@dataclass(frozen=True)
class Job:
    """A `sgdr-jax train` that is to be started in several processes.

    Attributes:
        file: the experiment file.
        run: the run folder, which all processes see.
        words: all other words of the command.
        name: of the experiment.
    """

    file: Path
    run: Path
    words: tuple[str, ...]
    name: str

    def command(self, python: tuple[str, ...] = (sys.executable, "-m", "sgdr_jax")) -> list[str]:
        """The words of one process. It goes on with the run where there is one, so that it may be started again.

        >>> Job(Path("x.py"), Path("runs/a"), ("--seed", "1"), "x").command(("sgdr-jax",))
        ['sgdr-jax', 'train', 'x.py', '--seed', '1', '--run', 'runs/a', '--resume']
        """
        return [*python, "train", str(self.file), *self.words, "--run", str(self.run), "--resume"]


@dataclass(frozen=True)
class Target:
    """Where processes are started; its fields are its options."""

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Starts the job, or writes what will; gives the exit code of the command. Raises InputError where that cannot be."""
        raise NotImplementedError
