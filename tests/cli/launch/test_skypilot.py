"""The task of SkyPilot against its published schema; and its command, as a shell runs it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sgdr_jax.cli.launch import Job, SkyPilot
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError

SCHEMAS = json.loads((Path(__file__).parents[2] / "golden" / "schemas.json").read_text())
JOB = Job(Path("x.py"), Path("/runs/a b"), ("--seed", "1"), "Dog_breeds")


@pytest.mark.parametrize("fields", [{}, {"nodes": 4, "accelerators": "H100:8", "spot": True, "infra": "gcp/us-east1"}])
def test_a_task_fits_its_schema_and_its_nodes_find_each_other(fields: dict[str, Any], tmp_path: Path) -> None:
    target = SkyPilot(bucket="s3://mine", out=tmp_path / "sky.yaml", **fields)
    assert target.launch(JOB, NullConsole()) == 0
    task = yaml.safe_load(target.out.read_text())
    jsonschema.validate(task, SCHEMAS["sky"])
    jsonschema.validate(task["resources"]["job_recovery"], SCHEMAS["sky job_recovery"])
    assert task["num_nodes"] == target.nodes and task["resources"].get("accelerators") == target.accelerators
    assert task["file_mounts"]["/runs"]["source"] == "s3://mine" and task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    stand_in = f"sgdr-jax() {{ printf '%s\\n' \"$@\"; }}\n{task['run']}"
    own = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "4", "SKYPILOT_NODE_RANK": "2", "PATH": "/usr/bin:/bin"}
    said = subprocess.run(["bash", "-c", stand_in], env=own, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[:7] == ["train", "x.py", "--seed", "1", "--run", "/runs/a b", "--resume"]
    hosts = ["--hosts.coordinator", "10.0.0.1:8476", "--hosts.count", "4", "--hosts.index", "2", "--hosts.wait", "600"]
    assert said[7:] == (hosts if target.nodes > 1 else [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bucket": ""}, "--bucket is ''; give the URL of a bucket"),
        ({"accelerators": "H100 x8"}, "--accelerators is 'H100 x8'; use TYPE or TYPE:NUMBER"),
        ({"mount": "runs"}, "--mount is 'runs'; use an absolute path"),
        ({"nodes": 0}, "--nodes is 0; use 1 or more"),
    ],
)
def test_bad_options_are_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        SkyPilot(**{"bucket": "s3://mine"} | fields)
    assert "\n" not in str(caught.value)


def test_the_run_folder_is_in_the_bucket(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--run is 'runs/a'; use a folder below /runs, where the bucket is mounted"):
        SkyPilot(bucket="s3://mine", out=tmp_path / "sky.yaml").launch(Job(JOB.file, Path("runs/a"), (), "x"), NullConsole())
