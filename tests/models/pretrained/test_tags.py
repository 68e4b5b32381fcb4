"""Tags of published weights: what is recorded of them, and what is said about wrong ones."""

import re

import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.models import (
    CLIPQuickGELUViTBase16,
    CLIPViTBase16,
    ConvNeXtTiny,
    ConvNeXtV2Tiny,
    DINOv2ViTSmall14,
    EfficientNetLite0,
    ResNet18,
    WideResNet,
)
from sgdr_jax.models.base import HUB, model_named, networks
from sgdr_jax.models.pretrained import tags
from sgdr_jax.models.pretrained.locate import is_tag


def test_facts_are_those_of_timm() -> None:
    assert tags.tags("convnext_tiny")["dinov3_lvd1689m"] == tags.Tag(
        "dinov3-license", 0, 224, "bicubic", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    clip = tags.of_repository("timm/convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384")
    assert clip is not None and (clip.size, clip.top1, clip.top1_size, clip.std[2]) == (384, 87.134, 384, 0.27577711)
    assert tags.of_repository("timm/convnext_base.nothing") is None and tags.of_repository("me/convnext_base.fb_in1k") is None
    assert set(tags.sources()) == {"facts", "accuracies"}


def test_default_weights_of_timm_are_recorded_with_the_mean_and_std_of_their_network() -> None:
    checked = 0
    for kind in networks().values():
        hub = HUB.fullmatch(kind.imagenet)
        named = hub[1] if hub else tags.repository(kind.timm, kind.weights or "") if kind.timm and not kind.imagenet else ""
        if named:
            tag = tags.tags(kind.architecture()).get(named.partition(".")[2])
            assert tag is not None, named
            checked += 1
            # EfficientNet-Lite divides by 128 and subtracts 127, which timm rounds.
            assert (*tag.mean, *tag.std) == pytest.approx((*kind.mean, *kind.std), abs=0.005), kind.__name__
    assert checked > 75


def test_every_restricted_licence_is_in_words() -> None:
    free = {"apache-2.0", "mit", "bsd-3-clause"}
    found = {tag.license for known in tags.all_tags().values() for tag in known.values()}
    assert found - free <= set(tags.RESTRICTED) and "cc-by-nc-4.0" in found


@pytest.mark.parametrize("weights", ["dinov3_lvd1689m", "in12k_ft_in1k_384", "of_a_later_timm"])
def test_a_word_is_a_tag(weights: str) -> None:
    assert is_tag(weights) and ConvNeXtTiny(weights).weights == weights


@pytest.mark.parametrize("weights", ["x.pth", "a/b", "imagenet", "A_b", "hf-hub:a/b", ""])
def test_other_names_are_no_tags(weights: str) -> None:
    assert not is_tag(weights)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ConvNeXtTiny("fcmae_ft_in1k"),
            "model.weights is 'fcmae_ft_in1k'; it is a tag of ConvNeXtV2Atto, .*; those of ConvNeXtTiny are dinov3",
        ),
        (lambda: ConvNeXtV2Tiny("fcmae"), "it is the encoder of a masked autoencoder, .*; fcmae_ft_in1k is fine-tuned from it"),
        (lambda: DINOv2ViTSmall14("imagenet"), "there are none for this network; use 'lvd142m', the default, or a file"),
        (lambda: ResNet18("ns_jft_in1k"), "it is a tag of TfEfficientNetB0, .*; those of ResNet18 are a1_in1k, a2_in1k"),
        (lambda: WideResNet(weights="a1_in1k"), "it is a tag of .*; timm has no weights of WideResNet"),
        (lambda: ConvNeXtTiny("convnext_tiny.fb_in1k"), 'write the tag alone, "fb_in1k": the architecture is ConvNeXtTiny'),
        (lambda: ConvNeXtTiny("resnet50.a1_in1k"), "they are of timm's resnet50, .*or the model ResNet50"),
    ],
)
def test_a_tag_of_another_architecture_is_refused_in_a_line(make, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_network_is_found_by_its_class_and_by_its_name_in_timm() -> None:
    assert model_named("convnextv2_tiny.fcmae_ft_in1k", "--model") == ConvNeXtV2Tiny("fcmae_ft_in1k")
    assert model_named("tf_efficientnet_lite0", "--model") == model_named("efficientnetLITE0", "--model") == EfficientNetLite0()
    for name, near in (("convnext_tinny", "ConvNeXtTiny"), ("resnet", "ResNet"), ("", "")):
        with pytest.raises(InputError, match=re.escape(f"--model is {name!r}; ") + f".*{near}.*sgdr-jax models lists"):
            model_named(name, "--model")


def test_weights_trained_with_another_activation_are_refused_under_their_tag() -> None:
    with pytest.raises(InputError, match="use the model CLIPQuickGELUViTBase16"):
        CLIPViTBase16("openai")
    assert tags.repository(CLIPQuickGELUViTBase16.architecture(), CLIPQuickGELUViTBase16("openai").weights or "") == (
        "timm/vit_base_patch16_clip_224.openai"
    )
