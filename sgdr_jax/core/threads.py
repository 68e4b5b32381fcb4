"""Work in threads, in order."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

_CHUNK = 8  # items per task, to amortise its overhead for small images


def cores() -> int:
    """Return the number of processor cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads[T](work: Callable[[int], T], positions: Iterable[int]) -> Iterator[T]:
    """Yield `work(position)` in order, computed ahead by one thread per core; at most a few hundred results are buffered."""
    threads = cores()
    waiting: deque[Future[list[T]]] = deque()
    pool = ThreadPoolExecutor(threads)

    def all_of(chunk: tuple[int, ...]) -> list[T]:
        return [work(i) for i in chunk]

    try:
        for chunk in itertools.batched(positions, _CHUNK):
            waiting.append(pool.submit(all_of, chunk))
            if len(waiting) > 16 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
