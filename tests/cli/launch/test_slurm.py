"""Jobs of Slurm: commands, signals, arrays."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import submitit  # noqa: F401 (it sets up logging anew, which inside a test would close what pytest captures with)

from sgdr_jax.cli.launch import Job, Slurm
from sgdr_jax.cli.launch.slurm import SubmittedCommand
from sgdr_jax.core.console import NullConsole
from tests.cli.slurm_stand_in import stand_in_slurm


def test_a_command_is_deaf_to_warnings_and_ends_with_its_process() -> None:
    """Slurm warns all processes of a job; submitit alone is to hear it. And a job that is ended leaves nothing behind."""
    ears = "import signal; print([signal.getsignal(s) == signal.SIG_IGN for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)])"
    start = "from sgdr_jax.cli.launch.slurm import SubmittedCommand; from pathlib import Path"
    run = f"{start}; SubmittedCommand({[sys.executable, '-c', ears]!r}, Path('.'))()"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.stdout == "[True, False, True]\n", done.stderr
    with pytest.raises(RuntimeError, match="ended with 4"):
        SubmittedCommand([sys.executable, "-c", "raise SystemExit(4)"], Path("."))()
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    stop = "import signal, sys; signal.signal(signal.SIGALRM, lambda *_: sys.exit(5)); signal.alarm(2);"
    run = f"{stop} {start}; SubmittedCommand({sleeper!r}, Path('.'))()"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.returncode == 5
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_command_may_save_before_its_job_is_queued_again(tmp_path: Path) -> None:
    """Called by a signal while the command runs, as submitit does it; what is queued is the same command."""
    import pickle
    import signal

    saves = "import pathlib, signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: (pathlib.Path('saved').touch(), sys.exit(75)));"
    command = SubmittedCommand([sys.executable, "-c", saves + "pathlib.Path('ready').touch(); time.sleep(60)"], tmp_path)
    again = []

    def warned(*_: object) -> None:
        if (tmp_path / "ready").exists():
            again.append(command.checkpoint())
            raise InterruptedError
        signal.alarm(1)

    before, began = signal.signal(signal.SIGALRM, warned), time.monotonic()
    try:
        signal.alarm(1)
        with pytest.raises(InterruptedError):
            command()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "saved").exists() and time.monotonic() - began < 50
    assert pickle.loads(pickle.dumps(again[0].function)).words == command.words


def test_several_commands_are_one_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a sweep submits: sbatch is told once, of all."""
    stand_in_slurm(tmp_path / "bin", tmp_path / "script")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert Slurm(parallel=2).submit([["a"], ["b"], ["c"]], tmp_path / "logs", "sweep") == ["7_0", "7_1", "7_2"]
    assert "#SBATCH --array=0-2%2" in (tmp_path / "script").read_text()


@pytest.mark.parametrize("of_sweep", [False, True])
def test_the_note_below_a_script_is_one_comment_that_a_shell_reads_as_the_command(
    of_sweep: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line break in a word ended the comment, and what followed was executed."""
    words = ("--data.root", "my photos; rm -r *", "--name", "a\nrm -r b")
    if of_sweep:
        Slurm(dry_run=True).workers(["sgdr-jax", "sweep", "x.py", *words], 3, tmp_path, "x", NullConsole())
    else:
        assert Slurm(dry_run=True).launch(Job(Path("x.py"), tmp_path / "run", words, "x"), NullConsole()) == 0
    script = capsys.readouterr().out
    (note,) = [line for line in script.splitlines() if "x.py" in line]
    assert note.startswith("# ") and script.endswith(f"{note}\n") and "\nrm" not in script
    command = shlex.split(note.partition(": ")[2].replace("\\n", "\n"))
    start = command.index("x.py") + 1
    assert tuple(command[start : start + len(words)]) == words


def test_of_a_range_of_nodes_srun_starts_the_tasks() -> None:
    """Slurm 22.05 gives a job as many nodes as it has tasks, and counts --ntasks-per-node for the fewest nodes of a range."""

    def script(**options: Any) -> set[str]:
        executor = Slurm(gpus_per_node=4, cpus_per_task=3, **options).executor(Path("logs"), "name")
        return set(executor._make_submission_file_text(executor._submitit_command_str, "ID").split())

    several, range_ = script(nodes="2"), script(nodes="2-8")
    assert {"--nodes=2", "--ntasks-per-node=4"} <= several and not any("mincpus" in word for word in several)
    assert {"--nodes=2-8", "--mincpus=12", "--cpus-per-task=3", "--gpus-per-node=4", "--ntasks-per-node=4"} <= range_
    executor = Slurm(nodes="2-8", gpus_per_node=4).executor(Path("logs"), "name")
    text = executor._make_submission_file_text(executor._submitit_command_str, "ID")
    assert "#SBATCH --ntasks-per-node" not in text and text.splitlines()[-1].startswith("srun") and "--ntasks-per-node=4" in text
