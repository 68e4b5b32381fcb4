"""TPU target: a shell script that creates a slice with gcloud, installs the package, trains on all of its hosts and deletes it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.console import NullConsole
from ...core.files import write_output
from ...core.text import one_line
from ...core.validation import require
from .job import Job, Target

GCLOUD = "gcloud compute tpus tpu-vm"


@dataclass(frozen=True)
class Tpu(Target):
    """Write a shell script that creates a TPU slice with gcloud, trains on all of its hosts, fetches the run folder, deletes the slice.

    jax finds the hosts of a slice by itself. After an interruption, repeat the script: it continues the run.
    """

    slice: str = "sgdr-jax"
    """Name of the slice."""
    zone: str = "us-west4-a"
    """Zone of the slice."""
    accelerator: str = "v5litepod-16"
    """Type and size of the slice, as listed by `gcloud compute tpus accelerator-types list`."""
    version: str = "v2-alpha-tpuv5-lite"
    """Software version of its machines, which depends on the type of TPU."""
    spot: bool = False
    """Use spot capacity, which is cheaper and may be preempted."""
    source: Path = Path(".")
    """Folder of the package and the experiment file, copied to every host."""
    out: Path = Path("launch-tpu.sh")
    """File to write."""

    def __post_init__(self) -> None:
        ok = re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", self.slice)
        require(bool(ok), "--slice", self.slice, "use lower-case letters, digits and -, beginning with a letter, 63 at most")
        ok = re.fullmatch(r"[a-z0-9]+-\d+", self.accelerator)
        require(bool(ok), "--accelerator", self.accelerator, "use TYPE-SIZE, such as v5litepod-16")
        require(self.out.parent.is_dir(), "--out", str(self.out), "name a file in a folder that exists")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Write the script."""
        write_output(self.out, self.script(job))
        if self.out.is_file():
            self.out.chmod(0o755)
        ui.say(f"script: {self.out}; run it where gcloud is logged in")
        return 0

    def script(self, job: Job) -> str:
        """Return the script. Raises InputError for paths that the slice would not have."""
        inside = job.file.resolve().is_relative_to(self.source.resolve())
        require(inside, "--source", str(self.source), f"name a folder that contains {job.file}; it is copied to every host")
        job = replace(job, file=job.file.resolve().relative_to(self.source.resolve()))
        below = not job.run.is_absolute() and ".." not in job.run.parts
        require(below, "--run", str(job.run), "use a relative path without ..; the run is written below work/ on the slice, then fetched")
        where = f"{shlex.quote(self.slice)} --zone {shlex.quote(self.zone)}"
        # No environment variable identifies a slice; jax asks the metadata server.
        train = shlex.join([*job.command((".venv/bin/sgdr-jax",)), "--hosts.cluster", "TPU"])
        install = "pip install --quiet --user uv && cd work && ~/.local/bin/uv venv --allow-existing --python 3.12 .venv"
        install += " && ~/.local/bin/uv pip install --quiet --python .venv/bin/python '.[tpu]'"
        return f"""#!/usr/bin/env bash
# Trains {one_line(job.file)} on a TPU slice. May be repeated: the slice is created if it is missing, the run continues.
set -euo pipefail

{GCLOUD} describe {where} >/dev/null 2>&1 ||
  {GCLOUD} create {where} --accelerator-type {shlex.quote(self.accelerator)} --version {shlex.quote(self.version)}{" --spot" * self.spot}

everywhere() {{ {GCLOUD} ssh {where} --worker=all --command "$1"; }}
everywhere "mkdir -p work"
{GCLOUD} scp --recurse {shlex.quote(str(self.source))}/* {shlex.quote(self.slice)}:work/ --zone {shlex.quote(self.zone)} --worker=all
everywhere {shlex.quote(install)}

# Host 0 writes the run folder.
everywhere {shlex.quote("cd work && " + train)}
mkdir -p {shlex.quote(str(job.run.parent))}
{GCLOUD} scp --recurse {shlex.quote(self.slice)}:work/{shlex.quote(str(job.run))} {shlex.quote(str(job.run.parent))} \\
  --zone {shlex.quote(self.zone)} --worker=0
{GCLOUD} delete {where} --quiet
"""
