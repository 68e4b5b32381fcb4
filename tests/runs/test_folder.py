"""Run folders: refusals, resuming without duplicates, what a kill leaves, and reading everything back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sgdr_jax.core.errors import InputError
from sgdr_jax.runs import folder
from sgdr_jax.runs.environment import git_commit

CONFIG = {"type": "m:Experiment", "name": "a", "stages": [{"type": "m:Stage", "lr": 0.1}, {"type": "m:Stage", "lr": 0.2}], "seed": 0}


def train(stage: str, step: int) -> dict[str, Any]:
    return {"kind": "train", "stage": stage, "step": step, "loss": 1.0}


def evaluated(stage: str, step: int) -> dict[str, Any]:
    return {"kind": "eval", "stage": stage, "step": step, "split": "valid", "loss": 1.0}


CURVE = {"lrs": [0.1], "losses": [2.0], "smoothed": [2.0], "suggestions": {}, "chosen": 0.1, "rule": "valley", "verdict": "clear"}


def test_a_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with folder.open_run(path, CONFIG, "abc", devices=("TFRT_CPU_0",), commit="0f") as book:
        assert not book.resumed
        book.append({"kind": "train", "stage": "head", "step": np.int64(3), "loss": np.float32(0.5), "lr": {"head": np.float32(0.25)}})
        book.append({"kind": "train", "stage": "head", "step": 4, "loss": float("nan"), "path": Path("x")})
        book.write_plan("the plan", "a,b\n")
        book.write_finder("all / unfrozen", CURVE | {"lrs": np.array([0.1])})
        assert folder.read(path).summary == {}
        book.write_summary({"seconds": 1.5})
    run = folder.read(path)
    assert run.config == CONFIG
    assert run.rows == [
        {"kind": "train", "stage": "head", "step": 3, "loss": 0.5, "lr": {"head": 0.25}},
        {"kind": "train", "stage": "head", "step": 4, "loss": None, "path": "x"},
    ]
    assert run.finders == {"all / unfrozen": CURVE | {"stage": "all / unfrozen"}}
    assert run.summary == {"seconds": 1.5}
    assert (path / "plan.txt").read_text() == "the plan"
    assert run.start["packages"]["numpy"] == np.__version__
    assert run.start["devices"] == ["TFRT_CPU_0"]
    assert run.start["python"] == sys.version.split()[0]


def test_a_changed_number_in_the_curve_of_a_finder_is_noticed(tmp_path: Path) -> None:
    """Any digit of it that another could replace, in a file that stays valid JSON; a file without a digest is of an earlier version."""
    with folder.open_run(tmp_path / "r", CONFIG, "hash") as book:
        book.write_finder("all", CURVE | {"lrs": [0.125, 0.25], "losses": [2.5, 1], "smoothed": [2.5, 1.5]})
    path = tmp_path / "r" / "finder-all.json"
    text = path.read_text()
    assert folder.read(tmp_path / "r").finders["all"]["losses"] == [2.5, 1]
    digits = [i for i in range(text.index('"lrs"'), text.index('"chosen"')) if text[i] in "125"]
    for i in digits:
        path.write_text(text[:i] + "3" + text[i + 1 :])
        with pytest.raises(InputError, match="is not what was written"):
            folder.read(tmp_path / "r")
    path.write_text(json.dumps({name: value for name, value in json.loads(text).items() if name != "digest"}))
    assert folder.read(tmp_path / "r").finders["all"]["losses"] == [2.5, 1]


def test_stage_names_never_share_a_finder_file(tmp_path: Path) -> None:
    long = "先训练头部然后解冻全部层并且使用较低的学习率进行微调" * 9
    names = ("a b", "a-b", "a/b", "a%2Fb", "é", "..", long, long + "a", long + "b", "x" * 300)
    with folder.open_run(tmp_path / "r", CONFIG, "abc") as book:
        for name in names:
            book.write_finder(name, CURVE | {"verdict": name})
    assert {stage: curve["verdict"] for stage, curve in folder.read(tmp_path / "r").finders.items()} == {name: name for name in names}
    assert not (tmp_path / "r" / "a").exists()


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    folder.open_run(tmp_path / "r", CONFIG, "abc").close()
    other = {**CONFIG, "stages": [CONFIG["stages"][0], {"type": "m:Stage", "lr": 0.3}], "seed": 0.0}
    for resume in (False, True):
        with pytest.raises(InputError, match="r belongs to config abc, this is xyz") as error:
            folder.open_run(tmp_path / "r", other, "xyz", resume=resume)
        assert "stages[1].lr: 0.2 → 0.3" in str(error.value)
        assert "seed: 0 → 0.0" in str(error.value)  # The types of a config are part of it.
        assert "stages[0]" not in str(error.value)
        assert "another run folder" in str(error.value)
    assert folder.read(tmp_path / "r").config == CONFIG


def test_the_same_config_needs_resume(tmp_path: Path) -> None:
    folder.open_run(tmp_path / "r", CONFIG, "abc").close()
    with pytest.raises(InputError, match=r"go on with it by --resume \(resume=True\), or use another run folder"):
        folder.open_run(tmp_path / "r", CONFIG, "abc")
    with folder.open_run(tmp_path / "r", CONFIG, "abc", resume=True) as book:
        assert book.resumed
    assert len(json.loads((tmp_path / "r" / "environment.json").read_text())["starts"]) == 2
    with folder.open_run(tmp_path / "new", CONFIG, "abc", resume=True) as book:
        assert not book.resumed


def test_folders_that_are_no_run_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        folder.open_run(tmp_path, CONFIG, "abc")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is a file"):
        folder.open_run(tmp_path / "thesis.tex", CONFIG, "abc")
    with pytest.raises(InputError, match=r"no config\.json"):
        folder.read(tmp_path)


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    book = folder.open_run(tmp_path / "r", CONFIG, "abc")
    with pytest.raises(InputError, match=f"in use by another process .process {os.getpid()}"):
        folder.open_run(tmp_path / "r", CONFIG, "abc", resume=True)
    book.close()
    book.close()
    folder.open_run(tmp_path / "r", CONFIG, "abc", resume=True).close()


def test_a_killed_process_loses_no_row_and_its_lock(tmp_path: Path) -> None:
    code = f"""
