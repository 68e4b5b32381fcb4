"""Command lines, configurations and experiment files with odd values: each is accepted or refused in one line, in time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from tyro._parsers import ParserSpecification  # tyro.cli and tyro.extras.get_parser, which are public, describe a type anew each time

from sgdr_jax.cli import options
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.experiment_source import experiment_source
from sgdr_jax.core.experiment import Experiment
from sgdr_jax.core.serialization import from_json, to_json
from sgdr_jax.report.run_tables import plan_parts

from . import mutations
from .campaign import Outcome, Try, cli, outcome_of

SMALL = Path(__file__).parents[1] / "golden" / "runs" / "small.py"

WORDS = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "7",
        "0.5",
        "-0.5",
        "1e-3",
        "1e300",
        "-1e300",
        "1e-320",
        "nan",
        "inf",
        "-inf",
        "NaN",
        "1_000",
        "0x10",
        "١٢",
        "½",
    ),
    *("9" * 25, "9" * 400, "-" + "9" * 30, str(2**31), str(2**32), str(2**63), str(2**64), "1e5", "1000000", "1000000000000"),
    *("", " ", "None", "none", "null", "True", "true", "False", "auto", "all", "head", "x", "-", "--", "--x", "=", "=1+1", "a=b", "*", "?"),
    *(
        "../..",
        "/",
        "/dev/null",
        "/proc/self/mem",
        ".",
        "~",
        "a\nb",
        "a\tb",
        "\x1b[31m",
        "[red]",
        "[/red]",
        "<b>",
        "é",
        "e\u0301",
        "\u202e",
        "😀",
    ),
    *("\udcff", "%s", "{x}", "{0}", "\\", "'", '"', "''", "(1, 2)", "[1,2]", "1,2", "{}", "lambda: 0", "__import__('os')", "x" * 5000),
    *("adamw", "sgd", "bfloat16", "float16", "resident", "log", "max", "flip", "jit", "pmap", "train", "frozen", "combined"),
)
EXPRESSIONS = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "-0.5",
        "1e300",
        "float('nan')",
        "float('inf')",
        "10**25",
        "10**400",
        "10**5000",
        "2**63",
        "True",
        "False",
        "None",
    ),
    *("''", "'x'", "'1'", "'a\\nb'", "'[/red]'", "'é'", "'\\ud800'", "()", "(1,)", "(1, 2, 3)", "((),)", "('x', None)", "[]", "[1]", "{}"),
    *(
        "{'a': 1}",
        "set()",
        "b'x'",
        "1j",
        "object()",
        "int",
        "print",
        "lambda: 0",
        "...",
        "range(3)",
        "Stage",
        "Stage('s')",
        "Sgdr(1)",
        "Sgdr",
    ),
    *(
        "AdamW()",
        "AdamW",
        "Path('x')",
        "iter(())",
        "(0.1, 0.2, 0.3)",
        "Find()",
        "__import__('numpy').float32(1)",
        "__import__('numpy').ones(3)",
    ),
    *("__import__('numpy').int64(2)", "__import__('fractions').Fraction(1, 3)", "__import__('decimal').Decimal('0.1')", "Eval()", "'auto'"),
)


@contextlib.contextmanager
def _built_once(file: str) -> Iterator[None]:
    """Have tyro describe the options of `plan FILE` once: it takes four fifths of a case, and depends on the file alone."""
    known, build = load_experiment(file), ParserSpecification.from_callable_or_type
    kept: list[ParserSpecification] = []

    def load(path: str | Path) -> Experiment:
        return known if path == file else load_experiment(path)

    def described(*given: Any, **named: Any) -> ParserSpecification:
        if getattr(named.get("default_instance"), "experiment", None) is not known:
            return build(*given, **named)
        if not kept:
            kept.append(build(*given, **named))
        return kept[0]

    with mock.patch.object(options, "load_experiment", load), mock.patch.object(ParserSpecification, "from_callable_or_type", described):
        yield


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign."""
    shutil.copy(SMALL, folder / "small.py")
    sys.path.insert(0, str(folder))  # the experiment files import its network
    import small

    experiment = small.experiment
    config, source, before = json.dumps(to_json(experiment)).encode(), experiment_source(experiment), os.getcwd()
    os.chdir(folder)
    names = sorted(set(re.findall(r"--[a-z][\w.-]*", cli("plan", "small.py", "--help"))) - {"--help"})

    def attempt(seed: int) -> Outcome:
        random = Random(f"words {seed}")
        return (_line, _config, _file, _line)[seed % 4](random)

    def _line(random: Random) -> Outcome:
        words = ["plan", "small.py"] + (["--train-size", "58"] if random.random() < 0.7 else [])
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            option = random.choice(names)
            option = random.choice((option,) * 12 + (option[:-1], option.upper(), option + ".x", option.replace("stages.0", "stages.99")))
            option = option.replace("--", "--no-", 1) if random.random() < 0.05 else option
            given = [random.choice(WORDS) for _ in range(random.choice((0, 1, 1, 1, 1, 1, 2, 3)))]
            words += [f"{option}={given[0]}"] if given and random.random() < 0.1 else [option, *given]
        if random.random() < 0.05:
            words[random.randrange(2)] = random.choice(WORDS)
        return outcome_of("command lines", lambda: cli(*words) and "accepted")

    def _config(random: Random) -> Outcome:
        text = mutations.json_text(config, random)

        def work() -> str:
            from sgdr_jax.core.errors import InputError
            from sgdr_jax.core.json_files import parse_json

            try:
                value = parse_json(text, dict)
            except ValueError as error:
                raise InputError(str(error)) from None
            found = from_json(value)
            if not isinstance(found, Experiment):
                raise InputError("no experiment")
            plan_parts(found, {"train": 58})
            assert from_json(json.loads(json.dumps(to_json(found)))) == found
            return "accepted"

        return outcome_of("config.json", work)

    def _file(random: Random) -> Outcome:
        places = list(re.finditer(r"(?<==)[\w.'\"-]+(?=[,)])", source))
        text = source
        for place in sorted(random.sample(places, random.choice((1, 1, 2))), key=lambda place: -place.start()):
            text = text[: place.start()] + random.choice(EXPRESSIONS) + text[place.end() :]
        Path("fuzzed.py").write_text("from pathlib import Path\nfrom sgdr_jax import *\n" + text, "utf-8", "surrogatepass")

        def work() -> str:
            load_experiment("fuzzed.py")
            cli("plan", "fuzzed.py", "--train-size", "58")
            return "accepted"

        return outcome_of("experiment files", work)

    try:
        with _built_once("small.py"):
            yield attempt
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
