"""Two real processes on one machine are one run: they agree, they end together, and they go on where one left off."""

import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from sgdr_jax.cli.commands.train import Hosts
from sgdr_jax.cli.launch.local import free_port
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.serialization import config_hash
from sgdr_jax.distributed import hosts
from sgdr_jax.distributed.heartbeat import PeerMonitor

from ..helpers import experiment

EXPERIMENT = """
from sgdr_jax import AdamW, Eval, Experiment, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment(
    "hosts",
    data=Synthetic(classes=3, train=61, valid=21, test=19, side=16),
    model=Tiny(),
    batch_size=16,
    augment=side_on(),
    optimizer=AdamW(),
    checkpoint_steps=3,
    compute="float64",
    evaluate=Eval(batch_size=16, tta_views=1),
    stages=(
        Stage("head", size=16, train="head", lr=0.01, schedule=Constant(2), views=2, precompute=True),
        Stage("all", size=16, lr=0.003, schedule=Constant(2)),
    ),
)
"""


def start(
    file: Path,
    run: Path,
    count: int,
    *words: str,
    die_at: int = 0,
    own: dict[int, list[str]] | None = None,
    devices: Sequence[int] = (),
    own_environment: dict[str, str] | None = None,
) -> list[subprocess.Popen[str]]:
    """Starts training in so many processes, of one device each unless `devices` says otherwise."""
    precise = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "standard"}
    environment = os.environ | precise | {"DIE_AT": str(die_at)} | (own_environment or {})
    address, began = f"127.0.0.1:{free_port()}", list[subprocess.Popen[str]]()
    for i in range(count):
        several = ["--hosts.coordinator", address, "--hosts.count", str(count), "--hosts.index", str(i)] if count > 1 else []
        command = [sys.executable, "-m", "sgdr_jax", "train", str(file), "--run", str(run), *several, *words, *(own or {}).get(i, [])]
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices[i] if devices else 1}"}
        where: Any = {"cwd": Path(__file__).parents[2], "env": environment | flags, "text": True}
        began.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **where))
    return began


def train(file: Path, run: Path, count: int, *words: str, **how: Any) -> list[Any]:
    """Trains as `start`, to the end; gives each process's messages and exit code."""
    return [(process.communicate(timeout=120)[0], process.returncode) for process in start(file, run, count, *words, **how)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hosts") / "experiment.py"
    path.write_text(EXPERIMENT)
    return path


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def summary(run: Path) -> Any:
    return json.loads((run / "summary.json").read_text())


DYING = """
import os
from sgdr_jax.runs import run
real = run.open_stage
def open_stage(*args):
    stage, done = real(*args), [0]
    def update(*words):
        done[0] += 1
        if args[1].index == 1 and done[0] > int(os.environ["DIE_AT"]) > 0:
            os._exit(1)
        return stage.update(*words)
    return stage._replace(update=update)
run.open_stage = open_stage
"""


SWEPT = """
from sgdr_jax.sweeps import Sweep, grid
sweep = Sweep("swept", experiment, (grid({"label_smoothing": (0.0, 0.1)}),))
"""


@pytest.mark.slow
def test_a_sweep_ends_well_on_all_hosts_though_one_alone_sees_its_folder(file: Path, tmp_path: Path) -> None:
    """The other hosts counted every run as left over."""
    sweep, address = file.with_name("swept.py"), f"127.0.0.1:{free_port()}"
    sweep.write_text(EXPERIMENT.replace("Constant(2)", "Constant(1)") + SWEPT)
    precise = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "standard", "PYTHONPATH": str(Path(__file__).parents[2])}
    began = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        words = ["sweep", str(sweep), "--hosts.coordinator", address, "--hosts.count", "2", "--hosts.index", str(i)]
        where: Any = {"cwd": tmp_path / str(i), "env": os.environ | precise, "text": True, "stderr": subprocess.STDOUT}
        began.append(subprocess.Popen([sys.executable, "-m", "sgdr_jax", *words], stdout=subprocess.PIPE, **where))
    ended = [(process.communicate(timeout=120)[0], process.returncode) for process in began]
    assert [code for _, code in ended] == [0, 0], ended
    assert (tmp_path / "0" / "runs" / "swept").is_dir() and not (tmp_path / "1" / "runs").exists()


