"""distributed/heartbeat: heartbeats from a thread, and peers whose heartbeat has stopped."""

import threading

import pytest

from sgdr_jax.distributed.heartbeat import PeerMonitor, repeating


def test_a_peer_is_silent_while_its_heartbeat_is_unchanged() -> None:
    now = 0.0
    monitor = PeerMonitor(lambda: now)
    monitor.observe({"a": 0, "b": 0})
    now = 5.0
    monitor.observe({"a": 1})
    assert monitor.silent(4) == ["b"] and monitor.silent(5) == [] and not monitor.stale(4)
    now = 10.0
    assert monitor.silent(4) == ["a", "b"] and monitor.last("a") == 1 and monitor.stale(4)
    monitor.observe({"b": 1})
    assert monitor.silent(4) == ["a"]


def test_the_action_is_repeated_until_the_block_ends() -> None:
    counts, third = list[object](), threading.Event()

    def action(count: int) -> None:
        counts.append(count)
        if count == 2:
            third.set()

    with repeating(action, 0.001, last=lambda: counts.append("last")):
        assert third.wait(20)
    assert counts[:3] == [0, 1, 2] and counts[-1] == "last" and counts.count("last") == 1


def test_the_thread_ends_with_an_error_in_the_block() -> None:
    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt), repeating(lambda count: None, 60, last=ended.set):
        raise KeyboardInterrupt
    assert ended.is_set()
