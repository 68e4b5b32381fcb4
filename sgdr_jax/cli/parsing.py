"""Words of a command line to what they say: tyro's parser, with errors of one line, and the rates of stages."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections import deque
from collections.abc import Callable
from functools import reduce
from operator import or_
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import tyro

from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.validation import require
from . import experiment_file
from .launch import Slurm
from .options import TrainCommand


def parse(kind: type, argv: list[str], prog: str, default: Any = None, *, some: bool = False) -> Any:
    """The options of a command from its words, by tyro; with `some`, (options, the words that are none of them).

    Raises InputError, of one line, for words that do not fit.
    """
    caught = io.StringIO()
    extra: dict[str, Any] = ({} if default is None else {"default": _narrowed(default)}) | ({"return_unknown_args": True} if some else {})
    try:
        with contextlib.redirect_stderr(caught):
            read = tyro.cli(kind, args=argv, prog=prog, description=kind.__doc__, config=(tyro.conf.AvoidSubcommands,), **extra)
            return (_widened(read[0]), read[1]) if some else _widened(read)
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise InputError(_one_line(caught.getvalue())) from None


def _narrowed(value: Any) -> Any:
    """The same, but a field that may hold a plain value or an object, and holds a plain one, is declared to hold no object.

    Of such a field, as `cycle_len: float | Length`, tyro would make a nameless word: "train FILE 3" would change it, and --…cycle-len
    would not. The classes made for this belong to this module, under whose name no JSON data is looked up.
    """
    if type(value) is tuple:
        return _each(_narrowed, value)
    if not _is_object(value):
        return value
    kind: Any = type(value)
    held = {name: _narrowed(x) for name, x in _given(value).items()}
    plain: dict[str, Any] = {}
    with contextlib.suppress(NameError):  # of a user's own class that names types which only a type checker sees
        for name, hint in get_type_hints(kind, include_extras=True).items():
            kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
            objects: Any = tuple(t for t in kinds if dataclasses.is_dataclass(t))
            if name in held and objects and not isinstance(held[name], objects):
                plain[name] = reduce(or_, (t for t in kinds if t not in objects))
    if not plain and all(held[name] is x for name, x in _given(value).items()):
        return value
    fields = [(name, hint, dataclasses.field(kw_only=True)) for name, hint in plain.items()]
    more: Any = {"namespace": {"__doc__": kind.__doc__, _STANDS_FOR: kind}, "frozen": kind.__dataclass_params__.frozen}
    return dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), module=__name__, **more)(**held)


_STANDS_FOR = "_stands_for"


def _widened(value: Any) -> Any:
    """What `_narrowed` was given, with what has been parsed into it."""
    if type(value) is tuple:
        return _each(_widened, value)
    if not _is_object(value):
        return value
    held, kind = {name: _widened(x) for name, x in _given(value).items()}, getattr(type(value), _STANDS_FOR, type(value))
    same = kind is type(value) and all(x is getattr(value, name) for name, x in held.items())
    return value if same else kind(**held)


def _each(function: Callable[[Any], Any], items: tuple[Any, ...]) -> tuple[Any, ...]:
    made = tuple(map(function, items))
    return items if all(a is b for a, b in zip(made, items, strict=True)) else made


def _is_object(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _given(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _one_line(framed: str) -> str:
    """tyro's framed message as one line: what is wrong, and the nearest option names where it offers any."""
    text = " ".join(re.sub(r"[│╭╮╰╯─]+", " ", framed).split())
    wrong, _, near = text.partition("Perhaps you meant:")
    names = list(dict.fromkeys(re.findall(r"--[a-z][\w.-]*", near.partition("For full helptext")[0])))
    wrong = wrong.partition("For full helptext")[0].strip()
    # Of "Title sentence" only the sentence.
    wrong = re.sub(r"^(Unrecognized options|Parsing error|Invalid choice|Value error|Missing \w+) ", "", wrong)
    wrong = re.sub(r"^Error parsing [\w.]+: ", "", wrong)
    if re.search(r"options: .*\b(True|False)\b", wrong):
        return f"{wrong}; a switch takes no value: --NAME or --no-NAME"
    return wrong + (f"; did you mean {', '.join(names[:3])}?" if names else "; --help lists the options")


def train(file: str, words: list[str], prog: str) -> TrainCommand:
    """What `sgdr-jax train FILE WORDS…` says. Raises InputError as `parse` and `experiment_file.load_experiment`."""
    experiment, rest = take_rates(experiment_file.load_experiment(file), words)
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
