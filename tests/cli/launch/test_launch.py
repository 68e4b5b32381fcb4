"""Starting one run as several processes: what each target starts or writes, and how processes of this machine end together."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import submitit  # noqa: F401 (it sets up logging anew, which inside a test would close what pytest captures with)
import yaml

from sgdr_jax.cli.launch import TARGETS, Job, Kubernetes, Slurm, Tpu
from sgdr_jax.cli.launch.local import side_by_side
from sgdr_jax.cli.launch.slurm import Command
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError
from sgdr_jax.distributed import hosts
from sgdr_jax.sweeps.shared_queue import check_disk
from sgdr_jax.sweeps.trial_records import read_trials

EXPERIMENT = """
from sgdr_jax import Experiment, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment("Quick_1", data=Synthetic(classes=2, train=16, valid=8, test=8, side=8), model=Tiny(), batch_size=8,
    stages=(Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1)),))
"""
JOB = Job(Path("experiments/x.py"), Path("/runs/a b"), ("--seed", "1"), "Dog_breeds")


def stand_in_slurm(folder: Path, script: Path) -> None:
    """Writes stand-ins for Slurm's programs into a new folder: an sbatch that copies what it is given to `script`, and an srun, which
    submitit only looks for."""
    folder.mkdir()
    for name, lines in {"sbatch": f'/bin/cp "$1" {script}\necho Submitted batch job 7', "srun": "exit 1"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file, in a folder where nothing else is."""
    path = tmp_path / "quick.py"
    path.write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return path


def said(words: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["launch", *words])
    out, err = capfd.readouterr()
    assert ended.value.code == code, err
    return err if code else out


