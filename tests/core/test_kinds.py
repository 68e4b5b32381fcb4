"""Kinds of the values in a config: every part refuses what its fields cannot hold, in one line that names the field."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from sgdr_jax import augment, datasets, models, schedules
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Eval, Experiment, Parallel, Stage
from sgdr_jax.core.kinds import Config, type_hints
from sgdr_jax.core.learning_rates import Decay, Find, Spread
from sgdr_jax.core.optimizers import AdamW, Lamb, Muon, Sgd
from sgdr_jax.core.serialization import config_hash, from_json, to_json
from sgdr_jax.core.snapshots import Snapshots
from sgdr_jax.core.solve import Solve
from sgdr_jax.core.types import Augmentation, Dataset, Schedule
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.recipes.lesson2 import Lesson2
from sgdr_jax.schedules import Images, Sgdr, Share, Steps

from ..helpers import Nowhere, Tiny, experiment

OFFERED = [
    kind for room in (augment, datasets, models, schedules) for name in room.__all__ if isinstance(kind := getattr(room, name), type)
]
OWN = [Stage, Experiment, Eval, Parallel, Snapshots, Solve, Spread, Decay, Find, Sgd, AdamW, Lamb, Muon, Lesson2, Steps, Images, Share]
KINDS = list(dict.fromkeys([kind for kind in OFFERED if dataclasses.is_dataclass(kind)] + OWN))

# What the fields without defaults need.
NEEDED: dict[type, dict[str, Any]] = {
    Stage: {"name": "a", "schedule": Sgdr(1)},
    Experiment: {field.name: getattr(experiment(), field.name) for field in dataclasses.fields(Experiment)},
    Spread: {"lo": 1e-4, "hi": 1e-2},
    Decay: {"lr": 1e-3},
    Lesson2: {"size": 64},
    augment.OneOf: {"choices": (augment.Flip(),)},
    augment.AugMix: {"choices": (augment.Flip(),)},
}
ODD = [
    None,
    "x",
    1.5,
    -1,
    True,
    float("nan"),
    float("inf"),
    [],
    {},
    (),
    [None],
    ("x", 1),
    b"x",
    1j,
    object(),
    int,
    np.zeros(2),
    np.float32(2),
]
ODD += [10**30, np.bool_(True), Sgdr(1), Stage("b", schedule=Sgdr(1)), Snapshots(), [augment.Flip()], lambda: 1]


def made(kind: type, **fields: Any) -> Any:
    return kind(**NEEDED.get(kind, {}) | fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_takes_a_value_or_refuses_it_in_a_line_that_names_the_field(kind: type) -> None:
    """Whatever is taken can be recorded and read back."""
    for field in dataclasses.fields(kind):
        for value in ODD:
            try:
                part = made(kind, **{field.name: value})
            except InputError as error:
                assert "\n" not in str(error) and "; " in str(error), error
                others = [f.name for f in dataclasses.fields(kind)] if value is not None else [field.name]  # which it may contradict
                words = [*others, *(["steps", "images", "share"] if issubclass(kind, schedules.Steps | Images | Share) else [])]
                assert any(word in str(error) for word in words), error
            else:
                assert kind is Lesson2 or from_json(json.loads(json.dumps(to_json(part)))) == part or value != value, (field.name, value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_types_of_all_fields_are_known(kind: type) -> None:
    """None is imported for type checkers alone: then nothing would be checked."""
    assert issubclass(kind, Config)
    assert type_hints(kind).keys() >= {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_value_of_another_kind_is_never_compared(kind: type) -> None:
    """Of all fields that hold numbers, texts or switches: None, a text and a list are refused before any bound is tried."""
    for field in dataclasses.fields(kind):
        hint = type_hints(kind)[field.name]
        for plain, others in ((float, ("x", [], True)), (int, ("x", 1.5, [], True)), (str, (1, 1.5, [])), (bool, ("x", 1, 1.5, []))):
            for value in others if hint is plain else ():
                with pytest.raises(InputError, match=rf"{field.name} is .*; "):
                    made(kind, **{field.name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: experiment(batch_size=2.5), "batch_size is 2.5; use a whole number"),
        (lambda: experiment(batch_size=True), "batch_size is True; use a whole number"),
        (lambda: experiment(batch_size=10**5000), "batch_size is a int that cannot be shown; use a smaller number"),
        (lambda: experiment(refit="no"), "refit is 'no'; use True or False"),
        (
            lambda: experiment(snapshots=None),
            "snapshots is None; use Snapshots, such as Snapshots(last=3), or Snapshots() for none",
        ),
        (lambda: experiment(model="resnet18"), "model is 'resnet18'; use one of sgdr_jax.models, such as ResNet18()"),
        (lambda: experiment(data=None), 'data is None; use one of sgdr_jax.datasets, such as ImageFolder("photos")'),
        (
            lambda: experiment(augment=augment.Flip()),
            "augment is Flip(p=0.5); use a tuple of augmentations, such as (Flip(), Rotate()), or () for none",
        ),
        (lambda: Tiny(hidden="4"), "model.hidden is '4'; use a whole number"),
        (lambda: models.ResNet18(dropout=2), "model.dropout is 2; use a tuple of 2 numbers"),
        (lambda: Nowhere(extra=object), "data.extra is <class 'object'>; use a path or None"),
        (
            lambda: Stage("b", train=False, schedule=Sgdr(1)),
            'stage "b": train is False; use "all", "head", the index of the first group that trains, or names of layer groups',
        ),
        (
            lambda: Stage("b", augment=(augment.Flip(),), schedule=Sgdr(1)),
            'stage "b": augment is (Flip(p=0.5),); use True or False; the augmentations belong to Experiment.augment',
        ),
        (
            lambda: Stage("b", recalibrate="late", schedule=Sgdr(1)),
            "stage \"b\": recalibrate is 'late'; use True, False, or a tuple of names of layer groups",
        ),
        (lambda: Stage("b", strength=True, schedule=Sgdr(1)), 'stage "b": strength is True; use a number or a tuple of 2 numbers'),
        (lambda: Stage("b", lr=(0.1, "x"), schedule=Sgdr(1)), "stage \"b\": lr[1] is 'x'; use a number"),
        (lambda: Stage(5, schedule=Sgdr(1)), 'stage "5": name is 5; use a text'),
        (lambda: Sgdr(cycle_len=None), "schedule.cycle_len is None; use a number or a Length"),
        (lambda: Sgdr(warmup_every=float("nan")), "schedule.warmup_every is nan; use True or False"),
        (lambda: Find(rule="vally"), "lr.rule is 'vally'; did you mean valley? use combined, valley, steep, minimum or slide"),
        (lambda: augment.Rotate("10"), "Rotate.degrees is '10'; use a number"),
        (lambda: Lesson2("224"), "size is '224'; use a whole number"),
        (lambda: Lesson2(64, "no"), "similar_to_imagenet is 'no'; use True or False"),
    ],
)
def test_the_line_says_what_to_use(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value) == message


def test_lists_and_numpy_scalars_are_the_values_that_they_look_like() -> None:
    stage = Stage("a", size=[8, np.int64(16)], lr=[np.float32(0.5), 1], bn=["head"], schedule=Sgdr(np.int32(2)))
    same = Stage("a", size=(8, 16), lr=(0.5, 1), bn=("head",), schedule=Sgdr(2))
    assert stage == same and hash(stage) == hash(same)
    assert type(stage.size[1]) is int and type(stage.lr[0]) is float
    given = experiment(stage, batch_size=np.int64(8), augment=[augment.OneOf([augment.Flip(), [augment.Blur()]])], refit=np.bool_(False))
    usual = experiment(same, batch_size=8, augment=(augment.OneOf((augment.Flip(), (augment.Blur(),))),))
    assert given == usual and config_hash(given) == config_hash(usual)
    assert type(given.batch_size) is int and type(given.refit) is bool and type(given.stages) is tuple


@dataclasses.dataclass(frozen=True)
class Odd(Nowhere):
    """Types that no config can hold, or that only a type checker imports."""

    given: "Missing" = None  # noqa: F821
    held: Any = 1


@dataclasses.dataclass(frozen=True)
class Box:
    """A dataclass of one's own that is no part of a config by itself."""

    side: int = 1


