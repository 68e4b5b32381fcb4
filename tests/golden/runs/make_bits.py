"""python -m tests.golden.runs.make_bits     # after a change of roundings that is meant, on each kind of processor at hand

Writes the digests of the kept experiments' rows on this kind of processor and jaxlib into bits.json, and drops those of others, which
are not what they would be now.
"""

import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path

from sgdr_jax.cli.experiment_file import load_sweep
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.runs.run import run
from sgdr_jax.sweeps.spec import expand

from ...runs.test_kept_runs import ARM, SMALL, digest, machine, rows, small

with tempfile.TemporaryDirectory() as folder:
    shutil.copy(SMALL, folder)
    os.chdir(folder)
    arm = dataclasses.replace(expand(load_sweep(SMALL))[ARM].experiment, parallel=Parallel(devices=1))
    bits = {}
    for name, experiment in {"recipe": small(), "arm": arm}.items():
        run(experiment, Path(folder, name))
        bits[name] = digest(rows(Path(folder, name)))
Path(__file__).with_name("bits.json").write_text(json.dumps({machine(): bits}, indent=1) + "\n")