@pytest.mark.slow
def test_two_processes_end_as_one_does_and_take_turns(file: Path, tmp_path: Path) -> None:
    """One process; two; and a run that two begin, one goes on with and two finish; all train once more on all images, as the test figures
    tell. 61, 82, 21 and 19 images are no multiples of two, or of two batches.

    In float64, so that what AdamW makes of rounding is not mistaken for a fault.
    """
    ((text, code),) = train(file, tmp_path / "one", 1, "--refit")
    assert code == 0, text
    for text, code in train(file, tmp_path / "two", 2, "--refit"):
        assert code == 0, text
    dying = file.with_name("dying.py")
    dying.write_text(EXPERIMENT + DYING)
    ended = train(dying, tmp_path / "turns", 2, "--refit", die_at=4)
    assert all(code != 0 for _, code in ended)
    ((text, code),) = train(dying, tmp_path / "turns", 1, "--refit", "--resume", die_at=3)
    assert code == 1, text
    for text, code in train(file, tmp_path / "turns", 2, "--refit", "--resume"):
        assert code == 0, text
    one = summary(tmp_path / "one")
    for name in ("two", "turns"):
        other = summary(tmp_path / name)
        for part in (".", "refit"):
            np.testing.assert_allclose(losses(tmp_path / name / part), losses(tmp_path / "one" / part), rtol=1e-9)
        for split in ("valid", "test"):
            assert other[split]["accuracy"] == one[split]["accuracy"] and other[split]["tta_accuracy"] == one[split]["tta_accuracy"]
            assert other[split]["loss"] == pytest.approx(one[split]["loss"], rel=1e-9)
    assert len(losses(tmp_path / "turns")) == 16


