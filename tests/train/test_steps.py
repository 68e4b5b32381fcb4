"""The compiled update: its gradient, what it must leave alone, what it must not recompile, and that devices do not change it."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Parallel, Stage
from sgdr_jax.core.optimizers import AdamW, Sgd
from sgdr_jax.core.plan import plan
from sgdr_jax.core.state import Hyper, NetworkState, TrainState
from sgdr_jax.data.loader import row_gather
from sgdr_jax.distributed.mesh import compute_dtype, devices
from sgdr_jax.models import cpu
from sgdr_jax.models.chain import Modes
from sgdr_jax.schedules import Constant, Sgdr
from sgdr_jax.train import optim, steps
from sgdr_jax.train.loop import LoopPlan, StageCallbacks, fit
from sgdr_jax.train.model_selection import SelectionRules, StageProgress
from sgdr_jax.train.programs import check_batches
from sgdr_jax.train.span import Span, SpanRows

from ..helpers import (
    CLASSES,
    GROUPS,
    SGD,
    Tiny,
    batch,
    compilations,
    experiment,
    fresh,
    host_state,
    hyper,
    network,
    on,
    program,
    same_bits,
    seeded,
)

KEY = jax.random.key(7)


def inputs(trained: tuple[str, ...], x: np.ndarray) -> Any:
    """What enters the lowest trained group."""
    params, stats = host_state()
    return x if trained[0] == "early" else steps.forward(network(), params, stats, x, start=None, stop=trained[0], dtype=jnp.float32)


def whole_loss(params: Any, stats: Any, images: Any, labels: Any, weight: Any, key: Any, trained: Any, collects: Any) -> tuple[Any, Any]:
    """The loss of the full network from images on, written from the definition, with the statistics it leaves."""
    logits, stats = network().apply(params, stats, images, modes=Modes(trained, collects, key=key))
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0] * weight).sum() / weight.sum(), stats


REFERENCE = jax.jit(jax.value_and_grad(whole_loss, has_aux=True), static_argnums=(6, 7))


@pytest.mark.parametrize(("start", "stop"), [(None, None), (None, "late"), ("late", "head"), ("head", None), ("late", "late")])
def test_prediction_in_slices_is_that_of_the_whole_batch(start: str | None, stop: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    params, stats = host_state()
    x = jnp.asarray(np.random.default_rng(0).random((32, 8, 8, 3)), jnp.float32)
    x = network().apply(params, stats, x, stop=start)[0] if start else x
    monkeypatch.setattr(cpu, "SLICE", 0)
    monkeypatch.setattr(cpu.jax, "device_count", lambda: 1)
    sliced = jax.jit(lambda x: steps.forward(network(), params, stats, x, start=start, stop=stop, dtype=jnp.float32))
    assert ("while" in sliced.lower(x).as_text()) == (start != stop or start is None)
    whole = jax.jit(lambda x: network().apply(params, stats, x, start=start, stop=stop)[0])(x)
    np.testing.assert_allclose(sliced(x), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("trained", "collects"),
    [
        (GROUPS, GROUPS),
        (("late", "head"), ("head",)),
        (("early", "head"), ("early", "head")),
    ],
)
def test_the_gradient_is_that_of_the_full_network(trained: tuple[str, ...], collects: tuple[str, ...]) -> None:
    """One update of plain gradient descent at rate 1 subtracts the gradient; jax.grad of the whole network knows it too."""
    images, labels, weight = batch()
    weight[-2:] = 0
    params, stats = host_state()
    (loss, stats), grads = REFERENCE(params, stats, images, labels, weight, jax.random.fold_in(KEY, 0), trained, collects)
    state, sums = program(trained, collects)(
        fresh(trained), hyper(*[1.0] * len(trained), momentum=0.0), inputs(trained, images), labels, weight, KEY
    )
    for group in GROUPS:
        for new, old, slope in zip(*(jax.tree.leaves(t[group]) for t in (state.params, params, grads)), strict=True):
            moved = old - np.asarray(new)
            if group in trained:
                np.testing.assert_allclose(moved, slope, rtol=1e-4, atol=5e-6)
            else:
                assert not moved.any()
    assert float(sums["loss"]) == pytest.approx(float(loss) * 6, rel=1e-5) and float(sums["weight"]) == 6
    for new, expected in zip(jax.tree.leaves(state.stats), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)
    assert int(state.step) == 1


def test_the_gradient_of_the_pooling_reaches_the_pixels_that_were_the_maxima() -> None:
    """XLA may compute what is pooled twice, with different rounding; a maximum that is looked for by equality is then not found."""
    params, stats = jax.tree.map(jnp.asarray, host_state())
    images, labels, weight = batch()

    def loss(x: Any, params: Any, start: str) -> Any:
        logits, _ = network().apply(params, stats, x, start=start, modes=Modes(("head",), ("head",), key=KEY))
        return (jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0] * weight).sum()

    found = jax.jit(jax.grad(loss, 1), static_argnums=2)(images, params, "early")["late"]["second"]["kernel"]
    x, pooled = (steps.forward(network(), params, stats, images, start=None, stop=to, dtype=jnp.float32) for to in ("late", "head"))
    onward = np.asarray(jax.jit(jax.grad(loss), static_argnums=2)(pooled, params, "head"), np.float64)

    around = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.stack([around[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)], 3).reshape(8, 16, 9, 4)
    unit = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params["late"]["second"], stats["late"]["second"]["bn"]))
    factor = unit[0]["bn"]["scale"] / np.sqrt(unit[1]["var"] + 1e-5)
    y = np.einsum("npki,kio->npo", patches, unit[0]["kernel"].reshape(9, 4, 5)) * factor  # up to a constant
    at = np.eye(16)[y.argmax(1)].transpose(0, 2, 1)  # [n, 16, 5], 1 at the maximum
    slope = factor * (at * onward[:, None, :5] + onward[:, None, 5:] / 16)
    np.testing.assert_allclose(found, np.einsum("npki,npo->kio", patches, slope).reshape(3, 3, 4, 5), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("trained", "collects"),
    [(("head",), ("head",)), (("late", "head"), ("head",)), (("early", "head"), ("early", "head")), (GROUPS, ("head",))],
)
def test_frozen_groups_and_their_statistics_are_bit_identical(trained: tuple[str, ...], collects: tuple[str, ...]) -> None:
    params, stats = host_state()
    state, (images, labels, weight) = fresh(trained), batch()
    x = inputs(trained, images)
    for _ in range(5):
        state, _ = program(trained, collects)(state, hyper(*[0.3] * len(trained), weight_decay=0.1), x, labels, weight, KEY)
    for group in GROUPS:
        assert same_bits(state.params[group], params[group]) == (group not in trained)
        assert same_bits(state.stats[group], stats[group]) == (group not in collects)
    touched = jax.tree.leaves(jax.tree.map(lambda new, old: (np.asarray(new) != old).all(), state.stats, stats))
    assert sum(touched) == sum(len(jax.tree.leaves(stats[group])) for group in collects)
    assert int(state.step) == 5


def test_examples_of_weight_0_do_not_count() -> None:
    trained = ("head",)
    images, labels, weight = batch()
    weight[[2, 5]] = 0
    x = np.asarray(inputs(trained, images))
    other_x, other_labels = x.copy(), labels.copy()
    other_x[[2, 5]], other_labels[[2, 5]] = 100.0, (labels[[2, 5]] + 1) % CLASSES
    run = program(trained, ())  # On stored statistics; batch statistics are of all examples, by intent.
    first, second = (run(fresh(trained), hyper(0.1), *data, weight, KEY) for data in ((x, labels), (other_x, other_labels)))
    assert same_bits(first, second)
    counted = run(fresh(trained), hyper(0.1), other_x, other_labels, np.ones(8, np.float32), KEY)
    assert not same_bits(first[0].params["head"], counted[0].params["head"])
    state, sums = run(fresh(trained), hyper(0.1), x, labels, np.zeros(8, np.float32), KEY)
    assert same_bits(state.params, fresh(trained).params) and float(sums["weight"]) == float(sums["loss"]) == 0


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_the_loss_is_a_mean_whatever_the_sum_of_the_weights(scale: float) -> None:
    """Class weights that summed to less than 1, in a last batch of one image, had halved its loss and its gradient."""
    images, labels, weight = batch()
    x = inputs(("head",), images)
    (one, sums), (two, scaled) = (
        program(("head",), ())(fresh(("head",)), hyper(0.1), x, labels, w.astype(np.float32), KEY) for w in (weight, weight * scale)
    )
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert float(scaled["loss"]) == pytest.approx(float(sums["loss"]) * scale, rel=1e-5)


def test_dropout_is_new_at_every_step_and_the_same_again() -> None:
    trained = ("head",)
    images, labels, weight = batch()
    x = inputs(trained, images)

    def loss(step: int, key: Any = KEY) -> float:
        state = fresh(trained)._replace(step=on(1).replicate(np.int32(step)))
        return float(program(trained, ())(state, hyper(0.0), x, labels, weight, key)[1]["loss"])

    losses = [loss(step) for step in range(4)] + [loss(0, jax.random.key(8))]
    assert len(set(losses)) == 5 and loss(2) == losses[2]


def test_label_smoothing_and_weight_decay_come_from_the_numbers() -> None:
    trained = ("head",)
    images, labels, weight = batch()
    run, x = program(trained, ()), inputs(trained, images)
    plain, smooth, decayed = (
        run(fresh(trained), hyper(0.1, momentum=0.0, **fields), x, labels, weight, KEY)
        for fields in ({}, {"label_smoothing": 0.5}, {"weight_decay": 0.5})
    )
    assert float(plain[1]["loss"]) != float(smooth[1]["loss"]) and float(plain[1]["loss"]) == float(decayed[1]["loss"])
    assert not same_bits(plain[0].params, smooth[0].params)  # It is in the gradient, too.
    kernel = host_state()[0]["head"]["linear2"]["kernel"]
    difference = np.asarray(plain[0].params["head"]["linear2"]["kernel"]) - np.asarray(decayed[0].params["head"]["linear2"]["kernel"])
    np.testing.assert_allclose(difference, 0.1 * 0.5 * kernel, atol=1e-6)
    bias = [np.asarray(r[0].params["head"]["linear2"]["bias"]) for r in (plain, decayed)]
    np.testing.assert_array_equal(*bias)


def one_stage(schedule: Any, *lr: float, seed: int = 0) -> tuple[TrainState, list[float]]:
    """A whole stage through the loop, as the recipe runs it; gives the last state and all losses."""
    table = schedule.table(3)
    n = len(table.scale)
    rows = Hyper(
        *(np.asarray(a, np.float32) for a in (table.scale[:, None] * np.array(lr), np.full(n, 0.9), np.full(n, 0.01), np.zeros(n)))
    )
    losses: list[float] = []
    callbacks = StageCallbacks(
        update=lambda state, h, data: program(GROUPS, GROUPS)(state, Hyper(*(r[0] for r in h)), *on(1).scatter(data[0]), KEY),
        validate=lambda state: {"accuracy": 0.5, "loss": 1.0},
        copy_network=lambda state: NetworkState(*on(1).replicate((state.params, state.stats)), 8),
        log=lambda row: losses.append(row["loss"]),
        save=lambda state, progress: None,
    )
    plan = LoopPlan(rows, table.cycle, SelectionRules(0))
    state, _ = fit(fresh(GROUPS), StageProgress(), plan, callbacks, (batch(seed + i) for i in range(n)))
    return state, losses


def test_the_second_step_another_rate_and_another_schedule_compile_nothing() -> None:
    with compilations() as compiled:
        jax.jit(lambda x: x + 2)(np.float32(1))
    assert len(compiled) == 1  # Otherwise the count below means nothing.
    images, labels, weight = batch()  # The first update compiles, if no test before did.
    program(GROUPS, GROUPS)(fresh(GROUPS), hyper(0.1, 0.1, 0.1), *on(1).scatter((images, labels, weight)), KEY)
    with compilations() as compiled:
        first = one_stage(Constant(1), 0.1, 0.1, 0.1)
        other_rate = one_stage(Constant(1), 1e-3, 0.02, 0.3)
        other_schedule = one_stage(Sgdr(2, 1, 2, warmup=0.2), 0.1, 0.1, 0.1)
    assert compiled == []
    assert first[1] != other_rate[1] and len(other_schedule[1]) == 9 + 2


def test_one_device_equals_four() -> None:
    """The batch is split, statistics and gradients are those of the whole batch, dropout draws are the same."""
    images, labels, weight = batch()
    weight[-1] = 0
    results = []
    for count in (1, 4):
        mesh, state, losses = on(count), fresh(GROUPS, count), []
        for _ in range(4):
            data = mesh.scatter((images, labels, weight))
            assert len(data[0].sharding.device_set) == count and data[0].addressable_shards[0].data.shape[0] == 8 // count
            state, sums = program(GROUPS, GROUPS, count)(state, hyper(0.01, 0.03, 0.1), *data, KEY)
            losses.append(float(sums["loss"]))
        results.append((losses, state))
        assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    (one_losses, one), (four_losses, four) = results
    np.testing.assert_allclose(four_losses, one_losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(four), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)
    assert not any(same_bits(one.params[group], host_state()[0][group]) for group in GROUPS)


def test_the_frozen_prefix_and_the_rest_are_the_whole_network() -> None:
    params, stats = host_state()
    images = batch()[0]
    run = partial(steps.forward, network(), params, stats, dtype=jnp.float32)
    logits = run(images, start=None, stop=None)
    assert logits.dtype == jnp.float32 and logits.shape == (8, CLASSES)
    for cut in ("late", "head"):
        np.testing.assert_array_equal(run(run(images, start=None, stop=cut), start=cut, stop=None), logits)
    middle = run(run(images, start=None, stop="late"), start="late", stop="head")
    np.testing.assert_array_equal(run(middle, start="head", stop=None), logits)


@pytest.mark.parametrize("multi", [False, True])
def test_parameters_statistics_and_sums_are_float32_under_bfloat16(multi: bool) -> None:
    images, labels, weight = batch()
    labels = np.eye(CLASSES, dtype=np.float32)[labels] if multi else labels
    state, sums = jax.eval_shape(
        steps.TrainStep(network(), AdamW(), GROUPS, GROUPS, jnp.bfloat16),
        *(fresh(GROUPS, optimizer=AdamW()), hyper(0.1, 0.1, 0.1), images, labels, weight, KEY),
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.stats, sums))} == {jnp.dtype("float32")}
    assert jax.tree.structure(state) == jax.tree.structure(fresh(GROUPS, optimizer=AdamW()))


def test_a_step_uses_up_its_state_but_not_what_it_was_copied_from() -> None:
    trained = ("head",)
    state, (images, labels, weight) = fresh(trained), batch()
    copy = on(1).replicate(state)
    program(trained, ())(copy, hyper(0.1), inputs(trained, images), labels, weight, KEY)
    assert copy.params["head"]["linear2"]["kernel"].is_deleted()
    assert same_bits(state, fresh(trained))


def test_more_devices_than_there_are_is_refused() -> None:
    assert devices(Parallel()).count == 4 and devices(Parallel(devices=2)).count == 2
    with pytest.raises(InputError, match=r"parallel\.devices is 5; there are 4: cpu"):
        devices(Parallel(devices=5))


@pytest.mark.parametrize(("size", "near"), [(6, 4), (3, 4), (9, 8)])
def test_a_batch_that_cannot_be_split_evenly_is_refused(size: int, near: int) -> None:
    on(4).check_batch("batch_size", 8)
    on(1).check_batch("batch_size", size)
    with pytest.raises(InputError, match=f"^batch_size is {size}; use a multiple of the 4 devices, such as {near}, or fewer devices"):
        on(4).check_batch("batch_size", size)


@pytest.mark.parametrize(("batch_size", "accumulate", "share"), [(8, 4, 2), (24, 4, 6), (8, 8, 2)])
def test_parts_that_the_devices_cannot_share_are_refused(batch_size: int, accumulate: int, share: int) -> None:
    """With four devices parts of 6 images were of one and of two, which gave other numbers, and parts of none a traceback."""
    stage = Stage("s", size=16, train="head", lr=0.1, schedule=Sgdr(1), accumulate=accumulate)
    e = experiment(stage, batch_size=batch_size, parallel=Parallel(devices=4))
    with pytest.raises(
        InputError, match=f'stage "s": accumulate is {accumulate}; use a divisor of the {share} images that each device has'
    ):
        check_batches(e, plan(e, 48))
    one = dataclasses.replace(e, parallel=Parallel(devices=1))
    check_batches(one, plan(one, 48))


def test_rows_of_a_compiled_map_are_split_over_the_devices() -> None:
    double = on(4).compile_map(lambda x, by: x * by, static_argnames=("by",))
    result = double(on(4).scatter(np.arange(8.0, dtype=np.float32)), by=3.0)
    assert result.sharding.is_equivalent_to(on(4).split, 1)
    np.testing.assert_array_equal(result, 3 * np.arange(8))


def test_the_compute_dtype_follows_the_device_unless_it_is_named() -> None:
    assert [compute_dtype(name) for name in ("auto", "float32", "bfloat16")] == [jnp.float32, jnp.float32, jnp.bfloat16]


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_one_update_of_the_whole(parts: int) -> None:
    """The late group on stored statistics, so that an example does not see the others; one example does not count."""
    params, stats = host_state()
    x = np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 4)).astype(np.float32)
    _, labels, weight = batch()
    weight = weight * np.array([1, 1, 0, 1, 1, 1, 1, 1], np.float32)
    state = TrainState(np.int32(0), params, stats, optim.init(SGD, ("late",), params))

    def run(accumulate: int) -> Any:
        step = steps.TrainStep(network(), SGD, ("late",), (), np.float32, accumulate)
        return jax.jit(step)(state, hyper(0.5), x, labels, weight, jax.random.key(0))

    (whole, sums), (split, added) = run(1), run(parts)
    for a, b in zip(jax.tree.leaves((whole, sums)), jax.tree.leaves((split, added)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert int(split.step) == 1 and float(added["weight"]) == 7


def test_sharpness_aware_updates_use_the_gradient_at_the_sharpest_point() -> None:
    params, stats = host_state()
    x = np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 4)).astype(np.float32)
    _, labels, weight = batch()
    plain, aware = Sgd(0.0), Sgd(0.0, sam=0.5)

    def moved(optimizer: Sgd, late: Any) -> Any:
        state = TrainState(np.int32(0), params | {"late": late}, stats, optim.init(optimizer, ("late",), params))
        new, _ = jax.jit(steps.TrainStep(network(), optimizer, ("late",), ()))(state, hyper(1.0), x, labels, weight, jax.random.key(0))
        return jax.tree.map(lambda a, b: a - b, late, new.params["late"])

    gradient = moved(plain, params["late"])
    there = optim.sam_perturbed(0.5, {"late": gradient}, {"late": params["late"]})["late"]
    for a, b in zip(jax.tree.leaves(moved(aware, params["late"])), jax.tree.leaves(moved(plain, there)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert not np.allclose(jax.tree.leaves(gradient)[0], jax.tree.leaves(moved(aware, params["late"]))[0], rtol=1e-3)


def check_one_program(count: int, optimizer: Any, accumulate: int) -> None:
    """In float64, where rounding hides no fault; dropout, an example that does not count and moving rates among them."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        net = Tiny(dropout=(0.1, 0.5), hidden=4).build(CLASSES)
        params, stats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), net.init(jax.random.key(0)))
        step = steps.TrainStep(net, optimizer, ("head",), ("head",), jnp.float64, accumulate)
        rng = np.random.default_rng(count)
        x, labels = rng.normal(size=(count, 8, 2 * Tiny.features)), rng.integers(0, CLASSES, (count, 8)).astype(np.int32)
        weight = (rng.uniform(size=(count, 8)) > 0.2).astype(np.float64)
        rates = Hyper(rng.uniform(0.001, 0.1, (count, 1)), rng.uniform(0.5, 0.9, count), np.full(count, 0.01), np.full(count, 0.1))
        start = TrainState(np.int32(0), params, stats, optim.init(optimizer, ("head",), params))
        one, state, rows = jax.jit(step), start, []
        for i in range(count):
            state, sums = one(state, Hyper(*(r[i] for r in rates)), x[i], labels[i], weight[i], KEY)
            rows.append(sums)
        longer = jax.tree.map(lambda a: np.concatenate([a, a[:1], a[:1]]), (rates, x, labels, weight))  # two rows of padding
        given = (SpanRows(longer[0], None, np.int32(count)), *longer[1:], {"dropout": KEY})
        state_after, found = jax.jit(Span(step, count + 2))(start, *given)
        found = {name: sums[:count] for name, sums in found.items()}
        expected = jax.tree.map(lambda *values: np.stack(values), *rows)
        assert found["loss"].dtype == np.float64 and int(state_after.step) == count
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), (state_after, found), (state, expected))


