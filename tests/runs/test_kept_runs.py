"""What an earlier version left (tests/golden/runs) is opened, resumed and compared: run folders, a sweep, a cache of images."""

import csv
import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint
import pytest

from sgdr_jax.cli.experiment_file import load_experiment, load_sweep
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.first_tags import FIRST, STABLE
from sgdr_jax.core.serialization import config_hash, first_tags, from_json, stable_tags, to_json
from sgdr_jax.data.load import load, load_for
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.runs import checkpoint, predictor, resume
from sgdr_jax.runs import run as recipe
from sgdr_jax.runs.folder import environment, read
from sgdr_jax.runs.predictor import evaluate_split, open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.trial_records import read_trials

from ..report.run_folders import Page, check_self_contained

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = GOLDEN / "runs" / "small.py"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ARM = 3
"""The run of the sweep that is executed again."""
BITS = json.loads((GOLDEN / "runs" / "bits.json").read_text())
HASHES = json.loads((GOLDEN / "hashes.json").read_text())


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """The archive's folders: run, cut (the same run, killed in its second stage), sweep, photos, cache."""
    unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unpack(folder: Path) -> None:
    with tarfile.open(GOLDEN / "runs" / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    shutil.copy(SMALL, folder)


def small():
    """The experiment of the kept runs; the archive was written on one device."""
    experiment = load_experiment(SMALL)
    return dataclasses.replace(experiment, parallel=Parallel(devices=1), checkpoint_steps=3)


def numbers(data):
    """The data without clocks and paths, and without top5, which is 1 of the archive's few classes and no longer reported for them."""
    left = ("seconds", "compiled", "compilation", "loading", "top5", "tta_top5")
    if isinstance(data, dict):
        return {k: numbers(v) for k, v in data.items() if k not in left}
    return [numbers(item) for item in data] if isinstance(data, list) else data


def check_near(now, before) -> None:
    """What both runs trained is the same, as near as other roundings allow.

    Figures of validation are not compared: a bias before batch normalisation has no gradient but rounding noise, along which Adam makes
    full steps, and the running means lag behind them. The losses of training, on the statistics of their batch, know nothing of it.
    """
    assert_near([training(row) for row in now], [training(row) for row in before])


def training(row: dict) -> dict:
    return {k: None if row["kind"] == "eval" and k in ("loss", "accuracy") else v for k, v in row.items()}


def check_bits(name: str, rows: list) -> None:
    """On a kind of processor and a jaxlib for which the bits are known (`make_bits.py`), they are the same."""
    assert BITS.get(machine(), {}).get(name, digest(rows)) == digest(rows)


def machine() -> str:
    """Processor, its widest vectors, which its name may leave open, and jaxlib: what roundings depend on."""
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    widest = next((name for name in ("avx512f", "avx2") if name in flags), "")
    return f"{environment(None, (), None)['cpu']} {widest}, jaxlib {importlib.metadata.version('jaxlib')}"


def digest(data) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def assert_near(now, before) -> None:
    if isinstance(before, dict):
        assert now.keys() == before.keys()
        for key in before:
            assert_near(now[key], before[key])
    elif isinstance(before, list):
        assert len(now) == len(before)
        for a, b in zip(now, before, strict=True):
            assert_near(a, b)
    elif isinstance(before, float):
        np.testing.assert_allclose(now, before, rtol=1e-3, atol=1e-5)
    else:
        assert now == before


def rows(folder):
    return [numbers(row) for row in read(folder).rows]


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint as orbax alone reads them."""
    return orbax.checkpoint.Checkpointer(orbax.checkpoint.PyTreeCheckpointHandler()).restore(path / "arrays")


@pytest.mark.parametrize("file", HASHES)
def test_hashes_of_the_shipped_experiments_never_change(file):
    path = EXPERIMENTS / file
    if isinstance(HASHES[file], str):
        assert config_hash(load_experiment(path)) == HASHES[file]
    else:
        assert [run.hash for run in expand(load_sweep(path))] == HASHES[file]


def test_every_first_tag_has_a_stable_name_that_is_written_today():
    assert len(FIRST) == len(STABLE)
    experiment = load_experiment(SMALL)
    data = to_json(experiment)
    assert "sgdr_jax" not in json.dumps(data)
    old = first_tags(data)
    assert old["type"] == "sgdr_jax.config:Experiment" and stable_tags(old) == data
    assert from_json(old) == from_json(data) == experiment


def test_a_kept_run_opens_and_evaluates_to_the_same_numbers(kept, monkeypatch):
    """Those of its plain view as they are, and those of the mixture where random views are drawn by place, as its version did."""
    load_experiment(SMALL)
    before = read(kept / "run").summary
    figures = numbers(before["test"])
    assert config_hash(small()) == json.loads((kept / "run" / "environment.json").read_text())["config_hash"]
    assert run(small(), kept / "run", resume=True) == before  # it has finished
    assert {k.removeprefix("tta_") for k in figures} < figures.keys()

    def same(names):
        measures = evaluate_split(open_predictor(kept / "run"), "test").views.measures
        np.testing.assert_allclose([measures[k] for k in names], [figures[k] for k in names], rtol=1e-5)

    same([k for k in figures if not k.startswith("tta_")])

    def by_place(*args, **options):
        data = load(*args, **options)
        return data._replace(digests={split: np.arange(len(labels), dtype=np.uint64) for split, labels in data.labels.items()})

    monkeypatch.setattr(predictor, "load", by_place)
    same(figures)


def test_a_kept_run_has_a_page(kept):
    main(["report", "run", "--experiment", "small.py"])
    text = (kept / "run" / "report.html").read_text("utf-8")
    page = Page(text)
    check_self_contained(text, page)
    assert {"steps", "curves", "mistakes", "pictures", "classes", "calibration"} <= set(page.ids())
    assert page.count("img") and not any(text.startswith("class ") for text in page.texts)  # the data name the classes


def test_a_kept_run_that_was_killed_goes_on_to_the_same_numbers(kept, monkeypatch):
    before = read(kept / "run")
    assert len(read(kept / "cut").rows) < len(before.rows)
    restored = []

    def restore(context, folder, meta, like):
        found = resume.restore(context, folder, meta, like)
        restored.append((checkpoint.step_name(meta.stage, meta.step), jax.tree.map(np.array, found)))  # a copy: buffers are donated
        return found

    kept_arrays = {path.name: arrays_of(path) for path in (kept / "cut" / "checkpoints").iterdir()}
    monkeypatch.setattr(recipe, "restore", restore)
    summary = run(small(), kept / "cut", resume=True)
    ((name, (state, best)),) = restored
    own = {"state": state._asdict(), "best": {"params": best.network.params, "stats": best.network.stats}}
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(own)}
    assert found.keys() == kept_arrays[name].keys() and all(np.array_equal(found[key], kept_arrays[name][key]) for key in found)
    check_near(rows(kept / "cut"), rows(kept / "run"))
    check_bits("resumed", [*rows(kept / "cut"), numbers(summary["test"])])
    assert numbers(summary["test"]).keys() == numbers(before.summary["test"]).keys()


def test_the_recipe_gives_the_bits_that_it_gave(kept):
    run(small(), kept / "again")
    check_near(rows(kept / "again"), rows(kept / "run"))
    check_bits("recipe", rows(kept / "again"))


def answers(folder):
    """The table of a comparison without clocks; numbers as numbers, since scipy rounds the last digit of a probability differently."""
    with open(folder / "answer" / "answer.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]
    return [{k: pytest.approx(float(v), rel=1e-12) if v[-1:].isdigit() else v for k, v in row.items()} for row in rows]


def test_a_kept_sweep_is_finished_and_compared_to_the_same_answer(kept, capsys):
    before = answers(kept / "sweep")
    main(["sweep", str(SMALL), "--dir", "sweep", "--parallel.devices", "1"])
    assert len(read_trials(kept / "sweep", "accuracy")) == 3
    main(["compare", "sweep"])
    now = answers(kept / "sweep")  # with the columns that have come since
    for row, was in zip(now, before, strict=True):
        if row["low"] == "" != was["low"]:  # two equal differences were an interval without length, and any other could be detected
            assert {was.pop(name).expected for name in ("low", "high")} == {was["difference"].expected}
            assert was.pop("detectable").expected == pytest.approx(0, abs=1e-12) and row["detectable"] == ""
    assert [{k: getattr(row[k], "expected", row[k]) for k in was} for row, was in zip(now, before, strict=True)] == before
    again = expand(load_sweep(SMALL))[ARM]
    run(dataclasses.replace(again.experiment, parallel=Parallel(devices=1)), kept / "again")
    check_near(rows(kept / "again"), rows(kept / "sweep" / "runs" / again.hash))
    check_bits("arm", rows(kept / "again"))


def test_a_kept_cache_of_images_is_no_obstacle_and_they_are_decoded_anew(kept, monkeypatch):
    """Its names were made from the times of files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept / "cache"))
    experiment = dataclasses.replace(small(), data=ImageFolder("photos", valid_fraction=0.25), batch_size=2)
    data = load_for(experiment, experiment.data.open(), NullConsole())
    assert sum(data.sizes.values()) == 24 and not data.bad
