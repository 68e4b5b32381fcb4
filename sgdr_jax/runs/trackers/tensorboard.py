"""TensorBoard: event files in RUN/tensorboard."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Writes scalars, hyperparameters and pictures as TensorBoard reads them.

    Args:
        folder: the run folder.
        config: of the experiment, flat.
        first: first step to come; TensorBoard drops what an earlier attempt wrote from there on.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], first: int) -> None:
        self._folder = folder
        self._config = {name: value if isinstance(value, int | float | str) else json.dumps(value) for name, value in config.items()}
        self._writer = self._open(first)

    def _open(self, first: int) -> Any:
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self._folder / "tensorboard"), purge_step=first, filename_suffix=f".{first}")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def rewind(self, step: int) -> None:
        """See `Tracker.rewind`."""
        self._writer.close()
        self._writer = self._open(step)

    def finish(self, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """See `Tracker.finish`; the figures belong to the hyperparameters."""
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self._writer.add_hparams(self._config, dict(figures), name="hparams")
        assert self._writer.file_writer is not None
        for name, path in pictures.items():
            data = path.read_bytes()
            width, height = struct.unpack(">II", data[16:24])  # of the PNG's header
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=data)
            self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]))

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()