import os, signal
from sgdr_jax.runs import folder
book = folder.open_run({str(tmp_path / "r")!r}, {CONFIG!r}, "abc")
for step in range(5):
    book.append({{"kind": "train", "stage": "head", "step": step}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "sta')  # What a kill in the middle of a write leaves.
    assert [row["step"] for row in folder.read(tmp_path / "r").rows] == [0, 1, 2, 3, 4]
    with folder.open_run(tmp_path / "r", CONFIG, "abc", resume=True) as book:
        book.append({"kind": "train", "stage": "head", "step": 5})
        assert [row["step"] for row in book.rows()] == [0, 1, 2, 3, 4, 5]


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    with folder.open_run(tmp_path / "r", CONFIG, "abc") as book:
        book.append({"step": 0})
    file = tmp_path / "r" / "metrics.jsonl"
    file.write_bytes(b"\x00\x00\n" + file.read_bytes())
    with pytest.raises(InputError, match=r"metrics\.jsonl line 1"):
        folder.read(tmp_path / "r")
    (tmp_path / "r" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        folder.open_run(tmp_path / "r", CONFIG, "abc", resume=True)


@given(stages=st.lists(st.integers(1, 7), min_size=1, max_size=4), data=st.data())
@settings(max_examples=30, deadline=None)
def test_resuming_anywhere_gives_the_rows_of_an_uninterrupted_run(tmp_path_factory: Any, stages: list[int], data: st.DataObject) -> None:
    whole = []
    for i, steps in enumerate(stages):
        whole.append((i, 0, evaluated(f"s{i}", 0)))
        for step in range(steps):
            whole.append((i, step, train(f"s{i}", step)))
            if step % 3 == 2 or step == steps - 1:
                whole.append((i, step + 1, evaluated(f"s{i}", step + 1)))
    killed = data.draw(st.integers(1, len(whole)))
    stage = data.draw(st.integers(0, whole[killed - 1][0]))
    last = max((at + (row["kind"] == "train") for i, at, row in whole[:killed] if i == stage), default=0)
    step = data.draw(st.integers(0, last))
    path = tmp_path_factory.mktemp("run") / "r"
    with folder.open_run(path, CONFIG, "abc") as book:
        for _, _, row in whole[:killed]:
            book.append(row)
    with folder.open_run(path, CONFIG, "abc", resume=True) as book:
        book.metrics.truncate_after(f"s{stage}", step)
        kept = book.rows()
        again = [row for i, at, row in whole if (i, at) >= (stage, step) and not (i == stage and at == step and row["kind"] == "eval")]
        for row in again:
            book.append(row)
    rows = folder.read(path).rows
    expected = [row for _, _, row in whole]
    # The evaluation at the restored step itself was written before the checkpoint, unless the run was killed in between.
    missing = [row for row in expected if row not in rows]
    assert all(row["kind"] == "eval" and row["step"] == step for row in missing)
    assert rows == [row for row in expected if row in rows]
    assert kept == rows[: len(kept)]


def test_truncating_keeps_what_is_older(tmp_path: Path) -> None:
    with folder.open_run(tmp_path / "r", CONFIG, "abc") as book:
        for row in (train("a", 0), train("a", 1), evaluated("a", 2), train("b", 0), train("b", 1), evaluated("b", 2), train("c", 0)):
            book.append(row)
        assert book.metrics.truncate_after("b", 1) == 3
        assert book.rows() == [train("a", 0), train("a", 1), evaluated("a", 2), train("b", 0)]
        assert book.metrics.truncate_after("b", 1) == 0
        assert book.metrics.truncate_after("c", 0) == 0
        assert book.metrics.truncate_after("a", 2) == 1
        assert book.metrics.truncate_after("a", 0) == 3


def test_the_commit_says_when_files_were_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        return subprocess.run(("git", "-C", str(tmp_path), *identity, *words), check=True, capture_output=True, text=True).stdout.strip()

    assert git_commit(tmp_path / "e.py") is None
    git("init", "-q")
    assert git_commit(tmp_path / "e.py") is None
    (tmp_path / "e.py").write_text("1")
    git("add", "e.py")
    git("commit", "-qm", "one")
    assert git_commit(tmp_path / "e.py") == git("rev-parse", "HEAD")
    (tmp_path / "e.py").write_text("2")
    assert git_commit(tmp_path / "e.py") == git("rev-parse", "HEAD") + "+changes"


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    with folder.open_run(tmp_path / "r", CONFIG, "abc") as book:
        book.write_summary({"seconds": 1})

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(moment, killed)
        with pytest.raises(KeyboardInterrupt):
            book.write_summary({"seconds": 2})
    assert folder.read(tmp_path / "r").summary == {"seconds": 1}
