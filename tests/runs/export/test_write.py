"""Exports: the logits of the files are those of the run's network, by the programs of their model cards, without sgdr_jax."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from sgdr_jax import Experiment, InputError, Stage
from sgdr_jax.data.load import decode_files
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import VGG11BN, ConvNeXtV2Atto, EfficientNetLite0, ResNet18, SwinV2Tiny, ViTTiny16
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.pretrained.save import folded_head, timm_names
from sgdr_jax.runs.export import network, stablehlo, timm
from sgdr_jax.runs.export.write import export_network
from sgdr_jax.runs.predictor import Predictor, class_maps, predictor_of
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train.context import prepare

from ...helpers import Tiny


def net(model: Any, size: int = 16, channels: int = 3, canvas: int | None = 20) -> Predictor:
    """A network with random weights and statistics, none of them at a value that hides a mistake (0 or 1)."""
    data = Synthetic(classes=3, train=60, valid=9, test=9, side=24, channels=channels)
    context = prepare(Experiment("rings", data, model, (Stage("all", size=size, lr=0.1, schedule=Sgdr()),), batch_size=20, canvas=canvas))
    rng = np.random.default_rng(0)

    def shake(path: Any, leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        noise = rng.uniform(0.5, 1.5, leaf.shape)
        # Large variances keep the activations of untrained layers from growing.
        return (leaf * noise + (9 if path[-1].key == "var" else 0.02) * noise).astype(leaf.dtype)

    params, stats = jax.tree_util.tree_map_with_path(shake, (context.network.params, context.network.stats))
    return predictor_of(context, context.network._replace(params=params, stats=stats))


def run_card(folder: Path, images: np.ndarray) -> np.ndarray:
    """Run the program of a model card on images that are stored as files, where sgdr_jax cannot be imported."""
    (program,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / f"{i}.png")
    code = f"""
import sys
sys.modules["sgdr_jax"] = None
paths = [f"{{i}}.png" for i in range({len(images)})]
{program}
np.save("logits.npy", logits)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
    return np.load(folder / "logits.npy")


@pytest.mark.parametrize(("channels", "canvas"), [(3, 20), (1, 16)])
def test_stablehlo_runs_without_the_package_on_any_number_of_images(tmp_path: Path, channels: int, canvas: int) -> None:
    tiny = net(Tiny(hidden=6), channels=channels, canvas=canvas)
    done = export_network(tiny, tmp_path, "stablehlo")
    assert done.folder == tmp_path / "export" / "stablehlo" and done.files == ("README.md", "classes.json", "images.py", "model.stablehlo")
    assert done.images == 50 and done.difference <= 1e-5
    images = network.sample(tiny)
    for n in (1, 7):
        found = run_card(done.folder, images[:n])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, network.expected(tiny, images[:n]), atol=1e-5)
    assert json.loads((done.folder / "classes.json").read_text()) == ["rings0", "rings1", "rings2"]


RESNETS = (
    pytest.param(ResNet18(weights=None, hidden=0), marks=pytest.mark.slow),
    ResNet18(weights=None, hidden=6),
    pytest.param(ResNet18(weights=None, head="classifier"), marks=pytest.mark.slow),
)


