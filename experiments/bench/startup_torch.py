"""PyTorch's way to its first training step, for startup.py: timm's resnet34, 64 px, a batch of 16, SGD, eager. In its own environment."""

import harness
import torch
from torch_vision import declare_vision_operators


def main():
    """Two updates; prints when the first was done and how long the second took."""
    keep = declare_vision_operators()
    import timm

    del keep
    torch.set_num_threads(2)
    model = timm.create_model("resnet34", num_classes=10).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x = torch.rand(16, 3, 64, 64).to(memory_format=torch.channels_last)
    y, at = torch.arange(16) % 10, []
    for _ in range(2):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss.item()
        at.append(harness.since_start())
    harness.emit(versions=harness.versions("torch", "timm"), first_step=at[0], second_step=at[1] - at[0])


if __name__ == "__main__":
    main()
