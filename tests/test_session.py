"""`Session` and `load`: the numbers of a run, one stage at a time; results that show themselves; interrupts that lose nothing."""

import inspect
import json
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import sgdr_jax
from sgdr_jax import AdamW, Eval, Experiment, Find, InputError, Session, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.notebook import Shown
from sgdr_jax.core.snapshots import Snapshots
from sgdr_jax.core.types import Schedule, Table
from sgdr_jax.datasets import Arrays, ImageFolder, Synthetic
from sgdr_jax.report.run_tables import plan_parts
from sgdr_jax.runs import fitting, run
from sgdr_jax.runs.data_index import read_index
from sgdr_jax.runs.export import write
from sgdr_jax.runs.folder import read
from sgdr_jax.schedules import Constant, Sgdr

from .helpers import Said, Tiny, same_bits
from .runs.trackers.test_tracking import tensorboard

QUIET = NullConsole()
FIND = Find(steps=12, start=1e-4, stop=1, lowest=0.02, epochs=3, orders=2)
STAGES = (
    Stage("cached head", 16, train="head", lr=FIND, schedule=Sgdr(4), precompute=True, views=2),
    Stage("head", 16, train="head", lr=None, schedule=Sgdr(1)),
    Stage("all", 16, lr=replace(FIND, ratio=3.0), schedule=Sgdr(2, 1, 2)),
)
EXPERIMENT = Experiment(
    "rings",
    Synthetic(classes=3, train=58, valid=21, test=19, side=16),
    Tiny(),
    STAGES,
    augment=side_on(),
    optimizer=AdamW(),
    batch_size=16,
    evaluate=Eval(batch_size=16, tta_views=2),
)


def network(session: Session) -> Any:
    return jax.tree.map(np.asarray, (session.params, session.stats))


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run whose network has some images wrong, so that a temperature is fitted."""
    short = replace(EXPERIMENT, stages=(replace(STAGES[2], lr=0.01, schedule=Sgdr(2)),))
    return Session(short, ui=QUIET).run(tmp_path_factory.mktemp("unsure"))


@pytest.fixture(scope="module")
def fresh() -> Session:
    return Session(EXPERIMENT, ui=QUIET)


@pytest.fixture(scope="module")
def ran(fresh: Session, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return fresh.run(tmp_path_factory.mktemp("runs") / "rings")


@pytest.fixture(scope="module")
def fitted(fresh: Session) -> Session:
    session = fresh
    for stage in (0, "head", 2):
        session = session.fit(stage)
    return session


def test_stages_in_order_give_the_network_and_the_rows_of_a_run(ran: Session, fitted: Session) -> None:
    assert same_bits(network(ran), network(fitted))
    assert ran.folder is not None and fitted.folder is None
    recorded = read(ran.folder)
    without_clock = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in (recorded.rows, fitted._state.rows)]
    assert without_clock[0] == without_clock[1] and len(without_clock[0]) > 30
    assert {name: curve["chosen"] for name, curve in recorded.finders.items()} == {
        name: curve["chosen"] for name, curve in fitted._state.finders.items()
    }


def test_no_method_changes_a_session(fresh: Session) -> None:
    one = fresh.fit(0)
    before = network(one)
    two, again = one.fit("head"), one.fit("head")
    assert same_bits(network(two), network(again)) and same_bits(network(one), before) and not same_bits(network(two), before)
    assert repr(fresh) == "Session('rings', 3 stages, not trained)" and repr(two) == "Session('rings', 3 stages, 2 stages fitted)"
    with pytest.raises(AttributeError):
        two.experiment = EXPERIMENT  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_stage_takes_the_rates_of_the_one_before_it_and_of_no_other(fresh: Session) -> None:
    """Those of whatever had been fitted last were taken, a solved head's 0 among them; without any there was a traceback."""
    more = Stage("more", size=16, lr=None, schedule=Constant(1))
    with pytest.raises(InputError, match="stage \"more\": lr is None; it takes the rates of stage 'all', which has not been trained"):
        fresh.fit(more)
    with pytest.raises(InputError, match="which has not been trained; train that first, or give rates"):
        fresh.fit(0).fit(more)


