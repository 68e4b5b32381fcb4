"""Where weights are found and what is said about them: files, packages, and a hub of our own, asked with the real huggingface_hub."""

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.models import (
    EfficientNetLite0,
    EfficientNetLite1,
    ResNet18,
    ResNet34,
    TorchvisionMobileNetV3Large,
    TorchvisionMobileNetV3Small,
    WideResNet,
)
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.pretrained import locate
from sgdr_jax.models.pretrained.load import plain_view

COMMIT, OTHER = "a" * 40, "b" * 40
SAID = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "pretrained_cfg": {
        "input_size": [3, 288, 288],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "num_classes": 1000,
    },
}
FACTS = locate.Facts("its config.json", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 288, 0.95, "bicubic")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A place for weights with a config.json beside it; what the weights hold does not matter here."""
    (tmp_path / "config.json").write_text(json.dumps(SAID))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "model.safetensors"


# ---- config.json ----


def test_a_config_beside_the_file_says_how_its_images_were(file: Path) -> None:
    assert locate.find(ResNet18(weights=str(file))) == locate.Weights(file, str(file), FACTS)
    flat = {"architecture": "resnet18.a1_in1k"} | SAID["pretrained_cfg"]  # as older files have it
    (file.parent / "config.json").write_text(json.dumps(flat))
    assert locate.find(ResNet18(weights=str(file))).facts == FACTS
    (file.parent / "config.json").unlink()
    assert locate.find(ResNet18(weights=str(file))).facts == locate.Facts()


@pytest.mark.parametrize("foreign", ["{}", "[1]", '{"architectures": ["ResNetForImageClassification"], "mean": 3}'])
def test_a_config_of_something_else_says_nothing(foreign: str, file: Path) -> None:
    (file.parent / "config.json").write_text(foreign)
    assert locate.find(ResNet18(weights=str(file))).facts == locate.Facts()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet34"}, "they are of timm's resnet34, and ResNet18 is timm's resnet18; .* or the model ResNet34"),
        ({"architecture": 18}, "architecture is 18"),
        ({"model_args": {"output_stride": 16, "num_classes": 5}}, r"model_args is \['output_stride'\]; ResNet18 is the plain resnet18"),
        ({"model_args": [1]}, "model_args"),
        ({"pretrained_cfg": 3}, "pretrained_cfg is 3"),
        ({"mean": [0.5, 0.5]}, "mean is .*one or three numbers"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean"),
        ({"mean": [0.5, 0.5, True]}, "mean"),
        ({"mean": "half"}, "mean"),
        ({"mean": 0.5}, r"mean is 0.5; give one or three numbers in 0…1, of pixels in 0…1"),
        ({"mean": [127, 127, 127], "std": [50, 50, 50]}, r"mean is \[127, 127, 127\]; give one or three numbers in 0…1"),
        ({"pretrained_cfg": {"mean": [0.5]}}, r"mean is \[0.5\]; give std too"),
        ({"std": [0.5, 0, 0.5]}, "std is .*above 0"),
        ({"std": [0.5, float("inf"), 0.5]}, "std"),
        ({"input_size": [224, 224]}, "input_size"),
        ({"input_size": 224}, "input_size"),
        ({"crop_pct": "most"}, "crop_pct"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
        ({"interpolation": "sinc"}, "interpolation is 'sinc'; timm knows nearest, bilinear"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(change: dict[str, Any], message: str, file: Path) -> None:
    top = {key: value for key, value in change.items() if key in ("architecture", "model_args", "pretrained_cfg")}
    inner = {"pretrained_cfg": SAID["pretrained_cfg"] | change} if not top else {}
    (file.parent / "config.json").write_text(json.dumps(SAID | top | inner))
    with pytest.raises(InputError, match=message) as error:
        locate.find(ResNet18(weights=str(file)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_config_is_refused(text: bytes, file: Path) -> None:
    (file.parent / "config.json").write_bytes(text)
    with pytest.raises(InputError, match=r"config\.json cannot be read .*remove it to use ResNet18's mean and std"):
        locate.find(ResNet18(weights=str(file)))


def test_harmless_arguments_and_missing_facts_are_no_obstacle(file: Path) -> None:
    (file.parent / "config.json").write_text(json.dumps({"architecture": "resnet18", "model_args": {"drop_rate": 0.2}, "crop_pct": 0.9}))
    assert locate.find(ResNet18(weights=str(file))).facts == locate.Facts("its config.json", crop=0.9)


def test_what_lies_beside_a_file_is_known_before_it_is_loaded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show-batch` showed whole images where the run sees the middle of them, as "~" was not followed."""
    monkeypatch.setenv("HOME", str(file.parent))
    (file.parent / "config.json").write_text(json.dumps(SAID))
    model = ResNet18(weights=f"~/{file.name}")
    assert locate.known_facts(model) == locate.find(model).facts and locate.trained_size(model) == SAID["pretrained_cfg"]["input_size"][1]
    assert plain_view(model) == plain_view(model, locate.find(model).facts)


