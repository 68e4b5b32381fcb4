"""SkyPilot target: a task file for `sky jobs launch`, which finds machines on any cloud and replaces those that are preempted."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.console import NullConsole
from ...core.errors import InputError, Preempted
from ...core.files import write_output
from ...core.validation import require
from .job import Job, Target, check_mounted
from .kubernetes import PORT, label


@dataclass(frozen=True)
class SkyPilot(Target):
    """Write a task file of SkyPilot, for sky jobs launch FILE.

    Its nodes are the hosts of the run. When they are preempted, SkyPilot finds others, and the run continues from its newest checkpoint.
    """

    bucket: str = ""
    """Bucket that holds the run folder, such as s3://mine or gs://mine; all nodes mount it. Required."""
    mount: str = "/runs"
    """Path of the bucket on the nodes; the run folder must be below it."""
    nodes: int = 1
    """Number of hosts."""
    accelerators: str | None = None
    """Type and number of accelerators per node, such as H100:8 or tpu-v5e-8; by default none."""
    spot: bool = False
    """Use spot capacity, which is cheaper and may be preempted."""
    infra: str | None = None
    """Where to look for nodes, such as aws, gcp/us-east1 or k8s; by default everywhere."""
    setup: str = "pip install --quiet ."
    """Shell command that installs the package, in a copy of this folder."""
    restarts: int = 10
    """Largest number of restarts after errors; preemptions do not count."""
    out: Path = Path("launch-sky.yaml")
    """File to write."""

    def __post_init__(self) -> None:
        require(bool(re.fullmatch(r"[a-z0-9]+://\S+", self.bucket)), "--bucket", self.bucket, "give the URL of a bucket, such as s3://mine")
        kind = self.accelerators is None or re.fullmatch(r"[A-Za-z0-9._-]+(:\d+)?", self.accelerators)
        require(bool(kind), "--accelerators", self.accelerators, "use TYPE or TYPE:NUMBER, such as H100:8")
        require(self.mount.startswith("/"), "--mount", self.mount, "use an absolute path")
        for name, least in (("nodes", 1), ("restarts", 0)):
            value = getattr(self, name)
            require(value >= least, f"--{name}", value, f"use {least} or more")
        require(self.out.parent.is_dir(), "--out", str(self.out), "name a file in a folder that exists")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Write the file."""
        try:
            import yaml
        except ImportError as error:
            raise InputError("writing a task of SkyPilot needs PyYAML: pip install 'sgdr_jax[cluster]'") from error
        check_mounted(job, self.mount, "where the bucket is mounted")
        write_output(self.out, yaml.safe_dump(self.task(job), sort_keys=False, width=200))
        ui.say(f"task: {self.out}; sky jobs launch {self.out} starts it")
        return 0

    def task(self, job: Job) -> dict[str, Any]:
        """Return the task as data. Source: SkyPilot's YAML specification, 0.14."""
        words = shlex.join(job.command(("sgdr-jax",)))
        if self.nodes > 1:
            words += f' --hosts.coordinator "$(echo "$SKYPILOT_NODE_IPS" | head -n1):{PORT}"'
            words += " --hosts.count $SKYPILOT_NUM_NODES --hosts.index $SKYPILOT_NODE_RANK --hosts.wait 600"
        recovery = {"max_restarts_on_errors": self.restarts, "recover_on_exit_codes": [Preempted.code]}
        resources: dict[str, Any] = {"use_spot": self.spot, "job_recovery": recovery}
        resources |= {"accelerators": self.accelerators} if self.accelerators else {}
        resources |= {"infra": self.infra} if self.infra else {}
        return {
            "name": label(job.name),
            "num_nodes": self.nodes,
            "workdir": ".",
            "resources": resources,
            "file_mounts": {self.mount: {"source": self.bucket, "mode": "MOUNT_CACHED"}},
            "setup": self.setup,
            "run": words + "\n",
        }