def test_a_further_stage_becomes_part_of_the_experiment(fitted: Session, tmp_path: Path) -> None:
    more = Stage("more", size=16, lr=None, schedule=Constant(1))
    session = fitted.fit(more)
    assert session._context.programs is fitted._context.programs and session._context.data is fitted._context.data
    assert session.experiment.stages == (*STAGES, more) and fitted.experiment.stages == STAGES
    assert [stage["name"] for stage in session._state.stages] == ["cached head", "head", "all", "more"]
    assert session._state.stages[3]["lr"] == session._state.stages[2]["lr"]
    with pytest.raises(InputError, match=r"stage is 'nowhere'; the stages are 0 \(cached head\), 1 \(head\), 2 \(all\)"):
        fitted.fit("nowhere")


def test_plan_data_and_pictures_are_those_of_the_commands(fresh: Session) -> None:
    plan = fresh.plan()
    assert plan.value.stages[2].steps == sgdr_jax.plan(EXPERIMENT, 58).stages[2].steps
    assert repr(plan) == repr(Shown(None, tuple(plan_parts(EXPERIMENT, EXPERIMENT.data.open().sizes)[1])))
    data = fresh.data()
    assert data.value.counts["valid"].tolist() == [7, 7, 7] and "rings2" in data._repr_html_()
    picture = fresh.show_batch("head", count=2)
    assert len(picture.axes) == 2 * (1 + 4 + 2) and picture._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # pyright: ignore


def test_the_finder_shows_its_curve_and_leaves_the_network(fresh: Session, fitted: Session) -> None:
    first = fresh.find_lr(0)
    assert first.value.chosen == fitted._state.stages[0]["lr"][0]
    one = fresh.fit(0)
    before = network(one)
    found = one.find_lr("all", rule="steep")
    assert found.value.rule == "steep" and same_bits(network(one), before)
    shown = found._repr_html_()
    assert "data:image/png;base64" in shown and "← chosen" in shown and "stage &quot;all&quot;" in shown


def test_evaluation_and_predictions_are_those_of_the_run(ran: Session, fitted: Session, unsure: Session) -> None:
    summary = read(ran.folder).summary  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for session in (ran, fitted, sgdr_jax.load(ran.folder)):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        measured = session.evaluate("valid").value.views.measures
        np.testing.assert_allclose([measured[k] for k in summary["valid"]], list(summary["valid"].values()), rtol=1e-6)
        plain = session.evaluate("test", tta=0)
        assert plain.value.views.views == 1 and "test accuracy" in repr(plain)
    assert "at the temperature" in repr(unsure.evaluate("valid")) and "at the temperature" not in repr(fitted.evaluate("valid"))
    assert "no temperature fitted" in repr(ran.evaluate("valid"))  # as all images are right


