"""Every program of a run, lowered for a TPU on the machine at hand: what the compiler for one would be given.

The code is rehearsed as for compiling ahead, but lowered instead of compiled, with jax's default platform named "tpu".
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import pytest

from sgdr_jax import Experiment
from sgdr_jax.augment import Crop, Cutout, MixUp, side_on
from sgdr_jax.core.experiment import Eval, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.runs import compile_ahead
from sgdr_jax.schedules import Constant
from sgdr_jax.train.context import prepare

from ..helpers import Tiny

STAGES = (
    Stage("cached", size=16, train="head", lr=0.01, schedule=Constant(1), views=2, precompute=True),
    Stage("head", size=16, train="head", lr=0.01, schedule=Constant(1)),
    Stage("all", size=24, lr=0.01, schedule=Constant(1)),
)
DATA = Synthetic(classes=3, train=24, valid=12, test=20, side=16)


@dataclass(frozen=True)
class Depthwise(Tiny):
    """The tiny network with a depthwise convolution of 4 channels in place of its second."""

    features: ClassVar = 4

    def modules(self, channels: int) -> dict[str, Any]:
        from jax.nn import relu

        from sgdr_jax.models.blocks import ConvBN

        second = ConvBN(3, 4, 4, eps=1e-5, padding="SAME", stride=2, groups=4)
        return super().modules(channels) | {"first": ConvBN(1, channels, 4, eps=1e-5, activation=relu), "second": second}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """StableHLO of all programs of the stages and the evaluation, by their field of `Programs`; updates as "update"."""
    found: dict[str, list[str]] = defaultdict(list)
    augment = (*side_on(), Crop(), Cutout(), MixUp())
    evaluate = Eval(batch_size=12, tta_views=2)
    experiment = Experiment("tpu", DATA, Depthwise(), STAGES, augment=augment, batch_size=8, evaluate=evaluate)

    def lowering(program: Any) -> Callable[..., Any]:
        name = next((name for name, value in vars(context.programs).items() if value is program), "update")

        def lower(*args: Any, **static: Any) -> Any:
            lowered = program.trace(*args, **static).lower(lowering_platforms=("tpu",))
            found[name].append(lowered.as_text())
            return lowered.out_info

        return lower

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))  # no activations of another test
        patch.setattr(jax, "default_backend", lambda: "tpu")
        patch.setattr(compile_ahead, "_compiling", lowering)
        context = prepare(experiment)
        for p in context.plan.stages:
            compile_ahead.rehearse(context, p)
        compile_ahead.rehearse_evaluation(context, experiment.stages[-1].size)
        for kind in ("flip", "five"):
            other = context._replace(experiment=replace(experiment, evaluate=replace(evaluate, tta_views=1, tta_kind=kind)))
            compile_ahead.rehearse_evaluation(other, experiment.stages[-1].size)
    return found


def lines(programs: dict[str, list[str]], operation: str) -> list[tuple[str, str]]:
    """The lines of StableHLO with an operation, each with the name of its program."""
    return [(name, line) for name, texts in programs.items() for text in texts for line in text.splitlines() if operation in line]


def test_all_programs_of_a_run_lower(programs: dict[str, list[str]]) -> None:
    assert programs.keys() == {"forward", "augmented", "mixed", "plain", "view", "rows", "stack", "slots", "update"}
    assert len(set(programs["update"])) == len(STAGES)  # mixed labels need one of their own
    assert len(set(programs["view"])) == 2  # flip, five; random views are augmented as in training


def test_pixels_are_fetched_without_gathers(programs: dict[str, list[str]]) -> None:
    """Gathers read single numbers of tables, or whole rows: images of the resident set, cached activations."""
    gathers = lines(programs, "stablehlo.gather") + lines(programs, "stablehlo.dynamic_gather")
    assert {name for name, _ in gathers} == {"rows", "mixed", "update"}
    for name, line in gathers:
        shape, sizes = re.search(r": \(tensor<([\dx]+)x\w+>, ", line), re.search(r"slice_sizes = array<i64: ([\d, ]+)>", line)
        assert shape and sizes, line
        sides = shape[1].split("x")
        assert len(sides) <= 2 or sizes[1].split(", ")[1:] == sides[1:], f"{name}: {line}"


def test_no_program_calls_a_kernel_of_another_platform_or_fixes_a_layout(programs: dict[str, list[str]]) -> None:
    assert lines(programs, "custom_call") == []


def test_products_are_of_bfloat16_or_of_full_float32(programs: dict[str, list[str]]) -> None:
    products = lines(programs, "stablehlo.dot_general") + lines(programs, "stablehlo.convolution")
    kinds = {"bf16": 0, "f32": 0}
    for name, line in products:
        (kind,) = set(re.findall(r"x([a-z]+\d+)>", line.rpartition(" : ")[2].partition(" -> ")[0]))
        kinds[kind] += 1
        assert kind == "bf16" or line.count("HIGHEST") == 2, f"{name}: {line}"
    assert min(kinds.values()) > 10


def test_depthwise_convolutions_are_single_operations(programs: dict[str, list[str]]) -> None:
    depthwise = [name for name, line in lines(programs, "stablehlo.convolution") if re.search(r"group_count = 4\b", line)]
    assert depthwise.count("update") == 3  # with both gradients, where the body is trained
    assert "forward" in depthwise
