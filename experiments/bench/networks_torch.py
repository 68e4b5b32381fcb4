"""One timm network on one fixed batch: runs in PyTorch's own environment, see networks.py.

    python networks_torch.py --size 128 --batch 32 --seconds 4 [--training] NAME

On CPU as it comes: float32, eager, channels last. On GPU compiled, with automatic mixed precision in bfloat16, channels last.
"""

import argparse
import statistics
import time

import harness
import torch
from networks import repeat
from torch_vision import declare_vision_operators


def main():
    """Times the network and prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--training", action="store_true")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    library = None if gpu else declare_vision_operators()
    import timm

    device = torch.device("cuda" if gpu else "cpu")
    net = timm.create_model(options.name).to(device, memory_format=torch.channels_last).train(options.training)
    images = torch.rand(options.batch, 3, options.size, options.size).to(device, memory_format=torch.channels_last)
    labels = torch.arange(options.batch, device=device) % 1000
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    run = torch.compile(net) if gpu else net

    def work():
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu), torch.inference_mode(not options.training):
            logits = run(images)
            loss = torch.nn.functional.cross_entropy(logits, labels)
        if options.training:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def wait():
        if gpu:
            torch.cuda.synchronize()

    began = time.perf_counter()
    work()
    wait()
    first = time.perf_counter() - began
    times = repeat(work, wait, options.seconds, 10 if gpu else 1)
    dtype = "bfloat16" if gpu else "float32"
    case = f"{options.name} {'training' if options.training else 'inference'}, {options.size} px, batch {options.batch}, {dtype}"
    harness.emit(
        versions=harness.versions("torch", "timm"), images_per_s=options.batch / statistics.median(times), first_s=first, case=case
    )
    del library


if __name__ == "__main__":
    main()
