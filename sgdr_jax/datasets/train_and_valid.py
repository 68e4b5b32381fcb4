"""Nothing held out: another set's validation images are trained on as well."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import InputError
from ..core.types import Dataset, Source
from . import splits
from .folder import ImageFolder


@dataclass(frozen=True)
class TrainAndValid(Dataset):
    """The training and the validation images of another set, all for training; there are none to validate on.

    For a recipe whose rates and lengths are settled. Nothing can be stopped, chosen or calibrated by held-out images then. Test images
    are left as they are.
    """

    data: Dataset = field(default_factory=ImageFolder)
    """The other set."""

    def open(self) -> Source:
        """Opens the other set and joins the two splits."""
        source = self.data.open()
        if source.rates is not None:
            raise InputError("data: TrainAndValid of a mixture is not supported; mix such sets instead, Mix((TrainAndValid(a), …))")
        parts = [splits.examples_of(source, split) for split in ("train", "valid") if split in source.labels]
        found = {"train": splits.join(parts)}
        if "test" in source.labels:
            found["test"] = splits.examples_of(source, "test")
        return splits.make_source(source.classes, found, None, 0)
