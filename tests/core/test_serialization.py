"""Configuration to JSON and back, and a hash that changes with every field."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax import augment, datasets, lesson2, models, schedules
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Eval, Experiment, Parallel, Stage
from sgdr_jax.core.learning_rates import Decay, Find, Spread
from sgdr_jax.core.optimizers import AdamW, Lamb, Muon, Optimizer, Sgd
from sgdr_jax.core.serialization import config_hash, from_json, to_json
from sgdr_jax.core.solve import Solve
from sgdr_jax.core.types import Augmentation, Dataset, Model, Schedule
from sgdr_jax.core.validation import is_name
from sgdr_jax.schedules import Constant, OneCycle, Sgdr
from sgdr_jax.train.lr_curve import RULES

from ..helpers import Nowhere, Tiny, experiment, seeded


def there_and_back(value: Any) -> Any:
    return from_json(json.loads(json.dumps(to_json(value))))


def parts() -> list[Any]:
    """One value of every kind that the package offers for a config."""
    offered = [getattr(module, name) for module in (schedules, augment, models, datasets) for name in module.__all__]
    kinds = [kind for kind in offered if isinstance(kind, type)] + [Sgd, AdamW, Lamb, Muon, Find, Eval, Parallel]
    choices = (augment.Flip(), augment.Rotate())
    needy = [augment.OneOf(choices), augment.AugMix(choices)]
    return (
        needy
        + [kind() for kind in kinds if not issubclass(kind, augment.OneOf | augment.AugMix)]
        + [Spread(1e-4, 1e-2), Decay(1e-3), Stage("a", schedule=Sgdr(2)), experiment(*lesson2(64))]
    )


@pytest.mark.parametrize("value", parts(), ids=lambda value: type(value).__name__)
def test_every_part_of_the_package_comes_back_equal(value: Any) -> None:
    back = there_and_back(value)
    assert back == value and type(back) is type(value)
    for field in dataclasses.fields(value):
        assert type(getattr(back, field.name)) is type(getattr(value, field.name)), field.name


share = st.floats(0, 0.999)
positive = st.floats(1e-12, 1e12)
count = st.integers(1, 10**6)
some_schedule = st.one_of(
    st.builds(Constant, epochs=positive),
    st.builds(
        Sgdr,
        cycles=st.integers(1, 10_000),
        cycle_len=positive,
        cycle_mult=positive,
        peak_decay=share,
        floor=share,
        warmup=share,
        warmup_every=st.booleans(),
    ),
    st.builds(OneCycle, epochs=positive, rise=share, div=st.floats(1, 1e6), momentum=st.tuples(share, share)),
)
some_optimizer = st.one_of(
    st.builds(Sgd, momentum=share, nesterov=st.booleans(), weight_decay=positive, clip=st.none() | positive),
    st.builds(AdamW, momentum=share, b2=share, eps=positive, weight_decay=positive, clip=st.none() | positive),
)
some_lr = st.one_of(
    st.just(0.0),
    positive,
    st.lists(positive, max_size=4).map(tuple),
    st.builds(Spread, lo=positive, hi=positive),
    st.builds(Decay, lr=positive, factor=st.floats(0.01, 1)),
    st.builds(
        Find,
        rule=st.sampled_from(list(RULES)),
        ratio=st.floats(1, 100) | st.lists(st.floats(1, 9), min_size=1).map(tuple),
        steps=st.integers(8, 1000),
    ),
)
some_stage = st.builds(
    Stage,
    name=st.text(min_size=1),
    size=st.integers(8, 2000),
    train=st.one_of(st.sampled_from(["head", "all"]), st.integers(-3, 3), st.lists(st.text(), max_size=3).map(tuple)),
    lr=some_lr,
    schedule=some_schedule,
    augment=st.booleans(),
    views=st.integers(0, 9),
    bn=st.sampled_from(["train", "frozen"]),
    patience=st.none() | count,
    optimizer=st.none() | some_optimizer,
    batch_size=st.none() | count,
)
some_experiment = st.builds(
    lambda stages, **fields: experiment(*stages, **fields),
    stages=st.lists(some_stage, min_size=1, max_size=3, unique_by=lambda stage: stage.name),
    name=st.text(min_size=1).filter(is_name),
    data=st.builds(Nowhere, root=st.text().map(Path), extra=st.none() | st.text().map(Path)),
    augment=st.lists(st.builds(augment.Rotate, degrees=st.floats(0, 180), p=share), max_size=2).map(tuple),
    optimizer=some_optimizer,
    label_smoothing=share,
    balance=share,
    evaluate=st.builds(Eval, batch_size=count, tta_weight=st.none() | share, tta_mean=st.sampled_from(["probability", "log"])),
    parallel=st.builds(Parallel, devices=st.integers(0, 99)),
    seed=st.integers(0, 2**32 - 1),
)


@settings(seeded, max_examples=50)
@given(some_experiment)
def test_any_experiment_comes_back_equal_with_the_same_hash(value: Experiment) -> None:
    back = there_and_back(value)
    assert back == value
    assert config_hash(back) == config_hash(value)
    assert re.fullmatch(r"[0-9a-f]{12}", config_hash(value))


def other(value: Any) -> list[Any]:
    """Values of the same kind that differ from this one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 0.75 + 0.01, value + 1]
    if isinstance(value, str):
        return ["", "log", "flip", "slide", "frozen", "float32", "fastai07", "classifier", "streamed", "pmap", "squish", "halve", "other"]
    if isinstance(value, Path):
        return [value / "other"]
    if value is None:
        return [9, 0.5, "other", Sgd()]
    if isinstance(value, tuple):
        return [value[:-1], (*value, *value[-1:]), (Stage("other", schedule=Sgdr()),), ("first", "head"), ("second",), (1e-3, 1e-2)]
    return []