def test_paths_arrays_and_pictures_of_the_same_image_are_predicted_alike(ran: Session, tmp_path: Path) -> None:
    images = EXPERIMENT.data.open().items["test"][:4]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    paths = sorted(tmp_path.glob("*.png"))
    by_path = ran.predict(tmp_path).value
    assert by_path.paths == tuple(map(str, paths)) and len(by_path.labels) == 4 and set(by_path.labels) <= {"rings0", "rings1", "rings2"}
    pictures: list[Any] = [Image.open(path) for path in paths]
    for given in (paths, images, list(images), pictures, [paths[0], images[1], pictures[2], str(paths[3])]):
        found = ran.predict(given).value
        np.testing.assert_array_equal(found.probabilities, by_path.probabilities)
    assert ran.predict(images[0]).value.paths == ("image 0",)
    np.testing.assert_allclose(by_path.probabilities, ran.evaluate("test").value.views.probabilities[:4], rtol=1e-5)
    table = ran.predict(paths, tta=0)
    assert "disagreement" not in repr(table) and "disagreement" in repr(ran.predict(paths)) and "3.png" in table._repr_html_()
    (tmp_path / "broken.png").write_bytes(b"no image")
    left = ran.predict([paths[0], tmp_path / "broken.png"])
    assert left.value.bad[0][0].endswith("broken.png") and "left out" in repr(left)
    left = ran.predict(image for image in [pictures[0], Image.new("F", (4, 4)), str(paths[2]), Image.open(paths[3])])
    assert left.value.bad[0][0] == "image 1" and len(left.value.paths) == 3 and "left out image 1: " in repr(left)
    np.testing.assert_array_equal(left.value.probabilities, by_path.probabilities[[0, 2, 3]])
    for call in (lambda: ran.predict([Image.new("F", (4, 4))]), lambda: ran.activations([Image.new("F", (4, 4))], "head")):
        with pytest.raises(InputError, match=r"image 0.*32 bits"):
            call()
    for wrong, message in [
        ([], "name image files"),
        (tmp_path / "broken.png", "none of the 1 images could be read"),
        (images[0].astype(np.float32) / 255, "image is 'an array of float32'; give uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        ("nowhere.png", "no such file or folder"),
    ]:
        with pytest.raises(InputError, match=message):
            ran.predict(wrong)


def test_calibrated_predictions_are_those_of_the_command(unsure: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(EXPERIMENT.data.open().items["test"][0]).save(file)
    main(["predict", str(file), "--run", str(unsure.folder), "--calibrated"])
    values = capsys.readouterr().out.splitlines()[1].split(",")[-3:]
    assert [f"{p:.6f}" for p in unsure.predict(file, calibrated=True).value.probabilities[0]] == values


def test_apply_and_activations_are_parts_of_the_same_network(ran: Session, fitted: Session) -> None:
    images = EXPERIMENT.data.open().items["test"][:5]
    logits, stats = ran.apply(ran.params, ran.stats, images / np.float32(255))
    assert logits.shape == (5, 3) and same_bits(stats, ran.stats)
    probabilities = ran.predict(images, tta=0).value.probabilities
    np.testing.assert_allclose(jax.nn.softmax(logits), probabilities, rtol=2e-5, atol=1e-6)
    for group in ("early", "late", "head"):
        seen = ran.activations(images, group)
        assert len(seen) == 5
        rest, _ = ran.apply(ran.params, ran.stats, seen, start=group)
        np.testing.assert_allclose(rest, logits, rtol=2e-5, atol=1e-5)
        np.testing.assert_array_equal(fitted.activations(images, group), seen)
    grads = jax.grad(lambda p: ran.apply(p, ran.stats, images / np.float32(255))[0].sum())(ran.params)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads["early"]))
    with pytest.raises(InputError, match="group is 'middle'; the layer groups are early, late, head"):
        ran.activations(images, "middle")


def test_the_report_has_tables_and_curves(ran: Session, fitted: Session) -> None:
    whole, part = ran.report(), fitted.report()
    assert "rings" in (ran.folder / "report.html").read_text()  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
    assert whole.value["valid"]["accuracy"] == read(ran.folder).summary["valid"]["accuracy"]  # type: ignore
    for shown in (whole, part):
        assert shown._repr_html_().count("data:image/png") == 2 + 2 and "cached head" in repr(shown)


def test_the_report_takes_what_its_command_takes_and_shows_no_empty_table(ran: Session, fitted: Session) -> None:
    """The report of fitted stages had a table of figures without a row; split and maps were options of the command alone."""
    assert "ECE" in repr(ran.report()) and "ECE" not in repr(fitted.report())
    assert ran.folder is not None
    pages = []
    for arguments in ({}, {"split": "valid"}, {"split": "valid", "maps": 1}):
        ran.report(**arguments)
        pages.append((ran.folder / "report.html").read_text("utf-8"))
    assert len(set(pages)) == 3
    wrong: Any
    for wrong, message in (
        ({"split": "train"}, "split is 'train'; the run has kept predictions of"),
        ({"maps": -1}, "maps is -1; use 0…64"),
        ({"maps": 1.5}, "maps is 1.5; use 0…64"),
    ):
        with pytest.raises(InputError, match=message):
            ran.report(**wrong)
    for wrong in ({"split": "valid"}, {"maps": 2}):
        with pytest.raises(InputError, match=r"^split, maps is .*; a page with mistakes is made of a run; leave it out"):
            fitted.report(**wrong)


