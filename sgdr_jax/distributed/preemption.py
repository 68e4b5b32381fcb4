"""Making room: a run that is told to go (SIGTERM or SIGUSR1) finishes the updates under way, saves, and ends with an exit code of its own.

Whoever starts a run with one of these signals ignored, as `nohup` does with SIGHUP, has it ignored. Among several hosts one that is told
is enough: jax's preemption service passes it on, and they agree on the update after which they stop.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .hosts import is_multi_host

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What Slurm (`--signal=USR1@90`), Kubernetes, `kill` and spot machines send."""


@contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Hears the signals while the block runs; gives a function that says whether to stop now, to be asked after every span of updates.

    A second signal ends the process at once. All hosts must ask equally often; it is so after the same span for all of them.
    """
    heard = [s for s in SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
    if not heard or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    told, spans, shared = False, 0, is_multi_host()

    def hear(number: int, frame: object) -> None:
        nonlocal told
        signal.signal(number, signal.SIG_DFL)
        if shared:
            os.kill(os.getpid(), signal.SIGTERM)  # heard by jax, which tells the other hosts
        told = True

    def asked() -> bool:
        nonlocal spans
        if not shared:
            return told
        from jax.experimental import multihost_utils

        spans += 1
        return bool(multihost_utils.reached_preemption_sync_point(spans))

    # Among several hosts SIGTERM is jax's own to hear; Python must not take it away.
    before = {s: signal.signal(s, hear) for s in heard if not (shared and s == signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
