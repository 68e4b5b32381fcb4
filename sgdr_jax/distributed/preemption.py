"""Preemption: on SIGTERM or SIGUSR1 a run finishes the current updates, saves a checkpoint, and exits with a distinct exit code.

Python runs the handler of a signal between two of its own instructions, so a compilation of a minute would delay it by that minute. After
SIGTERM, which is often followed by SIGKILL, a thread therefore ends the process where the run has not noticed the signal in time; it goes
on from its newest checkpoint, as after a kill. SIGUSR1 announces an end that is further away, and is waited for.

A signal that is ignored when the process starts (as `nohup` does with SIGHUP) stays ignored. Of several hosts, one that receives the
signal is enough: jax's preemption service notifies the others, and they agree on the update after which they stop,
or to stop before those of a stage.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from ..core.console import NullConsole, Tick
from ..core.errors import Preempted
from .hosts import exit_now, is_multi_host
from .signals import SIGNALS, handled, left_to_thread

_UNNOTICED = "stopped {:g} s after the signal, within {}; the same command with --resume goes on"

NOTICE_SECONDS = 8.0
"""Seconds after SIGTERM in which a run has to notice it: within the ten that an answer may take."""


@contextmanager
def handle_signals(signals: Sequence[signal.Signals] = SIGNALS, notice: float = NOTICE_SECONDS) -> Iterator[Callable[[], bool]]:
    """Handle the signals while the block runs; yields a function that returns whether to stop, to be called after every span of updates.

    Several hosts call it around what precedes the updates of a stage, too, so that they need not compile them first.

    A second signal does what it did before the block: SIGTERM ends the process at once. All hosts must call the function equally often;
    it returns True after the same span on all.

    Args:
        signals: to handle.
        notice: seconds after SIGTERM in which the function has to be called; then the process ends with exit code 75. Several
            hosts, which end together, wait.
    """
    caught = handled(signals)
    if not caught:
        yield lambda: False
        return
    received, spans, shared, noticed = False, 0, is_multi_host(), threading.Event()

    def receive(number: int, frame: object) -> None:
        nonlocal received
        earlier = before[signal.Signals(number)]
        signal.signal(number, signal.SIG_DFL if earlier is left_to_thread else earlier)
        if shared:
            os.kill(os.getpid(), signal.SIGTERM)  # received by jax, which notifies the other hosts
        received = True

    def should_stop() -> bool:
        nonlocal spans
        if not shared:
            if received:
                noticed.set()
            return received
        from jax.experimental import multihost_utils

        spans += 1
        return bool(multihost_utils.reached_preemption_sync_point(spans))

    # With several hosts jax handles SIGTERM itself; Python must not replace its handler.
    before = {s: signal.signal(s, receive) for s in caught if not (shared and s == signal.SIGTERM)}
    patient = shared or signal.SIGTERM not in caught
    try:
        with nullcontext() if patient else _ends_unnoticed(notice, noticed):
            yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ends_unnoticed(seconds: float, noticed: threading.Event) -> Iterator[None]:
    """End the process `seconds` after a SIGTERM, unless the event is set or the block has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # written to at once, by the handler in C

    def watch() -> None:
        while number := os.read(reading, 1):
            if number[0] == signal.SIGTERM:
                if not noticed.wait(seconds):
                    exit_now(_UNNOTICED.format(seconds, _doing()), Preempted.code)
                return

    thread = threading.Thread(target=watch, daemon=True, name="signals")
    thread.start()
    try:
        yield
    finally:
        noticed.set()
        signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)


def _doing() -> str:
    """Return what the main thread does: the innermost function of this package that it is in."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # pyright: ignore[reportPrivateUsage]
    package = __name__.partition(".")[0]
    while frame and not frame.f_globals.get("__name__", "").startswith(f"{package}."):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}" if frame else "work that cannot be interrupted"


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
