"""The JobSet against its published schema."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sgdr_jax.cli.launch import Job, Kubernetes
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import InputError
from sgdr_jax.distributed import hosts

JOB = Job(Path("experiments/x.py"), Path("/runs/a b"), ("--seed", "1"), "Dog_breeds")


SCHEMA = json.loads((Path(__file__).parents[2] / "golden" / "schemas.json").read_text())["jobset"]
"""Schema of a JobSet; `golden/make_schemas.py` has its sources."""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pods": 1},
        {"pods": 16, "gpus": 8, "namespace": "ml", "queue": "research"},
        {"pods": 4, "tpus": 4, "tpu_kind": "tpu-v5-lite-podslice", "topology": "4x4"},
        {"pods": 4, "tpus": 4, "tpu_kind": "tpu-v5-lite-podslice", "topology": "4x4", "slices": 2},
    ],
)
def test_a_jobset_fits_its_schema_and_its_pods_find_each_other(fields: dict[str, Any], tmp_path: Path) -> None:
    target = Kubernetes(image="ghcr.io/me/sgdr:1", claim="runs", out=tmp_path / "jobset.yaml", **fields)
    assert target.launch(JOB, NullConsole()) == 0
    made = yaml.safe_load(target.out.read_text())
    jsonschema.validate(made, SCHEMA)
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
        # The index of an indexed job would be taken for that of one pod of several.
        assert words[8:] == ([] if target.tpus else ["--hosts.no-detect"])
    if target.tpus:  # what GKE sets for such pods is what tells the hosts apart
        assert hosts.detect_cluster({"TPU_WORKER_HOSTNAMES": "a,b"}) == "TPU"
    assert job["replicas"] == target.slices
    environment = {each["name"]: each for each in container.get("env", ())}
    if target.slices > 1:
        assert environment["MEGASCALE_NUM_SLICES"]["value"] == "2"
        assert environment["MEGASCALE_COORDINATOR_ADDRESS"]["value"] == "dog-breeds-hosts-0-0.dog-breeds"
        path = environment["MEGASCALE_SLICE_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert path == "metadata.annotations['jobset.sigs.k8s.io/job-index']"
        assert hosts.detect_cluster({name: "x" for name in environment}) == "TPU"
    else:
        assert not environment
    labels = made["metadata"].get("labels", {})
    assert labels.get("kueue.x-k8s.io/queue-name") == target.queue


@pytest.mark.parametrize("word", ["$(HOME)", "$$(HOME)", "a$b$", "plain"])
def test_words_of_the_user_are_no_variables_of_the_pod(word: str) -> None:
    """Kubernetes put the value of a variable in place of $(NAME), and of $$ one of the two."""
    made = Kubernetes(image="i", claim="c").jobset(Job(Path(f"{word}.py"), Path(f"/runs/{word}"), ("--data.root", word), "x"))
    words = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    seen = [re.sub(r"\$(\$)|\$\(\w+\)", lambda found: found[1] or "value", each) for each in words]  # as k8s.io/kubernetes expansion.Expand
    assert seen[2:7] == [f"{word}.py", "--data.root", word, "--run", f"/runs/{word}"] and seen[-3] == "value"


def test_preemptions_restart_the_set_and_do_not_count() -> None:
    made = Kubernetes(image="i", claim="c", restarts=3).jobset(JOB)["spec"]
    job = made["replicatedJobs"][0]["template"]["spec"]
    codes, conditions = job["podFailurePolicy"]["rules"]
    assert codes == {"action": "FailJob", "onExitCodes": {"containerName": "train", "operator": "In", "values": [75]}}
    assert conditions["action"] == "FailJob" and conditions["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which a podFailurePolicy demands
    assert job["template"]["spec"]["containers"][0]["name"] == "train"
    (rule,) = made["failurePolicy"]["rules"]
    assert made["failurePolicy"]["maxRestarts"] == 3 and rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]  # the reason of a Job that fails by a rule of its podFailurePolicy


def test_a_schema_that_is_not_met_is_noticed() -> None:
    made = Kubernetes(image="i", claim="c").jobset(JOB)

    def pod(made: Any) -> Any:
        return made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]

    for spoil in (
        lambda m: m["spec"].update(replicas=1),
        lambda m: m["spec"]["failurePolicy"]["rules"][0].pop("name"),
        lambda m: m["spec"]["failurePolicy"]["rules"][0].update(action="Restart"),
        lambda m: pod(m).update(restartpolicy="Never"),
        lambda m: pod(m)["containers"][0].update(command="sgdr-jax"),
        lambda m: pod(m)["containers"][0]["ports"][0].update(containerPort="8476"),
    ):
        spoiled = yaml.safe_load(yaml.safe_dump(made))
        spoil(spoiled)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoiled, SCHEMA)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"queue": "My queue"}, "--queue is 'My queue'; use lower-case letters"),
        ({"slices": 2}, "--slices is 2; it is for --tpus; use --pods"),
        ({"slices": 0}, "--slices is 0"),
    ],
)
def test_bad_options_are_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Kubernetes(image="i", claim="c", **fields)
    assert "\n" not in str(caught.value)


def test_chips_and_topology_must_agree() -> None:
    with pytest.raises(InputError, match="it has 16 chips, but 2 pods of 4 have 8"):
        Kubernetes(image="i", claim="c", pods=2, tpus=4, tpu_kind="k", topology="4x4")