def variants(value: Any, missed: set[str]) -> Iterator[tuple[str, Any]]:
    """(path, `value` with one field changed, however deep); fields that allowed no change are added to `missed`."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        changed: list[tuple[str, Any]] = [(field.name, new) for new in other(inner) if new != inner or type(new) is not type(inner)]
        if dataclasses.is_dataclass(inner):
            changed += [(f"{field.name}.{path}", new) for path, new in variants(inner, missed)]
        if isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]):
            changed += [(f"{field.name}[0].{path}", (new, *inner[1:])) for path, new in variants(inner[0], missed)]
        good = 0
        for path, new in changed:
            try:
                variant = dataclasses.replace(value, **{field.name: new})
            except (InputError, TypeError, AttributeError):
                continue
            good += 1
            yield path, variant
        if not good:
            missed.add(f"{type(value).__name__}.{field.name}")


def test_the_hash_sees_every_field() -> None:
    paths, refused, missed, seen = set(), set(), [], {}
    # Some fields allow no other value beside views, some none without, some only where the head is solved.
    trained = [Stage("only", lr=Find(), schedule=Sgdr(2), views=views, optimizer=AdamW()) for views in (2, 0)]
    for seed, stage in enumerate((*trained, Stage("only", precompute=True, views=2, solve=Solve()))):
        base = experiment(stage, augment=(augment.Rotate(),), evaluate=Eval(tta_views=1), seed=100 * seed)
        seen[config_hash(base)] = "the base"
        missed.append(set())
        for path, variant in variants(base, missed[-1]):
            if path.startswith("parallel"):  # where a run is computed is no part of what it is
                assert config_hash(variant) == config_hash(base)
                continue
            assert config_hash(variant) not in seen, (path, seen[config_hash(variant)])
            seen[config_hash(variant)] = path
            try:
                assert to_json(there_and_back(variant)) == to_json(variant), path
                paths.add(path)
            except InputError as error:  # a value of another kind, which dataclasses let pass
                assert f"config.{path}" in str(error) and ", not " in str(error)
                refused.add(path)
    assert not set.intersection(*missed)
    assert refused <= paths
    assert {
        "seed",
        "stages",
        "stages[0].lr.ratio",
        "stages[0].schedule.cycle_mult",
        "stages[0].optimizer.eps",
        "augment[0].degrees",
        "data.root",
        "model.cuts",
    } <= paths
    assert len(paths) >= 60


def test_the_hash_sees_the_type() -> None:
    assert config_hash(experiment(optimizer=Sgd())) != config_hash(experiment(optimizer=AdamW()))
    assert config_hash(experiment(model=Tiny())) != config_hash(experiment(model=models.ResNet18()))


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "from sgdr_jax import Experiment, lesson2; from sgdr_jax.core.serialization import config_hash;"
        "from sgdr_jax.datasets import ImageFolder; from sgdr_jax.models import ResNet18;"
        "print(config_hash(Experiment('a', ImageFolder('b'), ResNet18(), lesson2(64))))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in "12"
    }
    assert found == {config_hash(Experiment("a", datasets.ImageFolder("b"), models.ResNet18(), lesson2(64)))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tag",
    [
        "pathlib:Path",
        "subprocess:Popen",
        "builtins:dict",
        "sgdr_jax.core.experiment:config_hash",
        "antigravity:fly",
        "",
        None,
        3,
        [],
        {},
        "schedules.sgdr.Sgdr",
    ],
)
def test_unknown_types_are_refused_and_nothing_is_imported(tag: Any) -> None:
    data = to_json(experiment())
    for spoiled in ({"type": tag}, data | {"model": {"type": tag}}, data | {"augment": [{"type": tag, "path": "x"}]}):
        with pytest.raises(InputError, match=r"^config.*\.type is .*no such type is known"):
            from_json(spoiled)
    assert "antigravity" not in sys.modules


def test_bases_of_parts_are_no_parts_that_run() -> None:
    """The empty bases can be named, but do nothing."""
    for base in (Dataset, Model, Schedule, Augmentation, Optimizer):
        assert type(there_and_back(base())) is base
    with pytest.raises(NotImplementedError):
        Schedule().table(1)


def test_a_dict_without_a_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"config\.model\.type is None"):
        from_json(to_json(experiment()) | {"model": {"weights": "x"}})


def test_unknown_fields_are_refused_by_name() -> None:
    data = to_json(experiment())
    data["stages"][0]["schedule"]["cycle_length"] = 3
    with pytest.raises(
        InputError, match=r"config\.stages\[0\]\.schedule is \['cycle_length'\]; did you mean cycle_len\? Sgdr has the fields .*cycle_len,"
    ):
        from_json(data)


def test_missing_fields_are_refused_by_name() -> None:
    data = to_json(experiment())
    del data["data"]
    with pytest.raises(InputError, match=r"config is incomplete; .*'data'"):
        from_json(data)


def test_values_are_checked_on_the_way_back() -> None:
    data = to_json(experiment())
    data["stages"][0]["size"] = 1
    with pytest.raises(InputError, match='stage "only": size is 1; use 8…4096 pixels'):
        from_json(data)


@pytest.mark.parametrize("value", [np.zeros(2), np.float32(1), {1}, {"a": 1}, b"x", 1j, len, Stage, object()])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    for config in (value, (1, value)):
        with pytest.raises(TypeError, match="cannot be part of a config"):
            to_json(config)


def test_paths_come_back_as_paths_and_text_as_text() -> None:
    value = Nowhere(Path("a/b"), None)
    assert there_and_back(value) == value
    back = there_and_back(Nowhere(Path("a"), Path("c")))
    assert isinstance(back.root, Path) and isinstance(back.extra, Path)
    assert there_and_back(Tiny(weights="some/file.pth")).weights == "some/file.pth"


def test_a_field_added_later_leaves_json_and_hash_as_they_were_while_it_has_its_default() -> None:
    plain = datasets.CsvLabels("x")
    assert "multi_label" not in to_json(plain)
    assert from_json(to_json(plain)) == plain
    for value in (True, False):
        told = datasets.CsvLabels("x", multi_label=value)
        assert to_json(told) == to_json(plain) | {"multi_label": value}
        assert from_json(to_json(told)) == told
        assert config_hash(experiment(data=told)) != config_hash(experiment(data=plain))
    assert from_json(to_json(plain) | {"multi_label": None}) == plain


def test_names_that_are_not_utf8_are_refused_before_a_run_would_write_them() -> None:
    with pytest.raises(InputError, match=r"udcff.* is not UTF-8, so no run could record it; rename the file or folder"):
        to_json(Nowhere(root=Path(os.fsdecode(b"photos\xff"))))
