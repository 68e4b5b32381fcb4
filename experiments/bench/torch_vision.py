"""Lets a torchvision built for CUDA import beside a torch built for CPU. Runs in PyTorch's own environment."""

import torch


def declare_vision_operators():
    """Declares the two operators that torchvision looks up at import; keep what it returns for as long as they are needed.

    Does nothing for a torch built for CUDA, where torchvision brings its own.
    """
    if torch.version.cuda:
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
