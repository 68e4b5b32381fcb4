"""Trackers against their local stores: every row arrives once, also when a run is interrupted and resumed."""

import importlib.util
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.serialization import to_json
from sgdr_jax.runs.records import Row
from sgdr_jax.runs.trackers.tracking import TrackerName, Tracking, flat, scalars

from ...helpers import experiment

CONFIG = to_json(experiment())
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 3, 2) + bytes(9)
SUMMARY = {"valid": {"accuracy": 0.75, "loss": 0.5}, "test": {}, "seconds": 3.0}
Series = dict[str, list[tuple[int, float]]]


def rows() -> list[dict[str, Any]]:
    """Two stages of three and two updates, each with a validation at its end, and one loss that is not finite."""
    found: list[dict[str, Any]] = []
    for stage, updates in (("head", 3), ("all", 2)):
        found += [{"kind": "bn", "stage": stage, "step": 0, "drift": {"late": [0.1, 1.2]}}] * (stage == "all")
        for step in range(updates):
            lr = {"head": 0.1 / (1 + step)} if stage == "head" else {"late": 0.01, "head": 0.1}
            loss = None if (stage, step) == ("all", 1) else 2.0 - step
            found.append({"kind": "train", "stage": stage, "stage_index": 0, "step": step, "epoch": step / 2, "loss": loss, "lr": lr})
        ends = {"stage": stage, "step": updates, "cycle": 0, "split": "valid", "epoch": 1.0, "seconds": 9.0}
        found.append({"kind": "eval", **ends, "loss": 0.5, "accuracy": 0.6 + updates / 10, "drift": {"head": [0.2, 1.5]}})
    return found


EXPECTED: Series = {
    "train/loss": [(0, 2.0), (1, 1.0), (2, 0.0), (3, 2.0)],
    "lr/head": [(0, 0.1), (1, 0.05), (2, 0.1 / 3), (3, 0.1), (4, 0.1)],
    "lr/late": [(3, 0.01), (4, 0.01)],
    "valid/loss": [(3, 0.5), (5, 0.5)],
    "valid/accuracy": [(3, 0.9), (5, 0.8)],
    "drift/late/shift": [(3, 0.1)],
    "drift/late/stretch": [(3, 1.2)],
    "drift/head/shift": [(3, 0.2), (5, 0.2)],
    "drift/head/stretch": [(3, 1.5), (5, 1.5)],
}


RESTARTS = pytest.mark.parametrize("died, restart", [(0, 0), (2, 0), (4, 3), (5, 3), (4, 4), (6, 4), (7, 2)])


def track(name: TrackerName, folder: Path, died: int, restart: int) -> None:
    """Pass all rows on, in a run that dies after `died` rows and goes on from row `restart`."""
    attempts = [(0, died), (restart, len(rows()))]
    for start, end in attempts:
        tracking = Tracking([name], folder, "rings", CONFIG)
        for i in range(start, end):
            tracking.row(rows()[i], lambda i=i: rows()[:i])  # type: ignore[arg-type]
        if end == len(rows()):
            (folder / "loss.png").write_bytes(PNG)
            tracking.finish(SUMMARY, [folder / "loss.png"])
        tracking.close()


