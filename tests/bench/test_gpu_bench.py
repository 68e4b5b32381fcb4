"""The bench of a card: the time is shared out, and every job is a row, also one that could not be measured."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu  # pyright: ignore[reportMissingImports]

    yield gpu
    for name in ("gpu", "networks", "harness"):
        sys.modules.pop(name, None)


def written(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "gpu.csv").read_text().splitlines()))


def test_every_job_is_a_row_that_says_what_became_of_it(gpu, tmp_path: Path) -> None:
    def job(part: str, name: str, code: str, python: str = sys.executable, seconds: float = 2, needs: tuple[str, ...] = ()):
        return gpu.Job(part, name, (python, "-c", code), needs, seconds)

    work = [
        job("heads", "good", "print('x'); print('{\"rate\": 2.5}')"),
        job("heads", "bad", "raise SystemExit('no such thing')"),
        job("heads", "endless", "import time; time.sleep(60)", seconds=0.2),
        job("heads", "without", "", needs=("json", "no_such_module")),
        job("heads", "nowhere", "", python=""),
        job("loop", "long", "", seconds=1000),
        job("loop", "last", "print('{}')"),
    ]
    rows = gpu.shared_out(work, 60, tmp_path)
    told = {name.partition(": ")[2]: str(row["outcome"]) for name, (row,) in rows.items()}
    assert told["good"] == told["last"] == "measured" and rows["heads: good"][0]["rate"] == 2.5
    assert told["bad"] == "failed: no such thing" and told["endless"] == "ended after 1 s"
    assert told["without"] == f"not measured: {sys.executable} lacks no_such_module"
    assert told["nowhere"] == "not measured: no --torch PYTHON given"
    assert told["long"].startswith("not begun: ") and told["long"].endswith(" s left of what takes about 1000")
    kept = written(tmp_path)
    assert [row["name"] for row in kept] == [each.name for each in work] and [row["outcome"] for row in kept] == list(told.values())
    assert all(row["machine"] and row["date"] for row in kept)


def test_a_part_ends_in_its_share_and_leaves_the_rest_to_later_ones(gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limits = [0.0], {}

    def run(job, limit):
        limits[job.name] = limit
        clock[0] += 10
        return {"outcome": "measured"}

    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(gpu, "run_job", run)
    monkeypatch.setattr(gpu, "PARTS", {"heads": 0.1, "loop": 0.3})
    work = [gpu.Job(part, name, (sys.executable,), (), 100) for part, name in (("heads", "a"), ("loop", "b"), ("loop", "c"))]
    rows = gpu.shared_out(work, 400, tmp_path)
    assert limits == {"a": 100, "b": 300, "c": 300} and len(rows) == 3
    clock[0] = 0
    assert gpu.shared_out(work, 200, tmp_path)["heads: a"][0]["outcome"].startswith("not begun: 50 s left")


def test_all_jobs_name_programs_that_are_there(gpu, tmp_path: Path) -> None:
    for small in (True, False):
        made = gpu.jobs(gpu.PARTS, "/peers/python", tmp_path, gpu.MODELS, small=small)
        assert {job.part for job in made} == set(gpu.PARTS) and len({(job.part, job.name) for job in made}) == len(made)
        assert all(Path(job.command[1]).is_file() for job in made)
        torch = [job for job in made if "torch" in job.needs]
        assert all(job.command[0] == "/peers/python" for job in torch) and len(torch) == 2 * len(gpu.MODELS) + 3
    assert abs(sum(gpu.PARTS.values()) - 1) < 1e-9


def test_ours_is_set_beside_torch(gpu) -> None:
    rows = {
        "networks: R training, ours": [{"images_per_s": 3.0}],
        "networks: R training, torch.compile": [{"images_per_s": 2.0}],
        "networks: S training, ours": [{"images_per_s": 3.0}],
    }
    assert gpu.beside(rows) == ["networks: R training, ours: 1.50 of torch.compile"]


@pytest.mark.slow
def test_it_runs_small_without_a_card(tmp_path: Path) -> None:
    small = [
        "--parts",
        "augment",
        "heads",
        "loop",
        "start",
        "networks",
        "--models",
        "ResNet18",
        "--minutes",
        "20",
        "--small",
        "--results",
        str(tmp_path),
    ]
    done = subprocess.run([sys.executable, str(BENCH / "gpu.py"), *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in written(tmp_path)}
    ours = [
        "sgdr_jax",
        "sixteen heads",
        "cold",
        "warm",
        "whole run, large",
        "whole run, one by one",
        "whole run, spans",
        "ResNet18 training, ours",
        "ResNet18 inference, ours",
    ]
    assert all(rows[name]["outcome"] == "measured" for name in ours), rows
    assert {row["outcome"] for name, row in rows.items() if "torch" in name or name in ("kornia", "fastai")} == {
        "not measured: no --torch PYTHON given"
    }
    assert float(rows["ResNet18 training, ours again"]["first_s"]) > 0 and float(rows["whole run, spans"]["updates_per_s"]) > 0
