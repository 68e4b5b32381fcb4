"""What the ablations of the recipe vary: Fashion-MNIST, 500 training images per class, EfficientNet-Lite0 from ImageNet, at 48 px.

Short on purpose, so that every question can be asked with several seeds on two CPU cores: the head, then the last blocks with it, both on
cached activations of two augmented copies of each image; the activations are shared by all runs with the same seed and augmentation, and
those of the test images by all runs. A tenth of the training images chooses the best cycle; the test images choose nothing.
"""

from sgdr_jax import AdamW, Eval, Experiment, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import FashionMnist
from sgdr_jax.models import EfficientNetLite0
from sgdr_jax.schedules import Sgdr

experiment = Experiment(
    name="recipe",
    data=FashionMnist(train_per_class=500, valid_fraction=0.1),
    model=EfficientNetLite0(cuts=("block14",), hidden=512),
    augment=side_on(zoom=1.1),
    stages=(
        Stage("head", size=48, train="head", lr=3e-3, schedule=Sgdr(cycles=2), precompute=True, views=2),
        Stage("body", size=48, train=1, lr=(2e-3 / 3, 2e-3), schedule=Sgdr(cycles=2, cycle_mult=2), precompute=True, views=2),
    ),
    optimizer=AdamW(),
    evaluate=Eval(batch_size=100, tta_views=0),
)
