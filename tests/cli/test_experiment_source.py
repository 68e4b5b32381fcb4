"""Experiments as files: what is written is what is loaded."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sgdr_jax
from sgdr_jax import Experiment, Find, Sgdr, Stage, augment, datasets, models, schedules
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.cli.experiment_source import experiment_source, save_experiment
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.expression import expression
from sgdr_jax.core.validation import is_name

from ..helpers import Nowhere, Tiny, seeded
from ..test_conventions import ARGUMENTS

SHIPPED = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))
RINGS = Experiment("rings", datasets.Synthetic(), models.ResNet18(), (Stage("all", schedule=Sgdr()),))


def loaded(experiment: Experiment, file: Path) -> Experiment:
    file.unlink(missing_ok=True)
    return load_experiment(save_experiment(experiment, file))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_experiments_survive(file: Path, tmp_path: Path) -> None:
    experiment = load_experiment(file)
    assert loaded(experiment, tmp_path / "a.py") == experiment
    text = (tmp_path / "a.py").read_text()
    assert max(map(len, text.splitlines())) <= 120 and "balance" not in text.replace("balance=0.", "")


def test_every_public_class_can_be_written(tmp_path: Path) -> None:
    def made(room: object, base: type) -> list[object]:
        kinds = [getattr(room, name) for name in room.__all__]  # type: ignore[attr-defined]
        return [k(*ARGUMENTS.get(k.__name__, ())) for k in kinds if isinstance(k, type) and issubclass(k, base)]

    from sgdr_jax.core.types import Augmentation, Dataset, Model, Schedule

    for experiment in (
        # Only one of an experiment's augmentations may mix images.
        dataclasses.replace(RINGS, augment=tuple(a for a in made(augment, Augmentation) if not isinstance(a, augment.MixUp))),
        dataclasses.replace(RINGS, augment=(augment.MixUp(),)),
        *(dataclasses.replace(RINGS, data=data) for data in made(datasets, Dataset)),
        *(dataclasses.replace(RINGS, model=model) for model in made(models, Model)),
        dataclasses.replace(RINGS, stages=tuple(Stage(f"{i}", schedule=s) for i, s in enumerate(made(schedules, Schedule)))),  # type: ignore[arg-type]
        dataclasses.replace(RINGS, stages=(Stage("a", schedule=Sgdr(cycle_len=schedules.Steps(9), warmup=schedules.Share(0.1))),)),
        dataclasses.replace(RINGS, optimizer=sgdr_jax.Lamb(clip=1.0), snapshots=sgdr_jax.Snapshots(2, 1), evaluate=sgdr_jax.Eval(8)),
    ):
        assert loaded(experiment, tmp_path / "a.py") == experiment


@seeded
@given(
    name=st.text(min_size=1, max_size=12).filter(is_name),
    lr=st.floats(0, 10) | st.tuples(st.floats(0, 1), st.floats(0, 1)) | st.builds(sgdr_jax.Spread, st.just(1e-5), st.floats(1e-4, 1)),
    seed=st.integers(0, 2**32 - 1),
    root=st.text(max_size=20),
)
def test_names_and_numbers_survive_whatever_they_are(tmp_path_factory, name: str, lr, seed: int, root: str) -> None:
    data = datasets.ImageFolder(root)
    stages = (Stage(name, lr=lr, schedule=Sgdr()), Stage(f"{name}2", schedule=Sgdr()))
    experiment = Experiment(name, data, models.ResNet18(), stages, seed=seed)
    try:
        root.encode(), name.encode()
    except UnicodeEncodeError:
        return
    assert loaded(experiment, tmp_path_factory.mktemp("a") / "a.py") == experiment


def test_classes_of_a_module_are_imported_from_it_and_those_of_a_notebook_refused(tmp_path: Path) -> None:
    experiment = dataclasses.replace(RINGS, data=Nowhere(Path("some") / "where"), model=Tiny())
    text = experiment_source(experiment)
    assert f"from {Tiny.__module__} import Nowhere, Tiny" in text and "from pathlib import Path" in text and 'Path("some/where")' in text

    @dataclasses.dataclass(frozen=True)
    class Own(schedules.Sgdr):
        """A schedule of a notebook."""

    Own.__module__ = "__main__"
    with pytest.raises(InputError, match=r"class is '__main__\.Own'; move the class to a module of its own"):
        experiment_source(dataclasses.replace(RINGS, stages=(Stage("a", schedule=Own()),)))
    Own.__module__, Own.__name__ = Tiny.__module__, "Sgdr"  # the later import would hide the earlier
    with pytest.raises(InputError, match=rf"class is '{Tiny.__module__}\.Sgdr'; sgdr_jax has one of that name in the experiment too"):
        experiment_source(dataclasses.replace(RINGS, stages=(Stage("a", schedule=schedules.Sgdr(2)), Stage("b", schedule=Own()))))
    for file, message in [("a.txt", r"ends in \.py"), ("nowhere/a.py", "a folder that exists")]:
        with pytest.raises(InputError, match=message):
            save_experiment(RINGS, tmp_path / file)


@pytest.mark.parametrize("rate", [np.float64(0.01), math.inf])
def test_numbers_of_numpy_and_infinity_are_written_as_python_reads_them(rate: float, tmp_path: Path) -> None:
    find = Find(highest=rate) if rate == math.inf else rate
    experiment = dataclasses.replace(RINGS, stages=(Stage("all", lr=find, schedule=Sgdr()),))
    assert loaded(experiment, tmp_path / "a.py") == experiment
    assert [expression(x) for x in (np.int64(3), np.float32(0.5), np.bool_(True))] == ["3", "0.5", "True"]
