"""A few cases of each chaos campaign, and what a campaign does with its results."""

import subprocess
import sys
from pathlib import Path

import pytest

from sgdr_jax.core.errors import InputError

from . import campaign, image_oracles
from .images_cases import KINDS, sound


@pytest.mark.parametrize(("name", "few"), [("words", 60), ("images", 300), ("weights", 300), ("files", 70)])
def test_cases_end_well(name: str, few: int, tmp_path: Path, cases, tally) -> None:
    with campaign.open_campaign(name, tmp_path) as attempt:
        for seed in range(cases(few)):
            found = attempt(seed)
            assert found.outcome in campaign.GOOD, f"{name} --seed {seed}: {found}"
            tally(f"{name}: {found.part}")[found.outcome] += 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "few"), [("kill", 3), ("resume", 1), ("stop", 3), ("damage", 4)])
def test_cases_in_processes_of_their_own_end_well(name: str, few: int, tmp_path: Path) -> None:
    """In a process that has not used a device yet, which may fork."""
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.chaos.campaign",
        name,
        "--cases",
        str(few),
        "--results",
        str(tmp_path / "chaos.csv"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(campaign.rows(tmp_path / "chaos.csv")) == few


def raising(error: BaseException):
    def work() -> str:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "outcome"),
    [
        (lambda: "accepted", "accepted"),
        (raising(InputError("one line")), "refused"),
        (raising(InputError("two\nlines")), "traceback"),
        (raising(KeyError("x")), "traceback"),
        (raising(campaign.Silent("wrong")), "silent"),
        (lambda: all(True for _ in iter(int, 1)), "late"),
    ],
)
def test_every_end_of_a_case_has_an_outcome(work, outcome: str) -> None:
    assert campaign.outcome_of("part", work, seconds=0.3).outcome == outcome


def test_a_campaign_goes_on_where_it_ended(tmp_path: Path, capsys) -> None:
    results = tmp_path / "chaos.csv"
    assert campaign.run_part("images", 5, 60, results) == 0
    (tmp_path / "chaos.images.running").write_text("5")  # as of a process that has ended within a case
    assert campaign.run_part("images", 9, 60, results) == 1
    assert [(row["seed"], row["outcome"] == "hangs") for row in campaign.rows(results)] == [(str(i), i == 5) for i in range(9)]
    assert campaign.retry_faults("images", results) == 0
    assert campaign.run_part("images", 9, 60, results) == 0
    assert "| images of nine formats: " in campaign.table(results) and "goes on with seed 6" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracles_know_sound_files_from_cut_ones(kind: str) -> None:
    oracle = {"JPEG": image_oracles.jpeg, "WebP": image_oracles.webp, "GIF": image_oracles.gif, "BMP": image_oracles.bmp}
    read = next((oracle[name] for name in oracle if name in kind), image_oracles.png)
    for seed in range(20):
        data = sound(kind, seed)
        read(data)
        if kind != "progressive JPEG":  # whose codes are not read
            with pytest.raises(image_oracles.Invalid):
                read(data[: len(data) * 3 // 4])
