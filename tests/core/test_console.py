"""core/console: what a terminal, a log and a pipe without a reader show."""

import io
import os
import re
import subprocess
import sys

import pytest
from rich.table import Table

from sgdr_jax.core.console import Console, plain_console, show
from sgdr_jax.core.notebook import Shown

NAMES = ("a name that is longer than a terminal is wide, " * 3, "optimizer.weight_decay=0.0001,model.width=2", "short")


def wide_table() -> Table:
    table = Table("run", "arm", "state")
    for name in ("difference (points)", "95 % interval", "log-loss", "p", "seconds", "images"):
        table.add_column(name, justify="right")
    for i, name in enumerate(NAMES):
        table.add_row(str(i), name, "finished", "+0.1234 ± 0.0567", "-10.123 … +10.234", f"{i}.2345", "< 0.0001", "12345", "1,234,567,890")
    return table


FIGURES = ("+0.1234 ± 0.0567", "-10.123 … +10.234", "2.2345", "< 0.0001", "12345", "1,234,567,890")


def test_a_log_has_every_row_of_a_table_whole_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table of eight columns only `+0.0…` was left in a file."""
    monkeypatch.delenv("COLUMNS", raising=False)
    Console().say(wide_table())
    for out in (capsys.readouterr().out, repr(Shown(None, (wide_table(),)))):
        rows = out.splitlines()
        for name in NAMES:
            assert any(name in row and all(figure in row for figure in FIGURES if figure != "2.2345") for row in rows), out
        assert "…" not in out.replace("-10.123 … +10.234", "")


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_terminal_folds_names_and_cuts_no_figure(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    file = io.StringIO()
    show(plain_console(file), wide_table())
    out = file.getvalue()
    assert all(figure in out for figure in FIGURES) and "…" not in out.replace("-10.123 … +10.234", ""), out
    (start, end) = (out.splitlines()[0].index("┳") + 1, [m.start() for m in re.finditer("┳", out.splitlines()[0])][1])
    folded = "".join(line[start:end].strip() for line in out.splitlines() if line.startswith("│"))
    assert "".join("".join(NAMES).split()) == folded.replace(" ", "")


WORK = """
import sys
from sgdr_jax.core.console import Console, write_text
ui = Console()
for i in range(200):
    {say}
open(sys.argv[1], "w").write("done")
raise SystemExit(3)
"""


@pytest.mark.parametrize("say", ["ui.say('line ' * 2000)", "write_text(sys.stdout, 'line ' * 2000)", "write_text(sys.stderr, 'x' * 9000)"])
def test_work_goes_on_when_the_reader_of_a_pipe_has_ended(say: str, tmp_path) -> None:
    """`eval --out ev.csv | head -1` left no ev.csv, and `train | head -1` gave up."""
    reading, writing = os.pipe()
    words = [sys.executable, "-c", WORK.format(say=say), str(tmp_path / "file")]
    stream = "stderr" if "stderr" in say else "stdout"
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writing}
    process = subprocess.Popen(words, **both)  # pyright: ignore[reportArgumentType, reportCallIssue]
    os.close(writing)
    os.read(reading, 100)
    os.close(reading)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3 and (tmp_path / "file").read_text() == "done" and not out and not err
