"""`sgdr-jax launch`: help, what is rejected, what is started."""

import json
import re
from pathlib import Path

import pytest
import submitit  # noqa: F401 (it sets up logging anew, which inside a test would close what pytest captures with)

from sgdr_jax.cli.launch import TARGETS
from sgdr_jax.cli.main import main

EXPERIMENT = """
from sgdr_jax import Experiment, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment("Quick_1", data=Synthetic(classes=2, train=16, valid=8, test=8, side=8), model=Tiny(), batch_size=8,
    stages=(Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1)),))
"""


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
        (["slrum", "x.py"], "unknown target 'slrum'; did you mean slurm? there are local, slurm, tpu, k8s, sky"),
        (["kubernets", "x.py"], "unknown target 'kubernets'; did you mean k8s? there are"),
        (["skypilot", "x.py"], "unknown target 'skypilot'; did you mean sky? there are"),
        (["Slurm", "x.py"], "unknown target 'Slurm'; did you mean slurm? there are"),
        (["k8s", "quick.py", "--image", "i", "--claim", "c", "--run", "/runs/../x"], "--run is '/runs/../x'; use a folder below /runs"),
        (["sky", "quick.py", "--bucket", "s3://b", "--run", "/runs/a/../../x"], "use a folder below /runs, where the bucket is mounted"),
        (["slurm", "quick.py", "--dry-run", "--run", "a\nrm -r b"], "use a path without control characters"),
        (["slurm", "quick.py", "--dry-run", "--name", "a\n#SBATCH x"], "use a non-empty name without / and control characters"),
        (["local"], "launch local needs an experiment file first"),
        (["local", "nowhere.py"], "experiment file"),
        (["local", "quick.py", "-n", "0"], "--processes is 0; use 1 or more"),
        (["local", "quick.py", "--seeed", "1"], "did you mean --seed?"),
        (["local", "quick.py", "--batch-size", "0"], "batch_size is 0"),
        (["local", "quick.py", "--run", "."], "holds quick.py but no config.json"),
        (["slurm", "quick.py", "--nodes", "0", "--dry-run"], "--nodes is '0'; use 1 or more"),
        (["slurm", "quick.py", "--nodes", "8-2", "--dry-run"], "--nodes is '8-2'; use 1 or more, or a range such as 2-8"),
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


@pytest.mark.slow
def test_two_processes_of_this_machine_are_one_run(file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    text = said(["local", "quick.py", "-n", "2", "--run", "runs/a", "--seed", "3"], 0, capfd)
    assert "[0] run folder: runs/a" in text and "[1] run folder" not in text
    assert (file.parent / "runs/a/summary.json").exists()
    (start,) = json.loads((file.parent / "runs/a/environment.json").read_text())["starts"]
    assert len(start["devices"]) == 2
    assert "this run has already finished" in said(["local", "quick.py", "-n", "2", "--run", "runs/a", "--seed", "3", "--resume"], 0, capfd)


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
