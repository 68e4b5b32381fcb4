"""Locates weight files on the Hugging Face hub, in a package or on disk, and reads what is known about their training images."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import InputError, did_you_mean
from ...core.paths import expanded
from ...core.validation import require
from ..base import HUB, TAG, WEIGHT_FILES, ChainModel, model_name, networks
from . import tags

FILE, CONFIG = "model.safetensors", "config.json"


class Facts(NamedTuple):
    """Known properties of the images that weights were trained with; None for unknown ones.

    Attributes:
        by: source of the information.
        mean, std: of the channels, of pixels 0…1.
        size: side in pixels.
        crop: share of the shorter side that evaluation used.
        interpolation: how images were resized.
    """

    by: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    crop: float | None = None
    interpolation: str | None = None


class Weights(NamedTuple):
    """A weights file.

    Attributes:
        path: of the file.
        origin: its name for people: "timm/NAME@COMMIT", or the path.
        facts: from its config.json.
    """

    path: Path
    origin: str
    facts: Facts = Facts()


def find(model: ChainModel, option: str = "") -> Weights:
    """Locate the file of `model.weights`, fetching it from the Hugging Face hub unless it is cached.

    Args:
        model: the network.
        option: that a command was given the network by, as NAME or NAME.WEIGHTS, to be named in an error in place of model.weights.

    Raises:
        InputError: when it cannot be found or fetched, or its config.json is damaged or of another architecture.
    """
    weights = model.imagenet if model.weights == "imagenet" else str(model.weights)
    if is_tag(weights):
        kind, architecture = type(model).__name__, model.architecture()
        require(bool(architecture), *_given(model, option), f"timm has no weights of {kind}; give a .safetensors or .pth file, or None")
        weights = f"hf-hub:{tags.repository(architecture, weights)}"
    hub = HUB.fullmatch(weights)
    if hub:
        return _from_hub(model, hub[1], hub[2], option)
    if weights.startswith("package:"):
        path = _in_package(model, weights.removeprefix("package:"))
        return Weights(path, path.name)
    path = expanded(weights)
    if not path.is_file() and model.weights == "imagenet":  # of a class whose default weights are a file of torchvision
        fix = f"there is no file {weights} here; put https://download.pytorch.org/models/{weights} here, or give its path"
        require(False, *_given(model, option), fix)
    if not path.is_file():
        beside = sorted(str(p) for p in (path if path.is_dir() else path.parent).glob("*") if p.suffix in WEIGHT_FILES)
        near = f"did you mean {' or '.join(beside[:3])}? " if path.is_dir() and beside else did_you_mean(weights, ["imagenet", *beside])
        file = 'an existing .safetensors or .pth file, "hf-hub:OWNER/NAME" or'
        fix = f"use {file} the network's name alone" if option else f'use "imagenet", {file} None'
        require(False, *_given(model, option), near + fix)
    config = path.with_name(CONFIG)
    return Weights(path, str(path), _facts(model, config) if config.is_file() else Facts())


def _given(model: ChainModel, option: str) -> tuple[str, str | None]:
    """Return the name of what the weights were given by, and its value."""
    return (option, model_name(model)) if option else ("model.weights", model.weights)


def unavailable(model: ChainModel) -> str:
    """Return why a model's weights are not available and what to do; "" for weights that are here or have been fetched."""
    try:
        find(model)
    except InputError as error:
        return str(error).partition(", or ")[0]  # the first remedy is enough of a line
    return ""


def is_tag(weights: str) -> bool:
    """Whether weights are named by a tag: a word without dots and slashes that is no file.

    >>> is_tag("fb_in22k"), is_tag("fb_in22k.safetensors")
    (True, False)
    """
    return weights != "imagenet" and TAG.fullmatch(weights) is not None and not Path(weights).is_file()


