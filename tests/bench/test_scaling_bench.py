"""What the scaling page expects of a cluster: the cost of an all-reduce, worked out; and a job that measures one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import scaling  # pyright: ignore[reportMissingImports]

    yield scaling
    for name in ("scaling", "harness", "communication"):
        sys.modules.pop(name, None)


def test_a_ring_sends_twice_the_bytes_but_for_its_own_share(scaling) -> None:
    link = scaling.Link("", speed=1e9, latency=0, source="")
    assert [scaling.seconds(1e9, 5, n, link) for n in (1, 2, 4)] == [0, 1, 1.5]


def test_a_tree_goes_up_and_down_for_every_operation(scaling) -> None:
    link = scaling.Link("", speed=1e9, latency=1e-3, source="")
    assert [scaling.seconds(0, 10, n, link) for n in (1, 2, 8)] == pytest.approx([0, 0.02, 0.06])


def test_groups_reduce_inside_first(scaling) -> None:
    """Eight devices of a host share the work of the network between hosts."""
    fast, slow = (scaling.Link("", speed=speed, latency=0, source="") for speed in (8e9, 1e9))
    assert scaling.seconds(8e9, 1, 8, slow, inside=fast) == 2 * 7 / 8
    assert scaling.seconds(8e9, 1, 16, slow, inside=fast) == 2 * 7 / 8 + 1


def test_collectives_are_read_with_the_bytes_of_their_results(scaling) -> None:
    from communication import collectives  # pyright: ignore[reportMissingImports]

    program = "%a = (f32[2,3]{1,0}, f32[]) all-reduce(%x, %y), to_apply=%add\n%b = bf16[4]{0} all-gather-start(%a)\n%c = f32[] add(%a, %b)"
    assert collectives(program) == [("all-reduce", 28), ("all-gather", 8)]


def test_a_job_prints_the_figures_of_its_updates() -> None:
    words = [sys.executable, BENCH / "scaling.py", "--model", "ResNet18", "--size", "32", "--job", "pretended", "2", "4"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["update"] > 0 and figures["loss"] > 0
    assert figures["reduced_mb"] >= figures["trained_mb"] > 40  # ResNet-18 has 11 million parameters
