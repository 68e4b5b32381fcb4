"""Device memory: what is donated, what is reported, and what is said when it ends."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Eval, Parallel, Stage
from sgdr_jax.core.optimizers import AdamW
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.distributed import memory
from sgdr_jax.distributed.memory import DeviceMemory, device_memory, largest_batch, one_line_if_exhausted, requested
from sgdr_jax.distributed.mesh import devices
from sgdr_jax.report.run_tables import run_lines
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant
from sgdr_jax.train.programs import Programs
from sgdr_jax.train.span import Span, SpanRows
from sgdr_jax.train.steps import TrainStep

from ..helpers import GROUPS, batch, experiment, fresh, hyper, network, on, seeded

GIB = 1 << 30
ONE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 25769803776 bytes."


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("length", [1, 3])
def test_the_state_is_updated_in_place(count: int, length: int) -> None:
    """Every array of it is donated and taken: the program has no second copy, and the old arrays are gone."""
    step, state, mesh = TrainStep(network(), AdamW(), GROUPS, GROUPS), fresh(GROUPS, count, AdamW()), on(count)
    images, labels, weight = batch()
    if length == 1:
        program = mesh.compile_step(step)
        given: Any = (hyper(0.1, 0.1, 0.1), *mesh.scatter((images, labels, weight)), jax.random.key(0))
    else:
        program = mesh.compile_step(Span(step, length))
        rows = Hyper(*(np.stack([np.asarray(x)] * length) for x in hyper(0.1, 0.1, 0.1)))
        data = mesh.scatter(tuple(np.stack([x] * length) for x in (images, labels, weight)), axis=1)
        given = (SpanRows(rows, None, np.int32(length)), *data, {"dropout": jax.random.key(0)})
    analysis = program.lower(state, *given).compile().memory_analysis()
    held = sum(x.nbytes for x in jax.tree.leaves(state))
    assert analysis.alias_size_in_bytes >= held > 1000
    after, _ = program(state, *given)
    assert all(x.is_deleted() for x in jax.tree.leaves(state)) and not any(x.is_deleted() for x in jax.tree.leaves(after))


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (ONE, 24 * GIB),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 1024 bytes.", 1024),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.50GiB.", 3 * GIB // 2),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.48G hbm. Exceeded hbm capacity by 5.02G.", 20 * GIB),
        ("RESOURCE_EXHAUSTED: Failed to allocate request for 2.00MiB (2097152B) on device ordinal 0", 2 << 20),
        ("RESOURCE_EXHAUSTED: no more", None),
    ],
)
def test_the_memory_that_was_asked_for_is_read_from_the_message(message: str, asked: int | None) -> None:
    assert requested(message) == asked


@seeded
@given(size=st.integers(1, 4096), needed=st.integers(1, 1 << 40) | st.none(), free=st.integers(0, 1 << 40) | st.none(), n=st.integers(1, 8))
def test_the_batch_that_fits_is_the_largest_of_the_halves(size: int, needed: int | None, free: int | None, n: int) -> None:
    found = largest_batch(size, needed, free, n)
    if needed is None or free is None:
        assert found == (size // 2 // n * n or None)
        return
    halves = [(times, size // times // n * n) for times in (2**k for k in range(1, 13))]
    fitting = [batch for times, batch in halves if batch and needed / times <= free]
    assert found == max(fitting, default=None)


def test_only_the_end_of_memory_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = devices(Parallel(4))

    def told(message: str, size: int, fix: str = "") -> str:
        with pytest.raises(InputError) as caught, one_line_if_exhausted("batch_size", size, mesh, "here", fix):
            raise jax.errors.JaxRuntimeError(message)
        return str(caught.value)

    assert device_memory(mesh) is None  # a CPU reports none
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), one_line_if_exhausted("batch_size", 64, mesh, "here"):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
    start = "batch_size is 64: out of device memory in here"
    assert told(ONE, 64, ", or b") == f"{start} (24.0 GiB more are needed); use 32 or less, or b"
    assert told("RESOURCE_EXHAUSTED: full", 64) == f"{start} (the batch does not fit); use 32 or less"
    monkeypatch.setattr(memory, "device_memory", lambda devices: DeviceMemory(79 * GIB, 72 * GIB, 79 * GIB))
    assert told(ONE, 64) == f"{start} (24.0 GiB more are needed, 7.0 GiB are free); use 16 or less"
    assert told(ONE, 4).endswith("use a smaller network or smaller images")


def test_a_run_without_enough_memory_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, evaluate = Synthetic(classes=3, train=16, valid=8, side=8), Eval(batch_size=8)
    small = experiment(Stage("s", size=8, lr=0.1, schedule=Constant(1)), data=data, evaluate=evaluate)

    def exhausted(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError(ONE)

    with monkeypatch.context() as patch:
        patch.setattr(Programs, "step", lambda self, *_: exhausted)
        with pytest.raises(InputError, match=r'^batch_size is 8: .* in stage "s" at 8 px .*; use 4 or less$'):
            run(small, tmp_path / "updates")
    with monkeypatch.context() as patch:
        patch.setattr(Programs, "predict", exhausted)
        with pytest.raises(InputError, match=r"^evaluate.batch_size is 8: .*; use 4 or less$"):
            run(small, tmp_path / "predictions")


def test_the_summary_has_the_peak_where_devices_report_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Synthetic(classes=3, train=16, valid=8, side=8)
    small = experiment(Stage("s", size=8, lr=0.1, schedule=Constant(1)), data=data, evaluate=Eval(batch_size=8, tta_views=0))
    assert "device_memory" not in run(small, tmp_path / "cpu")
    monkeypatch.setattr("sgdr_jax.runs.run.device_memory", lambda devices: DeviceMemory(3 * GIB, GIB, 8 * GIB))
    summary = run(small, tmp_path / "gpu")
    assert summary.get("device_memory") == {"peak": 3 * GIB, "limit": 8 * GIB}
    assert "device memory 3.0 of 8.0 GiB at most" in run_lines(summary)