def _in_package(model: ChainModel, package: str) -> Path:
    """Return the first .pth file in the folder of a package, which is located without importing anything."""
    top, *inner = parts = package.replace("-", "_").split(".")
    fix = "give package:NAME, the name of an installed package with a .pth file"
    require(all(part.isidentifier() for part in parts), "model.weights", f"package:{package}", fix)
    try:
        spec = importlib.util.find_spec(top)  # of a name without dots; otherwise it would import the packages before the last dot
    except (ImportError, ValueError):  # a module without a specification
        spec = None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder, *inner).rglob("*.pth")):
            return file
    if model.weights == "imagenet":
        raise InputError(f"weights of {type(model).__name__} are in a package that is not installed; run: pip install {package}")
    why = "the package has no .pth file; name another" if spec else f"there is no such package; run: pip install {package}"
    raise InputError(f'model.weights is "{model.weights}"; {why}')


def _from_hub(model: ChainModel, repository: str, revision: str | None, option: str) -> Weights:
    by_hand = Path("weights") / repository.partition("/")[2] / FILE
    url = f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{FILE}"

    def give(file: str | Path) -> str:
        return f"name {type(model).__name__}.{file} in {option}" if option else f"give {file} as model.weights"

    instead = f"or put {url} and the {CONFIG} beside it into {by_hand.parent}, and {give(by_hand)}"
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise InputError(
            f"weights of {repository} come from the Hugging Face hub; run: pip install huggingface_hub (extra: hub), {instead}"
        ) from error

    try:
        path, config = _fetch(hub, repository, revision, optional=model.weights == "imagenet" or tags.of_repository(repository) is not None)
    except hub.errors.RevisionNotFoundError as error:
        field, value = _given(model, option)
        raise InputError(f"{field} is {value!r}; {repository} has no revision {revision}, leave @{revision} out") from error
    except hub.errors.RepositoryNotFoundError as error:
        known = (kind.imagenet.removeprefix("hf-hub:") for kind in networks().values() if HUB.fullmatch(kind.imagenet))
        fix = (
            _known_tags(model)
            if is_tag(str(model.weights))
            else did_you_mean(repository, known)
            + (f'"imagenet" is {model.imagenet}' if model.imagenet else f"the default is {type(model).weights!r}")
        )
        field, value = _given(model, option)
        raise InputError(f"{field} is {value!r}; the Hugging Face hub has no public {repository}; {fix}") from error
    except hub.errors.RemoteEntryNotFoundError as error:
        raise InputError(f"{repository} has no {FILE}; download another file of it and {give('PATH')}") from error
    except Exception as error:  # the hub's errors share no base class
        reason = next(iter(str(error).strip().splitlines()), "")
        why = f"cannot be fetched from the Hugging Face hub ({type(error).__name__}: {reason})"
        unknown = is_tag(str(model.weights)) and tags.of_repository(repository) is None
        fix = f"if they exist at all ({_known_tags(model)}): " if unknown else ""
        raise InputError(f"weights of {repository} {why}; {fix}go online once, {instead}") from error
    # The cache stores the files of a commit in a folder of its name.
    facts = _facts(model, config) if config else Facts() if model.weights == "imagenet" else recorded(repository)
    return Weights(path, f"{repository}@{path.parent.name}", facts)


def _known_tags(model: ChainModel) -> str:
    known = tags.tags(model.architecture())
    near = did_you_mean(str(model.weights), [*["imagenet"] * bool(model.imagenet), *known])
    return f"{near}sgdr-jax models {model.architecture()} --weights lists the {len(known)} known ones"


def trained_size(model: ChainModel) -> int:
    """Return the side in pixels of the images that a model's weights were trained with, as recorded, or that of its default weights.

    >>> from sgdr_jax.models import ConvNeXtTiny
    >>> trained_size(ConvNeXtTiny()), trained_size(ConvNeXtTiny("in12k_ft_in1k_384"))
    (224, 384)
    """
    return known_facts(model).size or model.size


def known_facts(model: ChainModel) -> Facts:
    """Return what is recorded of a model's weights or, of others than timm's, is beside their file, fetched if it can be."""
    weights = str(model.weights)
    hub = HUB.fullmatch(weights)
    repository = tags.repository(model.architecture(), weights) if is_tag(weights) else hub[1] if hub else ""
    if hub is not None and tags.of_repository(repository) is None:
        with contextlib.suppress(InputError):  # Without a connection nothing is known.
            return find(model).facts
    return find(model).facts if expanded(weights).is_file() else recorded(repository)