@pytest.mark.parametrize("kind", [TorchvisionMobileNetV3Small, TorchvisionMobileNetV3Large])
def test_the_file_that_default_weights_lie_in_is_named_with_its_address(kind: type[ChainModel], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=rf"there is no file {kind.imagenet} here; put https://download.pytorch.org/models/{kind.imagenet}"
    ):
        locate.find(kind())


def test_packages_without_weights_are_told_from_those_that_are_missing() -> None:
    with pytest.raises(InputError, match=r'is "package:numpy"; the package has no .pth file; name another'):
        locate.find(ResNet18(weights="package:numpy"))
    with pytest.raises(InputError, match=r"is \W?package:\W?; give package:NAME"):
        locate.find(ResNet18(weights="package:"))


# ---- Architectures ----


def test_every_network_knows_its_name_in_timm() -> None:
    assert ResNet18.architecture() == "resnet18" and EfficientNetLite1.architecture() == "tf_efficientnet_lite1"


def test_weights_of_the_differently_padded_timm_network_are_refused_without_asking_anybody() -> None:
    with pytest.raises(InputError, match=r"is timm's tf_efficientnet_lite0 \(same tensors, but other padding and epsilon\)"):
        EfficientNetLite0(weights="hf-hub:timm/efficientnet_lite0.ra_in1k")
    with pytest.raises(InputError, match=r"they are of timm's resnet50, .* use weights of resnet18, or the model ResNet50"):
        ResNet18(weights="hf-hub:timm/resnet50.a1_in1k@main")
    EfficientNetLite0(weights="hf-hub:timm/tf_efficientnet_lite0.in1k")
    ResNet18(weights="hf-hub:somebody/my-birds@v1.0")


@pytest.mark.parametrize("weights", ["hf-hub:resnet18", "hf-hub:timm/resnet18@", "hf-hub:a/b/c", "hf-hub:timm/re snet", "hf-hub:../x"])
def test_repositories_are_owner_and_name(weights: str) -> None:
    with pytest.raises(InputError, match="hf-hub:OWNER/NAME"):
        ResNet18(weights=weights)


# ---- Files and packages ----


def test_weights_that_are_not_there_are_named_with_the_nearest_that_are(file: Path) -> None:
    with pytest.raises(InputError, match=r"^weights of EfficientNetLite1 are in a package that is not installed; run: pip install eff"):
        locate.find(EfficientNetLite1())
    with pytest.raises(InputError, match=r"model.weights is 'weights/none.pth'; use \"imagenet\", an existing"):
        locate.find(ResNet18(weights="weights/none.pth"))
    for near in (file.parent / "modle.safetensors", file.parent):
        with pytest.raises(InputError, match=f"did you mean {re.escape(str(file))}"):
            locate.find(ResNet18(weights=str(near)))


def test_a_package_is_located_without_running_any_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "outer_weights" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (inner / "net.pth").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("outer-weights", "outer_weights.inner"):
        assert locate.find(ResNet18(weights=f"package:{name}")).path == inner / "net.pth"
    assert not any(name.startswith("outer_weights") for name in sys.modules)


@pytest.mark.parametrize(
    "name", ["..x", "", ".", "a..b", "a/b", "../a", "__main__", "no_such_package", "sys", "os.path", "numpy.core.none"]
)
def test_odd_package_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"model\.weights is .*package:"):
        locate.find(ResNet18(weights=f"package:{name}"))


# ---- The hub ----


class Hub(HTTPServer):
    """Serves repositories as the Hugging Face hub does; `asked` lists the requests."""

    repositories: dict[str, dict[str, dict[str, bytes]]]
    asked: list[str]


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)
        owner, name, _, revision, file = self.path.strip("/").split("/")
        repository = self.server.repositories.get(f"{owner}/{name}")
        commit = {"main": COMMIT, "v1": OTHER}.get(revision, revision)
        missing = (
            "RepoNotFound"
            if repository is None
            else "RevisionNotFound"
            if commit not in repository
            else "EntryNotFound"
            if file not in repository[commit]
            else ""
        )
        data = b"" if missing or repository is None else repository[commit][file]
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", commit)
        self.send_header(*(("X-Error-Code", missing) if missing else ("ETag", f'"{len(data)}"')))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_GET = do_HEAD

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub(("127.0.0.1", 0), Answer)
    server.asked, config = [], json.dumps(SAID).encode()
    files = {"model.safetensors": b"weights", "config.json": config}
    server.repositories = {
        "timm/resnet18.a1_in1k": {COMMIT: files},
        "me/birds": {COMMIT: files, OTHER: {"model.safetensors": b"older"}},
        "me/empty": {COMMIT: {"README.md": b""}},
    }
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_weights_are_fetched_once_with_what_is_said_about_them(hub: Hub) -> None:
    found = locate.find(ResNet18())
    assert found.path.read_bytes() == b"weights" and found.facts == FACTS
    assert found.origin == f"timm/resnet18.a1_in1k@{COMMIT}"
    assert hub.asked and not hub.asked.clear()
    assert locate.find(ResNet18()) == found and not hub.asked


