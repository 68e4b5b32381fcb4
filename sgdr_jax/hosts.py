"""Several hosts as one run: how they find each other, agree before they go on, and end together. JAX's own runtime does the distributing.

Every host runs the same program on arrays of which it holds a part. Host 0 leads: it alone writes logs, checkpoints and pictures, and what
it reads it tells the others. What may fail on one host alone is done `together`, so that all learn of it and none waits for one that is
gone. With a single process everything here is a plain call.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .config import require
from .types import InputError

HEARTBEAT = 30
"""Seconds without a sign of life after which a host counts as dead, and all others end."""


@dataclass(frozen=True)
class Hosts:
    """How the processes of a run find each other; by themselves under Slurm, Open MPI, on TPU slices and as a Kubernetes job."""

    coordinator: str | None = None
    """HOST:PORT of host 0, where nothing tells it."""
    count: int | None = None
    """Number of processes."""
    index: int | None = None
    """Number of this process, from 0."""
    wait: int = 45
    """Seconds to wait for the others at the start."""
    detect: bool = True
    """Whether to look for a cluster where no coordinator is named."""

    def __post_init__(self) -> None:
        given = [self.coordinator, self.count, self.index]
        require(all(x is None for x in given) or None not in given, "hosts", given, "give coordinator, count and index, or none of them")
        if self.coordinator is not None and self.count is not None and self.index is not None:
            name, _, port = self.coordinator.rpartition(":")
            require(bool(name) and port.isdecimal(), "hosts.coordinator", self.coordinator, "use HOST:PORT of host 0")
            require(self.count >= 1, "hosts.count", self.count, "use 1 or more")
            require(0 <= self.index < self.count, "hosts.index", self.index, f"use 0…{self.count - 1}")
        require(self.wait >= 1, "hosts.wait", self.wait, "use 1 second or more")


def around(environment: dict[str, str] | None = None) -> str:
    """The cluster that this process was started by as one of several, or "" for none; how many and where, jax finds out.

    >>> around({"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"})
    'Slurm'
    """
    env = dict(os.environ) if environment is None else environment
    if "SLURM_STEP_NODELIST" in env and "SLURM_PROCID" in env:
        return "Slurm" if int(env.get("SLURM_NTASKS", 1)) > 1 else ""
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI"
    if "," in env.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in env:
        return "TPU"
    return "Kubernetes" if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env else ""


def start(hosts: Hosts) -> None:
    """Joins the other processes of a run, before jax is used for anything else; does nothing where there are none.

    Raises:
        InputError: when they do not come together within `hosts.wait` seconds, or do not have equally many devices.
    """
    found = around() if hosts.coordinator is None and hosts.detect else ""
    if (hosts.coordinator is None and not found) or hosts.count == 1:
        return
    named = {"coordinator_address": hosts.coordinator, "num_processes": hosts.count, "process_id": hosts.index}
    limits = {"initialization_timeout": hosts.wait + 60, "heartbeat_timeout_seconds": HEARTBEAT, "shutdown_timeout_seconds": 10}
    where = f"at {hosts.coordinator}" if hosts.coordinator else f"as {found} tells"
    why = f"the hosts did not come together {where} within {hosts.wait} s; check the coordinator's address, and that all were started"
    # jax's own timeout ends the process with a dump of its stack, so the sentence comes before it.
    timer = threading.Timer(hosts.wait, end, (why,))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(**(named if hosts.coordinator else {}), **limits)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{why} ({str(error).splitlines()[0][:200]})") from error
    finally:
        timer.cancel()
    counts = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
    if len(set(counts.tolist())) > 1:
        raise InputError(
            f"the hosts have {', '.join(map(str, counts))} devices; give all the same number, such as with CUDA_VISIBLE_DEVICES or --gpus"
        )


def end(why: str) -> None:
    """Ends this process at once with one line. An orderly end would wait for other hosts, which may be waiting for this one."""
    print(f"error: {why}", file=sys.stderr, flush=True)
    os._exit(2)


def several() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def leads() -> bool:
    """Whether this process is host 0, which keeps logs, checkpoints and pictures."""
    return jax.process_index() == 0


def gathered(value: Any) -> list[Any]:
    """The JSON values of all hosts, in order of their numbers; all must ask."""
    if not several():
        return [value]
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(np.max(multihost_utils.process_allgather(np.array([len(text)], np.int32))))
    padded = np.zeros(longest, np.uint8)
    padded[: len(text)] = text
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(jax.process_count(), longest)
    return [json.loads(row.tobytes().rstrip(b"\0")) for row in rows]


def together[T](work: Callable[[], T]) -> T:
    """`work()` on every host. What one refuses all refuse: raises InputError with the first host's reason."""
    if not several():
        return work()
    result, refused = None, None
    try:
        result = work()
    except (InputError, OSError) as error:
        refused = f"{error}" if isinstance(error, InputError) else f"{error.strerror}: {error.filename}"
    reasons = gathered([platform.node(), refused])
    bad = [(i, name, reason) for i, (name, reason) in enumerate(reasons) if reason is not None]
    if bad:
        i, name, reason = bad[0]
        raise InputError(reason if len(bad) == len(reasons) else f"host {i} ({name}): {reason}")
    return result  # pyright: ignore[reportReturnType]


def led[T](work: Callable[[], T]) -> T:
    """What `work()` gives on host 0, as JSON data, on every host; raises InputError on all where it does."""
    if not several():
        return work()
    return gathered(together(lambda: work() if leads() else None))[0]


def same(what: str, value: Any) -> None:
    """Raises InputError on every host unless JSON data are the same on all of them."""
    values = gathered(value)
    for i, other in enumerate(values):
        if other != values[0]:
            raise InputError(f"{what} of host {i} differ from those of host 0 ({_short(other)}, {_short(values[0])}); give all the same")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def told(tree: Any) -> Any:
    """The host arrays of host 0 on every host; the others give arrays of the same shapes."""
    if not several():
        return tree
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
