"""Fashion-MNIST by the eight-step recipe, from ImageNet weights: 500 training images per class, all 10,000 test images.

    sgdr-jax train experiments/fashion_mnist.py

Expected: accuracy on the test images 0.9011, with TTA 0.9061, in 305 s on two CPU cores (one run, seed 0).
A tenth of the training images is held out to choose rates and to stop; the test images choose nothing.
"""

from sgdr_jax import AdamW, Eval, Experiment, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import FashionMnist
from sgdr_jax.models import EfficientNetLite0

experiment = Experiment(
    name="fashion_mnist",
    data=FashionMnist(train_per_class=500, valid_fraction=0.1),
    model=EfficientNetLite0(),
    augment=side_on(zoom=1.1),
    stages=lesson2(
        size=96,
        similar_to_imagenet=False,
        cycle_len=6,
        bn="train",
    ),
    optimizer=AdamW(clip=1.0),
    evaluate=Eval(batch_size=64, tta_views=1, tta_kind="flip", tta_weight=None),
    batch_size=32,
)
