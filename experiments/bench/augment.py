"""Augmentation, images/s: this package, dm_pix, fastai's batch transforms and torchvision v2, in turn, on the same cores.

    python experiments/bench/augment.py [--peers PYTHON] [--rounds 5]

Batches of 64 colour images of 256 pixels become 224 pixels, every image with draws of its own: a turn of ±10° (probability 0.75), a
random-resized crop (area 0.35…1), left-right flips, brightness, contrast and saturation ±0.2, and a random rectangle erased
(probability 0.5). Each job is a fresh process: `first_seconds` is the first batch, compilation included, `images_per_second` the
median of the batches of the next seconds. torchvision works image by image, in a DataLoader of two workers and, as the second job, in
two threads; fastai draws contrast and brightness alone, on the batch. Adds one row per job to results/augment.csv.

--peers names an interpreter that has torch, torchvision and fastai. dm_pix (with chex and toolz) is looked for in this
interpreter's environment; without it that job is left out. `gpu.py` runs the jobs of this package, fastai and kornia on a card.
"""

import argparse
import importlib.util
import statistics
import sys
import time

import harness

BATCH, CANVAS, SIZE = 64, 256, 224


def pictures():
    """uint8 [64, 256, 256, 3], smooth colour gradients with noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (BATCH, 8, 8, 3)).repeat(CANVAS // 8, 1).repeat(CANVAS // 8, 2)
    return (coarse + rng.integers(0, 56, (BATCH, CANVAS, CANVAS, 3))).astype(np.uint8)


def measure(batch, seconds, *packages):
    """Emits the figures of batch(i), a function that augments a batch and waits for it."""
    began = time.perf_counter()
    batch(0)
    first, times = time.perf_counter() - began, []
    batch(1)
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        began = time.perf_counter()
        batch(2 + len(times))
        times.append(time.perf_counter() - began)
    harness.emit(versions=harness.versions(*packages), images_per_second=BATCH / statistics.median(times), first_seconds=first)


def ours(seconds):
    """This package."""
    import jax
    import numpy as np

    from sgdr_jax.augment import Crop, Erase, Flip, Rotate, jitter, kernel

    several = (Rotate(10), Crop((0.35, 1)), Flip(), *jitter(0.2, 0.2, 0.2, 0)[:3], Erase())
    run = jax.jit(lambda images, seeds: kernel.augment(images, seeds, jax.random.key(0), several, SIZE))
    images = jax.device_put(pictures())
    measure(lambda i: run(images, np.arange(BATCH, dtype=np.uint32) + i * BATCH).block_until_ready(), seconds, "jax")


def dm_pix(seconds):
    """dm_pix, mapped over the batch, with jax.image for the crop."""
    import dm_pix as pix
    import jax
    import jax.numpy as jnp

    def one(image, key):
        k = jax.random.split(key, 12)
        x = image.astype(jnp.float32) / 255
        angle = jax.random.uniform(k[0], (), minval=-1, maxval=1) * jnp.deg2rad(10) * jax.random.bernoulli(k[1], 0.75)
        x = pix.rotate(x, angle, mode="reflect")
        area = jax.random.uniform(k[2], (), minval=0.35, maxval=1)
        aspect = jnp.exp(jax.random.uniform(k[3], (), minval=jnp.log(3 / 4), maxval=jnp.log(4 / 3)))
        sides = jnp.minimum(jnp.sqrt(area * jnp.stack([1 / aspect, aspect])), 1)
        scale = SIZE / (CANVAS * sides)
        corner = jax.random.uniform(k[4], (2,)) * (1 - sides) * CANVAS
        x = jax.image.scale_and_translate(x, (SIZE, SIZE, 3), (0, 1), scale, -corner * scale, "linear")
        x = pix.random_flip_left_right(k[5], x)
        x = pix.random_brightness(k[6], x, 0.2)
        x = pix.random_contrast(k[7], x, lower=0.8, upper=1.2)
        x = jnp.clip(pix.random_saturation(k[8], x, lower=0.8, upper=1.2), 0, 1)
        side = jnp.sqrt(jax.random.uniform(k[9], (), minval=0.02, maxval=0.2)) * jax.random.bernoulli(k[10], 0.5)
        top, left = jax.random.uniform(k[11], (2,)) * (1 - side)
        grid = (jnp.arange(SIZE) + 0.5) / SIZE
        inside = ((grid >= top) & (grid < top + side))[:, None] & ((grid >= left) & (grid < left + side))
        return jnp.where(inside[..., None], x.mean((0, 1)), x)

    run = jax.jit(lambda images, i: jax.vmap(one)(images, jax.random.split(jax.random.fold_in(jax.random.key(0), i), BATCH)))
    images = jax.device_put(pictures())
    measure(lambda i: run(images, i).block_until_ready(), seconds, "jax", "dm_pix")


def fastai(seconds):
    """fastai's transforms of whole batches, which it merges into one warp and one change of lighting."""
    from torch_vision import declare_vision_operators

    _library = declare_vision_operators()
    from fastai.vision import all as fv

    warps = fv.aug_transforms(size=None, max_rotate=10, max_zoom=1.0, max_warp=0, max_lighting=0.2, p_affine=0.75, p_lighting=1.0)
    chain = [fv.IntToFloatTensor(), fv.RandomResizedCropGPU(SIZE, min_scale=0.35), *warps, fv.RandomErasing(p=0.5, sl=0.02, sh=0.2)]
    pipeline = fv.Pipeline(fv.setup_aug_tfms(chain), split_idx=0)
    images = fv.TensorImage(torch_pictures())
    assert pipeline(images.clone()).shape == (BATCH, 3, SIZE, SIZE)
    measure(on_torch(lambda: pipeline(images.clone())), seconds, "fastai", "torch")


