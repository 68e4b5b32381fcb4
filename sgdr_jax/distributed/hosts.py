"""Several hosts as one run: find each other, agree before each step, watch each other, and end together.

JAX's own runtime distributes the work. Every host runs the same program on arrays of which it holds a part. Host 0 is the leader: it alone
writes logs, checkpoints and pictures, and broadcasts what it reads. Work that may fail on a single host goes through `run_on_all_hosts`, so
that every host learns of the failure and none waits for one that has ended. With a single process every function here is a plain call.
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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ..core.console import write_text
from ..core.errors import InputError, InUse, Preempted
from ..core.text import one_line
from .backend import compute_in_calling_thread
from .heartbeat import BEAT_SECONDS, SILENCE_LIMIT, PeerMonitor, repeating

JAX_TIMEOUT = 60
"""Seconds without a heartbeat after which jax itself ends all other hosts; `watch_hosts` is faster and names the host."""

_BEATS, _FINISHED = "sgdr_jax/alive/", "over"


def detect_cluster(environment: dict[str, str] | None = None) -> str:
    """Return the name of the cluster that started this process as one of several, or "" for none; jax reads the details itself.

    >>> detect_cluster({"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"})
    'Slurm'
    """
    env = dict(os.environ) if environment is None else environment
    if "SLURM_STEP_NODELIST" in env and "SLURM_PROCID" in env:
        # In the interactive step of an allocation the number of tasks is that of the whole job.
        return "Slurm" if int(env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", 1))) > 1 else ""
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI"
    if "," in env.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in env:
        return "TPU"
    return "Kubernetes" if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env else ""


def initialize(
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    *,
    cluster: str | None = None,
    wait: int = 45,
    detect: bool = True,
    elastic: Sequence[int] = (),
) -> None:
    """Join the other processes of a run, before jax is used for anything else; does nothing for a single process.

    Args:
        coordinator: HOST:PORT of host 0; None to detect a cluster.
        count: number of processes; with a coordinator.
        index: of this process, from 0; with a coordinator.
        cluster: name of a cluster that `detect_cluster` cannot see: jax asks the metadata server of a TPU slice.
        wait: seconds for all to join; then the process ends.
        detect: whether to look for a cluster where no coordinator is given.
        elastic: batch sizes; of the processes of a Slurm job, as many run as divide all of them, and the others end here. () for all.

    Raises:
        InputError: when they cannot join, or do not have equally many devices.
    """
    compute_in_calling_thread()
    cluster = (cluster or (detect_cluster() if detect else "")) if coordinator is None else ""
    if cluster == "Slurm" and elastic:
        started, index = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_PROCID"])
        count = dividing(started, elastic)
        if index >= count:
            exit_now(f"process {index} is not needed: {count} of {started} divide the batches of {', '.join(map(str, elastic))}", 0)
    if (coordinator is None and not cluster) or count == 1:
        return
    given = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    addresses: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    where = f"at {coordinator}" if coordinator else f"through {cluster}"
    why = f"the hosts did not come together {where} within {wait} s; check the coordinator's address, and that all were started"
    # jax's own timeout ends the process with a dump of its stack, so this one comes before it.
    timer = threading.Timer(wait, exit_now, (why,))
    timer.daemon = True
    timer.start()
    limits: dict[str, Any] = {"initialization_timeout": wait + 60, "heartbeat_timeout_seconds": JAX_TIMEOUT, "shutdown_timeout_seconds": 10}
    try:
        jax.distributed.initialize(**addresses, **limits)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{why} ({str(error).splitlines()[0][:200]})") from error
    finally:
        timer.cancel()
    counts = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
    if len(set(counts.tolist())) > 1:
        raise InputError(f"the hosts have {', '.join(map(str, counts))} devices; give all of them the same number")


def dividing(count: int, batches: Sequence[int]) -> int:
    """Return the largest number of processes, at most `count`, among which every batch can be divided.

    >>> dividing(7, (64, 96)), dividing(3, (7,))
    (4, 1)
    """
    return next(n for n in range(count, 0, -1) if all(batch % n == 0 for batch in batches))


def exit_now(why: str, code: int = 2) -> None:
    """End this process at once, printing one line. An orderly exit would wait for other hosts, which may be waiting for this one."""
    with contextlib.suppress(OSError):  # Whatever has become of the streams, the process must end.
        write_text(sys.stderr, f"error: {one_line(why)}\n" if code == 2 else f"{one_line(why)}\n")
        write_text(sys.stdout, "")
    os._exit(code)


@contextlib.contextmanager
def exit_together() -> Iterator[None]:
    """End all hosts when one of them fails: each with one line, none waiting for the others."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not is_multi_host():
            raise
        code = error.code if isinstance(error, Preempted) else 2
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        if is_peer_failure(error):
            why = f"another host is gone, see its log; then continue with --resume ({why[:150]})"
        elif not isinstance(error, InputError | KeyboardInterrupt | OSError | Preempted):
            traceback.print_exc()
        if is_leader():
            time.sleep(1)  # jax ends the other hosts as soon as host 0 is gone; this lets them print their own reason first
        exit_now(why, code)


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error of jax means that data from another host did not arrive.

    >>> is_peer_failure(ValueError("UNKNOWN: Gloo AllGather failed"))
    True
    """
    # Reading an array whose computation failed raises the status of the computation as a ValueError.
    read = type(error) is ValueError and re.match("(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ", str(error))
    return bool(read) or isinstance(error, jax.errors.JaxRuntimeError)


def is_multi_host() -> bool:
    """Whether this process is one of several."""
    compute_in_calling_thread()
    return jax.process_count() > 1


def is_leader() -> bool:
    """Whether this process is host 0, which writes logs, checkpoints and pictures."""
    compute_in_calling_thread()
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Return the JSON values of all hosts, in the order of their indices; every host must call it."""
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
    """Call `work()` on every host. When it fails on one, raises InputError (InUse) on all, with the first failing host's reason."""
    if not is_multi_host():
        return work()
    results, reason, in_use = list[T](), None, False
    try:
        results.append(work())
    except (InputError, OSError) as error:
        reason = f"{error}" if isinstance(error, InputError) else f"{error.strerror}: {error.filename}"
        in_use = isinstance(error, InUse)
    reasons = gather([platform.node(), reason, in_use])
    failures = [(i, *failure) for i, failure in enumerate(reasons) if failure[1] is not None]
    if failures:
        i, name, reason, in_use = failures[0]
        kind = InUse if in_use else InputError
        raise kind(reason if len(failures) == len(reasons) else f"host {i} ({name}): {reason}")
    return results[0]


