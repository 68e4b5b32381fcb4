"""Images on their way to the devices: the same bits from the device, from the host's memory, from disk and from the files."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Stage
from sgdr_jax.core.state import Hyper
from sgdr_jax.data.loader import image_loader
from sgdr_jax.data.pixels import LazyPixels, PixelSubset, StoredPixels
from sgdr_jax.data.sampler import Batch, Sampler
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.distributed.memory import free_device_memory
from sgdr_jax.runs import run
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

from ..helpers import experiment, on, same_bits, single_update

WAYS = ("resident", "streamed", "decoded")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(30):
        path = root / "abc"[i % 3] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 4, 25, 3), np.uint8)).save(path)
    return ImageFolder(str(root))


def settings(photos, **fields):
    stage = Stage("only", size=8, lr=0.1, schedule=Sgdr(2), **fields)
    made = experiment(stage, data=photos, augment=side_on(), canvas=12, balance=0.5)
    return {way: prepare(replace(made, images=way)) for way in WAYS}


def test_batches_and_updates_are_the_same_to_the_bit(photos):
    results = {}
    for way, context in settings(photos).items():
        p = context.plan.stages[0]
        stage = open_stage(context, p, context.network, NullConsole())
        rows, state, seen = hyper_rows(context, p, (0.1,) * 3), stage.state, []
        for step, fed in enumerate(stage_batches(context, p, 0, p.steps)):
            seen.append(np.asarray(fed.images))
            state, _ = single_update(stage, state, Hyper(*(r[step] for r in rows)), fed)
        results[way] = (seen, jax.device_get((state.params, state.stats)), stage.validate(state))
        assert (context.images["train"].resident is not None) == (way == "resident")
        pixels = context.images["train"].pixels
        assert isinstance(pixels, PixelSubset) and isinstance(pixels._pixels, LazyPixels if way == "decoded" else StoredPixels)
    for way in WAYS[1:]:
        for a, b in zip(results["resident"], results[way], strict=True):
            assert same_bits(a, b), way
    assert len(results["resident"][0]) == 6


@pytest.mark.parametrize("way", WAYS)
def test_a_stage_entered_in_the_middle_has_the_same_images(photos, way):
    context = settings(photos)[way]
    p = context.plan.stages[0]
    whole = [np.asarray(fed.images) for fed in stage_batches(context, p, 0, p.steps)]
    rest = [np.asarray(fed.images) for fed in stage_batches(context, p, 4, p.steps)]
    assert same_bits(whole[4:], rest) and len(rest) == 2


def test_a_run_ends_with_the_same_numbers_however_images_lie(photos, tmp_path):
    stages = (
        Stage("head", size=8, train="head", lr=0.1, schedule=Sgdr(1), precompute=True, views=2),
        Stage("all", size=(8, 10), lr=0.1, schedule=Sgdr(2)),
    )
    made = experiment(*stages, data=photos, augment=side_on(), canvas=12, keep_best=False)
    summaries = [run.run(replace(made, images=way), tmp_path / way) for way in WAYS]
    keep = [{k: s[k] for k in ("valid", "size")} | {"loss": [x["train_loss"] for x in s["stages"]]} for s in summaries]
    assert keep[0] == keep[1] == keep[2] and keep[0]["size"] == 10
    assert (tmp_path / "resident" / "rejected.tsv").read_text() == ""


def test_hosts_read_their_own_share_only(photos, monkeypatch):
    context = settings(photos)["streamed"]
    feed = context.images["train"]
    (batch,) = Sampler(0, 0, context.data.labels["train"]).batches(batch_size=8, steps=1)
    asked = []

    class Spy:
        shape = feed.pixels.shape

        def __len__(self):
            return len(feed.pixels)

        def __getitem__(self, index):
            asked.append(np.asarray(index).tolist())
            return feed.pixels[index]

    devices = on(1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    list(image_loader(Spy(), devices, resident=False).batches([batch]))
    assert asked == [batch.index[4:].tolist()]


def test_an_iterator_that_is_left_early_leaves_no_thread(photos):
    import threading

    feed = settings(photos)["decoded"].images["train"]
    before = threading.active_count()
    batches = feed.batches(Sampler(0, 0, np.zeros(len(feed), int)).batches(batch_size=8, steps=1000))
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_an_image_that_breaks_while_streaming_stops_the_run_by_name(photos, tmp_path):
    from shutil import copytree

    from sgdr_jax.core.errors import InputError

    root = copytree(photos.root, tmp_path / "copy")
    feed = settings(ImageFolder(str(root)))["decoded"].images["train"]
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"image ./\d+.jpg could be read before but not now"):
        list(feed.batches([Batch(np.arange(4), np.arange(4), np.ones(4))]))


def test_free_memory_is_of_one_device():
    assert 0 < free_device_memory(on(4)) <= free_device_memory(on(1)) / 3
