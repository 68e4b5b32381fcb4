"""Stanford Dogs: 12,000 + 8,580 photographs of 120 breeds; its images are a part of ImageNet, which the weights have seen.

sgdr-jax prepare stanford_dogs
sgdr-jax train experiments/stanford_dogs.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune("stanford_dogs", Tfds("stanford_dogs"), ResNet34(), stages=lesson2(224, similar_to_imagenet=True, bn="train"))
