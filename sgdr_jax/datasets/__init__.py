"""Where images and labels come from: one frozen dataclass per kind of source, each with `open() -> Source`. No jax."""

from .arrays import Arrays
from .csv_labels import CsvLabels
from .fashion_mnist import FashionMnist
from .folder import ImageFolder
from .synthetic import Synthetic
from .tfds import Tfds

__all__ = ["Arrays", "CsvLabels", "FashionMnist", "ImageFolder", "Synthetic", "Tfds"]
