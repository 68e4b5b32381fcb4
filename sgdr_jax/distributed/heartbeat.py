"""Hosts watch each other: one that has been silent for too long ends all others with one sentence that names it.

jax's own runtime notices as much, later and with a page of its own words. Each host counts in the runtime's key-value store, which host 0
keeps; a host whose count stands still hangs, has lost its network or is gone. Only counts that changed are compared with this host's own
clock, so clocks may differ.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from .hosts import end, is_leader, is_multi_host

SILENCE = 20.0
"""Seconds of silence after which a host counts as lost."""

BEAT = 1.0
"""Seconds between two signs of life."""

PLACE, OVER = "sgdr_jax/alive/", "over"


class Silence:
    """How long each host has been silent.

    Args:
        clock: seconds since any moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._heard, self._answered = clock, dict[str, tuple[str, float]](), clock()

    def hear(self, signs: list[tuple[str, str]]) -> None:
        """Takes what the store holds: (host, its latest sign of life), of all that ever gave one."""
        self._answered = now = self._clock()
        for host, sign in signs:
            if host not in self._heard or self._heard[host][0] != sign:
                self._heard[host] = (sign, now)

    def lost(self, limit: float) -> str:
        """The host that has been silent for longer than so many seconds, as a sentence names it, or "".

        While the store itself does not answer, no other host can be judged: then it is host 0, which keeps it.
        """
        now = self._clock()
        if now - self._answered > limit:
            return "host 0"
        for host, (sign, since) in sorted(self._heard.items()):
            name = sign.partition(" ")[2]
            if name != OVER and now - since > limit:
                return f"host {host} ({name})"
        return ""


@contextmanager
def watching(limit: float = SILENCE) -> Iterator[None]:
    """Watches the other hosts while the block runs, and is watched by them; ends this process when one is silent for too long."""
    if not is_multi_host():
        yield
        return
    silence, stop, store = Silence(), threading.Event(), _store()
    name = platform.node()

    def beat() -> None:
        count = 0
        while True:
            over = stop.is_set()
            try:
                store.key_value_set(f"{PLACE}{jax.process_index()}", f"{count} {OVER if over else name}", allow_overwrite=True)
                silence.hear([(key.removeprefix(PLACE), sign) for key, sign in store.key_value_dir_get(PLACE)])
            except jax.errors.JaxRuntimeError:
                pass  # the store does not answer: `silence` counts that
            if over:
                return
            count += 1
            stop.wait(BEAT)

    def judge() -> None:
        while not stop.wait(BEAT):
            if who := silence.lost(limit):
                if is_leader():
                    time.sleep(3 * BEAT)  # who loses host 0 is ended by jax at once, so the others get to say theirs first
                end(f"{who} has been silent for {limit:g} s: it hangs or is cut off; look there, and go on with --resume")

    threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (beat, judge)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        threads[0].join(2 * BEAT)


def _store() -> Any:
    """The key-value store of jax's runtime, for which it has no public name; Orbax uses it in this way too."""
    from jax._src import distributed

    return distributed.global_state.client
