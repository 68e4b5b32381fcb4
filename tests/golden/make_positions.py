"""Makes tests/golden/positions.npz, position embeddings as timm resizes them: `python tests/golden/make_positions.py`, where torch and
timm are installed (made with torch 2.13.0, timm 1.0.31)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SIDES = ((14, 18), (14, 14), (14, 12), (14, 4), (14, 37), (37, 16), (16, 14), (7, 8))
"""Sides of the grid before and after: 224 to 288 pixels with patches of 16, 518 to 224 with patches of 14, and others."""
PREFIX, FEATURES = 2, 3


def embedding(side: int) -> np.ndarray:
    """Embeddings of the prefix and a grid, float32 [1, PREFIX + side · side, FEATURES]."""
    return np.random.default_rng(side).normal(size=(1, PREFIX + side * side, FEATURES)).astype(np.float32)


def main() -> None:
    import torch
    from timm.layers import resample_abs_pos_embed

    resized = {
        f"{old} {new}": resample_abs_pos_embed(torch.tensor(embedding(old)), [new, new], [old, old], PREFIX).numpy() for old, new in SIDES
    }
    np.savez_compressed(HERE / "positions.npz", **resized)


if __name__ == "__main__":
    main()
