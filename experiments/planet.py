"""Planet (Kaggle, "Understanding the Amazon from Space"): 40,479 satellite images with several of 17 labels each, judged by F2.

data/planet holds train_v2.csv and train-jpg/ of the competition.

    sgdr-jax train experiments/planet.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.augment import top_down
from sgdr_jax.datasets import CsvLabels
from sgdr_jax.models import ResNet34

experiment = fine_tune(
    "planet",
    CsvLabels("data/planet", labels="train_v2.csv", images="train-jpg"),
    ResNet34(),
    stages=lesson2(128, similar_to_imagenet=False, bn="train"),
    augment=top_down(),
)