def test_help_names_the_targets_and_their_options(capfd: pytest.CaptureFixture[str]) -> None:
    text = said(["--help"], 0, capfd)
    assert all(re.search(rf"^  {name} +[A-Z]", text, re.MULTILINE) for name in TARGETS)
    for name, option in (("local", "--processes"), ("slurm", "--gpus-per-node"), ("tpu", "--accelerator"), ("k8s", "--claim")):
        assert option in said([name, "--help"], 0, capfd)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slrum", "x.py"], "unknown target 'slrum'; did you mean slurm? there are local, slurm, tpu, k8s"),
        (["local"], "launch local needs an experiment file first"),
        (["local", "nowhere.py"], "experiment file"),
        (["local", "quick.py", "-n", "0"], "--processes is 0; use 1 or more"),
        (["local", "quick.py", "--seeed", "1"], "did you mean --seed?"),
        (["local", "quick.py", "--batch-size", "0"], "batch_size is 0"),
        (["local", "quick.py", "--run", "."], "holds quick.py but no config.json"),
        (["slurm", "quick.py", "--nodes", "0", "--dry-run"], "--nodes is 0; use 1 or more"),
        (["slurm", "quick.py", "--gpus-per-node", "8", "--tasks-per-node", "2"], "use one for each of the 8 GPUs"),
        (["slurm", "quick.py"], "run this where sbatch is"),
        (["tpu", "quick.py", "--slice", "Mine"], "--slice is 'Mine'; use lower-case letters"),
        (["tpu", "quick.py", "--out", "no/x.sh"], "name a file in a folder that exists"),
        (["k8s", "quick.py", "--claim", "c"], "--image is ''; give an image"),
        (["k8s", "quick.py", "--image", "I: x", "--claim", "c"], "--image is 'I: x'; use a name without spaces"),
        (["k8s", "quick.py", "--image", "i", "--claim", "A_B!"], "--claim is 'A_B!'; use lower-case letters, digits, - and ."),
        (["k8s", "quick.py", "--image", "i", "--claim", "c", "--namespace", "Bad Name"], "--namespace is 'Bad Name'; use lower-case"),
        (["k8s", "quick.py", "--image", "i", "--claim", "c"], "use a folder below /runs"),
        (["k8s", "quick.py", "--image", "i", "--claim", "c", "--tpus", "4"], "give --tpu-kind and --topology"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    words: list[str], message: str, file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    text = said(words, 2, capfd)
    assert message in text and text.startswith("error: ") and text.count("\n") == 1
    assert [path.name for path in file.parent.iterdir() if path.name != "__pycache__"] == ["quick.py"]


# ---- local ----


def test_lines_bear_the_number_of_their_process(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os; print(os.environ['OWN']); print('done')"
    assert side_by_side([[sys.executable, "-c", code]] * 3, [{"OWN": f"mine {i}"} for i in range(3)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert sorted(lines) == sorted([f"[{i}] mine {i}" for i in range(3)] + [f"[{i}] done" for i in range(3)])


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)])
def test_the_first_that_fails_ends_all(end: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    """One that would go on for a minute, and one that does not even listen to SIGTERM."""
    sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.{}); time.sleep(60)"
    words = [sleep.format("SIG_DFL"), f"import os, sys, time; time.sleep(1); {end}", sleep.format("SIG_IGN")]
    began = time.monotonic()
    assert side_by_side([[sys.executable, "-c", each] for each in words], [{}] * 3, grace=0.5) == code
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_two_processes_of_this_machine_are_one_run(file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    text = said(["local", "quick.py", "-n", "2", "--run", "runs/a", "--seed", "3"], 0, capfd)
    assert "[0] run folder: runs/a" in text and "[1] run folder" not in text
    assert (file.parent / "runs/a/summary.json").exists()
    (start,) = json.loads((file.parent / "runs/a/environment.json").read_text())["starts"]
    assert len(start["devices"]) == 2
    assert "this run has finished already" in said(["local", "quick.py", "-n", "2", "--run", "runs/a", "--seed", "3", "--resume"], 0, capfd)


# ---- Slurm ----


def test_the_batch_script_says_what_was_asked_for(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        "--setup",
        "module load cuda",
        *["--nodes", "2", "--gpus-per-node", "8", "--partition", "long", "--memory", "64", "--minutes", "90"],
    ]
    text = said(["slurm", "quick.py", *words, "--stages.0.lr", "0.1", "--run", "runs/a", "--dry-run"], 0, capfd)
    expected = ["nodes=2", "gpus-per-node=8", "ntasks-per-node=8", "partition=long", "mem=64GB", "time=90", "requeue", "signal=USR2@90"]
    assert {f"#SBATCH --{each}" for each in expected} <= set(text.splitlines())
    assert "\nmodule load cuda\n" in text and f"--output={file.parent}/runs/a/launch/%j_0_log.out" in text
    assert text.rstrip().endswith("train quick.py --stages.0.lr 0.1 --run runs/a --resume")
    assert not Path("runs").exists()


def test_a_command_is_deaf_to_warnings_and_ends_with_its_process() -> None:
    """Slurm warns all processes of a job; submitit alone is to hear it. And a job that is ended leaves nothing behind."""
    ears = "import signal; print([signal.getsignal(s) == signal.SIG_IGN for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)])"
    run = f"from sgdr_jax.cli.launch.slurm import Command; from pathlib import Path; Command({[sys.executable, '-c', ears]!r}, Path('.'))()"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.stdout == "[True, False, True]\n", done.stderr
    with pytest.raises(RuntimeError, match="ended with 4"):
        Command([sys.executable, "-c", "raise SystemExit(4)"], Path("."))()
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    stop = "import signal, sys; signal.signal(signal.SIGALRM, lambda *_: sys.exit(5)); signal.alarm(2);"
    run = f"{stop} from sgdr_jax.cli.launch.slurm import Command; from pathlib import Path; Command({sleeper!r}, Path('.'))()"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.returncode == 5
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_command_may_save_before_its_job_is_queued_again(tmp_path: Path) -> None:
    """Called by a signal while the command runs, as submitit does it; what is queued is the same command."""
    import pickle
    import signal
    import time

    saves = "import pathlib, signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: (pathlib.Path('saved').touch(), sys.exit(75)));"
    command = Command([sys.executable, "-c", saves + "pathlib.Path('ready').touch(); time.sleep(60)"], tmp_path)
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


# ---- TPU ----


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
    (tmp_path / "there").touch()
    assert [line.split("|")[3] for line in calls()] == ["describe", "ssh", "scp", "ssh", "ssh", "scp", "delete"]


# ---- Kubernetes ----

NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
SCHEMA: dict[str, Any] = {
    "apiVersion!": r"jobset\.x-k8s\.io/v1alpha2",
    "kind!": "JobSet",
    "metadata!": {"name!": NAME, "namespace": NAME},
    "spec!": {
        "failurePolicy": {"maxRestarts": int, "restartStrategy": "Recreate|InPlaceRestart", "rules": list},
        "network": {"enableDNSHostnames": bool, "subdomain": NAME, "publishNotReadyAddresses": bool},
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
        "replicatedJobs!": [
            {
                "name!": NAME,
                "replicas": int,
                "template!": {
                    "spec!": {
                        "parallelism": int,
                        "completions": int,
                        "completionMode": "Indexed|NonIndexed",
                        "backoffLimit": int,
                        "template!": {
                            "spec!": {
                                "restartPolicy!": "Never|OnFailure",
                                "nodeSelector": dict,
                                "containers!": [
                                    {
                                        "name!": NAME,
                                        "image!": r"\S+",
                                        "command": [".+"],
                                        "ports": [{"containerPort!": int}],
                                        "resources": {"limits": dict, "requests": dict},
                                        "volumeMounts": [{"name!": NAME, "mountPath!": "/.*"}],
                                    }
                                ],
                                "volumes": [{"name!": NAME, "persistentVolumeClaim": {"claimName!": NAME}}],
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""The fields that a JobSet may have, as far as any is written here, with ! where it must be there. Source: the OpenAPI definitions of
jobset.x-k8s.io/v1alpha2, and those of Kubernetes' batch/v1 Job and its pods."""


def fits(value: Any, schema: Any, at: str = "") -> None:
    """Fails where data do not fit: a dict of fields, a list of one kind of item, a regular expression for text, or a type."""
    if isinstance(schema, dict):
        known = {name.rstrip("!"): kind for name, kind in schema.items()}
        assert isinstance(value, dict) and value.keys() <= known.keys(), f"{at}: {value.keys() - known.keys()}"
        assert {name[:-1] for name in schema if name.endswith("!")} <= value.keys(), at
        for name, each in value.items():
            fits(each, known[name], f"{at}.{name}")
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, at
        for i, each in enumerate(value):
            fits(each, schema[0], f"{at}[{i}]")
    elif isinstance(schema, str):
        assert isinstance(value, str) and re.fullmatch(schema, value), f"{at}: {value!r}"
    else:
        assert type(value) is schema, f"{at}: {value!r}"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pods": 1},
        {"pods": 16, "gpus": 8, "namespace": "ml"},
        {"pods": 4, "tpus": 4, "tpu_kind": "tpu-v5-lite-podslice", "topology": "4x4"},
    ],
)
def test_a_jobset_fits_its_schema_and_its_pods_find_each_other(fields: dict[str, Any], tmp_path: Path) -> None:
    target = Kubernetes(image="ghcr.io/me/sgdr:1", claim="runs", out=tmp_path / "jobset.yaml", **fields)
    assert target.launch(JOB, NullConsole()) == 0
    made = yaml.safe_load(target.out.read_text())
    fits(made, SCHEMA)
    job = made["spec"]["replicatedJobs"][0]
    pods, container = job["template"]["spec"], job["template"]["spec"]["template"]["spec"]["containers"][0]
    assert pods["parallelism"] == pods["completions"] == target.pods and pods["completionMode"] == "Indexed" and pods["backoffLimit"] == 0
    words = container["command"]
    assert words[:7] == ["sgdr-jax", "train", "experiments/x.py", "--seed", "1", "--run", "/runs/a b"]
    if target.pods > 1 and not target.tpus:
        host = f"{made['metadata']['name']}-{job['name']}-0-0"  # <jobset>-<replicatedJob>-<job index>-<pod index>.<subdomain>
        assert words[8:12] == ["--hosts.coordinator", f"{host}.{made['metadata']['name']}:8476", "--hosts.count", str(target.pods)]
        assert container["ports"] == [{"containerPort": 8476}]
    else:
        assert words[8:] == []
    if target.tpus:  # what GKE sets for such pods is what tells the hosts apart
        assert hosts.detect_cluster({"TPU_WORKER_HOSTNAMES": "a,b"}) == "TPU"


def test_a_schema_that_is_not_met_is_noticed() -> None:
    made = Kubernetes(image="i", claim="c").jobset(JOB)
    for spoil in (lambda m: m["spec"].update(replicas=1), lambda m: m["metadata"].update(name="Dog_breeds"), lambda m: m.pop("kind")):
        spoiled = yaml.safe_load(yaml.safe_dump(made))
        spoil(spoiled)
        with pytest.raises(AssertionError):
            fits(spoiled, SCHEMA)


def test_chips_and_topology_must_agree() -> None:
    with pytest.raises(InputError, match="it has 16 chips, but 2 pods of 4 have 8"):
        Kubernetes(image="i", claim="c", pods=2, tpus=4, tpu_kind="k", topology="4x4")


def test_several_commands_are_one_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a sweep submits: sbatch is told once, of all."""
    stand_in_slurm(tmp_path / "bin", tmp_path / "script")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert Slurm(parallel=2).submit([["a"], ["b"], ["c"]], tmp_path / "logs", "sweep") == ["7_0", "7_1", "7_2"]
    assert "#SBATCH --array=0-2%2" in (tmp_path / "script").read_text()


# ---- a sweep as an array ----

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
        (["--nodes", "2"], "--nodes is 2; a worker of a sweep is one process with one GPU at most: use 1, and more --workers"),
        (["--gpus-per-node", "4", "--dry-run"], "--gpus-per-node is 4; a worker of a sweep is one process"),
        (["--workers", "0"], "--workers is 0; use 1 or more"),
        (["--minuts", "3"], "Unrecognized options: --minuts"),
        (["--only", "9", "--dry-run"], "--only is 9"),
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


def test_sqlite_is_refused_on_a_network_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [
        SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in (("/", "ext4"), ("/home", "nfs4"), ("/home/me/own disk", "xfs"))
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    message = "--store sqlite:////home/me/a.db is SQLite on nfs4, which does not lock; use --store /home/me/a.journal, or the URL"
    with pytest.raises(InputError, match=message):
        check_disk("/home/me/a.db")
    for fine in ("/home/me/a.journal", "postgresql://me@host/base", "/x/a.db", "sqlite:////home/me/own disk/a.db"):
        check_disk(fine)
