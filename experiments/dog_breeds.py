"""Dog breeds (Kaggle: labels.csv beside train/*.jpg) by the eight-step recipe, then once more with bigger images.

sgdr-jax train experiments/dog_breeds.py --data.root data/dogs --seed 1
"""

from sgdr_jax import AdamW, Eval, Experiment, Find, Stage, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import CsvLabels
from sgdr_jax.models import ResNet34
from sgdr_jax.schedules import Sgdr

experiment = Experiment(
    name="dog_breeds",
    data=CsvLabels("data/dogs", valid_fraction=0.2),
    model=ResNet34(),
    augment=side_on(zoom=1.1),
    stages=(
        *lesson2(size=224, similar_to_imagenet=True),
        Stage("larger", size=299, train="all", lr=Find(ratio=10), schedule=Sgdr(cycles=2, cycle_len=1, cycle_mult=2), patience=1),
    ),
    optimizer=AdamW(),
    evaluate=Eval(tta_views=4),
)
