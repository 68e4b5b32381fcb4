"""Oxford-IIIT Pet: 3,680 + 3,669 photographs of 37 breeds.

sgdr-jax prepare oxford_iiit_pet
sgdr-jax train experiments/oxford_iiit_pet.py
"""

from sgdr_jax import fine_tune, lesson2
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import ResNet34

experiment = fine_tune("oxford_iiit_pet", Tfds("oxford_iiit_pet"), ResNet34(), stages=lesson2(224, similar_to_imagenet=True, bn="train"))
