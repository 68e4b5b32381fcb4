"""The self-test finds wrong results, is passed by the installed jaxlib, and runs once for each version and kind of device."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import jaxlib.version
import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.distributed import self_test
from sgdr_jax.distributed.self_test import check_jaxlib, checks, wrong

NAMES = [name for name, *_ in checks()]


def test_the_installed_jaxlib_passes() -> None:
    assert wrong() == []


@pytest.mark.parametrize("name", NAMES)
def test_each_check_finds_one_wrong_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken():
        for each, function, arguments, right in checks():
            if each == name:

                def off(*given, function=function):
                    result = jnp.asarray(function(*given))
                    return result.at[(0,) * result.ndim].add(0.001 * jnp.max(jnp.abs(result)))

                yield each, off, arguments, right

    monkeypatch.setattr(self_test, "checks", broken)
    (found,) = wrong()
    assert found.startswith(f"{name} (off by ")


def test_it_is_kept_by_version_and_flags_that_it_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runs, real = list[int](), self_test.wrong
    monkeypatch.setattr(self_test, "wrong", lambda: runs.append(1) or real())
    check_jaxlib()
    check_jaxlib()
    assert len(runs) == 1
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    check_jaxlib()
    monkeypatch.setattr(jaxlib.version, "__version__", "0.0.1")
    check_jaxlib()
    assert len(runs) == 3 and len(list((tmp_path / "sgdr_jax" / "self_test").iterdir())) == 3


def test_a_jaxlib_that_computes_wrongly_is_refused_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    two = ("two", lambda: jnp.ones(()), (), np.float64(2.0))
    monkeypatch.setattr(self_test, "checks", lambda: [two])
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"^jaxlib .* computes wrongly on cpu: two \(off by 0\.5 of the largest value\); install another"
        ):
            check_jaxlib()