def test_a_path_is_the_text_of_a_field_that_holds_texts(tmp_path: Path) -> None:
    """As in a notebook, where folder / "photos" is how folders are named."""
    made = ImageFolder(tmp_path / "photos")  # pyright: ignore[reportArgumentType]
    assert made == ImageFolder(str(tmp_path / "photos")) and from_json(to_json(made)) == made


def test_words_of_literals_are_their_values() -> None:
    with pytest.raises(InputError, match=r"data.formats is 'tiff'; use a tuple of tiff, avif, heic$"):
        ImageFolder("x", formats="tiff")  # pyright: ignore[reportArgumentType]


def test_fields_of_unknown_types_are_taken_if_a_config_can_hold_them() -> None:
    assert Odd(given=3).given == 3
    for value in ({1}, (1, {1}), np.zeros(2), {"a": 1}):
        with pytest.raises(InputError, match=r"^data\.held is .*; no config can hold it"):
            Odd(held=value)
    assert Odd(held=Box()).held.side == 1
    with pytest.raises(InputError, match=r"^data\.held\.side is 'x'; use a whole number"):
        Odd(held=(Box("x"),))  # type: ignore[arg-type]


def test_classes_of_ones_own_are_checked_before_their_own_checks_and_once() -> None:
    seen: list[object] = []

    @dataclasses.dataclass(frozen=True)
    class Base(Schedule):
        epochs: float = 1
        way: Literal["up", "down"] = "up"
        known: ClassVar[int] = 3

        def __post_init__(self) -> None:
            seen.append(self.epochs)
            assert self.epochs > 0

    @dataclasses.dataclass(frozen=True)
    class Inner(Base):
        times: int = 1

        def __post_init__(self) -> None:
            super().__post_init__()
            seen.append(self.times)

    assert Inner(2, times=3).times == 3 and seen == [2, 3]
    for fields, message in (
        ({"epochs": "x"}, "schedule.epochs is 'x'"),
        ({"times": 1.5}, "schedule.times is 1.5"),
        ({"way": 1}, "way is 1"),
    ):
        with pytest.raises(InputError, match=message):
            Inner(**fields)  # type: ignore[arg-type]
    assert seen == [2, 3]


def test_a_mixin_does_not_switch_the_check_off() -> None:
    class Mixin:
        def __post_init__(self) -> None:
            raise AssertionError("the kinds come first")

    @dataclasses.dataclass(frozen=True)
    class Mixed(Mixin, Augmentation):
        p: float = 1.0

    with pytest.raises(InputError, match=r"^Mixed\.p is 'x'; use a number$"):
        Mixed("x")  # type: ignore[arg-type]


def test_fields_that_a_class_sets_itself_are_left_to_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Counted(Dataset):
        names: tuple[str, ...] = ()
        count: int = dataclasses.field(init=False, compare=False)
        twice: dataclasses.InitVar[bool] = False

        def __post_init__(self, twice: bool) -> None:
            object.__setattr__(self, "count", len(self.names) * (1 + twice))

    assert Counted(["a", "b"], True).count == 4  # type: ignore[arg-type]


def test_words_of_types_cover_all_types_of_fields() -> None:
    """No message shows the inside of a type."""
    from sgdr_jax.core.kinds import _use

    for kind in KINDS:
        for field in dataclasses.fields(kind):
            hint = type_hints(kind)[field.name]
            assert not any(sign in _use(hint) for sign in "[]<>|"), hint
