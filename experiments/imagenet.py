"""ImageNet-1k: 1,281,167 + 50,000 photographs; the validation images stay the test set, a fiftieth of the others chooses rates.

ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar belong into ~/tensorflow_datasets/downloads/manual first.

    sgdr-jax prepare imagenet2012
    sgdr-jax train experiments/imagenet.py
"""

from sgdr_jax import fine_tune
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet50

experiment = fine_tune(
    "imagenet",
    Tfds("imagenet2012", train="train[:98%]", valid="train[98%:]", test="validation"),
    ResNet50(),
    batch_size=256,
)