@pytest.mark.parametrize("model", RESNETS)
def test_safetensors_have_timm_s_names_and_the_networks_logits(tmp_path: Path, model: ChainModel) -> None:
    resnet = net(model)
    done = export_network(resnet, tmp_path, "safetensors", tmp_path / "out")
    assert done.difference <= 1e-5
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    kept = {f"layer{i}.{j}.{unit}" for i in (1, 4) for j in (0, 1) for unit in ("conv2.weight", "bn1.running_var")}
    assert kept < set(tensors) and tensors["conv1.weight"].shape == (64, 3, 7, 7)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("resnet18", 3)
    assert config["pretrained_cfg"]["input_size"] == [3, 16, 16] and config["pretrained_cfg"]["label_names"][2] == "rings2"
    card = (tmp_path / "out" / "README.md").read_text()
    if model.head == "classifier":
        assert tensors["fc.weight"].shape == (3, 512) and 'global_pool="avg"' in card
    elif model.hidden:
        assert tensors["fc.0.weight"].shape == (6, 1024) and tensors["fc.2.weight"].shape == (3, 6)
        assert "network.fc = torch.nn.Sequential(torch.nn.Linear(1024, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))" in card
    else:
        assert tensors["fc.weight"].shape == (3, 1024) and 'num_classes=3, global_pool="catavgmax"' in card


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (SwinV2Tiny(weights=None), {"img_size": 32}, 'global_pool="catavgmax", img_size=32)'),
        (SwinV2Tiny(weights=None, hidden=6), {"img_size": 32}, 'num_classes=0, global_pool="catavgmax", img_size=32)'),
        (ViTTiny16(weights=None, head="classifier"), {"dynamic_img_size": True}, "dynamic_img_size=True)"),
        (ResNet18(weights=None), None, 'global_pool="catavgmax")'),
    ],
)
def test_timm_is_told_the_size_where_a_network_is_made_for_one(tmp_path: Path, model: ChainModel, options: Any, words: str) -> None:
    made = net(model, size=32)
    timm.write(made, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()).get("model_args") == options
    assert words in timm.example(made)
    images = network.sample(made)[:2]
    np.testing.assert_allclose(timm.read(made, tmp_path, images), network.expected(made, images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        (ViTTiny16(weights=None, head="classifier"), 40, "size is 40; timm's network takes multiples of 16 pixels alone"),
        (VGG11BN(weights=None, head="classifier"), 256, "size is 256; timm's classifier computes something else from 256 pixels on"),
    ],
)
def test_sizes_for_which_timm_has_another_network_are_refused(tmp_path: Path, model: ChainModel, size: int, words: str) -> None:
    """The programs of such exports failed, or gave other logits, which our own reading of the files cannot show."""
    with pytest.raises(InputError, match=words):
        timm.write(net(model, size=size), tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_that_are_no_text_are_written_and_maps_lie_where_the_network_looked(tmp_path: Path) -> None:
    made = net(ResNet18(weights=None, crop=0.5), size=32)
    timm.write(made._replace(classes=("a", "b\udcff", "c")), tmp_path)
    assert b"b\xff" in (tmp_path / "config.json").read_bytes()
    images = network.sample(made)[:2]
    maps = class_maps(made, images, np.array([0, 1]))
    assert maps.shape == (2, 64, 64) and maps[:, 16:48, 16:48].max() > 0
    assert maps[:, 16:48, 16:48].sum() == pytest.approx(maps.sum())  # it sees the middle half of each side


def test_the_folded_head_is_the_head(tmp_path: Path) -> None:
    tiny = net(Tiny(hidden=6))
    layers = folded_head(tiny.params["head"], tiny.stats["head"])
    pooled = np.random.default_rng(1).normal(size=(9, 10)).astype(np.float32)  # maxima, then means
    wanted, _ = tiny.programs.network.apply(tiny.params, tiny.stats, pooled, start="head")
    x = pooled[:, [*range(5, 10), *range(5)]]
    for i, (kernel, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if i else x) @ kernel + bias
    np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [EfficientNetLite0, ResNet18, ConvNeXtV2Atto])
def test_of_several_names_timm_s_are_written(kind: type[ChainModel]) -> None:
    names, model = timm_names(kind(weights=None)), kind(weights=None)
    assert set(names.values()) == set(model.names().values()) and len(set(names.values())) == len(names)
    assert not any(name.startswith(("features.", "_")) for name in names)


def test_a_network_that_timm_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model is 'Tiny'; timm has no network with these tensors; export it to stablehlo"):
        export_network(net(Tiny()), tmp_path, "safetensors")
    with pytest.raises(InputError, match="model is 'ConvNeXtV2Atto'; timm has a layer between pooling and classifier"):
        export_network(net(ConvNeXtV2Atto(weights=None), size=32, canvas=32), tmp_path, "safetensors")
    assert not list(tmp_path.iterdir())


def test_files_that_differ_are_not_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, real = net(Tiny()), stablehlo.read
    for wrong in (2e-4, np.nan):
        monkeypatch.setattr(stablehlo, "read", lambda *given, wrong=wrong: real(*given) + np.float32(wrong))
        with pytest.raises(InputError, match=r"differ by (2\.0e-04|inf), above 1e-04; it was not given out"):
            export_network(tiny, tmp_path, "stablehlo")
        assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    export_network(tiny, tmp_path, "stablehlo")
    with pytest.raises(InputError, match="it is there already; give another folder"):
        export_network(tiny, tmp_path, "stablehlo")


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match="pip install --no-deps jax2onnx"):
        export_network(net(Tiny()), tmp_path, "onnx")
    monkeypatch.setitem(sys.modules, "jax._src.export.serialization", None)
    with pytest.raises(InputError, match="pip install flatbuffers"):
        export_network(net(Tiny()), tmp_path, "stablehlo")


