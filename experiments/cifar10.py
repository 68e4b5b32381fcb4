"""CIFAR-10: 50,000 + 10,000 photographs of 32 px in ten classes, enlarged to 96 px.

sgdr-jax prepare cifar10
sgdr-jax train experiments/cifar10.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune("cifar10", Tfds("cifar10"), ResNet34(), stages=lesson2(96, similar_to_imagenet=False, bn="train"))
