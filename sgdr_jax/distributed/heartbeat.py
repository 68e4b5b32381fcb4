"""Heartbeats: each process increments a counter in a shared store; one whose counter stands still for too long is considered dead.

Each process times the changes with its own clock, so the clocks of different machines need not agree, and any store will do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

SILENCE_LIMIT = 20.0
"""Seconds without a heartbeat after which `hosts.watch_hosts` counts a host as lost."""

BEAT_SECONDS = 1.0
"""Seconds between two heartbeats."""


class PeerMonitor:
    """Monitor of how long the heartbeat of each peer has been unchanged.

    Args:
        clock: returns seconds since any fixed moment.

    Example:
        >>> now = 0.0
        >>> monitor = PeerMonitor(lambda: now)
        >>> monitor.observe({"a": 0, "b": 0})
        >>> now = 9.0
        >>> monitor.observe({"a": 1, "b": 0})
        >>> monitor.silent(5.0)
        ['b']
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._beats, self._observed = clock, dict[str, tuple[object, float]](), clock()

    def observe(self, beats: Mapping[str, object]) -> None:
        """Record the latest heartbeat of each peer; peers not in `beats` keep theirs."""
        self._observed = now = self._clock()
        for peer, beat in beats.items():
            if peer not in self._beats or self._beats[peer][0] != beat:
                self._beats[peer] = (beat, now)

    def silent(self, limit: float) -> list[str]:
        """Return the peers whose heartbeat has been unchanged for more than `limit` seconds, in order."""
        now = self._clock()
        return sorted(peer for peer, (_, since) in self._beats.items() if now - since > limit)

    def last(self, peer: str) -> object:
        """Return the latest heartbeat of a peer, or None when none was observed."""
        return self._beats[peer][0] if peer in self._beats else None

    def stale(self, limit: float) -> bool:
        """Whether the last observation is more than `limit` seconds old: the store does not answer, and no peer can be judged."""
        return self._clock() - self._observed > limit


@contextmanager
def repeating(
    action: Callable[[int], object], seconds: float, *, last: Callable[[], object] | None = None, timeout: float | None = None
) -> Iterator[None]:
    """Call `action(count)` from a thread while the block runs, counting from 0.

    Args:
        action: must not raise.
        seconds: between two calls.
        last: called once from the same thread when the block ends.
        timeout: seconds to wait for the thread at the end of the block; None for as long as it takes.
    """
    stop = threading.Event()

    def run() -> None:
        count = 0
        while not stop.is_set():
            action(count)
            count += 1
            stop.wait(seconds)
        if last:
            last()

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout)
