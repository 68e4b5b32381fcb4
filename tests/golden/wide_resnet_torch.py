"""WRN-d-k in torch, written from the paper (Zagoruyko & Komodakis 2016) with the names of the authors' layout: a peer for parity tests."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(normal))))
        return y + (x if self.convShortcut is None else self.convShortcut(normal))


class WideResNet(nn.Sequential):
    def __init__(self, depth: int, widen: int, num_classes: int):
        def layer(inputs: int, outputs: int, stride: int) -> nn.Module:
            blocks = [Block(outputs if i else inputs, outputs, 1 if i else stride) for i in range((depth - 4) // 6)]
            return nn.Sequential(OrderedDict(layer=nn.Sequential(*blocks)))

        widths = (16, 16 * widen, 32 * widen, 64 * widen)
        layers = {f"block{i}": layer(widths[i - 1], widths[i], 1 if i == 1 else 2) for i in (1, 2, 3)}
        row = {"conv1": nn.Conv2d(3, 16, 3, 1, 1, bias=False), **layers, "bn1": nn.BatchNorm2d(widths[3]), "relu": nn.ReLU()}
        row |= {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(widths[3], num_classes)}
        super().__init__(OrderedDict(row))
