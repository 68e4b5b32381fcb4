"""Makes tests/golden/checkpoint_zip.pth and checkpoint_old.pth, checkpoints as training scripts leave them, in torch's two formats:
`python tests/golden/make_checkpoints.py`, where torch is installed (made with torch 2.13.0, NumPy 2)."""

from __future__ import annotations

import argparse
import datetime
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def main() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    average = torch.optim.swa_utils.AveragedModel(net)
    net(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    schedule.step()
    options = argparse.Namespace(lr=0.1, data=Path("birds"), layers={1, 2}, device=torch.device("cpu"), dtype=torch.float32, sizes=(1, 2))
    checkpoint = {
        "epoch": 3,
        "args": options,
        "state_dict": {f"module._orig_mod.{name}": value for name, value in net.state_dict().items()},
        "model_ema": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "best_acc1": np.float64(0.75),
        "confusion": np.ones((2, 2)),
        "history": defaultdict(list, loss=[torch.tensor(1.0)]),
        "date": datetime.datetime(2026, 1, 2),
        "rng": torch.get_rng_state()[:8].clone(),
        "shape": torch.Size([1, 2]),
    }
    torch.save(checkpoint, HERE / "checkpoint_zip.pth")
    torch.save(checkpoint, HERE / "checkpoint_old.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
