"""Where images and labels come from: one frozen dataclass per kind of source, each with `open() -> Source`."""

from .arrays import Arrays
from .csv_labels import CsvLabels
from .fashion_mnist import FashionMnist
from .fold import Fold
from .folder import ImageFolder
from .hugging_face import HuggingFace
from .mix import Mix
from .part import Part
from .synthetic import Synthetic
from .tfds import Tfds
from .train_and_valid import TrainAndValid

__all__ = [
    "Arrays",
    "CsvLabels",
    "FashionMnist",
    "Fold",
    "HuggingFace",
    "ImageFolder",
    "Mix",
    "Part",
    "Synthetic",
    "Tfds",
    "TrainAndValid",
]
