"""Oxford Flowers: 1,020 + 1,020 + 6,149 photographs of 102 kinds, ten of each to train on.

sgdr-jax prepare oxford_flowers102
sgdr-jax train experiments/oxford_flowers102.py
"""

from sgdr_jax import fine_tune
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune("oxford_flowers102", Tfds("oxford_flowers102"), ResNet34(), size=224, epoch_steps=32)
