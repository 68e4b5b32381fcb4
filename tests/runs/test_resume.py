"""Where a run goes on: only from its own checkpoints, under their own names, with the rows that they know."""

import json
import shutil

import numpy as np
import pytest

from sgdr_jax import AdamW, Eval, Experiment, InputError, Snapshots, Stage
from sgdr_jax.cli.main import main
from sgdr_jax.datasets import Synthetic
from sgdr_jax.runs import checkpoint
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.runs.snapshots import cycle_ends
from sgdr_jax.schedules import Constant

from ..helpers import Tiny, killed_after, same_bits


def small(**fields) -> Experiment:
    stages = (
        Stage("head", size=16, train="head", lr=0.02, schedule=Constant(2), views=2, precompute=True),
        Stage("all", size=16, lr=0.01, schedule=Constant(3)),
    )
    defaults = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=1), "optimizer": AdamW(), "checkpoint_steps": 2}
    data = Synthetic(classes=3, train=58, valid=21, side=16)
    return Experiment(
        **{"name": "small", "data": data, "model": Tiny(), "stages": stages, "snapshots": Snapshots(last=2)} | defaults | fields
    )


def cut(folder, experiment: Experiment, at: int = 15) -> None:
    """Run an experiment until it is killed after so many updates."""
    with killed_after(at):
        run(experiment, folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run, the same run killed in its second stage, and a killed run of another seed."""
    root = tmp_path_factory.mktemp("runs")
    run(small(), root / "whole")
    cut(root / "cut", small())
    cut(root / "other", small(seed=1))
    assert checkpoint.names(root / "cut" / "checkpoints") == ("stage-1-step-000004", "stage-1-step-000006")
    return root


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made / "cut", tmp_path / "run")
    return tmp_path / "run"


def facts(folder) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def assert_resumes_to_the_same(folder, made) -> None:
    summary = run(small(), folder, resume=True)
    assert facts(folder) == facts(made / "whole")
    assert summary["valid"] == json.loads((made / "whole" / "summary.json").read_text())["valid"]
    one, other = open_predictor(folder), open_predictor(made / "whole")
    assert same_bits((one.params, one.stats), (other.params, other.stats))


def exchange(checkpoints) -> None:
    first, second = (checkpoints / name for name in checkpoint.names(checkpoints))
    first.rename(checkpoints / "x")
    second.rename(first)
    (checkpoints / "x").rename(second)


def only_one_under_a_later_name(checkpoints) -> None:
    first, second = (checkpoints / name for name in checkpoint.names(checkpoints))
    shutil.rmtree(first)
    second.rename(checkpoints / "stage-1-step-000009")


def newest_under_an_impossible_name(checkpoints) -> None:
    shutil.copytree(checkpoints / "stage-1-step-000006", checkpoints / "stage-9-step-000001")


def from_another_seed(checkpoints) -> None:
    for name in checkpoint.names(checkpoints):
        shutil.rmtree(checkpoints / name)
        shutil.copytree(checkpoints.parents[1] / "other" / "checkpoints" / name, checkpoints / name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (exchange, "was saved as stage-1-step-000004"),
        (only_one_under_a_later_name, "was saved as stage-1-step-000006"),
        (newest_under_an_impossible_name, "was saved as stage-1-step-000006"),
        (from_another_seed, "was saved by another run, of config "),
    ],
)
def test_checkpoints_of_another_name_or_run_are_named_and_skipped(change, words, folder, made, caplog):
    shutil.copytree(made / "other", folder.parent / "other")
    change(folder / "checkpoints")
    assert_resumes_to_the_same(folder, made)
    assert words in caplog.text and "falling back to the one before" in caplog.text


def test_a_checkpoint_of_the_same_experiment_that_knows_other_rows_is_skipped(folder, made, caplog):
    """Run twice, an experiment has equal checkpoints but rows of other times."""
    cut(folder.parent / "twin", small())
    for name in checkpoint.names(folder / "checkpoints")[1:]:
        shutil.rmtree(folder / "checkpoints" / name)
        shutil.copytree(folder.parent / "twin" / "checkpoints" / name, folder / "checkpoints" / name)
    assert_resumes_to_the_same(folder, made)
    assert "does not begin with the 17 rows that checkpoint stage-1-step-000006 records" in caplog.text


def change_line(number: int):
    def change(lines: list[str]) -> None:
        lines[number] = lines[number].replace('"loss": ', '"loss": 1')

    return change


def lose_kind(lines: list[str]) -> None:
    lines[-1] = lines[-1].replace('"kind": ', '"kin": ')


def lose_end(count: int):
    def change(lines: list[str]) -> None:
        del lines[count:]

    return change


def test_rows_changed_after_an_older_checkpoint_are_made_again_from_there(folder, made, caplog):
    for change in (change_line(15), lose_end(16), lose_kind):
        shutil.rmtree(folder)
        shutil.copytree(made / "cut", folder)
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        change(lines)
        (folder / "metrics.jsonl").write_text("".join(lines))
        caplog.clear()
        assert_resumes_to_the_same(folder, made)
        assert "metrics.jsonl does not begin with the" in caplog.text


@pytest.mark.parametrize("change", [change_line(0), change_line(7), lose_end(5), lose_end(0)])
def test_a_run_whose_earlier_rows_are_lost_or_changed_is_refused(folder, change):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    change(lines)
    (folder / "metrics.jsonl").write_text("".join(lines))
    before = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"metrics.jsonl does not begin with the \d+ rows .* rows are lost or changed; restore the file"):
        run(small(), folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_run_of_an_early_version_without_names_in_its_checkpoints_knows_their_places(folder, made, caplog):
    """Checkpoints of early versions hold neither name, run nor rows, but stage and step."""
    for name in checkpoint.names(folder / "checkpoints"):
        as_early_versions_wrote(folder / "checkpoints" / name)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps({k: v for k, v in line.items() if k != "row"}) + "\n" for line in lines))
    shutil.copytree(folder, folder.parent / "exchanged")
    run(small(), folder, resume=True)
    assert not caplog.text
    exchange(folder.parent / "exchanged" / "checkpoints")
    run(small(), folder.parent / "exchanged", resume=True)
    assert "was saved as stage-1-step-000004" in caplog.text
    for one in (folder, folder.parent / "exchanged"):
        assert [{k: v for k, v in row.items() if k != "row"} for row in facts(one)] == [
            {k: v for k, v in row.items() if k != "row"} for row in facts(made / "whole")
        ]


def as_early_versions_wrote(place) -> None:
    saved = json.loads((place / "metadata.json").read_text())
    del saved["name"], saved["run"], saved["metadata"]["rows"]
    (place / "metadata.json").write_text(json.dumps(saved))
    manifest = {str(path.relative_to(place)): checkpoint._digest(path) for path in checkpoint._files(place)}
    (place / "manifest.json").write_text(json.dumps(manifest))


def test_the_final_network_of_another_run_is_refused_in_a_line(made, tmp_path, capsys):
    for name, seed in (("one", 2), ("two", 3)):
        run(small(seed=seed), tmp_path / name)
    shutil.rmtree(tmp_path / "one" / "final")
    shutil.copytree(tmp_path / "two" / "final", tmp_path / "one" / "final")
    with pytest.raises(InputError, match=r"was saved by another run, of config [0-9a-f]{12}; this is [0-9a-f]{12}; restore it"):
        open_predictor(tmp_path / "one")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(tmp_path), "--run", str(tmp_path / "one")])
    assert left.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_exchanged_snapshots_are_noticed(made, tmp_path, caplog):
    shutil.copytree(made / "whole", tmp_path / "run")
    place = tmp_path / "run" / "snapshots"
    first, second = sorted(path.name for path in place.glob("stage-*"))
    (place / first).rename(place / "x")
    (place / second).rename(place / first)
    (place / "x").rename(place / second)
    with pytest.raises(InputError, match=f"was saved as {first}"):
        open_predictor(tmp_path / "run", second)
    assert np.isfinite(open_predictor(tmp_path / "run").size)


@pytest.mark.parametrize("change", [shutil.rmtree, lambda snapshot: (snapshot / "manifest.json").write_text("{}")], ids=["gone", "damaged"])
def test_a_snapshot_that_is_lost_is_named_when_the_run_goes_on(folder, made, caplog, change) -> None:
    assert cycle_ends(folder) == ("stage-0-cycle-0001", "stage-1-cycle-0000")
    change(folder / "snapshots" / "stage-1-cycle-0000")
    assert_resumes_to_the_same(folder, made)
    lost = [line for line in caplog.messages if "the ensembles are without it" in line]
    assert len(lost) == 1 and "stage-1-cycle-0000 is lost, and cannot be made again" in lost[0]


@pytest.mark.parametrize("at", [15, 17, 19], ids=["as killed", "its place is taken", "after another stage's end"])
def test_snapshots_whose_place_is_taken_by_later_ones_are_not_missed(made, tmp_path, caplog, at: int) -> None:
    cut(tmp_path / "run", small(checkpoint_steps=7), at)
    shutil.rmtree(sorted((tmp_path / "run" / "checkpoints").iterdir())[-1])  # what the run goes on from is older than its snapshots
    run(small(checkpoint_steps=7), tmp_path / "run", resume=True)
    assert facts(tmp_path / "run") == facts(made / "whole") and "is lost" not in caplog.text
