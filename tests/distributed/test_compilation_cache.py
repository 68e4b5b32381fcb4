"""Compiled programs between processes: where they are kept, who may write there, that they compute the same, and how many there are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax._src.lru_cache import LRUCache

from sgdr_jax import Eval, Experiment, InputError, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.distributed.compilation_cache import MAX_BYTES, Compiled, SealedCache, compiled, enable_compilation_cache
from sgdr_jax.report.run_tables import run_lines
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Sgdr

from ..helpers import Tiny

ROOT = Path(__file__).parents[2]
DATA = Synthetic(classes=3, train=32, valid=16, test=8, side=16)

# A whole run in a process of its own; prints what was compiled and a digest of the final network.
RUN = """
import json, sys
from sgdr_jax import Eval, Experiment, Stage
from sgdr_jax.train.activation_cache import tree_digest
from sgdr_jax.runs.run import run
from sgdr_jax.runs.predictor import open_predictor
from tests.helpers import Tiny
from tests.distributed.test_compilation_cache import DATA, experiment

summary = run(experiment(cycles=1), sys.argv[1])
net = open_predictor(sys.argv[1])
print(json.dumps(summary["compiled"] | {"digest": tree_digest({"params": net.params, "stats": net.stats}), "test": summary["test"]}))
"""


def experiment(cycles: int, sizes: tuple[int, ...] = (16, 24)) -> Experiment:
    stages = [
        Stage("head", size=sizes[0], train="head", lr=0.01, schedule=Sgdr(cycles), precompute=True, augment=False),
        *(Stage(f"all {i}", size=size, lr=0.01, schedule=Sgdr(cycles)) for i, size in enumerate(sizes)),
    ]
    return Experiment(
        name="compiled", data=DATA, model=Tiny(), batch_size=8, stages=tuple(stages), evaluate=Eval(batch_size=8, tta_views=0)
    )


def start(tmp_path: Path, name: str, **variables: str) -> dict:
    suite = ("JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in suite}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | variables
    words = [sys.executable, "-W", "error", "-c", RUN, str(tmp_path / name)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "machine type" not in done.stderr and "SIGILL" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_second_process_loads_what_the_first_compiled_and_computes_the_same_bits(tmp_path: Path) -> None:
    first, second = start(tmp_path, "first"), start(tmp_path, "second")
    kept = list((tmp_path / "sgdr_jax" / "compiled").glob("*-cache"))
    assert len(kept) > 3 and first["loaded"] < len(kept)  # a program that comes twice in a process is found already
    # Not all of them: activations are kept, too, and so the programs that made them are not needed again.
    assert second["loaded"] > max(3, first["loaded"]) and second["programs"] <= first["programs"]
    assert (second["digest"], second["test"]) == (first["digest"], first["test"])
    assert (tmp_path / "sgdr_jax" / "compiled").stat().st_mode & 0o777 == 0o700
    off = start(tmp_path, "off", JAX_ENABLE_COMPILATION_CACHE="false")
    assert off["loaded"] == 0 and off["digest"] == first["digest"]
    elsewhere = start(tmp_path, "elsewhere", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert elsewhere["loaded"] < len(kept) and any((tmp_path / "mine").iterdir())


@pytest.fixture
def unset():
    """jax as it is before it is told of a folder."""
    before = {name: getattr(jax.config, name) for name in ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_made_for_the_user_alone(tmp_path: Path, unset: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = os.umask(0)
    try:
        enable_compilation_cache()
    finally:
        os.umask(old)
    folder = tmp_path / "sgdr_jax" / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_dir == str(folder) and jax.config.jax_compilation_cache_max_size == MAX_BYTES
    enable_compilation_cache(tmp_path / "other")  # one place for a process
    assert jax.config.jax_compilation_cache_dir == str(folder)


@pytest.mark.parametrize("kind", ["group", "others", "link", "file", "owner"])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, unset: None, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = tmp_path / "compiled"
    if kind == "link":
        (tmp_path / "real").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "real")
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod({"group": 0o770, "others": 0o702, "owner": 0o700}[kind])
    if kind == "owner":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(InputError, match=r"compilation cache is '.*compiled'.*JAX_COMPILATION_CACHE_DIR") as caught:
        enable_compilation_cache(folder)
    assert "\n" not in str(caught.value) and jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(("mode", "safe"), [(0o755, True), (0o777, False), (0o1777, True)])
def test_a_folder_that_others_can_replace_is_refused(mode: int, safe: bool, tmp_path: Path, unset: None) -> None:
    parent = tmp_path / "parent"
    (parent / "cache").mkdir(parents=True)
    parent.chmod(mode)
    if safe:
        enable_compilation_cache(parent / "cache" / "compiled")
    else:
        with pytest.raises(InputError, match=f"others can put programs there.* by way of {parent}; chmod go-w {parent}, or choose"):
            enable_compilation_cache(parent / "cache" / "compiled")


def test_a_folder_that_cannot_be_made_costs_time_only(tmp_path: Path, unset: None) -> None:
    (tmp_path / "file").write_text("")
    enable_compilation_cache(tmp_path / "file" / "compiled")
    assert jax.config.jax_compilation_cache_dir is None


def test_nothing_compiles_after_the_first_cycle_of_a_stage(tmp_path: Path) -> None:
    run(experiment(1), tmp_path / "warm")  # operations outside the engine's programs compile once in a process
    once, thrice = (run(experiment(cycles), tmp_path / str(cycles))["compiled"] for cycles in (1, 3))
    assert once["programs"] == thrice["programs"] > 0
    assert json.loads((tmp_path / "3" / "summary.json").read_text())["compiled"]["programs"] == thrice["programs"]


def test_the_same_stage_again_shares_its_programs(tmp_path: Path) -> None:
    run(experiment(1), tmp_path / "warm")
    once, twice = (run(experiment(1, sizes), tmp_path / str(sizes))["compiled"] for sizes in ((16, 24), (16, 24, 16)))
    assert once["programs"] == twice["programs"]


def test_the_count_and_its_line() -> None:
    before = compiled()

    @jax.jit
    def thrice(x: jax.Array) -> jax.Array:
        return x * 3 + 1

    thrice(jax.numpy.ones(7))
    between = compiled()
    thrice(jax.numpy.ones(8))
    made = compiled() - before
    assert 2 <= made.programs <= 6 and made.loaded <= made.programs and made.seconds > 0
    assert made.names["thrice"][0] == 2 and (compiled() - between).names["thrice"][0] == 1
    assert sum(number for number, _ in made.names.values()) == made.programs
    assert sum(seconds for _, seconds in made.names.values()) == pytest.approx(made.seconds)
    assert "thrice" not in (compiled() - compiled()).names
    assert made.longest >= made.names["thrice"][1] / 2 and made.longest <= compiled().seconds
    names = {"rows": (2, 0.2), "update_head": (1, 1.0), "forward": (4, 2.0)}
    told = "compiling 3 s: 12 programs, 5 from disk"
    assert run_lines({"compiled": Compiled(12, 5, 3.2, names)._asdict()}) == [f"{told}; forward 2 s; update_head 1 s"]
    assert run_lines({"compiled": Compiled(12, 5, 3.2, {}, 1.25)._asdict()}) == [f"{told}; longest 1.2 s"]
    assert run_lines({"compiled": Compiled(12, 5, 3.2)._asdict()}) == [told]


def test_swapped_and_damaged_programs_are_compiled_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = SealedCache(str(tmp_path), max_size=MAX_BYTES)
    for key in ("a", "b", "c"):
        cache.put(key, key.encode() * 1000)
    a, b, c = (tmp_path / f"{key}-sealed-cache" for key in ("a", "b", "c"))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(second[:-1])
    assert cache.get("a") is None and cache.get("b") is None and cache.get("c") == b"c" * 1000
    assert "a is damaged, or another's; it is compiled again" in caplog.text and not a.exists() and c.exists()
    cache.put("a", b"a" * 1000)
    assert a.read_bytes() == first and cache.get("a") == b"a" * 1000
    a.write_bytes(b"")
    assert cache.get("a") is None and cache.get("none") is None


def test_programs_without_a_digest_in_the_same_folder_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """jax itself writes them, and so did versions of this package that still share the folder."""
    plain, sealed = LRUCache(str(tmp_path), max_size=MAX_BYTES), SealedCache(str(tmp_path), max_size=MAX_BYTES)
    plain.put("a", b"plain")
    assert sealed.get("a") is None
    sealed.put("a", b"sealed")
    assert (plain.get("a"), sealed.get("a")) == (b"plain", b"sealed") and not caplog.text


@pytest.mark.slow
def test_a_run_with_exchanged_programs_computes_the_same_bits(tmp_path: Path) -> None:
    first = start(tmp_path, "first")
    kept = sorted((tmp_path / "sgdr_jax" / "compiled").glob("*-cache"))
    contents = [file.read_bytes() for file in kept]
    for file, other in zip(kept, contents[1:] + contents[:1], strict=True):
        file.write_bytes(other)
    second = start(tmp_path, "second")
    assert (second["digest"], second["test"]) == (first["digest"], first["test"])
    assert {file: file.read_bytes() for file in kept if file.exists()} != dict(zip(kept, contents[1:] + contents[:1], strict=True))
