"""python -m tests.golden.runs.make_bits     # after a change of roundings that is meant, on each kind of processor at hand

Writes the digests of the kept experiments' rows on this kind of processor and jaxlib into bits.json, and drops those of others, which
are not what they would be now.
"""

import dataclasses
import json
import os
import tempfile
from pathlib import Path

from sgdr_jax.cli.experiment_file import load_sweep
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.runs.run import run
from sgdr_jax.sweeps.spec import expand

from ...runs.test_kept_runs import ARM, SMALL, digest, machine, numbers, rows, small, unpack

with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    unpack(folder)
    os.chdir(folder)
    arm = dataclasses.replace(expand(load_sweep(SMALL))[ARM].experiment, parallel=Parallel(devices=1))
    run(small(), folder / "recipe")
    run(arm, folder / "arm")
    summary = run(small(), folder / "cut", resume=True)
    bits = {name: digest(rows(folder / name)) for name in ("recipe", "arm")}
    bits["resumed"] = digest([*rows(folder / "cut"), numbers(summary["test"])])
Path(__file__).with_name("bits.json").write_text(json.dumps({machine(): bits}, indent=1) + "\n")