def kornia(seconds):
    """kornia's transforms of whole batches, with draws of their own for every image."""
    import kornia.augmentation as ka
    import torch
    from torch_vision import declare_vision_operators

    _library = declare_vision_operators()
    one = torch.nn.Sequential(
        ka.RandomRotation(10.0, p=0.75),
        ka.RandomResizedCrop((SIZE, SIZE), scale=(0.35, 1.0), p=1.0),
        ka.RandomHorizontalFlip(p=0.5),
        ka.ColorJitter(0.2, 0.2, 0.2, p=1.0),
        ka.RandomErasing(scale=(0.02, 0.2), p=0.5),
    )
    images = torch_pictures()
    assert one(images.float() / 255).shape == (BATCH, 3, SIZE, SIZE)
    measure(on_torch(lambda: one(images.float() / 255)), seconds, "kornia", "torch")


def torch_pictures():
    """The pictures as PyTorch has them [64, 3, 256, 256], on the card if there is one."""
    import torch

    return torch.from_numpy(pictures()).permute(0, 3, 1, 2).contiguous().to("cuda" if torch.cuda.is_available() else "cpu")


def on_torch(batch):
    """The function of `measure`: makes a batch and waits for it."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    return lambda i: (batch(), wait())


def torchvision(seconds, workers=True):
    """torchvision v2, image by image, in two worker processes or two threads."""
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from torch_vision import declare_vision_operators

    _library = declare_vision_operators()
    import torchvision.transforms.v2 as v2

    torch.set_num_threads(1)
    one = v2.Compose(
        [
            v2.RandomApply([v2.RandomRotation(10, v2.InterpolationMode.BILINEAR)], 0.75),
            v2.RandomResizedCrop(SIZE, (0.35, 1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomErasing(0.5, (0.02, 0.2)),
        ]
    )
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2).contiguous()
    if workers:

        class Endless(torch.utils.data.Dataset):
            def __len__(self):
                return 10**7

            def __getitem__(self, i):
                return one(images[i % BATCH])

        batches = iter(torch.utils.data.DataLoader(Endless(), BATCH, num_workers=2))
        measure(lambda i: next(batches), seconds, "torchvision", "torch")
    else:
        pool = ThreadPoolExecutor(2)
        measure(lambda i: torch.stack(list(pool.map(one, images))), seconds, "torchvision", "torch")


JOBS = {
    "sgdr_jax": ours,
    "dm_pix": dm_pix,
    "fastai": fastai,
    "kornia": kornia,
    "torchvision": torchvision,
    "torchvision threads": lambda seconds: torchvision(seconds, workers=False),
}


def main():
    """Runs the rounds, prints the table, adds to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each job measures")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of the environment that has torch, torchvision and fastai")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        return JOBS[options.job](options.seconds)
    names = ["sgdr_jax", *["dm_pix"] * bool(importlib.util.find_spec("dm_pix"))]
    names += ["fastai", "torchvision", "torchvision threads"] if options.peers else []
    pythons = {"sgdr_jax": sys.executable, "dm_pix": sys.executable}
    commands = {name: (pythons.get(name) or options.peers, __file__, "--seconds", str(options.seconds), "--job", name) for name in names}
    results = harness.rounds(commands, options.rounds)
    harness.table(results)
    print(harness.save("augment", results))


if __name__ == "__main__":
    main()