@dataclass(frozen=True)
class Halving(Schedule):
    """A schedule of one's own: half of the rate after each epoch."""

    epochs: int = 2

    def table(self, steps_per_epoch: int) -> Table:
        epoch = np.arange(self.epochs * steps_per_epoch) // steps_per_epoch
        return Table(0.5**epoch, epoch.astype(np.int32))


@pytest.mark.parametrize("home", ["__main__", "experiment_file_rings", "rings.schedules"])
def test_a_run_with_a_class_of_one_s_own_is_opened_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Nothing could open a run whose class was defined in a notebook: an imported class has another module, so another tag."""
    monkeypatch.setattr(Halving, "__module__", home)
    short = replace(EXPERIMENT, stages=(replace(STAGES[2], lr=0.01, schedule=Halving()),))
    done = Session(short, ui=QUIET).run(tmp_path / "run")
    wanted = network(done)
    monkeypatch.setattr(Halving, "__module__", "elsewhere")
    with pytest.raises(InputError, match=rf"'{home}:Halving'; .*load\(folder, parts=\[MyClass\]\), or .* --experiment FILE") as caught:
        sgdr_jax.load(tmp_path / "run")
    assert "\n" not in str(caught.value)
    for parts in ([Halving], (Tiny, Halving), {Halving}, iter([Halving]), Halving):
        opened = sgdr_jax.load(tmp_path / "run", parts=parts)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert same_bits(network(opened), wanted) and opened.experiment == short
    assert opened.evaluate("valid", tta=0).value.views.views == 1 and opened.predict(np.zeros((16, 16, 3), np.uint8)).value.labels
    assert "all" in repr(opened.report(maps=1))
    wrong: Any
    for wrong in ("own.py", ["own.py"], [Halving()], [int], 3, None):
        with pytest.raises(InputError, match=r"^parts\[0\] is .*; give your own classes, imported from"):
            sgdr_jax.load(tmp_path / "run", parts=wrong)
    with pytest.raises(InputError, match=r"Halving'; .*no such type is known"):
        sgdr_jax.load(tmp_path / "run", parts=[Tiny])


def test_help_shows_the_arguments_that_a_user_gives() -> None:
    assert list(inspect.signature(Session).parameters) == ["experiment", "folder", "network", "ui"]
    assert not any(name.startswith("_") for name in inspect.signature(Session.__init__).parameters)


def test_training_goes_on_from_a_finished_run(ran: Session) -> None:
    more = Stage("more", size=16, train="head", lr=1e-3, schedule=Constant(1))
    session = sgdr_jax.load(ran.folder)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session = replace(session, ui=QUIET).fit(more)
    assert same_bits(network(session)[0]["early"], network(ran)[0]["early"]) and not same_bits(network(session), network(ran))


def test_a_finished_run_goes_on_as_fitted_stages_do(ran: Session, fitted: Session) -> None:
    """A stage after a run knew no rates of the one before, and was never undone."""
    assert ran._state.best and fitted._state.best
    assert ran._state.best._replace(network=None) == fitted._state.best._replace(network=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    more, worse = Stage("more", 16, lr=None, schedule=Constant(1)), Stage("worse", 16, lr=10.0, schedule=Constant(1))
    assert same_bits(network(ran.fit(more)), network(fitted.fit(more)))
    undone = ran.fit(worse)
    assert same_bits(network(undone), network(ran)) and not undone._state.stages[-1]["kept"] and len(undone._state.stages) == 4


def test_a_validation_whose_loss_is_not_finite_has_no_highest_accuracy(ran: Session, tmp_path: Path) -> None:
    """With a leeway, states were held to its accuracy."""
    assert ran.folder and ran._state.best
    shutil.copytree(ran.folder, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if '"eval"' in line)
    lines[first] = json.dumps(json.loads(lines[first]) | {"loss": None, "accuracy": 1.5})
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    best = replace(sgdr_jax.load(tmp_path / "run"), ui=QUIET)._state.best
    assert best and best.highest == ran._state.best.highest < 1.5


def test_a_network_that_saw_the_validation_images_trains_no_further(tmp_path: Path) -> None:
    """They judged stages fitted after a refit, and `evaluate` showed figures of training images as those of validation."""
    stage = Stage("head", 16, "head", lr=0.1, schedule=Sgdr(1))
    ran = Session(replace(EXPERIMENT, stages=(stage,), refit=True), ui=QUIET).run(tmp_path / "run")
    for session in (ran, replace(sgdr_jax.load(tmp_path / "run"), ui=QUIET)):
        with pytest.raises(InputError, match="refit is True; the run's network has trained on the validation images too"):
            session.fit(replace(stage, name="more"))
    assert not Session(ran.experiment, ui=QUIET).fit("head")._state.stages[0]["stopped"]  # stage by stage nothing is refitted


def test_a_network_trains_no_further_on_other_classes(tmp_path: Path) -> None:
    """Labels of a class that it did not know had no loss."""
    source = EXPERIMENT.data.open()
    for label in range(3):
        for split in ("train", "valid"):
            (tmp_path / split / str(label)).mkdir(parents=True)
            for i in np.flatnonzero(source.labels[split] == label)[:4]:
                Image.fromarray(source.items[split][i]).save(tmp_path / split / str(label) / f"{i}.png")
    session = Session(
        replace(EXPERIMENT, data=ImageFolder(str(tmp_path)), stages=(Stage("a", 16, lr=0.01, schedule=Constant(1)),)), ui=QUIET
    )
    once = session.fit("a")
    for split in ("train", "valid"):
        (tmp_path / split / "0").rename(tmp_path / split / "zero")
    with pytest.raises(InputError, match=r"classes is \['1', '2', 'zero'\]; the network was trained on \['0', '1', '2'\]"):
        once.fit("a")


def test_an_interrupt_before_the_first_update_is_one(fresh: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no network to keep: it ended in an assertion."""
    real = NullConsole.bar

    def bar(self: Any, title: str, total: int) -> Any:
        if title.startswith("find lr"):
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, title, total)

    monkeypatch.setattr(NullConsole, "bar", bar)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_session_without_a_network_says_what_to_do(fresh: Session, tmp_path: Path) -> None:
    for ask in (lambda: fresh.params, lambda: fresh.evaluate("valid"), fresh.report):
        with pytest.raises(InputError, match="no trained network; call fit"):
            ask()
    with pytest.raises(InputError, match="experiment is 'photos'; give an Experiment"):
        Session("photos")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="run folder"):
        sgdr_jax.load(tmp_path)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, updates: int) -> None:
    """Interrupt the process after so many updates of the stage that a session trains next."""
    real, done = fitting.run_stage, 0

    def interrupting(context: Any, **rest: Any) -> Any:
        def leave() -> bool:
            nonlocal done
            done += 1
            if done == updates:
                os.kill(os.getpid(), signal.SIGINT)
            return context.leave()

        return real(context._replace(leave=leave), **rest)

    monkeypatch.setattr(fitting, "run_stage", interrupting)
    monkeypatch.setattr(run, "stoppable", lambda ui, _: ui)  # bars ask as well, as often as they happen to tick: count the updates alone


