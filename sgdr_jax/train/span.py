"""Several training updates in a row as one program."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# jax types its functions of trees only in part.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core.state import Hyper, TrainState
from .image_input import ImageInput, traced
from .steps import TrainStep


class SpanRows(NamedTuple):
    """Numbers of the updates of a span.

    Attributes:
        hyper: rows of each field [length, ...].
        strength: strength of the augmentations [length]; None for 1.
        count: int32, number of updates to apply; the rows after them are padding.
    """

    hyper: Hyper
    strength: Any
    count: Any


@dataclass(frozen=True)
class Span:
    """Up to `length` consecutive updates as one program, with the numbers of single updates.

    The number of updates is an argument, so one program does a whole span, the shorter one before the end of a cycle, and a single update.
    It always computes `length` updates and drops those after that number: a loop whose length the compiler knows takes half the time to
    compile, and a GPU need not ask the host whether to go on. `multi_step.span_length` keeps short spans rare.

    Attributes:
        step: the update.
        length: largest number of updates.
        image_input: makes the input of the step from stored images; None if x is that input.
    """

    step: TrainStep
    length: int
    image_input: ImageInput | None = None
    batch_axis: ClassVar[int] = 1

    @property
    def trained(self) -> tuple[str, ...]:
        """Groups that are differentiated and updated."""
        return self.step.trained

    def over(self, axis: str) -> Span:
        """Return the updates of one device's part of the batches."""
        return replace(self, step=self.step.over(axis))

    def __call__(
        self, state: TrainState, rows: SpanRows, x: Any, labels: Any, weight: Array, keys: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        """Apply the first `rows.count` updates.

        Args:
            state: state before them.
            rows: numbers of the updates.
            x: input of the step [length, b, ...], or for an image input (images uint8 [length, b, s, s, c], draw uint32 [length, b]).
            labels: [length, b, ...].
            weight: [length, b].
            keys: the stage's keys "dropout" and "augment".

        Returns:
            (state after them, sums of each update [length]; those after the first `rows.count` mean nothing).
        """
        parts = traced(self.step.network.plain)

        def scan_step(state: TrainState, inputs: tuple[Any, ...]) -> tuple[TrainState, dict[str, Array]]:
            wanted, hyper, strength, x, labels, weight = inputs
            if self.image_input:
                images, draw = x
                x, labels = self.image_input(parts, images, draw, labels, keys["augment"], strength)
            return self.step(state, hyper, x, labels, weight, keys["dropout"], wanted)

        wanted = jnp.arange(self.length) < rows.count
        return jax.lax.scan(scan_step, state, (wanted, rows.hyper, rows.strength, x, labels, weight))