def check(found: Series) -> None:
    assert found.keys() == EXPECTED.keys()
    for name, values in EXPECTED.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        np.testing.assert_allclose([x for _, x in found[name]], [x for _, x in values], rtol=1e-6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def blocks(path: Path, header: int, shape: str) -> Iterator[bytes]:
    """The records of an event file of TensorBoard: length, checksum, data, checksum."""
    data, at = path.read_bytes(), header
    while at < len(data):
        (length,) = struct.unpack_from(shape, data, at)
        yield data[at + 12 : at + 12 + length]
        at += 16 + length


def tensorboard(folder: Path) -> tuple[Series, dict[str, Any]]:
    """The scalars that TensorBoard shows: what a restart purged is left out."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: Series = defaultdict(list)
    images: dict[str, bytes] = {}
    for file in sorted((folder / "tensorboard").glob("events.*"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        for record in blocks(file, 0, "<Q"):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                found = defaultdict(list, {name: [v for v in values if v[0] < event.step] for name, values in found.items()})
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag].append((event.step, value.simple_value))
                elif value.HasField("image"):
                    images[value.tag] = value.image.encoded_image_string
    return {name: values for name, values in found.items() if values}, images


@RESTARTS
def test_tensorboard(folder: Path, died: int, restart: int) -> None:
    track("tensorboard", folder, died, restart)
    found, images = tensorboard(folder)
    check(found)
    assert images == {"loss": PNG}
    hyper = b"".join(path.read_bytes() for path in (folder / "tensorboard" / "hparams").glob("events.*"))
    assert b"stages.0.lr" in hyper and b"final/valid/accuracy" in hyper.replace(b"final/valid.", b"final/valid/")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, in MLflow's own tables
@RESTARTS
def test_mlflow(folder: Path, died: int, restart: int) -> None:
    from mlflow import MlflowClient

    track("mlflow", folder, died, restart)
    client, run = MlflowClient(), (folder / "mlflow.txt").read_text().strip()
    data = client.get_run(run).data
    found = {key: [(m.step, m.value) for m in client.get_metric_history(run, key)] for key in data.metrics}
    assert found.pop("final/valid.accuracy")[0][1] == 0.75 and found.pop("final/valid.loss")[0][1] == 0.5
    check({key: sorted(values) for key, values in found.items()})
    assert data.params["stages.0.lr"] == "0.1" and data.params["name"] == "test"
    assert [artifact.path for artifact in client.list_artifacts(run)] == ["loss.png"]
    assert client.get_run(run).info.status == "FINISHED"


def went_back() -> list[list[dict[str, Any]]]:
    """The rows of a stage that diverges after its third update and goes back to its first, and those that follow at half the rate."""

    def train(step: int, rate: float) -> dict[str, Any]:
        return {"kind": "train", "stage": "all", "step": step, "epoch": 0.0, "loss": rate + step, "lr": {"head": rate}}

    judged = {"kind": "eval", "stage": "all", "step": 1, "cycle": 0, "split": "valid", "epoch": 1.0, "loss": 0.5, "accuracy": 0.75}
    lowered = {"kind": "lowered", "stage": "all", "step": 1, "lr_scale": 0.5}
    first = [train(0, 0.1), judged, *(train(i, 0.1) for i in range(1, 3))]
    return [first, [lowered, *(train(i, 0.05) for i in range(1, 3))]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_follows_a_halving_replaces_what_was_before(folder: Path) -> None:
    """MLflow kept the abandoned attempt alone, TensorBoard showed both."""
    from mlflow import MlflowClient

    names: list[TrackerName] = ["tensorboard", "mlflow"]
    tracking, written = Tracking(names, folder, "rings", CONFIG), list[dict[str, Any]]()
    for attempt in went_back():
        written = written[:2]
        for row in attempt:
            tracking.row(row, lambda before=tuple(written): before)  # type: ignore[arg-type, misc]
            written.append(row)
    tracking.close()
    assert tensorboard(folder)[0]["valid/accuracy"] == [(1, 0.75)]  # where it went back to
    assert tensorboard(folder)[0]["lr/head"] == [(0, pytest.approx(0.1)), (1, pytest.approx(0.05)), (2, pytest.approx(0.05))]
    history = MlflowClient().get_metric_history((folder / "mlflow.txt").read_text().strip(), "lr/head")
    newest = {m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}
    assert newest == {0: 0.1, 1: 0.05, 2: 0.05}


def test_wandb(folder: Path) -> None:
    """Offline runs cannot be resumed locally: Weights & Biases joins them by their id when they are synchronised."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    (folder / "loss.png").write_bytes(PNG)
    tracking = Tracking(["wandb"], folder, "rings", CONFIG)
    for i, row in enumerate(rows()):
        tracking.row(row, lambda i=i: rows()[:i])  # type: ignore[arg-type, misc]
    tracking.close()
    wandb.teardown()  # its service process writes the rest when this one ends
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    found: Series = defaultdict(list)
    config: dict[str, str] = {}
    for record in map(Record.FromString, wandb_records(file.read_bytes())):
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for name, value in items.items():
            if not name.startswith("_"):
                found[name].append((int(items["_step"]), float(value)))
        for run in [record.run] if record.HasField("run") else []:
            config |= {item.key: item.value_json for item in run.config.update}
            assert run.project == "rings" and len(run.run_id) == 16 and run.display_name == "run"
    check(found)
    assert config["stages.0.lr"] == "0.1"


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format after seven bytes, in blocks of 32 KiB."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""


def test_a_missing_package_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"track is 'wandb'; install its package with: pip install 'sgdr_jax\[wandb\]'"):
        Tracking(["wandb"], tmp_path, "", {})


@pytest.mark.parametrize("names", ["tensorboard", None, 3, {"wandb"}])
def test_names_come_in_a_tuple_or_list(tmp_path: Path, names: Any) -> None:
    """A text would be taken letter by letter."""
    with pytest.raises(InputError, match=r'^track is .*; give a tuple of names, such as track=\("tensorboard",\)$'):
        Tracking(names, tmp_path, "", {})


def test_without_trackers_nothing_is_asked_for(tmp_path: Path) -> None:
    tracking = Tracking([], tmp_path, "", {})
    tracking.row(rows()[0], lambda: pytest.fail("the rows were read"))  # type: ignore[arg-type]
    tracking.finish(SUMMARY, [])
    assert not list(tmp_path.iterdir())


def test_figures_have_names_of_their_own() -> None:
    names = [name for row in rows() for name in scalars(row)]
    assert set(names) == set(EXPECTED) and all(np.isfinite(list(scalars(row).values())).all() for row in rows())
    assert flat({"a": [], "b": {"c": (1, {"d": "x"})}}) == {"b.c.0": 1, "b.c.1.d": "x"}


def test_a_run_passes_its_rows_on(folder: Path, place: Callable[..., Any] | None = None) -> None:
    from sgdr_jax.runs.folder import open_run

    seen: list[tuple[Any, int]] = []
    with open_run(folder / "inner", CONFIG, "hash") as opened:
        opened.track = lambda row, earlier: seen.append((row, len(earlier())))
        for row in rows():
            opened.append(row)  # type: ignore[arg-type]
    assert seen == [(row, i) for i, row in enumerate(rows())]


def test_rows_of_every_kind_have_figures() -> None:
    solved = {
        "kind": "solve",
        "stage": "a",
        "step": 0,
        "weight_decay": 0.5,
        "tried": [1.0],
        "losses": [2.0],
        "gradient": 1e-5,
        "evaluations": 9,
    }
    assert scalars(solved) == {"solve/weight_decay": 0.5, "solve/gradient": 1e-5}
    assert scalars({"kind": "bn", "stage": "a", "step": 0, "drift": {"late": [0.1, 0.2]}}) == {
        "drift/late/shift": 0.1,
        "drift/late/stretch": 0.2,
    }
    kinds = {kind for row in get_args(Row.__value__) for kind in get_args(get_type_hints(row)["kind"])}
    assert kinds == {"train", "eval", "bn", "solve", "lowered"}
