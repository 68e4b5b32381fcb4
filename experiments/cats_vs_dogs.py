"""Cats and dogs: 23,262 photographs of two classes; a fifth is held out, half of that for the final test.

sgdr-jax prepare cats_vs_dogs
sgdr-jax train experiments/cats_vs_dogs.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune(
    "cats_vs_dogs",
    Tfds("cats_vs_dogs", train="train[:80%]", valid="train[80%:90%]", test="train[90%:]"),
    ResNet34(),
    stages=lesson2(224, similar_to_imagenet=True, bn="train"),
)