@pytest.mark.parametrize("count, optimizer, accumulate", [(2, SGD, 1), (20, AdamW(ema=0.9), 2), (7, SGD, 2), (3, AdamW(ema=0.9), 1)])
def test_updates_as_one_program_are_one_update_after_the_other(count: int, optimizer: Any, accumulate: int) -> None:
    check_one_program(count, optimizer, accumulate)


def test_one_program_does_spans_of_every_length() -> None:
    """Compiled once; rows after the count are not even finite, and change nothing."""
    step, length = steps.TrainStep(network(), AdamW(), ("head",), ("head",)), 4
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(length, 8, 2 * Tiny.features)).astype(np.float32), rng.integers(0, CLASSES, (length, 8)).astype(np.int32)
    weight = np.ones((length, 8), np.float32)
    rates = Hyper(*(np.stack([np.asarray(each)] * length) for each in hyper(0.1)))
    one, span = jax.jit(step), jax.jit(Span(step, length))
    expected = fresh(("head",), 1, AdamW())
    for count in range(1, length + 1):
        expected, sums = one(expected, Hyper(*(r[0] for r in rates)), x[count - 1], labels[count - 1], weight[count - 1], KEY)
        padded = np.where(np.arange(length)[:, None, None] < count, x, np.nan).astype(np.float32)
        rows = SpanRows(rates, None, np.int32(count))
        state, found = span(fresh(("head",), 1, AdamW()), rows, padded, labels, weight, {"dropout": KEY})
        assert same_bits(state, expected) and int(state.step) == count
        assert same_bits(jax.tree.map(lambda each, count=count: each[count - 1], found), sums)
    assert span._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