@pytest.mark.slow
def test_a_batch_that_two_hosts_cannot_share_ends_both_with_one_sentence(file: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    for text, code in train(file, tmp_path / "run", 2, "--batch-size", "15"):
        assert code == 2 and "error: batch_size is 15; use a multiple of the 2 devices" in text and "Traceback" not in text
    assert time.monotonic() - began < 60 and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_one_host_lacks_ends_both_by_its_name(file: Path, tmp_path: Path) -> None:
    for text, code in train(file, tmp_path / "run", 2, own={1: ["--data.train", "60"]}):
        assert code == 2 and "error: the data of host 1 differ from those of host 0" in text and "Traceback" not in text


@pytest.mark.slow
def test_a_host_without_the_data_ends_both(file: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (16, 16), (20 * i, 90, 30)).save(tmp_path / "data" / name / f"{i}.png")
    photos, synthetic = file.with_name("photos.py"), re.search(r"Synthetic\(.*\)", EXPERIMENT)
    assert synthetic
    folder = f"ImageFolder({str(tmp_path / 'data')!r})"
    photos.write_text(EXPERIMENT.replace(synthetic[0], folder).replace("import Synthetic", "import ImageFolder"))
    began, nowhere = time.monotonic(), str(tmp_path / "nowhere")
    for text, code in train(photos, tmp_path / "run", 2, own={1: ["--data.root", nowhere]}):
        assert code == 2 and "error: host 1 (" in text and nowhere in text and "Traceback" not in text
    assert time.monotonic() - began < 60 and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_unequal_numbers_of_devices_end_both(file: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    for text, code in train(file, tmp_path / "run", 2, devices=(1, 2)):
        assert code == 2 and "error: the hosts have 1, 2 devices; give all of them the same number" in text and "Traceback" not in text
    assert time.monotonic() - began < 60 and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_wrong_coordinator_ends_both(file: Path, tmp_path: Path) -> None:
    """Host 1 looks where nobody is, so nobody comes to host 0."""
    began, wrong = time.monotonic(), ["--hosts.coordinator", f"127.0.0.1:{free_port()}"]
    for text, code in train(file, tmp_path / "run", 2, "--hosts.wait", "5", own={1: wrong}):
        assert code == 2 and "error: the hosts did not come together at 127.0.0.1:" in text and "within 5 s" in text
    assert time.monotonic() - began < 60 and Hosts().wait < 50


@pytest.mark.slow
def test_the_death_of_a_host_ends_the_other_soon(file: Path, tmp_path: Path) -> None:
    slow = file.with_name("slow.py")
    slow.write_text(EXPERIMENT + DYING.replace("done[0] += 1", "__import__('time').sleep(0.5)"))
    ours, other = start(slow, tmp_path / "run", 2)
    until = time.monotonic() + 100
    while not (tmp_path / "run/metrics.jsonl").exists() or not losses(tmp_path / "run"):
        assert time.monotonic() < until and ours.poll() is None
        time.sleep(0.2)
    other.kill()
    began = time.monotonic()
    text, _ = ours.communicate(timeout=60)
    other.communicate()
    assert ours.returncode == 2 and "error: another host is gone, see its log; then continue with --resume" in text
    assert time.monotonic() - began < 10


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_host_that_hangs_ends_the_other_with_its_name(file: Path, tmp_path: Path, frozen: int) -> None:
    slow = file.with_name("slow.py")
    slow.write_text(EXPERIMENT + DYING.replace("done[0] += 1", "__import__('time').sleep(0.5)"))
    both = start(slow, tmp_path / "run", 2)
    until = time.monotonic() + 100
    while not (tmp_path / "run/metrics.jsonl").exists() or not losses(tmp_path / "run"):
        assert time.monotonic() < until and both[0].poll() is None
        time.sleep(0.2)
    both[frozen].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    text, _ = both[1 - frozen].communicate(timeout=60)
    seconds = time.monotonic() - began
    both[frozen].kill()
    both[frozen].communicate()
    who = rf"host {frozen} \({re.escape(platform.node())}\)"  # whether its count or its store, that of host 0, is missed first
    assert both[1 - frozen].returncode == 2, text
    assert re.search(
        rf"^error: {who} has been silent for 20 s: it hangs or is cut off; check it, then continue with --resume$", text, re.M
    ), text
    assert text.rstrip().endswith("--resume") and 19 < seconds < 40


def test_the_lost_host_is_named() -> None:
    now = 0
    monitor = PeerMonitor(lambda: now)
    for now in range(40):
        beats = {"0": f"{now} a", "1": f"{min(now, 10)} b", "2": "over" if now > 2 else f"{now} c"}
        monitor.observe(beats if now > 5 else {"0": beats["0"]})
        assert hosts.lost_host(monitor, 20) == ("host 1 (b)" if now > 30 else "")  # a host that has finished may be silent
    now = 60
    assert hosts.lost_host(monitor, 20) == "host 0 (a)"  # which keeps the store
    now = 0
    monitor = PeerMonitor(lambda: now)
    now = 30
    assert hosts.lost_host(monitor, 20) == "host 0"  # the store has never answered, so that no name is known


@pytest.mark.slow
@pytest.mark.parametrize(("count", "number"), [(1, signal.SIGTERM), (1, signal.SIGUSR1), (2, signal.SIGUSR1)])
def test_a_run_that_is_told_to_make_room_saves_and_goes_on(file: Path, tmp_path: Path, count: int, number: int) -> None:
    """One of two hosts is told; both stop after the same update, which no checkpoint was due at, and the end is as of a run left alone."""
    slow = file.with_name("long.py")
    longer = EXPERIMENT.replace("checkpoint_steps=3,", "").replace("lr=0.003, schedule=Constant(2)", "lr=0.003, schedule=Constant(12)")
    slow.write_text(longer + DYING.replace("done[0] += 1", "__import__('time').sleep(float(os.environ.get('PAUSE', 0)))"))
    began = start(slow, tmp_path / "run", count, own_environment={"PAUSE": "0.25"})
    until = time.monotonic() + 100
    while not (tmp_path / "run/metrics.jsonl").exists() or len(losses(tmp_path / "run")) < 12:
        assert time.monotonic() < until and began[0].poll() is None
        time.sleep(0.1)
    began[-1].send_signal(number)
    texts = [process.communicate(timeout=60)[0] for process in began]
    assert [process.returncode for process in began] == [75] * count, texts
    told = [re.search(r"preempted: saved after update (\d+) of 48 of the stage", text) for text in texts]
    assert len({found and found[1] for found in told}) == 1 and told[0] and f"--run {tmp_path / 'run'} --resume" in texts[0], texts
    assert len(losses(tmp_path / "run")) == 8 + int(told[0][1])
    for text, code in train(slow, tmp_path / "run", count, "--resume"):
        assert code == 0, text
    for text, code in train(slow, tmp_path / "alone", count):
        assert code == 0, text
    assert (
        losses(tmp_path / "run") == losses(tmp_path / "alone") and summary(tmp_path / "run")["test"] == summary(tmp_path / "alone")["test"]
    )


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2"}, ""),
        ({"SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, ""),
        ({"SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "Slurm"),
        ({"SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, ""),  # of `salloc`
        ({"OMPI_COMM_WORLD_SIZE": "1"}, ""),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "Open MPI"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
    ],
)
def test_clusters_are_known_by_what_they_set(environment: dict[str, str], name: str) -> None:
    assert hosts.detect_cluster(environment) == name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coordinator": "a:1"}, "give coordinator, count and index, or none"),
        ({"coordinator": "a", "count": 2, "index": 0}, "use HOST:PORT of host 0"),
        ({"coordinator": "a:1", "count": 2, "index": 2}, "use 0…1"),
        ({"wait": 0}, "use 1 second or more"),
    ],
)
def test_hosts_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Hosts(**fields)


def test_a_cluster_that_is_named_is_asked_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **words: asked.append(words))
    hosts.initialize()
    assert not asked
    hosts.initialize(**vars(Hosts(cluster="TPU")))
    assert len(asked) == 1 and not {"coordinator_address", "num_processes", "process_id"} & asked[0].keys()


@pytest.mark.parametrize(
    ("error", "so"),
    [
        (jax.errors.JaxRuntimeError("INTERNAL: Gloo AllReduce failed"), True),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), True),
        (ValueError("shapes differ"), False),
        (InputError("UNKNOWN: is no class"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_a_lost_host_is_known_by_the_error(error: Exception, so: bool) -> None:
    assert hosts.is_peer_failure(error) == so


def test_alone_everything_is_a_plain_call() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device", "x")

    assert hosts.on_leader(lambda: [1]) == [1] and hosts.run_on_all_hosts(lambda: 2) == 2
    assert hosts.gather("a") == ["a"] and hosts.is_leader()
    with pytest.raises(OSError, match="No space"):
        hosts.run_on_all_hosts(fail)
    hosts.require_same("the data", 1)


def test_where_a_run_is_computed_is_no_part_of_what_it_is() -> None:
    one = experiment()
    assert config_hash(dataclasses.replace(one, parallel=Parallel(2, "pmap"))) == config_hash(one)
