"""Training on the validation images as well."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..core.types import Dataset, Source
from ..core.validation import require
from .examples import examples_of, join, make_source
from .image_folder import ImageFolder
from .mix import Mix


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
            InputError: the other dataset is a part of a mixture with rates.
        """
        source = self.data.open()
        check_joinable(self.data, source.rates is not None, "data")
        if source.rates is not None and isinstance(self.data, Mix):
            # Each set keeps its share of an epoch; joined afterwards, held-out images would have none.
            return replace(self.data, sets=tuple(map(TrainAndValid, self.data.sets))).open()
        examples = {"train": join([examples_of(source, split) for split in ("train", "valid") if split in source.labels])}
        if "test" in source.labels:
            examples["test"] = examples_of(source, "test")
        return make_source(source.classes, examples, None, 0, notes=source.notes)


def check_joinable(data: Dataset, rated: bool, field: str) -> None:
    """Raise InputError naming `field` where the validation images cannot be joined, in a part of a mixture, which draws at rates."""
    fix = "its validation images have no share of an epoch; leave them out, or mix sets that are joined, Mix((TrainAndValid(a), …), …)"
    require(not rated or isinstance(data, Mix), field, type(data).__name__, fix)
