"""What the ablations vary: the recipe that `sgdr-jax new` writes for 1,000 images, 100 of each class of Fashion-MNIST, at half its size.

A solved head on four cached augmented copies of each image, then all layer groups at one rate with stored batch statistics, seven epochs
of one cosine cycle. At 64 px a run takes less than a minute on two CPU cores, so that every question can be asked with several seeds. A
fifth of the images is held out and judges what is kept; nothing is trained again on it. The test images choose nothing.
"""

from sgdr_jax import AdamW, Eval, Experiment, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import FashionMnist
from sgdr_jax.models import EfficientNetLite0

experiment = Experiment(
    name="recipe",
    data=FashionMnist(train_per_class=100, valid_fraction=0.2),
    model=EfficientNetLite0(),
    augment=side_on(zoom=1.1),
    stages=lesson2(size=64, views=4),
    optimizer=AdamW(clip=1.0),
    evaluate=Eval(batch_size=100, tta_views=0),
    batch_size=32,
    leeway=1.5,
)
