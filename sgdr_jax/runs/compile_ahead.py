"""Compilation ahead of time: runs the code of later stages on shapes in place of arrays, which compiles their programs.

The stage's own code is rehearsed with `Programs` that compile for the shapes of their arguments and return the shapes of their results.
jax then finds the compiled program when the stage calls it with arrays of those shapes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from ..core.console import NullConsole
from ..core.plan import StagePlan
from ..core.state import Hyper
from ..data.loader import ImageLoader
from ..data.sampler import Batch, eval_batches
from ..distributed.hosts import is_multi_host
from ..distributed.mesh import Devices, split_at
from ..evaluation import tta
from ..evaluation.evaluate import view_logits
from ..train.context import RunContext
from ..train.image_input import ImageInput
from ..train.programs import Programs
from ..train.stage import open_stage
from ..train.stage_inputs import hyper_rows, stage_batches


class _Shapes(Devices):
    """Devices that hold nothing: an array put there becomes its shape."""

    def _put(self, x: Any, sharding: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    def scatter(self, tree: Any, axis: int = 0) -> Any:
        return jax.tree.map(lambda x: self._put(x, NamedSharding(self.mesh, split_at(axis))), tree)

    def scatter_own(self, part: Any) -> Any:
        return jax.ShapeDtypeStruct((len(part) * jax.process_count(), *part.shape[1:]), part.dtype, sharding=self.split)

    def spread(self, rows: Any) -> Any:
        shape = (-(-len(rows) // self.count) * self.count, *rows.shape[1:])
        return jax.ShapeDtypeStruct(shape, np.asarray(rows[:1]).dtype, sharding=self.split)


class _Rehearsal(Programs):
    """Programs that compile and compute nothing; rows that `map` returns are zeros."""

    rehearsing = True

    def step(self, p: StagePlan, length: int = 1, image_input: ImageInput | None = None) -> Callable[..., Any]:
        return _compiling(super().step(p, length, image_input))

    def map(
        self,
        function: Callable[[Batch, Any], jax.Array],
        n: int,
        images: ImageLoader | None = None,
        tick: Callable[[int], None] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        batch = next(eval_batches(n, self.batch_size))
        x = None
        if images:
            ((batch, x),) = images.batches([batch._replace(index=batch.index % len(images))])
        rows = function(batch, x)
        return np.broadcast_to(np.zeros((), rows.dtype), (n, *rows.shape[1:]))


def _compiling(program: Any) -> Callable[..., Any]:
    """Wrap a program so that a call compiles it for the shapes of its arguments and returns the shapes of its results."""

    def ahead(*args: Any, **static: Any) -> Any:
        lowered = program.lower(*args, **static)
        lies = lowered.compile().output_shardings
        return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), lowered.out_info, lies)

    return ahead


def _shapes(context: RunContext) -> RunContext:
    """Return the context to rehearse in: shapes for arrays, and programs that only compile."""
    programs = context.programs
    devices = _Shapes(**vars(programs.devices))
    names = ("forward", "augmented", "mixed", "plain", "view", "rows", "stack", "slots")
    compiling = {name: _compiling(getattr(programs, name)) for name in names}
    fields: dict[str, Any] = vars(programs) | compiling | {"devices": devices}
    programs = _Rehearsal(**fields)
    images = {
        split: dataclasses.replace(x, devices=devices, gather=programs.rows, resident=devices.scatter(x.resident))
        for split, x in context.images.items()
    }
    return context._replace(programs=programs, images=images, network=programs.copy(context.network))


def rehearse(context: RunContext, p: StagePlan) -> None:
    """Compile all programs of a stage: the activations of its frozen groups, its updates (unless it is solved), its validation."""
    shapes = _shapes(context)
    stage = open_stage(shapes, p, shapes.network, NullConsole())
    hyper = hyper_rows(shapes, p, (0.0,) * len(p.trained))
    (train_batch,) = stage_batches(shapes, p, 0, 1, with_images=False)
    for size in dict.fromkeys([] if p.stage.solve else p.sizes.tolist()):
        stage.update(stage.state, Hyper(*(rows[:1] for rows in hyper)), [train_batch._replace(size=size)])
    if stage.validate:
        stage.validate(stage.state)


def rehearse_evaluation(context: RunContext, size: int) -> None:
    """Compile the programs of the final evaluation at an image size."""
    shapes, experiment = _shapes(context), context.experiment
    network = shapes.network._replace(size=size)
    views = range(min(2, tta.view_count(experiment.evaluate, experiment.augment)))  # the views after the plain one share a program
    for images in (shapes.images[split] for split in ("valid", "test") if split in shapes.images):
        ids = np.arange(len(images), dtype=np.uint32)
        for v in views:
            shapes.programs.map(view_logits(shapes.programs, experiment, network, ids, v), len(images), images)


def rehearsals(context: RunContext, plans: Sequence[StagePlan], wanted: bool | None) -> dict[Any, Callable[[], None]]:
    """Return what to compile ahead: every stage after the first, which begins at once, and the final evaluation.

    Args:
        context: the run.
        plans: the stages that are left.
        wanted: None compiles ahead unless the device is the processor that compiles, or several hosts would have to agree.
    """
    if wanted is None:
        wanted = jax.default_backend() != "cpu" and not is_multi_host()
    if not wanted:
        return {}
    stages = {plan.index: partial(rehearse, context, plan) for plan in plans[1:]}
    return stages | {"evaluation": partial(rehearse_evaluation, context, plans[-1].size)}


@contextmanager
def ahead(tasks: Mapping[Any, Callable[[], None]]) -> Iterator[Callable[[Any], None]]:
    """Run tasks in order in a background thread while the block runs.

    Yields a function that waits for the task of a name and raises what it raised; it returns at once where there is none. Tasks that
    have not begun at the end of the block are dropped.
    """
    pool = ThreadPoolExecutor(1, "compile ahead")
    try:
        futures = {name: pool.submit(task) for name, task in tasks.items()}
        yield lambda name: futures[name].result() if name in futures else None
    finally:
        pool.shutdown(cancel_futures=True)