@pytest.mark.parametrize("at", [3, 8])
def test_an_interrupt_keeps_what_was_won(fresh: Session, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """With four updates to a cycle, after update 3 (within the first) and 8 (at the end of the second)."""
    said = Said()
    stage = Stage("long", size=16, lr=0.01, schedule=Constant(6), train="head", augment=False)
    session = Session(replace(EXPERIMENT, stages=(stage,), parallel=Parallel(steps_per_execution=1)), ui=said)
    interrupt_after(monkeypatch, at)
    won = session.fit("long")
    monkeypatch.undo()
    (summary,) = won._state.stages
    assert summary["stopped"] == "interrupted" and summary["steps"] == at and any(f"after update {at} of 24" in line for line in said.lines)
    evals = [row for row in won._state.rows if row["kind"] == "eval"]
    assert [row["step"] for row in evals] == ([3] if at == 3 else [4, 8])
    short = Session(replace(EXPERIMENT, stages=(replace(stage, schedule=Constant(sgdr_jax.schedules.Steps(at))),)), ui=QUIET).fit(0)
    best = max(evals, key=lambda row: (row["accuracy"], -row["loss"]))
    if best is evals[-1]:
        assert same_bits(network(won), network(short))
    assert won.evaluate("valid", tta=0).value.views.measures["accuracy"] == pytest.approx(best["accuracy"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_stage_is_validated_with_the_statistics_that_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the frozen groups were those before the stage's recalibration."""
    stage = Stage("head", size=16, lr=0.01, schedule=Constant(6), train="head", augment=False, recalibrate=True)
    session = Session(replace(EXPERIMENT, stages=(stage,), parallel=Parallel(steps_per_execution=1)), ui=QUIET)
    interrupt_after(monkeypatch, 3)
    won = session.fit("head")
    (summary,) = won._state.stages
    assert summary["stopped"] == "interrupted" and summary["steps"] == 3
    assert won.evaluate("valid", tta=0).value.views.measures["loss"] == pytest.approx(summary["valid_loss"], rel=1e-5)


def test_an_interrupted_run_goes_on_from_where_it_was(tmp_path: Path, ran: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    session = Session(EXPERIMENT, ui=said)
    updates = 0
    real = NullConsole.bar

    def bar(self: Any, title: str, total: int) -> Any:
        nonlocal updates
        if title.startswith("all"):
            updates += 1
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, title, total)

    monkeypatch.setattr(NullConsole, "bar", bar)
    with pytest.raises(KeyboardInterrupt):
        session.run(tmp_path / "run")
    assert updates and "resume=True" in said.lines[-1]
    monkeypatch.undo()
    whole = session.run(tmp_path / "run", resume=True)
    assert same_bits(network(whole), network(ran))


def test_the_experiment_is_saved_as_a_file_that_trains(fitted: Session, tmp_path: Path) -> None:
    session = Session(replace(EXPERIMENT, model=sgdr_jax.models.ResNet18(weights=None)), ui=QUIET)
    file = session.save_experiment(tmp_path / "rings.py")
    assert sgdr_jax.load_experiment(file) == session.experiment
    with pytest.raises(InputError, match="it is there already"):
        session.save_experiment(file)


def test_a_run_shows_its_figures_in_a_tracker(tmp_path: Path) -> None:
    stage = Stage("head", 16, train="head", lr=1e-2, schedule=Constant(2), augment=False)
    session = Session(replace(EXPERIMENT, stages=(stage,)), ui=QUIET)
    session.run(tmp_path / "run", track=["tensorboard"])
    found, images = tensorboard(tmp_path / "run")
    losses = [row["loss"] for row in read(tmp_path / "run").rows if row["kind"] == "train"]
    assert [step for step, _ in found["train/loss"]] == [*range(len(losses))] and len(losses) > 4
    np.testing.assert_allclose([loss for _, loss in found["train/loss"]], losses, rtol=1e-6)
    assert set(images) == {"loss", "lr"}
    with pytest.raises(InputError, match="track is 'tensorbord'; use tensorboard, wandb, mlflow"):
        session.run(tmp_path / "other", track=["tensorbord"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "other").exists()


def test_a_run_on_arrays_is_evaluated_and_shown_with_them(tmp_path: Path) -> None:
    """The data were opened from config.json, which arrays in memory are not in."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (30, 16, 16, 3), np.uint8), np.arange(30) % 2
    data = Arrays.of((images[:20], labels[:20]), (images[20:], labels[20:]))
    said = Said()
    session = Session(replace(EXPERIMENT, data=data, stages=STAGES[1:2], augment=()), ui=said)
    session = replace(session, experiment=replace(session.experiment, stages=(Stage("head", 16, "head", lr=0.1, schedule=Sgdr(1)),)))
    ran = session.run(tmp_path / "run")
    assert ran.evaluate().value.views.measures["accuracy"] == read(tmp_path / "run").summary["valid"]["accuracy"]
    ran.report()
    assert not any("cannot be opened" in line for line in said.lines)


def test_another_network_of_a_run_is_the_one_that_answers(tmp_path: Path) -> None:
    kept = replace(EXPERIMENT, stages=STAGES[2:], snapshots=Snapshots(last=1))
    Session(replace(kept, stages=(replace(kept.stages[0], lr=0.3),)), ui=QUIET).run(tmp_path / "run")
    loaded = sgdr_jax.load(tmp_path / "run")
    name = next(path.name for path in sorted((tmp_path / "run" / "snapshots").iterdir()) if path.name.startswith("stage"))
    other = replace(loaded, network=name)
    assert same_bits(network(other), network(sgdr_jax.load(tmp_path / "run", name)))
    assert other._predictor.name == name and loaded._predictor.name == ""


def test_the_report_of_a_run_is_not_that_of_its_other_networks(tmp_path: Path) -> None:
    """Of a snapshot it showed the final network's figures."""
    kept = replace(EXPERIMENT, stages=(replace(STAGES[2], lr=0.01, schedule=Sgdr(2)),), snapshots=Snapshots(last=1))
    Session(kept, ui=QUIET).run(tmp_path / "run")
    name = next(path.name for path in (tmp_path / "run" / "snapshots").iterdir() if path.name.startswith("stage"))
    other = sgdr_jax.load(tmp_path / "run", name)
    with pytest.raises(InputError, match=f"network is '{name}'; the run's results are those of its final network; use load"):
        other.report()
    assert repr(other) == f"Session('rings', 1 stages, network '{name}' of the run in {tmp_path / 'run'})"


def test_a_folder_is_a_path_that_outlives_a_change_of_directory(ran: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ran.folder
    monkeypatch.chdir(ran.folder.parent)
    sessions = [sgdr_jax.load("rings"), Session(EXPERIMENT, folder="rings", ui=QUIET)]  # pyright: ignore[reportArgumentType]
    monkeypatch.chdir(tmp_path)
    for session in sessions:
        assert session.folder == ran.folder and session.evaluate("valid", tta=0).value.labels.shape == (21,)
        assert isinstance(session.report(), Shown)
    for wrong in (None, 3):
        with pytest.raises(InputError, match=f"folder is {wrong}; give the path of a run folder"):
            sgdr_jax.load(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_the_network_is_that_of_the_session_s_experiment(ran: Session) -> None:
    """Another experiment with the folder of a run predicted with the run's network."""
    other = Session(replace(EXPERIMENT, seed=7), folder=ran.folder, ui=QUIET)
    for use in (lambda: other.classes, lambda: other.evaluate("valid"), lambda: other.fit(0), lambda: other.report()):
        with pytest.raises(InputError, match=r"folder is '.*'; it is the run of another experiment, 'rings'; open it with load"):
            use()
    more = ran.fit(Stage("more", size=16, lr=0.01, schedule=Constant(1)))  # which makes an experiment of one stage more
    assert more._state.stages[-1]["name"] == "more"


def test_wrong_values_of_arguments_are_one_line(ran: Session) -> None:
    uses: list[tuple[Any, str]] = [
        (lambda x: ran.evaluate("valid", tta=x), "evaluate.tta_views is"),
        (lambda x: ran.predict(np.zeros((8, 8, 3), np.uint8), tta=x), "evaluate.tta_views is"),
        (lambda x: ran.show_batch(0, x), "count is"),
    ]
    for use, words in uses:
        for wrong in (1.5, "2", "x"):
            with pytest.raises(InputError, match=words) as caught:
                use(wrong)
            assert "\n" not in str(caught.value)
    for path in ("x" * 300, "a\0b"):
        with pytest.raises(InputError, match="there is no such file or folder"):
            ran.predict(path)


def test_figures_of_a_card_are_those_of_its_network(ran: Session, fitted: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session without a run read summary.json of the current folder, a snapshot had the final network's."""
    assert ran.folder
    monkeypatch.chdir(ran.folder)

    def card(session: Session, out: str) -> str:
        session.export("stablehlo", tmp_path / out)
        return (tmp_path / out / "README.md").read_text()

    assert "no figures of this network" in card(fitted, "fitted") and f"| {summary(ran, 'valid'):.4f} |" in card(ran, "ran")
    odd = ran._predictor._replace(name="stage-0", classes=("<b>x", "*y*", "z"))
    rows = [{"name": "best (stage-0)", "members": ["stage-0"], "test": {"accuracy": 0.125, "map": 0.375, "loss": 2.0}}]
    monkeypatch.setattr(write, "read_summary", lambda _: {"valid": {"accuracy": 1.0, "loss": 0.0}, "snapshots": rows})
    write.export_network(odd, ran.folder, "stablehlo", tmp_path / "odd")
    text = (tmp_path / "odd" / "README.md").read_text()
    assert "| images | mAP | loss |" in text and "| test | 0.3750 | 2.0000 |" in text and "| 1.0000 |" not in text
    assert "<b>" not in text and "*y*" not in text.replace(r"\*y\*", "")
    refitted = odd._replace(name="", experiment=replace(odd.experiment, refit=True))
    write.export_network(refitted, ran.folder, "stablehlo", tmp_path / "refit")
    assert "| valid, before the refit | 1.0000 | 0.0000 |" in (tmp_path / "refit" / "README.md").read_text()
    with pytest.raises(InputError, match=r"out is '.*README.md/x'; .*README.md is a file; give another folder"):
        ran.export("stablehlo", tmp_path / "ran" / "README.md" / "x")


def test_a_training_is_one_on_the_data_of_today(tmp_path: Path) -> None:
    """Labels corrected on the disk were ignored, in silence, for as long as the notebook was open."""
    rng, said = np.random.default_rng(0), Said()
    for i in range(24):
        (tmp_path / "in" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "in" / "ab"[i % 2] / f"{i:02}.png")
    stage = Stage("head", 16, "head", lr=0.1, schedule=Sgdr(1), augment=False)
    session = Session(replace(EXPERIMENT, data=ImageFolder(str(tmp_path / "in")), stages=(stage,), augment=()), ui=said)
    ran, fitted = session.run(tmp_path / "first"), session.fit(0)
    assert ran._context is session._context and fitted._today() is session._context  # shared while nothing has changed
    assert not any("have changed" in line for line in said.lines)

    def labels(folder: Path) -> list[int]:
        index = read_index(folder)
        assert index is not None
        return np.bincount([label[0] for part in index["labels"].values() for label in part]).tolist()

    assert labels(tmp_path / "first") == [12, 12]
    for i in (0, 2, 4, 6):
        (tmp_path / "in" / "a" / f"{i:02}.png").rename(tmp_path / "in" / "b" / f"{i:02}.png")
    for number, old in enumerate((session, ran, fitted)):
        said.lines.clear()
        new = old.run(tmp_path / f"again{number}")
        assert labels(tmp_path / f"again{number}") == [8, 16]
        assert sum("the data have changed since they were loaded" in line for line in said.lines) == 1
        assert new._context.data.sizes == {"train": 19, "valid": 5} == old.fit(0)._context.data.sizes


CELL = """
@dataclass(frozen=True)
class Mine(Synthetic):
    def open(self):
        source = super().open()
        return source._replace(labels={split: (labels + SHIFT) % 3 for split, labels in source.labels.items()})

@dataclass(frozen=True)
class Net(Tiny):
    def modules(self, channels):
        return super().modules(channels + 0 * SHIFT)
"""


def test_a_class_that_a_cell_defines_again_is_another_one() -> None:
    """Its data and its network were those of the class before it, which has the same name and fields."""
    cells = []
    for shift in "01":
        cells.append(dict[str, Any](__name__="__main__", dataclass=dataclass, Synthetic=Synthetic, Tiny=Tiny))
        exec(CELL.replace("SHIFT", shift), cells[-1])
    sizes = {"classes": 3, "train": 30, "valid": 9, "side": 16}
    first = replace(
        EXPERIMENT, data=cells[0]["Mine"](**sizes), model=cells[0]["Net"](), stages=(Stage("head", 16, "head", lr=0.1, schedule=Sgdr(1)),)
    )
    session = Session(first, ui=QUIET)
    before = session._context
    assert replace(session, experiment=replace(first, name="other"), _prepared=before)._context.data is before.data
    data = replace(session, experiment=replace(first, data=cells[1]["Mine"](**sizes)), _prepared=before)._context
    np.testing.assert_array_equal(data.data.labels["train"], (before.data.labels["train"] + 1) % 3)
    model = replace(session, experiment=replace(first, model=cells[1]["Net"]()), _prepared=before)._context
    assert model.programs is not before.programs


def summary(session: Session, split: str) -> float:
    return read(session.folder or "").summary[split]["accuracy"]  # type: ignore[literal-required]