def recorded(repository: str) -> Facts:
    """Return what is recorded of a repository of timm; nothing of others.

    >>> recorded("timm/convnext_tiny.fb_in1k").crop
    0.875
    """
    tag = tags.of_repository(repository)
    return Facts(tags.sources()["facts"], tag.mean, tag.std, tag.size, tag.crop, tag.interpolation) if tag else Facts()


def _fetch(hub: Any, repository: str, revision: str | None, *, optional: bool) -> tuple[Path, Path | None]:
    """Fetch the weights and the config.json of the same commit, from the cache if possible; `optional`: offline, do without the latter."""

    def fetch(file: str, revision: str | None) -> Path:
        try:
            return Path(hub.hf_hub_download(repository, file, revision=revision, local_files_only=True))
        except hub.errors.LocalEntryNotFoundError:
            # Without a connection the download itself would retry for half a minute; this asks once.
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision), timeout=5)
            return Path(hub.hf_hub_download(repository, file, revision=revision))

    path = fetch(FILE, revision)
    try:
        return path, fetch(CONFIG, path.parent.name)
    except hub.errors.RemoteEntryNotFoundError:
        return path, None
    except Exception:
        if not optional:  # the model's mean and std are those of the default weights; for others they would be a guess
            raise
        return path, None


def _facts(model: ChainModel, path: Path) -> Facts:
    """Read and check a config.json of timm, whose architecture must be the model's; other files are ignored."""
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); restore it, or remove it to use {type(model).__name__}'s mean and std"
        ) from error
    if not isinstance(config, dict) or "architecture" not in config:
        return Facts()

    def check(ok: bool, name: str, value: object, fix: str) -> None:
        require(ok, f"{path}: {name}", value, fix)

    check(isinstance(config["architecture"], str), "architecture", config["architecture"], "restore the file")
    model.check_architecture(config["architecture"])
    changed = config.get("model_args") or {}
    check(isinstance(changed, dict), "model_args", changed, "restore the file")
    changed = sorted(set(changed) - _HARMLESS - model.timm_options(model.size).keys())
    check(not changed, "model_args", changed, f"{type(model).__name__} is the plain {config['architecture']}; use weights of that")
    said = config.get("pretrained_cfg", config)  # older files have it all on one level
    check(isinstance(said, dict), "pretrained_cfg", said, "restore the file")

    def numbers(name: str) -> tuple[float, ...] | None:
        values, both = said.get(name), {"mean", "std"} <= said.keys()
        if values is None:
            return None
        ok = isinstance(values, list) and len(values) in (1, 3)
        ok = ok and all(type(v) in (int, float) and (0 <= v <= 1 if name == "mean" else 0 < v <= 1) for v in values)
        check(ok, name, values, f"give one or three numbers in 0…1{'' if name == 'mean' else ', above 0'}, of pixels in 0…1")
        check(both, name, values, f"give {'std' if name == 'mean' else 'mean'} too")
        return tuple(map(float, values))

    shape, crop, interpolation = (said.get(name) for name in ("input_size", "crop_pct", "interpolation"))
    ok = shape is None or (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape))
    check(ok, "input_size", shape, "give [channels, height, width]")
    check(crop is None or (type(crop) in (int, float) and 0 < crop <= 10), "crop_pct", crop, "give a share of the shorter side")
    check(interpolation is None or interpolation in _FILTERS, "interpolation", interpolation, f"timm knows {', '.join(_FILTERS)}")
    return Facts(f"its {CONFIG}", numbers("mean"), numbers("std"), shape[1] if shape else None, crop, interpolation)


# Arguments of timm's models that change neither the shapes of the body nor what it computes in evaluation.
_HARMLESS = {"num_classes", "in_chans", "drop_rate", "drop_path_rate"}
_FILTERS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random")
