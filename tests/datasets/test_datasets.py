"""What all datasets have in common."""

import subprocess
import sys

import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import Arrays, CsvLabels, FashionMnist, HuggingFace, ImageFolder, Tfds


def test_share_out_of_range_is_refused():
    for kind in (ImageFolder, CsvLabels, Arrays, FashionMnist, HuggingFace, Tfds):
        with pytest.raises(InputError, match=r"data.valid_fraction is 1.0"):
            kind(valid_fraction=1.0)


def test_importing_datasets_and_pipeline_loads_nothing_heavy():
    program = (
        "import sys, sgdr_jax.datasets, sgdr_jax.data.load; print(sorted({'jax', 'flax', 'PIL', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
