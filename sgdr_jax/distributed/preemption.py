"""Preemption: on SIGTERM or SIGUSR1 a run finishes the current updates, saves a checkpoint, and exits with a distinct exit code.

A signal that is ignored when the process starts (as `nohup` does with SIGHUP) stays ignored. Of several hosts, one that receives the
signal is enough: jax's preemption service notifies the others, and they agree on the update after which they stop.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from ..core.console import NullConsole, Tick
from ..core.errors import Preempted
from .hosts import is_multi_host

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals of Slurm (`--signal=USR1@90`), Kubernetes, `kill` and spot machines."""


@contextmanager
def handle_signals(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[Callable[[], bool]]:
    """Handle the signals while the block runs; yields a function that returns whether to stop, to be called after every span of updates.

    A second signal does what it did before the block: SIGTERM ends the process at once. All hosts must call the function equally often;
    it returns True after the same span on all.
    """
    handled = [s for s in signals if signal.getsignal(s) != signal.SIG_IGN]
    if not handled or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received, spans, shared = False, 0, is_multi_host()

    def receive(number: int, frame: object) -> None:
        nonlocal received
        signal.signal(number, before[signal.Signals(number)])
        if shared:
            os.kill(os.getpid(), signal.SIGTERM)  # received by jax, which notifies the other hosts
        received = True

    def should_stop() -> bool:
        nonlocal spans
        if not shared:
            return received
        from jax.experimental import multihost_utils

        spans += 1
        return bool(multihost_utils.reached_preemption_sync_point(spans))

    # With several hosts jax handles SIGTERM itself; Python must not replace its handler.
    before = {s: signal.signal(s, receive) for s in handled if not (shared and s == signal.SIGTERM)}
    try:
        yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StoppableConsole(NullConsole):
    """Console whose progress bars end what they count when the process is to stop, outside of training: it has nothing to save there.

    What phases before and after training have finished is in caches, or is done again: decoded images, activations, predictions.
    """

    def __init__(self, ui: NullConsole, leave: Callable[[], bool]) -> None:
        self._ui, self._leave = ui, leave

    def say(self, text: object) -> None:
        """Show a line of text; see `NullConsole.say`."""
        self._ui.say(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Generator[Tick]:
        """Show a progress bar. The value raises Preempted when the process is to stop."""
        with self._ui.bar(title, total) as show:

            def tick(done: int, note: str = "") -> None:
                show(done, note)
                if self._leave():
                    raise Preempted(f"stopped during: {title}; the same command with --resume goes on")

            yield tick


def stoppable(ui: NullConsole, leave: Callable[[], bool]) -> NullConsole:
    """Return a console for phases outside of training; of several hosts, which must stop at the same point, the console itself."""
    return ui if is_multi_host() else StoppableConsole(ui, leave)
