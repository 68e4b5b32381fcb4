"""Configuration that cannot be: refusals name field, value and fix."""

import dataclasses
import math
from typing import Any

import pytest

from sgdr_jax.augment import AugMix, CutMix, MixUp, Rotate
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Eval, Experiment, Parallel, Stage
from sgdr_jax.core.learning_rates import Decay, Find, Spread
from sgdr_jax.core.optimizers import AdamW, Muon, Sgd
from sgdr_jax.core.validation import require
from sgdr_jax.schedules import Sgdr

from ..helpers import Nowhere, Tiny, experiment


def test_require_names_field_value_and_fix() -> None:
    require(True, "x", 1, "never shown")
    with pytest.raises(InputError, match=r"^x\.y is 'a'; use b$"):
        require(False, "x.y", "a", "use b")


nan, inf = float("nan"), float("inf")
MIXTURE = AugMix((Rotate(),))
STAGE = {"name": "a", "schedule": Sgdr()}


@pytest.mark.parametrize(
    ("make", "fields", "named"),
    [
        (Spread, {"lo": 0, "hi": 1}, "lr.lo is 0;"),
        (Spread, {"lo": 1, "hi": nan}, "lr.hi is nan;"),
        (Decay, {"lr": 0}, "lr.lr is 0;"),
        (Decay, {"lr": 1, "factor": 0}, "lr.factor is 0;"),
        (Sgd, {"sam": -1}, "optimizer.sam is -1;"),
        (Muon, {"iterations": 0}, "optimizer.iterations is 0;"),
        (Find, {"ratio": 0.5}, "lr.ratio is 0.5;"),
        (Find, {"start": 0}, "lr.start is 0;"),
        (Find, {"start": 1e-3, "stop": 1e-4}, "lr.stop is 0.0001; use a number above lr.start (0.001)"),
        (Find, {"steps": 7}, "lr.steps is 7;"),
        (Find, {"lowest": 2}, "lr.lowest is 2; use a positive number up to lr.highest (1.0)"),
        (Find, {"rule": "vally"}, "lr.rule is 'vally';"),
        (Find, {"orders": 101}, "lr.orders is 101;"),
        (Find, {"epochs": 0}, "lr.epochs is 0;"),
        (Find, {"ratio": (3, 0.5)}, "lr.ratio is (3, 0.5);"),
        (Sgd, {"momentum": 1}, "optimizer.momentum is 1;"),
        (Sgd, {"momentum": -0.1}, "optimizer.momentum is -0.1;"),
        (Sgd, {"weight_decay": -1}, "optimizer.weight_decay is -1;"),
        (Sgd, {"clip": 0}, "optimizer.clip is 0;"),
        (AdamW, {"momentum": nan}, "optimizer.momentum is nan;"),
        (AdamW, {"weight_decay": inf}, "optimizer.weight_decay is inf;"),
        (AdamW, {"b2": 1}, "optimizer.b2 is 1;"),
        (AdamW, {"eps": 0}, "optimizer.eps is 0;"),
        (Stage, STAGE | {"name": ""}, "stage \"\": name is '';"),
        (Stage, STAGE | {"size": 7}, 'stage "a": size is 7;'),
        (Stage, STAGE | {"views": -1}, 'stage "a": views is -1;'),
        (Stage, STAGE | {"patience": 0}, 'stage "a": patience is 0;'),
        (Stage, STAGE | {"batch_size": 0}, 'stage "a": batch_size is 0;'),
        (Stage, STAGE | {"lr": -1.0}, 'stage "a": lr is -1.0;'),
        (Stage, STAGE | {"lr": (0.1, inf)}, 'stage "a": lr is (0.1, inf);'),
        (Stage, STAGE | {"lr": "0.1"}, "stage \"a\": lr is '0.1';"),
        (Stage, STAGE | {"lr": True}, 'stage "a": lr is True;'),
        (Stage, STAGE | {"bn": "eval"}, "stage \"a\": bn is 'eval';"),
        (Stage, STAGE | {"precompute": True}, 'stage "a": precompute is True; fresh augmentation cannot be cached:'),
        (Eval, {"batch_size": 0}, "evaluate.batch_size is 0;"),
        (Eval, {"tta_views": -1}, "evaluate.tta_views is -1;"),
        (Eval, {"tta_kind": "flip"}, "evaluate.tta_views is 4; use 0…1 with tta_kind='flip'"),
        (Eval, {"tta_kind": "dihedral", "tta_views": 8}, "evaluate.tta_views is 8;"),
        (Eval, {"tta_kind": "flips"}, "evaluate.tta_kind is 'flips';"),
        (Eval, {"tta_mean": "mean"}, "evaluate.tta_mean is 'mean';"),
        (Eval, {"tta_weight": 1.1}, "evaluate.tta_weight is 1.1;"),
        (Parallel, {"devices": -1}, "parallel.devices is -1;"),
        (experiment, {"name": ""}, "name is '';"),
        (experiment, {"name": "a/b"}, "name is 'a/b';"),
        (experiment, {"name": "a\nb"}, r"name is 'a\nb'; use a non-empty name without / and control characters"),
        (experiment, {"name": "a\x1b[31m"}, r"name is 'a\x1b[31m';"),
        (Eval, {"tta_views": 1.5}, "evaluate.tta_views is 1.5;"),
        (Eval, {"tta_views": "2"}, "evaluate.tta_views is '2';"),
        (experiment, {"augment": (MixUp(), CutMix())}, "augment is ['MixUp', 'CutMix']; use MixUp or CutMix once, not both"),
        (experiment, {"augment": (MIXTURE, MIXTURE)}, "augment is ['AugMix', 'AugMix']; use AugMix once at most"),
        (experiment, {"batch_size": 0}, "batch_size is 0;"),
        (experiment, {"label_smoothing": 1}, "label_smoothing is 1;"),
        (experiment, {"balance": 1.5}, "balance is 1.5;"),
        (experiment, {"epoch_steps": 0}, "epoch_steps is 0;"),
        *[(experiment, {"first_epoch_share": share}, f"first_epoch_share is {share};") for share in (0, 1.5, math.nan)],
        (experiment, {"canvas": 4}, "canvas is 4;"),
        (experiment, {"max_bad_share": 2}, "max_bad_share is 2;"),
        (experiment, {"checkpoint_steps": 0}, "checkpoint_steps is 0;"),
        (experiment, {"compute": "float16"}, "compute is 'float16';"),
        (experiment, {"seed": -1}, "seed is -1;"),
        (experiment, {"seed": 2**32}, "seed is 4294967296;"),
    ],
)
def test_impossible_values_are_refused_by_field_value_and_fix(make: Any, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        make(**fields)
    message = str(error.value)
    assert message.startswith(named), message
    assert len(message.split("; ", 1)[1]) > 8 and "\n" not in message  # There is a fix, and it is one line.


def test_stages_need_names_of_their_own() -> None:
    stage = Stage("a", schedule=Sgdr())
    with pytest.raises(InputError, match=r"stages is \['a', 'a'\]; give every stage a name of its own"):
        experiment(stage, stage)
    with pytest.raises(InputError, match=r"stages is \(\); give at least one Stage"):
        Experiment("x", Nowhere(), Tiny(), ())


def test_configs_cannot_be_changed() -> None:
    for value in (experiment(), Stage("a", schedule=Sgdr()), Sgd(), Find()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "b"  # type: ignore[attr-defined]
        assert isinstance(hash(value), int)