def test_a_revision_is_kept_to_and_its_commit_found_out(hub: Hub) -> None:
    newest, pinned = (locate.find(ResNet18(weights=f"hf-hub:me/birds{at}")) for at in ("", "@v1"))
    assert newest.origin == f"me/birds@{COMMIT}" and newest.facts == FACTS
    assert pinned.origin == f"me/birds@{OTHER}" and pinned.path.read_bytes() == b"older"
    assert pinned.facts == locate.Facts()  # the older commit had no config.json
    assert locate.find(ResNet18(weights=f"hf-hub:me/birds@{OTHER}")).path == pinned.path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet18.a1_in1", r"no public timm/resnet18.a1_in1; did you mean timm/resnet18.a1_in1k"),
        ("me/birds@v2", "me/birds has no revision v2, leave @v2 out"),
        ("me/empty", r"me/empty has no model.safetensors; download another file of it"),
    ],
)
def test_what_the_hub_does_not_have_is_named(name: str, message: str, hub: Hub) -> None:
    with pytest.raises(InputError, match=message) as error:
        locate.find(ResNet18(weights=f"hf-hub:{name}"))
    assert "\n" not in str(error.value)


def by_hand(name: str, revision: str = "main") -> str:
    url = f"https://huggingface.co/timm/{name}/resolve/{revision}/model.safetensors"
    return re.escape(f"or put {url} and the config.json beside it into weights/{name}, and give weights/{name}/model.safetensors")


def test_without_a_connection_the_file_and_its_place_are_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(url: str, timeout: float) -> None:
        assert url.startswith(huggingface_hub.constants.ENDPOINT) and timeout <= 5
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    with pytest.raises(InputError, match=rf"ConnectionError: no route to host\); go online once, {by_hand('resnet18.a1_in1k')}") as error:
        locate.find(ResNet18())
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=f"pip install huggingface_hub .*{by_hand('resnet18.tv_in1k', 'v1')}"):
        locate.find(ResNet18(weights="hf-hub:timm/resnet18.tv_in1k@v1"))


def test_a_tag_is_fetched_and_facts_that_cannot_be_are_those_recorded(hub: Hub) -> None:
    found = locate.find(ResNet18("a1_in1k"))
    assert found.facts == FACTS and found.origin == f"timm/resnet18.a1_in1k@{COMMIT}"
    hub.repositories["timm/resnet18.tv_in1k"] = {COMMIT: {"model.safetensors": b"torchvision's"}}
    facts = locate.find(ResNet18("tv_in1k")).facts
    assert (facts.interpolation, facts.crop, facts.size, facts.mean) == ("bilinear", 0.875, 224, ResNet18.mean) and "timm" in facts.by


def test_a_wrong_tag_is_named_with_the_nearest(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    with pytest.raises(InputError, match=r"'imagnet'; the Hugging Face hub has no public timm/resnet18.imagnet; did you mean imagenet"):
        locate.find(ResNet18("imagnet"))
    near = r"did you mean a1_in1k or .*\? sgdr-jax models resnet18 --weights lists the 7 known ones"
    with pytest.raises(InputError, match=rf"has no public timm/resnet18.a1_ink; {near}"):
        locate.find(ResNet18("a1_ink"))

    def offline(url: str, timeout: float) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    with pytest.raises(InputError, match=rf"\); if they exist at all \({near}\): go online once, {by_hand('resnet18.a1_ink')}") as error:
        locate.find(ResNet18("a1_ink"))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=rf"no route to host\); go online once, {by_hand('resnet18.gluon_in1k')}"):
        locate.find(ResNet18("gluon_in1k"))
    with pytest.raises(InputError, match="timm has no weights of WideResNet"):
        locate.find(WideResNet(weights="new_tag"))


def test_weights_whose_config_cannot_be_had_are_only_used_where_their_normalisation_is_known(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    kept = {"timm/resnet18.a1_in1k": ResNet18(), "me/birds": ResNet18(weights="hf-hub:me/birds")}
    for repository in kept:
        huggingface_hub.hf_hub_download(repository, "model.safetensors")

    def offline(url: str, timeout: float) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    assert locate.find(kept["timm/resnet18.a1_in1k"]).facts == locate.Facts()
    with pytest.raises(InputError, match="me/birds cannot be fetched"):
        locate.find(kept["me/birds"])


def test_a_file_that_is_called_like_its_network_is_no_tag() -> None:
    assert ResNet34(weights="resnet34.safetensors").weights == "resnet34.safetensors"
    with pytest.raises(InputError, match='write the tag alone, "a1_in1k"'):
        ResNet34(weights="resnet34.a1_in1k")
