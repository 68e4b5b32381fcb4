"""`sgdr-jax sweep`: its exit code and dry run; with `--launch slurm` workers as an array of jobs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import submitit  # noqa: F401 (it sets up logging anew, which inside a test would close what pytest captures with)

from sgdr_jax.cli.main import main
from sgdr_jax.runs.folder import lock
from sgdr_jax.sweeps.sweep_record import read_sweep, run_folder
from sgdr_jax.sweeps.trial_records import read_trials
from tests.cli.slurm_stand_in import stand_in_slurm

SWEEP = "from tests.jobs.workers import SEARCHED as sweep\n"


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "searched.py"
    path.write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    return path


def swept(words: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> str:
    try:
        main(["sweep", "searched.py", "--launch", "slurm", *words])
        ended = 0
    except SystemExit as exit_:
        ended = exit_.code
    out, err = capfd.readouterr()
    assert ended == code, err
    return err if code else out


def test_the_batch_script_of_a_sweep_is_an_array_of_workers(sweep_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--workers", "5", "--parallel", "3", "--gpus-per-node", "1", "--partition", "long", "--batch-size", "8", "--dir", "d"]
    text = swept([*words, "--stages.0.lr", "0.1", "--grace", "30", "--dry-run"], 0, capfd)
    expected = ["array=0-4%3", "gpus-per-node=1", "ntasks-per-node=1", "partition=long", "requeue", "signal=USR2@90"]
    assert {f"#SBATCH --{each}" for each in expected} <= set(text.splitlines()), text
    given = "--launch slurm --workers 5 --batch-size 8 --dir d --stages.0.lr 0.1 --grace 30"  # of options given twice the last one holds
    worker = f"-m sgdr_jax sweep searched.py {given} --workers 1 --launch None --no-retry --store d/store.journal --dir d"
    assert text.rstrip().endswith(worker) and "# each of the 5 jobs" in text
    assert [path.name for path in sweep_file.parent.iterdir() if path.name != "__pycache__"] == ["searched.py"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "--processes is 2; use --nodes and --tasks-per-node with --launch slurm"),
        (["--workers", "0"], "--workers is 0; use 1 or more"),
        (["--minuts", "3"], "Unrecognized options: --minuts"),
        (["--only", "9", "--dry-run"], "--only is 9"),
        (["--only", "3-1", "--dry-run"], "--only is '3-1'; that names no run; give numbers such as 3,7 or 0-4"),
        (["--only", ",", "--dry-run"], "--only is ','; that names no run"),
        ([], "run this where sbatch is"),
    ],
)
def test_what_an_array_cannot_do_is_one_line_and_writes_nothing(
    words: list[str], message: str, sweep_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    text = swept(words, 2, capfd)
    assert message in text and text.startswith("error: ") and text.count("\n") == 1, text
    assert [path.name for path in sweep_file.parent.iterdir() if path.name != "__pycache__"] == ["searched.py"]


QUICK = """
import dataclasses
from sgdr_jax.schedules import Constant
from sgdr_jax.sweeps import Sweep, grid
from tests.jobs.workers import BASE, STAGES
base = dataclasses.replace(BASE, stages=(dataclasses.replace(STAGES[0], schedule=Constant(1)),))
sweep = Sweep("quick", base, (grid({"label_smoothing": (0.0, 0.1)}),))
"""


def ran(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Run the quick sweep; return the exit code and all that it has printed."""
    try:
        main(["sweep", "quick.py", "--dir", "d", *words])
        code: object = 0
    except SystemExit as exit_:
        code = exit_.code
    return code, "".join(capfd.readouterr())


def test_a_run_that_another_process_holds_is_left_and_the_exit_code_tells(sweep_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two sweeps of one folder at once both ended with 0, one with runs left over."""
    Path("quick.py").write_text(QUICK)
    assert ran(["--only", "0"], capfd)[0] == 0
    (held := run_folder(Path("d"), read_sweep(Path("d"))["runs"][1]["hash"])).mkdir()
    other = lock(held)
    code, text = ran([], capfd)
    assert code == 1 and "1 run is left: another process has it; repeat the command" in text
    assert "seed 0) is skipped: run folder" in " ".join(text.split()) and "--run" not in text
    assert ran(["--only", "0"], capfd)[0] == 0  # which asks for no other
    other.release()
    code, text = ran([], capfd)
    assert code == 0 and "left" not in text


@pytest.mark.parametrize("words", [["--dry-run"], ["--launch", "slurm", "--dry-run"]])
def test_a_dry_run_refuses_the_folder_that_the_sweep_would_refuse(
    words: list[str], sweep_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It printed a table for an edited file, whose sweep then ended in an error."""
    Path("quick.py").write_text(QUICK)
    Path("d").mkdir()
    Path("d/notes.txt").touch()
    code, text = ran(words, capfd)
    assert code == 2 and "sweep folder d holds notes.txt but no sweep.json; use another --dir" in text
    assert [path.name for path in Path("d").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_jobs_of_an_array_share_a_sweep_and_one_that_is_preempted_comes_back(
    sweep_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sbatch of this test starts what it is given, as Slurm would: each job of the array twice, the first one killed between."""
    bin_, calls = sweep_file.parent / "bin", sweep_file.parent / "calls"
    stand_in_slurm(bin_, calls)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(sweep_file.parent / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(sweep_file.parent / "cache" / "compiled"))  # half a program may be left there
    text = swept(["--workers", "2", "--dir", "d", "--grace", "3", "--pace", "0", "--keep", "all"], 0, capfd)
    assert "job 7, 2 workers" in text and "#SBATCH --array=0-1%2" in calls.read_text()
    logs = Path("d/launch")
    job = ["-c", "import sys; from submitit.core.submission import submitit_main; submitit_main()", str(logs)]

    def started(task: int) -> subprocess.Popen[bytes]:
        own = {
            "SUBMITIT_EXECUTOR": "slurm",
            "SLURM_JOB_ID": f"{8 + task}",
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_JOB_NUM_NODES": "1",
        }
        own |= {
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_NTASKS": "1",
            "SLURM_PROCID": "0",
            "SLURM_NODEID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_JOB_NODELIST": "here",
        }
        with (logs / f"{task}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *job], env=os.environ | own, stdout=log, stderr=log, start_new_session=True)

    first, second = started(0), started(1)
    deadline = time.monotonic() + 150
    while not list(Path("d").glob("runs/*/checkpoints/stage-1-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(first.pid, 9)
    first.wait()
    again = started(0)
    assert second.wait(300) == 0 and again.wait(300) == 0, (logs / "1.log").read_text() + (logs / "0.log").read_text()
    found = read_trials(Path("d"), "accuracy")
    assert len(found) == 6 and all(trial.ended for trial in found)
    assert len(list(Path("d").glob("runs/*/summary.json"))) == sum(t.state == "finished" for t in found) + 2 + 1
