"""Several hosts as one run: find each other, agree before each step, and end together. JAX's own runtime distributes the work.

Every host runs the same program on arrays of which it holds a part. Host 0 is the leader: it alone writes logs, checkpoints and pictures,
and broadcasts what it reads. Work that may fail on a single host goes through `run_on_all_hosts`, so that every host learns of the failure
and none waits for one that has ended. With a single process every function here is a plain call.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ..core.errors import InputError, Preempted

HEARTBEAT = 60
"""Seconds without a sign of life after which jax ends all other hosts; where `watch` watches, it is sooner and says why."""


def detect_cluster(environment: dict[str, str] | None = None) -> str:
    """The cluster that this process was started by as one of several, or "" for none; how many and where, jax finds out.

    >>> detect_cluster({"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"})
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


def start(
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    *,
    cluster: str | None = None,
    wait: int = 45,
    detect: bool = True,
) -> None:
    """Joins the other processes of a run, before jax is used for anything else; does nothing where there are none.

    Args:
        coordinator: HOST:PORT of host 0; None to find a cluster.
        count, index: number of processes, and of this one from 0; with a coordinator.
        cluster: which tells the hosts, where `detect_cluster` does not see it: jax asks the metadata server of a TPU slice.
        wait: seconds for all to come together; then the process ends.
        detect: whether to look for a cluster where no coordinator is named.

    Raises:
        InputError: when they cannot come together, or do not have equally many devices.
    """
    found = (cluster or (detect_cluster() if detect else "")) if coordinator is None else ""
    if (coordinator is None and not found) or count == 1:
        return
    named: dict[str, Any] = {"coordinator_address": coordinator, "num_processes": count, "process_id": index} if coordinator else {}
    where = f"at {coordinator}" if coordinator else f"as {found} tells"
    why = f"the hosts did not come together {where} within {wait} s; check the coordinator's address, and that all were started"
    # jax's own timeout ends the process with a dump of its stack, so the sentence comes before it.
    timer = threading.Timer(wait, end, (why,))
    timer.daemon = True
    timer.start()
    limits: dict[str, Any] = {"initialization_timeout": wait + 60, "heartbeat_timeout_seconds": HEARTBEAT, "shutdown_timeout_seconds": 10}
    try:
        jax.distributed.initialize(**named, **limits)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{why} ({str(error).splitlines()[0][:200]})") from error
    finally:
        timer.cancel()
    counts = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
    if len(set(counts.tolist())) > 1:
        raise InputError(f"the hosts have {', '.join(map(str, counts))} devices; give all of them the same number")


def end(why: str, code: int = 2) -> None:
    """Ends this process at once with one line. An orderly end would wait for other hosts, which may be waiting for this one."""
    print(f"error: {why}" if code == 2 else why, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Ends all hosts when one cannot go on: each with one line, none waiting for the others."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not is_multi_host():
            raise
        code = error.code if isinstance(error, Preempted) else 2
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        if lost(error):
            why = f"another host is gone, and its log says why; go on with --resume ({why[:150]})"
        elif not isinstance(error, InputError | KeyboardInterrupt | OSError | Preempted):
            traceback.print_exc()
        if is_leader():
            time.sleep(1)  # who loses host 0 is ended by jax at once, so the others get to say theirs first
        end(why, code)


def lost(error: BaseException) -> bool:
    """Whether an error of jax says that what another host was to send did not come.

    >>> lost(ValueError("UNKNOWN: Gloo AllGather failed"))
    True
    """
    # Reading an array whose computation failed raises the status of that as a ValueError.
    read = type(error) is ValueError and re.match("(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ", str(error))
    return bool(read) or isinstance(error, jax.errors.JaxRuntimeError)


def is_multi_host() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def is_leader() -> bool:
    """Whether this process is host 0, which keeps logs, checkpoints and pictures."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """The JSON values of all hosts, in order of their numbers; all must ask."""
    if not is_multi_host():
        return [value]
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(np.max(multihost_utils.process_allgather(np.array([len(text)], np.int32))))
    padded = np.zeros(longest, np.uint8)
    padded[: len(text)] = text
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(jax.process_count(), longest)
    return [json.loads(row.tobytes().rstrip(b"\0")) for row in rows]


def run_on_all_hosts[T](work: Callable[[], T]) -> T:
    """`work()` on every host. What one refuses all refuse: raises InputError with the first host's reason."""
    if not is_multi_host():
        return work()
    result, refused = None, None
    try:
        result = work()
    except (InputError, OSError) as error:
        refused = f"{error}" if isinstance(error, InputError) else f"{error.strerror}: {error.filename}"
    reasons = gather([platform.node(), refused])
    bad = [(i, name, reason) for i, (name, reason) in enumerate(reasons) if reason is not None]
    if bad:
        i, name, reason = bad[0]
        raise InputError(reason if len(bad) == len(reasons) else f"host {i} ({name}): {reason}")
    return result  # pyright: ignore[reportReturnType]


def on_leader[T](work: Callable[[], T]) -> T:
    """What `work()` gives on host 0, as JSON data, on every host; raises InputError on all where it does."""
    if not is_multi_host():
        return work()
    return gather(run_on_all_hosts(lambda: work() if is_leader() else None))[0]


def all_hosts(fact: bool) -> bool:
    """Whether something is so on every host."""
    return all(gather(bool(fact)))


def require_same(what: str, value: Any) -> None:
    """Raises InputError on every host unless JSON data are the same on all of them."""
    values = gather(value)
    for i, other in enumerate(values):
        if other != values[0]:
            raise InputError(f"{what} of host {i} differ from those of host 0 ({_short(other)}, {_short(values[0])}); give all the same")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def broadcast(tree: Any) -> Any:
    """The host arrays of host 0 on every host; the others give arrays of the same shapes."""
    if not is_multi_host():
        return tree
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
