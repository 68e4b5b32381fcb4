"""Launch targets: one run as several processes, on this machine, by Slurm, on a TPU slice, as a JobSet, as a task of SkyPilot.

A target is a frozen dataclass whose fields are its options, such as `Slurm`; to add one, write a file beside the others and name it in
`TARGETS`. Each process is `sgdr-jax train`; the processes find each other by `hosts.initialize`.
"""

from __future__ import annotations

from .job import Job, Target
from .kubernetes import Kubernetes
from .local import Local
from .skypilot import SkyPilot
from .slurm import Slurm
from .tpu import Tpu

TARGETS: dict[str, type[Target]] = {"local": Local, "slurm": Slurm, "tpu": Tpu, "k8s": Kubernetes, "sky": SkyPilot}

__all__ = ["TARGETS", "Job", "Kubernetes", "Local", "SkyPilot", "Slurm", "Target", "Tpu"]
