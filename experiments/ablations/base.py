"""What the ablations of the recipe vary: Fashion-MNIST, 500 training images per class, EfficientNet-Lite0 from ImageNet, at 32 px.

Small and short on purpose, so that every question can be asked with several seeds on two CPU cores: the head on cached activations, then
all but the first layer group with a restart. A tenth of the training images chooses the best cycle; the test images choose nothing.
"""

from sgdr_jax import AdamW, Eval, Experiment, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import FashionMnist
from sgdr_jax.models import EfficientNetLite0
from sgdr_jax.schedules import Sgdr

experiment = Experiment(
    name="recipe",
    data=FashionMnist(train_per_class=500, valid_fraction=0.1),
    model=EfficientNetLite0(),
    augment=side_on(zoom=1.1),
    stages=(
        Stage("head", size=32, train="head", lr=3e-3, schedule=Sgdr(cycles=2), precompute=True, views=2),
        Stage("body", size=32, train=1, lr=(2e-3 / 3, 2e-3), schedule=Sgdr(cycles=2, cycle_mult=2), bn=("late", "head")),
    ),
    optimizer=AdamW(),
    evaluate=Eval(batch_size=100, tta_views=0),
)
