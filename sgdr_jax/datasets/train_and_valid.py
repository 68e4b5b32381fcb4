"""Training on the validation images as well."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import InputError
from ..core.types import Dataset, Source
from .examples import examples_of, join, make_source
from .image_folder import ImageFolder


@dataclass(frozen=True)
class TrainAndValid(Dataset):
    """Joins the splits of another dataset for a final fit: train ← train + valid, no validation images.

    For a recipe whose rates and lengths are settled: without held-out images nothing can be stopped, selected or calibrated. Test images
    are kept.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> TrainAndValid(Synthetic(train=60, valid=30, test=10)).open().sizes
        {'train': 90, 'test': 10}
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other dataset."""

    def open(self) -> Source:
        """Open the other dataset and join the two splits.

        Raises:
            InputError: the other dataset is a mixture with rates.
        """
        source = self.data.open()
        if source.rates is not None:
            raise InputError("data: TrainAndValid of a mixture is not supported; mix such sets instead, Mix((TrainAndValid(a), …))")
        examples = {"train": join([examples_of(source, split) for split in ("train", "valid") if split in source.labels])}
        if "test" in source.labels:
            examples["test"] = examples_of(source, "test")
        return make_source(source.classes, examples, None, 0, notes=source.notes)
