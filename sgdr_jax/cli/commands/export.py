"""`sgdr-jax export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ...core.console import NullConsole
from ..predictions import NetworkCommand


@dataclass(frozen=True, kw_only=True)
class ExportCommand(NetworkCommand):
    """Export the network of a finished run to files that need no sgdr_jax, after a comparison of their logits with the network's.

    stablehlo: jax alone loads it, preprocessing is inside. safetensors: timm loads it, with a config.json. onnx: onnxruntime runs it,
    preprocessing is inside. All come with the names of the classes and a model card that has a program to use them.
    """

    arguments = "DIR --to FORMAT"

    run: tyro.conf.Positional[Path]
    """The run folder."""
    to: Literal["stablehlo", "safetensors", "onnx"]
    """Format of the files."""
    out: Path | None = None
    """Folder for the files, which must not exist; by default DIR/export/FORMAT."""
    push: str | None = None
    """Repository OWNER/NAME of the Hugging Face hub to upload the files to; a new one is private."""

    def execute(self, ui: NullConsole) -> None:
        """Export the network and print the files and, after an upload, its address."""
        from ...runs.export.write import export_network

        for line in export_network(self.open_predictor(), self.run, self.to, self.out, self.push).lines():
            ui.say(line)
