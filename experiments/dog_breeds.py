"""Dog breeds (Kaggle: labels.csv beside train/*.jpg) by the eight-step recipe, then once more with bigger images.

sgdr-jax train experiments/dog_breeds.py --data.root data/dogs --seed 1
"""

from sgdr_jax import AdamW, Eval, Experiment, Stage, lesson2
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
        Stage("larger", size=299, train="all", lr=1e-4, schedule=Sgdr(1, 3, warmup=0.1), bn="frozen"),
    ),
    optimizer=AdamW(clip=1.0),
    evaluate=Eval(tta_views=4),
)