@pytest.mark.onnx
@pytest.mark.parametrize("model", [Tiny(), ResNet18(weights=None), EfficientNetLite0(weights=None)])
def test_onnx_runs_without_the_package_on_any_number_of_images(tmp_path: Path, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    own = net(model, size=32, canvas=37)
    done = export_network(own, tmp_path, "onnx")
    assert not [record.name for record in caplog.records if record.name.startswith(("jax2onnx", "onnx_ir"))]
    assert done.difference <= 1e-4 and "model.onnx" in done.files
    images = network.sample(own)
    for n in (1, 7):
        wanted = network.expected(own, images[:n])
        assert network.difference(run_card(done.folder, images[:n]), wanted) <= 1e-4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the short program leaves its files to Python to close
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("way", ["crop", "squish", "pad"])
def test_the_card_reads_images_as_the_run_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    """Photographs that are not square, turned by an EXIF tag, smaller than the run stores or much larger, transparent or of 16 bits."""
    made = net(Tiny())
    made = made._replace(experiment=dataclasses.replace(made.experiment, resize=way))
    export_network(made, tmp_path, "stablehlo", tmp_path / "out")
    rng, exif = np.random.default_rng(1), Image.Exif()
    exif[0x0112] = 6
    shapes: dict[str, tuple[int, ...]] = {"turned.png": (40, 60, 3), "plain.png": (40, 60, 3), "small.png": (9, 12, 3)}
    shapes |= {"flat.png": (12, 40, 3), "large.jpg": (240, 360, 3), "clear.png": (30, 50, 4)}
    paths = [str(tmp_path / name) for name in (*shapes, "deep.png")]
    for path, shape in zip(paths, shapes.values(), strict=False):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path, exif=exif if path == paths[0] else Image.Exif())
    Image.fromarray(rng.integers(0, 65536, (30, 50), np.uint16)).save(paths[-1])
    (program,) = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {"paths": paths}
    monkeypatch.syspath_prepend(tmp_path / "out")
    monkeypatch.delitem(sys.modules, "images", raising=False)
    with contextlib.chdir(tmp_path / "out"):
        exec(program, found)
    np.testing.assert_array_equal(found["images"], decode_files(paths, made.canvas, made.channels, resize=way).images)
    assert found["logits"].shape == (7, 3)


@pytest.mark.parametrize(("channels", "mode"), [(3, '.convert("RGB")'), (1, '.convert("L").convert("RGB")')])
def test_timm_is_given_upright_images(channels: int, mode: str) -> None:
    assert f"transform(upright(Image.open(path)){mode})" in timm.example(net(ResNet18(weights=None), channels=channels))


def test_the_card_and_the_config_have_the_threshold(tmp_path: Path) -> None:
    made = net(ResNet18(weights=None, hidden=0))._replace(multi_label=True, thresholds={"plain": 0.2718, "tta": 0.5772})
    export_network(made, tmp_path, "safetensors", tmp_path / "out")
    assert "A class is predicted where its probability is above 0.2718." in (tmp_path / "out" / "README.md").read_text()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["threshold"] == 0.2718 and config["pretrained_cfg"]["crop_mode"] == "center"


def test_of_two_exports_into_one_folder_the_second_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lay inside of the first, and both were a success."""
    tiny, out, real = net(Tiny()), tmp_path / "new" / "out", stablehlo.read

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(stablehlo, "read", real)
        export_network(tiny, None, "stablehlo", out)
        return real(*args)

    monkeypatch.setattr(stablehlo, "read", meanwhile)
    with pytest.raises(InputError, match=r"out is .*it is there already; give another folder, or remove it"):
        export_network(tiny, None, "stablehlo", out)
    assert [path.name for path in out.parent.iterdir()] == ["out"] and all(path.is_file() for path in out.iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="it is there already"):
        export_network(tiny, None, "stablehlo", tmp_path / "link")


def test_a_failed_export_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgdr_jax.runs.export.write.TOLERANCE", -1.0)
    (tmp_path / "old").mkdir()
    for out in ("a/b/out", "old/c/out"):
        with pytest.raises(InputError, match="it was not given out"):
            export_network(net(Tiny()), None, "stablehlo", tmp_path / out)
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]