def on_leader[T](work: Callable[[], T]) -> T:
    """Call `work()` on host 0 and returns its result, JSON data, on every host; raises InputError on all where it does."""
    if not is_multi_host():
        return work()
    return gather(run_on_all_hosts(lambda: work() if is_leader() else None))[0]


def all_hosts(condition: bool) -> bool:
    """Whether a condition holds on every host."""
    return all(gather(bool(condition)))


def require_same(what: str, value: Any) -> None:
    """Raise InputError on every host unless JSON data are the same on all of them."""
    values = gather(value)
    for i, other in enumerate(values):
        if other != values[0]:
            raise InputError(f"{what} of host {i} differ from those of host 0 ({_short(other)}, {_short(values[0])}); give all the same")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def broadcast[T](tree: T) -> T:
    """Return the host arrays of host 0 on every host; the others pass arrays of the same shapes."""
    if not is_multi_host():
        return tree
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


@contextlib.contextmanager
def watch_hosts() -> Iterator[None]:
    """Exchange heartbeats with the other hosts while the block runs; ends this process when one is silent for over `SILENCE_LIMIT`.

    The heartbeats are in the key-value store of jax's runtime, which host 0 keeps. A host whose count stands still hangs, has lost its
    network or is gone; jax notices as much, but later and without naming the host.
    """
    if not is_multi_host():
        yield
        return
    from jax._src import distributed  # jax has no public name for the store; Orbax uses it in this way too

    store: Any = distributed.global_state.client
    monitor, name, own = PeerMonitor(), platform.node(), f"{_BEATS}{jax.process_index()}"

    def beat(count: int) -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the store does not answer: `lost_host` judges that
            store.key_value_set(own, f"{count} {name}", allow_overwrite=True)
            monitor.observe({key.removeprefix(_BEATS): beat for key, beat in store.key_value_dir_get(_BEATS)})

    def finish() -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            store.key_value_set(own, _FINISHED, allow_overwrite=True)

    def judge(_: int) -> None:
        if host := lost_host(monitor, SILENCE_LIMIT):
            if is_leader():
                time.sleep(3 * BEAT_SECONDS)  # as in `exit_together`
            exit_now(f"{host} has been silent for {SILENCE_LIMIT:g} s: it hangs or is cut off; check it, then continue with --resume")

    # Two threads, as `beat` may block while the store does not answer.
    with repeating(judge, BEAT_SECONDS, timeout=0), repeating(beat, BEAT_SECONDS, last=finish, timeout=2 * BEAT_SECONDS):
        yield


def lost_host(monitor: PeerMonitor, limit: float) -> str:
    """Return the host that has been silent for over `limit` seconds without having finished, as "host 1 (name)", or ""."""
    if monitor.stale(limit):
        return _named("0", monitor)  # which keeps the store
    return next((_named(host, monitor) for host in monitor.silent(limit) if monitor.last(host) != _FINISHED), "")


def _named(host: str, monitor: PeerMonitor) -> str:
    """Return "host 1 (name)" by its last heartbeat, which is its count and name; without the name where none was ever seen."""
    _, _, name = str(monitor.last(host) or "").partition(" ")
    return f"host {host} ({name})" if name else f"host {host}"
