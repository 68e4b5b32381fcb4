"""Imagenette: 9,469 + 3,925 photographs of ten easy ImageNet classes.

sgdr-jax prepare imagenette/320px-v2
sgdr-jax train experiments/imagenette.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune("imagenette", Tfds("imagenette/320px-v2"), ResNet34(), stages=lesson2(160, similar_to_imagenet=True, bn="train"))
