"""Kubernetes target: a JobSet, whose pods are the hosts of one run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.console import NullConsole
from ...core.errors import InputError, Preempted
from ...core.files import write_output
from ...core.validation import require
from .job import Job, Target, check_mounted

PORT = 8476
HOSTS = "hosts"
SAVING = 120
"""Seconds for a pod that is evicted to save its state."""


@dataclass(frozen=True)
class Kubernetes(Target):
    """Write a Kubernetes JobSet, for kubectl apply -f FILE.

    Its pods are the hosts of the run. When one fails, all are restarted, and the run continues from its newest checkpoint. Preemptions do
    not count as restarts.
    """

    image: str = ""
    """Container image that holds the package, and the experiment file at the path of the command line. Required."""
    claim: str = ""
    """Persistent volume claim that holds the run folder and that all pods mount. Required."""
    mount: str = "/runs"
    """Path of the volume in the pods; the run folder must be below it."""
    pods: int = 2
    """Number of hosts, of each slice."""
    slices: int = 1
    """Number of TPU slices, which the batch is divided among."""
    queue: str | None = None
    """Queue of Kueue that admits the job."""
    gpus: int = 0
    """Number of GPUs per pod (nvidia.com/gpu)."""
    tpus: int = 0
    """Number of TPU chips per pod (google.com/tpu)."""
    tpu_kind: str | None = None
    """Type of TPU on GKE, such as tpu-v5-lite-podslice."""
    topology: str | None = None
    """Topology of the TPU slice on GKE, such as 4x4; its number of chips is pods × tpus."""
    restarts: int = 10
    """Largest number of restarts."""
    namespace: str | None = None
    """Namespace; by default that of kubectl's context."""
    out: Path = Path("launch-jobset.yaml")
    """File to write."""

    def __post_init__(self) -> None:
        for name in ("image", "claim"):
            require(bool(getattr(self, name)), f"--{name}", "", f"give {'an image' if name == 'image' else 'a persistent volume claim'}")
        require(not re.search(r"\s", self.image), "--image", self.image, "use a name without spaces")
        part = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        claim = re.fullmatch(rf"{part}(\.{part})*", self.claim) and len(self.claim) <= 253
        require(bool(claim), "--claim", self.claim, "use lower-case letters, digits, - and . (RFC 1123)")
        for name in ("namespace", "queue"):
            value = getattr(self, name)
            ok = value is None or (re.fullmatch(part, value) and len(value) <= 63)
            require(bool(ok), f"--{name}", value, "use lower-case letters, digits and - (RFC 1123)")
        require(self.slices == 1 or self.tpus > 0, "--slices", self.slices, "it is for --tpus; use --pods")
        for name, least in (("pods", 1), ("slices", 1), ("gpus", 0), ("tpus", 0), ("restarts", 0)):
            value = getattr(self, name)
            require(value >= least, f"--{name}", value, f"use {least} or more")
        require(not (self.gpus and self.tpus), "--tpus", self.tpus, "use --gpus or --tpus, not both")
        whole = not self.tpus or (self.tpu_kind is not None and self.topology is not None)
        require(whole, "--topology", self.topology, "give --tpu-kind and --topology with --tpus")
        if self.topology is not None:
            require(bool(re.fullmatch(r"\d+(x\d+)+", self.topology)), "--topology", self.topology, "use a form such as 4x4")
            chips, have = math.prod(int(side) for side in self.topology.split("x")), self.pods * self.tpus
            require(chips == have, "--topology", self.topology, f"it has {chips} chips, but {self.pods} pods of {self.tpus} have {have}")
        require(self.out.parent.is_dir(), "--out", str(self.out), "name a file in a folder that exists")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Write the file."""
        try:
            import yaml
        except ImportError as error:
            raise InputError("writing a JobSet needs PyYAML: pip install 'sgdr_jax[cluster]'") from error
        check_mounted(job, self.mount, "which all pods mount")
        write_output(self.out, yaml.safe_dump(self.jobset(job), sort_keys=False, width=200))
        logs = f"kubectl logs -f -l jobset.sigs.k8s.io/jobset-name={label(job.name)}"
        ui.say(f"JobSet: {self.out}; kubectl apply -f {self.out} starts it, {logs} shows its logs")
        return 0

    def jobset(self, job: Job) -> dict[str, Any]:
        """Return the JobSet as data. Pod i of slice j is at jobset-hosts-j-i.jobset. Source: JobSet API jobset.x-k8s.io/v1alpha2."""
        name = label(job.name)
        words = [word.replace("$", "$$") for word in job.command(("sgdr-jax",))]  # or Kubernetes would put variables in for $(NAME)
        if self.pods > 1 and not self.tpus:  # TPU pods find each other by variables of GKE
            words += ["--hosts.coordinator", f"{name}-{HOSTS}-0-0.{name}:{PORT}", "--hosts.count", str(self.pods)]
            words += ["--hosts.index", "$(JOB_COMPLETION_INDEX)", "--hosts.wait", "600"]
        elif not self.tpus:  # the index that an indexed job has would be taken for that of one pod of several
            words += ["--hosts.no-detect"]
        limits = {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {"google.com/tpu": str(self.tpus)} if self.tpus else {}
        container: dict[str, Any] = {"name": "train", "image": self.image, "command": words, "ports": [{"containerPort": PORT}]}
        container |= {"resources": {"limits": limits}} if limits else {}
        if self.slices > 1:
            container["env"] = self._slice_variables(f"{name}-{HOSTS}-0-0.{name}")
        container["volumeMounts"] = [{"name": "runs", "mountPath": self.mount}]
        pod: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": SAVING, "containers": [container]}
        if self.tpus:
            gke = {"accelerator": self.tpu_kind, "topology": self.topology}
            pod["nodeSelector"] = {f"cloud.google.com/gke-tpu-{name}": value for name, value in gke.items()}
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": self.claim}}]
        # A pod that fails is not replaced alone, since the others cannot continue without it: the whole set restarts.
        spec: dict[str, Any] = {"parallelism": self.pods, "completions": self.pods, "completionMode": "Indexed", "backoffLimit": 0}
        preempted = {"containerName": "train", "operator": "In", "values": [Preempted.code]}
        disrupted = {"type": "DisruptionTarget", "status": "True"}
        spec["podFailurePolicy"] = {
            "rules": [{"action": "FailJob", "onExitCodes": preempted}, {"action": "FailJob", "onPodConditions": [disrupted]}]
        }
        spec["template"] = {"spec": pod}
        metadata: dict[str, Any] = {"name": name} | ({"namespace": self.namespace} if self.namespace else {})
        metadata |= {"labels": {"kueue.x-k8s.io/queue-name": self.queue}} if self.queue else {}
        if self.slices > 1:
            metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
        free = {"name": "preempted", "action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureReasons": ["PodFailurePolicy"]}
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": metadata,
            "spec": {
                "failurePolicy": {"maxRestarts": self.restarts, "rules": [free]},
                "network": {"enableDNSHostnames": True},
                "replicatedJobs": [{"name": HOSTS, "replicas": self.slices, "template": {"spec": spec}}],
            },
        }

    def _slice_variables(self, coordinator: str) -> list[dict[str, Any]]:
        """Return the variables by which libtpu and jax join the slices; they take the place of those that GKE may set."""
        index = {"fieldRef": {"fieldPath": "metadata.annotations['jobset.sigs.k8s.io/job-index']"}}
        return [
            {"name": "MEGASCALE_COORDINATOR_ADDRESS", "value": coordinator},
            {"name": "MEGASCALE_NUM_SLICES", "value": str(self.slices)},
            {"name": "MEGASCALE_SLICE_ID", "valueFrom": index},
        ]


def label(name: str) -> str:
    """Convert a name to a label of RFC 1035, as jobs need it, short enough for the names of the pods that begin with it.

    Example:
        >>> label("Dog_breeds 2"), label("2024 dogs")
        ('dog-breeds-2', 'run-2024-dogs')
    """
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (words if words[:1].isalpha() else f"run-{words}")[:40].strip("-")
