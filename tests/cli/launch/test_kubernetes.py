"""The JobSet against the fields of its schema."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sgdr_jax.cli.launch import Job, Kubernetes
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError
from sgdr_jax.distributed import hosts

JOB = Job(Path("experiments/x.py"), Path("/runs/a b"), ("--seed", "1"), "Dog_breeds")


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
