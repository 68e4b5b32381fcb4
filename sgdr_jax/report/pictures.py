"""Pictures of the pages: which items of a dataset a run has predicted, and maps drawn over images."""

from __future__ import annotations

import numpy as np

from ..core.types import Source
from ..evaluation.predictions import names_digest
from .run_page import RunPage


def predicted_positions(source: Source, view: RunPage) -> list[int] | None:
    """Return the positions in the source of the images that the run has predicted, in order; None where the data are not the run's.

    Images that the run could not read are not among them.
    """
    if view.predictions is None or view.split not in source.names:
        return None
    names, rejected = source.names[view.split], {name for name, _ in view.run.rejected}
    positions = [i for i, name in enumerate(names) if name not in rejected]
    return positions if names_digest([names[i] for i in positions]) == view.predictions.names else None


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draw a map 0…1 [h, w] over an image uint8 [h, w, c], as uint8 [h, w, 3]: half the grey image, half the colours of the map."""
    from matplotlib import colormaps

    grey = image.mean(axis=-1, keepdims=True)
    return (0.5 * grey + 127.5 * colormaps["inferno"](heat)[..., :3]).round().clip(0, 255).astype(np.uint8)
