"""Your own photographs by the eight-step recipe.

    sgdr-jax train experiments/folder.py --data.root DIR

DIR holds train/CLASS/* and valid/CLASS/*, or only CLASS/* (then a fifth of each class is held out). Nothing else needs to be set:
a small set is gone through several times per epoch, rare classes are shown more often, and a stage that leaves the network clearly worse
on the validation images is undone: of states that these cannot tell apart the one that was trained longest counts as the best
(`leeway`). When they have chosen, all images train the network once more (`refit`). `sgdr-jax new DIR` writes such a file with settings
that it chooses by looking at the images.
"""

from sgdr_jax import AdamW, Eval, Experiment, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models import EfficientNetLite0

experiment = Experiment(
    name="folder",
    data=ImageFolder("data"),
    model=EfficientNetLite0(),
    augment=side_on(zoom=1.1),
    stages=lesson2(size=224, similar_to_imagenet=True, views=4),
    optimizer=AdamW(clip=1.0),
    evaluate=Eval(batch_size=32),
    batch_size=32,
    epoch_steps=20,
    balance=0.5,
    leeway=1.5,
    refit=True,
    first_epoch_share=0.6,
)
