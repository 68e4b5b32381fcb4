"""Base classes of the commands, whose fields are their options, and checks that several commands share."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import tyro

from ..core.console import NullConsole, write_text
from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.types import Dataset
from ..core.validation import require
from ..datasets import ImageFolder
from .experiment_file import load_experiment
from .parsing import parse, parse_known

Section = Literal["Experiments", "Finished runs", "Sweeps", "Clusters", "Networks and datasets"]
"""Heading of --help under which a command is listed, in this order."""


class Command:
    """Base class of the commands: a dataclass whose fields are the options and whose docstring is the help text.

    Modules are imported to list the commands, so what is slow to import, such as jax, is imported within `execute`.
    """

    section: ClassVar[Section]
    """Heading of --help under which the command is listed."""
    arguments: ClassVar[str] = ""
    """Positional arguments and options that must be given, as --help lists them."""
    resumable: ClassVar[bool] = False
    """Whether SIGTERM and SIGUSR1 end the command with exit code 75, after which the same command goes on."""

    @classmethod
    def main(cls, words: Sequence[str], prog: str, ui: NullConsole) -> None:
        """Parse the words after the command and run it.

        Args:
            words: command line after the command.
            prog: command, such as "sgdr-jax train".
            ui: console.

        Raises:
            InputError: for invalid options.
            SystemExit: with another exit code than 0, or after --help.
        """
        parse(cls, words, prog).execute(ui)

    def execute(self, ui: NullConsole) -> None:
        """Run the command. Raises InputError for invalid input."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ExperimentCommand(Command):
    """Base class of the commands with an experiment FILE, whose fields are options too, such as --seed 1."""

    arguments = "FILE"

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment of the file, with the options of the command line."""
    file: tyro.conf.Suppress[str] = ""
    """The file."""

    @classmethod
    def main(cls, words: Sequence[str], prog: str, ui: NullConsole) -> None:
        """Load the file, parse the options and run the command; see `Command.main`."""
        file, rest = cls.take_file(words, prog)
        cls.parse(file, rest, prog).execute(ui)

    @classmethod
    def parse(cls, file: str, words: Sequence[str], prog: str) -> Self:
        """Load an experiment file and parse the options that follow it."""
        return parse(cls, words, f"{prog} {file}", cls(experiment=load_experiment(file), file=file))

    @classmethod
    def take_file(cls, words: Sequence[str], prog: str) -> tuple[str, Sequence[str]]:
        """Return the file and the words after it. Without a file, print a short help if asked to, or raise InputError."""
        if words and not words[0].startswith("-"):
            return words[0], words[1:]
        if words and words[0] in ("-h", "--help"):
            write_text(sys.stdout, f"usage: {prog} FILE [options]\n\n{cls.__doc__}\n`{prog} FILE --help` lists all options.\n")
            raise SystemExit(0)
        raise InputError(f"{prog} needs an experiment file first: {prog} FILE [options]")


@dataclass(frozen=True, kw_only=True)
class FolderCommand(Command):
    """Base class of the commands with a FOLDER of images, whose fields of its kind of dataset are options too."""

    arguments = "FOLDER"

    folder: tyro.conf.Positional[str]
    """Folder of class folders (with train and valid above them or not), with a table of labels beside images, with metadata.csv or parquet
    files as on the Hugging Face hub, of images whose names tell their class; a table, an .npz file, or a name of the TFDS catalogue."""
    kind: str | None = None
    """Dataset that reads it, such as ImageFolder or FileNames; by default the one that its files show."""
    data: Dataset = field(default_factory=ImageFolder)
    """The set, with the fields of its kind."""

    @classmethod
    def main(cls, words: Sequence[str], prog: str, ui: NullConsole) -> None:
        """Find out what lies in the folder, parse the options, with those of its dataset, and run the command; see `Command.main`."""
        from ..datasets.detect import detect

        named = [word for word in words if word not in ("-h", "--help")]
        if not named:
            parse(cls, words, prog)  # explains itself, or what is missing
        first, _ = parse_known(cls, named, prog)
        first.check()
        parse(cls, words, f"{prog} {first.folder}", replace(first, data=detect(first.folder, first.kind))).execute(ui)

    def check(self) -> None:
        """Raise InputError for options with invalid values, before the set is looked for."""


def summary(kind: type) -> str:
    """Return the first sentence of a class's docstring, for lists in --help."""
    return " ".join((kind.__doc__ or "").split()).partition(". ")[0].rstrip(".")


def new_run_folder(name: str) -> Path:
    """Return the default run folder of an experiment, which has the time in its name."""
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_output(path: Path | None, option: str = "output file") -> None:
    """Raise InputError for a file that could not be written, before any work is done."""
    if path is not None:
        require(path.parent.is_dir() and not path.is_dir(), option, str(path), "name a file in a folder that exists")


def check_picture(path: Path) -> None:
    """Raise InputError for a picture that could not be written."""
    check_output(path)
    require(path.suffix in (".png", ".svg", ".pdf"), "--out", str(path), "use a name that ends in .png, .svg or .pdf")
