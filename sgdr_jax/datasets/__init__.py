"""Sources of images and labels: one frozen dataclass for each kind, with `open() -> Source`."""

# To add one: a subclass of `Dataset` in a new file, and one line here.

from .arrays import Arrays
from .corrected import Corrected
from .csv_labels import CsvLabels
from .fashion_mnist import FashionMnist
from .file_names import FileNames
from .fold import Fold
from .hf_datasets import HfDatasets
from .hugging_face import HuggingFace
from .image_folder import ImageFolder
from .metadata_folder import MetadataFolder
from .mix import Mix
from .part import Part
from .synthetic import Synthetic
from .tfds import Tfds
from .train_and_valid import TrainAndValid

__all__ = [
    "Arrays",
    "Corrected",
    "CsvLabels",
    "FashionMnist",
    "FileNames",
    "Fold",
    "HfDatasets",
    "HuggingFace",
    "ImageFolder",
    "MetadataFolder",
    "Mix",
    "Part",
    "Synthetic",
    "Tfds",
    "TrainAndValid",
]