@settings(seeded, max_examples=8)
@given(count=st.integers(2, 20), optimizer=st.sampled_from([SGD, AdamW(ema=0.9)]), accumulate=st.sampled_from([1, 2]))
def test_any_number_of_updates_as_one_program_is_one_after_the_other(count: int, optimizer: Any, accumulate: int) -> None:
    check_one_program(count, optimizer, accumulate)


def poisoned(kind: str) -> tuple[Any, Any, Any, Hyper]:
    """Images, labels, weights and numbers of an update that comes to nothing, by one example of the last device."""
    images, labels, weight = batch(3)
    numbers = hyper(0.1, 0.1, 0.1)
    if kind == "nan image":
        images[7, 2, 3, 1] = np.nan
    elif kind == "infinite weight":
        weight[7] = np.inf
    elif kind == "rate":  # loss and gradients are finite
        numbers = hyper(np.inf, np.inf, np.inf)
    return images, labels, weight, numbers


@pytest.mark.parametrize("optimizer", [SGD, AdamW(ema=0.9), Sgd(clip=1.0), Sgd(sam=0.05)], ids=["sgd", "adamw, ema", "clip", "sam"])
@pytest.mark.parametrize("kind", ["nan image", "infinite weight", "rate"])
def test_an_update_that_is_not_finite_changes_no_bit(kind: str, optimizer: Any) -> None:
    step, state = program(GROUPS, GROUPS, 1, optimizer), fresh(GROUPS, 1, optimizer)
    images, labels, weight = batch(1)
    state, sums = step(state, hyper(0.1, 0.1, 0.1), images, labels, weight, KEY)
    assert float(sums["skipped"]) == 0
    before = jax.tree.map(np.asarray, state)
    state, sums = step(state, *reordered(poisoned(kind)), KEY)
    assert float(sums["skipped"]) == 1 and int(state.step) == 2
    assert same_bits(jax.tree.map(np.asarray, state)[1:], before[1:])
    state, sums = step(state, hyper(0.1, 0.1, 0.1), images, labels, weight, KEY)
    assert float(sums["skipped"]) == 0 and not same_bits(jax.tree.map(np.asarray, state.params), before.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def reordered(given: tuple[Any, Any, Any, Hyper]) -> tuple[Any, Any, Any, Any]:
    return given[3], *given[:3]


@pytest.mark.parametrize("parallel", [Parallel(4), Parallel(4, "pmap"), Parallel(4, sharded=True)], ids=["jit", "pmap", "sharded"])
def test_all_devices_skip_an_update_that_is_not_finite_on_one(parallel: Parallel) -> None:
    mesh = devices(parallel)
    step = mesh.compile_step(steps.TrainStep(network(), SGD, GROUPS, GROUPS))
    params, stats = host_state()
    state = mesh.hold(TrainState(np.int32(0), params, stats, optim.init(SGD, GROUPS, params)))
    numbers, *examples = reordered(poisoned("nan image"))
    state, sums = step(state, numbers, *mesh.scatter(tuple(examples)), KEY)
    assert float(np.asarray(sums["skipped"])) == 1
    for name, tree in (("params", params), ("stats", stats)):
        for leaf, known in zip(jax.tree.leaves(getattr(state, name)), jax.tree.leaves(tree), strict=True):
            assert all(np.array_equal(np.asarray(shard.data), known[shard.index]) for shard in leaf.addressable_shards)


@pytest.mark.parametrize("parallel", [Parallel(4), Parallel(4, "pmap"), Parallel(4, sharded=True)], ids=["jit", "pmap", "sharded"])
def test_updates_as_one_program_are_shared_by_devices(parallel: Parallel) -> None:
    """Each device has its part of every batch; activations of three batches are taken from where they lie in one go."""
    mesh, step = devices(parallel), steps.TrainStep(network(), SGD, ("head",), ("head",))
    cached = np.random.default_rng(0).normal(size=(10, 2 * Tiny.features)).astype(np.float32)
    index = np.random.default_rng(1).integers(0, 10, (3, 8)).astype(np.int32)
    labels, weight = np.tile(batch()[1], (3, 1)), np.ones((3, 8), np.float32)
    x = row_gather(mesh)(mesh.spread(cached), mesh.scatter(index, axis=1))
    assert same_bits(x, cached[index]) and x.addressable_shards[0].data.shape[:2] == (3, 2)
    given = Hyper(np.array([[0.1], [0.02], [0.2]], np.float32), *(np.full(3, value, np.float32) for value in (0.9, 0, 0.1)))
    placed = mesh.scatter((labels, weight), axis=1)
    rows = SpanRows(given, None, np.int32(3))
    state, sums = mesh.compile_step(Span(step, 3))(mesh.hold(fresh(("head",))), rows, x, *placed, {"dropout": KEY})
    one, expected = mesh.compile_step(step), mesh.hold(fresh(("head",)))
    for i in range(3):
        data = mesh.scatter((cached[index[i]], labels[i], weight[i]))
        expected, each = one(expected, Hyper(*(r[i] for r in given)), *data, KEY)
        np.testing.assert_allclose(sums["loss"][i], each["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state, expected)
    assert all(a.sharding == b.sharding for a, b in zip(*map(jax.tree.leaves, (state, expected)), strict=True))
