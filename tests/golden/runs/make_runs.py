"""Writes runs.tar.xz: run folders, a sweep and a cache as the package left them at commit ee7e081, when its modules lay in one folder.

PYTHONPATH=CHECKOUT_OF_ee7e081 python make_runs.py     # beside small.py, whose words of sweeps were imported from sgdr_jax then
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

os.environ |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(Path("cache").resolve())}
for name in ("run", "cut", "sweep", "photos", "cache"):
    shutil.rmtree(name, ignore_errors=True)


def sgdr_jax(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sgdr_jax", *words], check=True)


sgdr_jax("train", "small.py", "--run", "run", "--checkpoint-steps", "3")
# The same run, killed at its twentieth update, in the stage "head".
code = """
import sys
from sgdr_jax import recipe
from sgdr_jax.experiment_file import load
from dataclasses import replace
count, real = 0, recipe.open_stage
def fragile(*args):
    stage = real(*args)
    def updates(state, hyper, feds):
        global count
        count += len(feds)
        if count > 20:
            raise SystemExit(0)
        return stage.updates(state, hyper, feds)
    return stage._replace(updates=updates)
recipe.open_stage = fragile
recipe.run(replace(load("small.py"), checkpoint_steps=3), "cut")
"""
subprocess.run([sys.executable, "-c", code], check=True)
sgdr_jax("sweep", "small.py", "--dir", "sweep", "--keep", "final")
sgdr_jax("compare", "sweep")

draw = np.random.default_rng(0)
for i in range(24):
    file = Path("photos") / f"class{i % 3}" / f"{i}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(file)
    os.utime(file, (1_700_000_000, 1_700_000_000))
Path("photos.py").write_text(
    "from dataclasses import replace\nfrom sgdr_jax.datasets import ImageFolder\nfrom sgdr_jax.experiment_file import load\n"
    'experiment = replace(load("small.py"), data=ImageFolder("photos", valid_fraction=0.25), batch_size=2)\n'
)
sgdr_jax("data", "photos.py")
for folder in ("cache/matplotlib", "cache/sgdr_jax/compiled", "cache/sgdr_jax/activations", "sweep/answer/page"):
    shutil.rmtree(folder, ignore_errors=True)
with tarfile.open("runs.tar.xz", "w:xz") as archive:
    for name in ("run", "cut", "sweep", "photos", "cache"):
        archive.add(name, filter=lambda entry: None if entry.name.endswith((".png", ".html")) and "photos" not in entry.name else entry)
print(os.path.getsize("runs.tar.xz"))
