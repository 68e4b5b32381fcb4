"""The training loop with pretended updates and validations: what is called when, what is kept, and where it stops."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.errors import Diverged, Preempted
from sgdr_jax.core.state import Hyper, NetworkState
from sgdr_jax.schedules import Plateau
from sgdr_jax.schedules.plateau import Lowered
from sgdr_jax.train.loop import LAG, LoopPlan, StageCallbacks, fit
from sgdr_jax.train.model_selection import Score, SelectionRules, StageProgress

from ..helpers import seeded

CYCLE = np.array([0] * 7 + [1] * 3 + [2] * 5)
"""Cycle ends after 7, 10 and 15 updates."""
ENDS = (7, 10, 15)


class State(NamedTuple):
    """Arrays that the pretended update changes in place, as donation does."""

    params: np.ndarray
    stats: np.ndarray


class Late:
    """A number on the device: reading it is an event."""

    def __init__(self, value: float, read: Callable[[], Any]):
        self.value, self.read = value, read

    def __float__(self) -> float:
        self.read()
        return self.value


def loss_at(step: int) -> float:
    return 2.0 / (1 + step)


def numbers(steps: int) -> Hyper:
    ramp = np.arange(steps, dtype=np.float32)
    return Hyper(np.stack([ramp / 64, ramp / 8], 1), 0.5 + ramp / 256, np.zeros(steps, np.float32), np.zeros(steps, np.float32))


class Run:
    """One call of the loop, and everything that it did in order."""

    def __init__(
        self,
        scores: Sequence[tuple[float, float]] = ((0.5, 1.0), (0.6, 0.9), (0.7, 0.8)),
        losses: Callable[[int], float] = loss_at,
        first: int = 0,
        progress: StageProgress | None = None,
        cycle: np.ndarray = CYCLE,
        kept: list[Any] | None = None,
        leave: Callable[[], bool] = lambda: False,
        **options: Any,
    ):
        if kept is not None:
            kept.append(self)
        self.events: list[tuple[Any, ...]] = []
        self.rows: list[dict[str, Any]] = []
        self.saved: dict[int, tuple[int, StageProgress]] = {}
        self.ticks: list[float] = []
        self.rates: list[np.ndarray] = []
        self.spans: list[tuple[int, int]] = []
        self.state = State(np.full(2, first), np.full(2, 10 * first))
        ends = [i + 1 for i in range(len(cycle)) if i + 1 == len(cycle) or cycle[i + 1] != cycle[i]]

        def update(state: State, hyper: Hyper, items: Sequence[int]) -> tuple[State, dict[str, Any]]:
            step, count = int(state.params[0]), len(items)
            self.spans.append((step, count))
            self.events.extend(("update", step + i) for i in range(count))
            assert list(items) == list(range(step, step + count)), "the batches are not those of these updates"
            rows = numbers(len(cycle))
            self.rates.extend(hyper.lr)
            assert all(np.array_equal(mine, row[step : step + count]) for mine, row in zip(hyper[1:], rows[1:], strict=True))
            assert "plateau" in rules or np.array_equal(hyper.lr, rows.lr[step : step + count])
            state.params[:], state.stats[:] = step + count, 10 * (step + count)
            skipped = [float(not math.isfinite(losses(step + i))) for i in range(count)]
            if count > 1:
                padded = [losses(step + i) * 4 for i in range(count)] + [math.nan]  # what follows the last update means nothing
                return state, {"loss": np.array(padded), "weight": np.full(count + 1, 4.0), "skipped": np.array([*skipped, 1.0])}
            return state, {"loss": Late(losses(step) * 4, lambda: self.events.append(("read", step))), "weight": 4.0, "skipped": skipped}

        def validate(state: State) -> dict[str, float]:
            done = int(state.params[0])
            self.events.append(("validate", done))
            accuracy, loss = scores[ends.index(done)]
            return {"accuracy": accuracy, "loss": loss, "top5": 1.0}

        def log(row: dict[str, Any]) -> None:
            self.events.append((row["kind"], row["step"]))
            self.rows.append(row)

        def save(state: State, progress: StageProgress) -> None:
            done = int(state.params[0])
            self.events.append(("save", done))
            assert done not in self.saved, "saved twice"
            self.saved[done] = done, progress

        def copy_network(state: State) -> NetworkState:
            return NetworkState({"w": state.params.copy()}, {"mean": state.stats.copy()}, 8)

        rules = {name: options.pop(name) for name in SelectionRules._fields if name in options}
        self.final, self.progress = fit(
            self.state,  # type: ignore[arg-type]
            progress or StageProgress(),
            LoopPlan(numbers(len(cycle)), cycle, SelectionRules(3, **rules), **options),
            StageCallbacks(update, validate, copy_network, log, save, self.ticks.append, leave=leave),  # type: ignore[arg-type]
            iter(range(first, len(cycle))),
            first,
        )

    def done(self, kind: str) -> list[int]:
        return [event[1] for event in self.events if event[0] == kind]


def test_updates_validation_and_saving_come_in_order() -> None:
    run = Run()
    assert run.done("update") == list(range(15))
    assert run.done("validate") == run.done("eval") == run.done("save") == list(ENDS)
    for end in ENDS:  # The state that is validated and saved is the one after the cycle's last update, and all rows come first.
        order = [
            run.events.index(event) for event in (("update", end - 1), ("train", end - 1), ("validate", end), ("eval", end), ("save", end))
        ]
        assert order == sorted(order)
        if end < 15:
            assert run.events.index(("save", end)) < run.events.index(("update", end))
    assert int(run.final.params[0]) == 15  # type: ignore[call-overload]


def test_rows_say_what_was_done() -> None:
    run = Run()
    train = [row for row in run.rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(15))
    assert [row["loss"] for row in train] == pytest.approx([loss_at(i) for i in range(15)])
    assert [row["lr"] for row in train] == [[i / 64, i / 8] for i in range(15)]
    assert [row["momentum"] for row in train] == [0.5 + i / 256 for i in range(15)]
    evals = [row for row in run.rows if row["kind"] == "eval"]
    assert evals[1] == {"kind": "eval", "step": 10, "cycle": 1, "split": "valid", "accuracy": 0.6, "loss": 0.9, "top5": 1.0}
    assert [row["cycle"] for row in evals] == [0, 1, 2]


def test_the_host_reads_a_loss_only_when_later_updates_are_on_their_way() -> None:
    run = Run(cycle=np.zeros(12, int), scores=[(0.5, 1.0)])
    for step in range(12):
        before = run.events[: run.events.index(("read", step))]
        ahead = max(event[1] for event in before if event[0] == "update") - step
        assert ahead == min(LAG, 11 - step)
    assert run.done("read") == run.done("train") == list(range(12))  # At the end nothing is left unread.


@pytest.mark.parametrize("span", [2, 3, 8])
def test_spans_are_read_when_later_updates_are_on_their_way_and_no_more(span: int) -> None:
    """What is under way at once takes memory."""
    run = Run(cycle=np.zeros(40, int), scores=[(0.5, 1.0)], span=span)
    for step in range(0, 40 - max(span, LAG), span):
        before = run.events[: run.events.index(("train", step))]
        newest = max(event[1] for event in before if event[0] == "update")
        assert newest - (step + span - 1) == max(LAG // span, 1) * span


def test_progress_is_told_the_debiased_mean_loss() -> None:
    run = Run()
    assert len(run.ticks) == 15
    weights = [0.98 ** (14 - i) for i in range(15)]
    assert run.ticks[-1] == pytest.approx(sum(w * loss_at(i) for i, w in enumerate(weights)) / sum(weights))
    assert run.ticks[0] == pytest.approx(loss_at(0))


@pytest.mark.parametrize(
    ("every", "points"), [(1, list(range(1, 16))), (4, [4, 7, 8, 10, 12, 15]), (5, [5, 7, 10, 15]), (100, [7, 10, 15])]
)
def test_save_points_are_cycle_ends_and_every_so_many_updates(every: int, points: list[int]) -> None:
    run = Run(save_every=every)
    assert run.done("save") == points
    for point in points:  # Rows of all updates up to there are logged before, so that resuming loses none.
        before = run.events[: run.events.index(("save", point))]
        assert [event[1] for event in before if event[0] == "train"] == list(range(point))
    assert run.done("validate") == list(ENDS)


def test_the_best_state_is_a_copy_of_its_moment() -> None:
    run = Run(scores=[(0.5, 1.0), (0.9, 0.5), (0.7, 0.8)])
    best = run.progress.best
    assert best is not None and (best.score, best.stage, best.cycle) == (Score(0.9, 0.5), 3, 1)
    np.testing.assert_array_equal(best.network.params["w"], [10, 10])  # The update goes on changing the very same arrays.
    np.testing.assert_array_equal(best.network.stats["mean"], [100, 100])
    assert run.saved[10][1].best is best and run.saved[7][1].best.score == Score(0.5, 1.0)  # type: ignore[union-attr]


@pytest.mark.parametrize(("patience", "stops"), [(1, 10), (2, None), (None, None)])
def test_the_stage_stops_when_patience_is_spent(patience: int | None, stops: int | None) -> None:
    run = Run(scores=[(0.5, 1.0), (0.5, 1.1), (0.5, 0.5)], patience=patience)
    assert run.done("update") == list(range(stops or 15))
    assert run.done("save")[-1] == (stops or 15) and run.saved[stops or 15][1] == run.progress
    assert bool(run.progress.stopped) == bool(stops)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 3, 6, 10])
def test_five_skipped_updates_in_a_row_stop_the_run_and_name_the_last(bad: float, at: int) -> None:
    kept: list[Run] = []

    def losses(step: int) -> float:
        return bad if step >= at else 1.0

    with pytest.raises(Diverged, match=rf"^the training loss is {bad} at update {at + 4} of the stage, the fifth .* lower lr, or .*clip"):
        Run(losses=losses, kept=kept)
    (run,) = kept
    assert run.spans[-1][0] <= at + 4 + LAG
    assert [row["step"] for row in run.rows if row.get("skipped")] == list(range(at, at + 5))
    assert all(done <= at for done in run.saved), "a state that may have diverged was saved"


def test_fewer_skipped_updates_are_recorded_and_the_run_goes_on() -> None:
    bad = {2, 3, 6, 8, 9, 10, 11}
    run = Run(losses=lambda step: math.nan if step in bad else 1.0, save_every=4)
    trained = [row for row in run.rows if row["kind"] == "train"]
    assert [row["step"] for row in trained] == list(range(15))
    assert {row["step"] for row in trained if row.get("skipped")} == bad
    assert "skipped" not in trained[0] and len(run.ticks) == 15 and run.ticks[-1] == pytest.approx(1.0)
    assert set(run.saved) == {8, 15}  # not after 4, 7, 10 and 12 updates, of which the last was skipped


def test_gradients_that_are_not_finite_are_told() -> None:
    callbacks = StageCallbacks(
        update=lambda state, hyper, items: (state, {"loss": 1.0, "weight": 1.0, "skipped": 1.0}),
        validate=lambda state: pytest.fail("validated"),
        copy_network=lambda state: pytest.fail("copied"),
        log=lambda row: None,
        save=lambda state, progress: pytest.fail("saved"),
    )
    plan = LoopPlan(numbers(9), np.zeros(9, int), SelectionRules(0))
    with pytest.raises(Diverged, match=r"the training loss is 1.0 with gradients or rates out of range at update 4"):
        fit("state", StageProgress(), plan, callbacks, iter(range(9)))  # type: ignore[arg-type]


@pytest.mark.parametrize("validated", [False, True])
def test_a_stage_without_a_single_update_has_diverged_however_few_they_are(validated: bool) -> None:
    """Without validation images fewer than five skipped updates counted as a training."""
    callbacks = StageCallbacks(
        update=lambda state, hyper, items: (state, {"loss": math.inf, "weight": 1.0, "skipped": 1.0}),
        validate=(lambda state: pytest.fail("validated")) if validated else None,
        copy_network=lambda state: pytest.fail("copied"),
        log=lambda row: None,
        save=lambda state, progress: pytest.fail("saved"),
    )
    with pytest.raises(Diverged, match="all 4 updates of the stage were skipped"):
        fit("state", StageProgress(), LoopPlan(numbers(4), np.zeros(4, int), SelectionRules(0)), callbacks, iter(range(4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_is_never_the_best_and_saves_nothing(bad: float) -> None:
    run = Run(scores=((0.5, 1.0), (0.9, bad), (0.4, 2.0)))
    assert run.progress.best and run.progress.best.cycle == 0 and set(run.saved) == {7, 15}
    run = Run(scores=((0.9, bad), (0.4, 2.0), (0.3, bad)))
    assert run.progress.best and run.progress.best.cycle == 1 and set(run.saved) == {10}
    words = rf"^the validation loss is {bad} after cycle 2; use a lower lr, or gradient clipping"
    for options in ({"scores": ((0.9, bad),) * 3}, {"scores": ((0.5, 1.0), (0.6, 0.9), (0.9, bad)), "keeps_best": False}):
        with pytest.raises(Diverged, match=words):
            Run(**options)  # type: ignore[arg-type]


def test_a_batch_without_weight_has_no_loss_but_no_error() -> None:
    callbacks = StageCallbacks(
        update=lambda state, hyper, item: (state, {"loss": 0.0, "weight": 0.0, "skipped": 0.0}),
        validate=lambda state: {"accuracy": 0.0, "loss": 1.0},
        copy_network=lambda state: NetworkState({}, {}, 8),
        log=lambda row: None,
        save=lambda state, progress: None,
    )
    fit("s", StageProgress(), LoopPlan(numbers(1), np.zeros(1, int), SelectionRules(0)), callbacks, iter("x"))  # type: ignore[arg-type]


@settings(seeded, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    scores=st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.1, 0.5, 1.0, math.nan])), min_size=5, max_size=5),
    patience=st.none() | st.integers(1, 3),
)
def test_resuming_at_any_update_gives_the_same_rows_and_the_same_end(
    lengths: list[int], scores: list[tuple[float, float]], patience: int | None
) -> None:
    cycle = np.repeat(np.arange(len(lengths)), lengths)
    try:
        whole = Run(scores=scores, cycle=cycle, patience=patience, save_every=1)
    except Diverged:
        assert all(math.isnan(loss) for _, loss in scores[: len(lengths) if patience is None else patience])
        return

    def text(rows: list[dict[str, Any]]) -> str:  # so that NaN equals NaN
        return repr(rows)

    def facts(progress: StageProgress) -> str:
        best = progress.best
        return repr(progress._replace(best=None)) + (f"{best.score} {best.cycle} {best.network}" if best else "")

    for first, saved in whole.saved.values():
        if saved.stopped or first == len(cycle):
            continue
        rest = Run(scores=scores, cycle=cycle, patience=patience, first=first, progress=saved, save_every=1)
        evals_before = [row for row in whole.rows if row["kind"] == "eval" and row["step"] <= first]
        trains_before = [row for row in whole.rows if row["kind"] == "train" and row["step"] < first]
        assert text(rest.rows) == text([row for row in whole.rows if row not in evals_before and row not in trains_before])
        assert facts(rest.progress) == facts(whole.progress)
        assert rest.done("save") == [done for done in whole.done("save") if done > first]


PLATEAU = Plateau(factor=0.5, patience=0).rule
SCORES = ((0.5, 1.0), (0.6, 1.1), (0.7, 0.8))


def test_a_plateau_lowers_the_rates_of_all_later_updates() -> None:
    run = Run(SCORES, plateau=PLATEAU)
    expected = numbers(15).lr * np.repeat([1, 0.5], [10, 5])[:, None].astype(np.float32)
    np.testing.assert_array_equal(run.rates, expected)
    assert [row["lr"] for row in run.rows if row["kind"] == "train"] == expected.tolist()  # What was used is what is logged.
    assert run.progress.lowered == Lowered(0.5, 0.8, 0, 0)
    assert Run(SCORES).progress.lowered == Lowered()


@pytest.mark.parametrize("first", [7, 8, 10, 12])
def test_lowered_rates_go_on_from_a_checkpoint(first: int) -> None:
    whole = Run(SCORES, plateau=PLATEAU, save_every=1)
    done, progress = whole.saved[first]
    rest = Run(SCORES, first=done, progress=progress, plateau=PLATEAU)
    np.testing.assert_array_equal(whole.rates[first:], rest.rates)
    assert rest.progress.lowered == whole.progress.lowered


@settings(seeded, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    span=st.integers(1, 9),
    every=st.none() | st.integers(1, 9),
    patience=st.none() | st.integers(1, 2),
    bad=st.none() | st.integers(0, 60),
)
def test_updates_in_spans_leave_the_same_rows_and_checkpoints(
    lengths: list[int], span: int, every: int | None, patience: int | None, bad: int | None
) -> None:
    cycle = np.repeat(np.arange(len(lengths)), lengths)
    scores = [(0.5, 1.0), (0.5, 1.1), (0.7, 0.8), (0.6, 0.9), (0.8, 0.7)]

    def done(span: int) -> tuple[Any, ...]:
        kept: list[Any] = []

        def losses(step: int) -> float:
            return math.nan if bad is not None and step >= bad else loss_at(step)

        try:
            run = Run(scores, losses=losses, cycle=cycle, span=span, save_every=every, patience=patience, kept=kept)
        except Diverged as error:
            return str(error), repr(kept[0].rows)
        assert all(1 <= count <= span for _, count in run.spans)
        saved = {step: repr(progress._replace(best=None)) for step, (_, progress) in run.saved.items()}
        return repr(run.rows), run.ticks, saved, run.done("validate"), run.progress.stopped

    assert done(span) == done(1)


@pytest.mark.parametrize(("span", "at"), [(1, 4), (3, 6), (3, 7), (1, 15)])
def test_a_run_that_is_told_to_go_saves_and_leaves(span: int, at: int) -> None:
    """After any update, at a cycle's end (7) and after the last one; what is left is done by a run that goes on from there."""
    kept: list[Any] = []
    asked = iter([step + count == at for step, count in Run(span=span).spans])
    with pytest.raises(Preempted, match=f"saved after update {at} of 15"):
        Run(span=span, leave=lambda: next(asked), kept=kept)
    run, whole = kept[0], Run(span=span)
    assert list(run.saved)[-1] == at and run.done("train") == list(range(at))
    if at < 15:
        rest = Run(span=span, first=at, progress=run.saved[at][1])
        assert run.rows + rest.rows == whole.rows and run.spans + rest.spans == whole.spans


def test_a_run_that_is_told_to_go_among_skipped_updates_waits_for_one_that_is_not() -> None:
    """Saved among them and resumed, it counted anew: five skipped in a row ended the run only where nobody stopped it."""
    kept: list[Any] = []

    def losses(step: int) -> float:
        return math.nan if step in (3, 4, 5) else 1.0

    with pytest.raises(Preempted, match="saved after update 7 of 15"):
        Run(losses=losses, leave=lambda: int(kept[0].state.params[0]) >= 4, kept=kept)
    assert list(kept[0].saved) == [7]
    kept.clear()
    with pytest.raises(Diverged):
        Run(losses=lambda step: math.nan if step > 2 else 1.0, leave=lambda: int(kept[0].state.params[0]) >= 4, kept=kept)
    assert not kept[0].saved


def test_spans_are_as_long_as_they_may_be() -> None:
    run = Run(span=3, save_every=8)  # cycles end at 7, 10 and 15
    assert run.spans == [(0, 3), (3, 3), (6, 1), (7, 1), (8, 2), (10, 3), (13, 2)]
    run = Run(span=3, section=np.array([0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4]))
    assert run.spans == [(0, 2), (2, 3), (5, 2), (7, 3), (10, 3), (13, 1), (14, 1)]
