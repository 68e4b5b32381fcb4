"""Inference: images per second of the forward pass on stored batch statistics, ours beside PyTorch.

    python experiments/bench/inference.py [--torch PYTHON] [--models ResNet18 …] [--rounds 5] [--size 128] [--batch 32]

Without --torch only ours is measured. Adds one row per process to results/inference.csv; see networks.py for what is compared.
"""

import networks

if __name__ == "__main__":
    networks.main(__doc__, __file__, training=False)
