"""The script for a TPU slice."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sgdr_jax.cli.launch import Job, Tpu
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError


def test_the_tpu_script_makes_installs_trains_fetches_and_deletes(tmp_path: Path) -> None:
    """Run with a gcloud that only writes down what it is told; the slice is there the second time."""
    (tmp_path / "bin").mkdir()
    gcloud, log = tmp_path / "bin/gcloud", tmp_path / "log"
    gcloud.write_text(f'#!/bin/bash\nprintf "%s|" "$@" >> {log}; echo >> {log}\n[ "$4" != describe ] || [ -e {tmp_path}/there ]\n')
    gcloud.chmod(0o755)
    target = Tpu(slice="mine", spot=True, out=tmp_path / "start.sh")
    assert target.launch(Job(Path("x.py"), Path("runs/a b"), ("--seed", "1"), "x"), NullConsole()) == 0

    def calls() -> list[str]:
        log.write_text("")
        where: dict[str, Any] = {"cwd": tmp_path, "env": {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}}
        subprocess.run(["./start.sh"], check=True, **where)
        return log.read_text().splitlines()

    first = calls()
    assert [line.split("|")[3] for line in first] == ["describe", "create", "ssh", "scp", "ssh", "ssh", "scp", "delete"]
    assert "|--accelerator-type|v5litepod-16|" in first[1] and first[1].endswith("|--spot|")
    train = "cd work && .venv/bin/sgdr-jax train x.py --seed 1 --run 'runs/a b' --resume --hosts.cluster TPU"
    assert first[5].endswith(f"|--worker=all|--command|{train}|")
    assert "|mine:work/runs/a b|runs|" in first[6]
    assert target.script(Job(Path("experiments/x.py").resolve(), Path("a"), (), "x")).count("train experiments/x.py --run a") == 1
    (tmp_path / "there").touch()
    assert [line.split("|")[3] for line in calls()] == ["describe", "ssh", "scp", "ssh", "ssh", "scp", "delete"]


def test_paths_that_the_slice_would_not_have_are_refused(tmp_path: Path) -> None:
    """The script trained, failed to fetch the run, and left the slice running."""
    inner = Tpu(source=tmp_path, out=tmp_path / "start.sh")
    assert "sgdr-jax train x.py" in inner.script(Job(tmp_path / "x.py", Path("a"), (), "x"))
    with pytest.raises(InputError, match=r"^--source is .*: name a folder that contains other/x.py|^--source is '.*; name a folder"):
        inner.script(Job(Path("other/x.py"), Path("a"), (), "x"))
    for run in ("/data/runs/a", "../a"):
        with pytest.raises(InputError, match=f"^--run is '{run}'.*relative path"):
            inner.launch(Job(tmp_path / "x.py", Path(run), (), "x"), NullConsole())
    assert not inner.out.exists()
