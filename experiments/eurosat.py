"""EuroSAT: 27,000 satellite images of 64 px in ten classes of land use, seen from above.

sgdr-jax prepare eurosat/rgb
sgdr-jax train experiments/eurosat.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.augment import top_down
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune(
    "eurosat",
    Tfds("eurosat/rgb", train="train[:80%]", valid="train[80%:90%]", test="train[90%:]"),
    ResNet34(),
    stages=lesson2(96, similar_to_imagenet=False, bn="train"),
    augment=top_down(),
)
