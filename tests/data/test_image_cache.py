"""The canvas on disk: made once, gone on with, shared; resident, streamed and decoded images are the same to the bit."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sgdr_jax.core.errors import InputError
from sgdr_jax.data import image_cache
from sgdr_jax.data.image_cache import in_memory, on_disk
from sgdr_jax.data.load import load
from sgdr_jax.data.pixels import EncodedImages, LazyPixels, PixelSubset, StoredPixels, digest
from sgdr_jax.data.placement import choose_residence, choose_storage
from sgdr_jax.datasets import ImageFolder

from ..helpers import seeded
from .test_decode import encoded


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def photos(n: int = 40, colour: bool = True) -> list[bytes]:
    rng = np.random.default_rng(1)
    return [encoded(Image.fromarray(rng.integers(0, 256, (9, 12 + i % 3, 3)[: 2 + colour], np.uint8)), "PNG") for i in range(n)]


def items(files: list[bytes], calls: list[int] | None = None) -> EncodedImages:
    def get(i: int) -> bytes:
        if calls is not None:
            calls.append(i)
        return files[i]

    names = [f"{i}.png" for i in range(len(files))]
    return EncodedImages(get, names, [f"{name} {zlib.crc32(file)}" for name, file in zip(names, files, strict=True)])


def nothing(done, bad):
    pass


def test_it_is_decoded_once_and_found_again():
    files, calls = photos(), []
    files[7] = b"broken"
    first = on_disk(items(files), 8, None, nothing)
    again = on_disk(items(files, calls), 8, None, nothing)
    assert (first.cached, again.cached, calls) == (False, True, [7])  # perhaps it can be read now
    wanted = in_memory(items(files), 8, 3, nothing)
    good = np.delete(np.arange(40), 7)
    for made in (first, again):
        np.testing.assert_array_equal(made.pixels[good], wanted.pixels[good])
        np.testing.assert_array_equal(made.digests, wanted.digests)
        assert made.bad == wanted.bad == {7: "not an image in one of the formats BMP, GIF, JPEG, PNG, WEBP"}
    assert wanted.digests[3] == digest(wanted.pixels[3]) and wanted.digests[7] == 0


def test_another_image_size_or_number_of_channels_is_another_canvas():
    files = photos(6)
    keys = {image_cache.key(items(files).ids, side, channels) for side in (8, 9) for channels in (None, 1, 3)}
    assert len(keys | {image_cache.key(items(files[:5]).ids, 8, None)}) == 7


def test_channels_that_images_have_by_themselves_share_a_canvas():
    files, calls = photos(6), []
    on_disk(items(files), 8, None, nothing)
    assert on_disk(items(files, calls), 8, 3, nothing).cached and not calls
    assert on_disk(items(files), 8, 1, nothing).pixels.shape == (6, 8, 8, 1)
    assert on_disk(items(photos(6, colour=False)), 8, None, nothing).pixels.shape == (6, 8, 8, 1)


def test_an_interruption_costs_only_what_was_not_yet_safe(monkeypatch):
    monkeypatch.setattr(image_cache, "_SAVE_SECONDS", 0.0)
    files, calls = photos(200), []

    def stop(done, bad):
        if done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_disk(items(files), 8, 3, stop)
    assert [p.suffix for p in sorted(image_cache.folder().iterdir())] == [".lock", ".part"]
    made = on_disk(items(files, calls), 8, 3, nothing)
    assert sorted(calls) == list(range(64, 200))
    np.testing.assert_array_equal(made.pixels[:], in_memory(items(files), 8, 3, nothing).pixels)
    assert [p.suffix for p in sorted(image_cache.folder().iterdir())] == ["", ".lock"]


def _build(files: list[bytes], seconds: float) -> None:
    def slow(i: int) -> bytes:
        time.sleep(seconds)
        return files[i]

    on_disk(items(files)._replace(get=slow), 8, 3, nothing)


def _elsewhere(seconds: float) -> subprocess.Popen[bytes]:
    """Another process that decodes `photos(64)`, so many seconds for each."""
    code = f"from tests.data.test_image_cache import _build, photos; _build(photos(64), {seconds})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


def test_it_survives_being_killed():
    files = photos(64)
    part = image_cache.folder() / f"{image_cache.key(items(files).ids, 8, 3)}.part"
    child = _elsewhere(0.02)
    _wait_for(part / "digests")
    time.sleep(0.1)
    child.kill()
    child.wait()
    assert part.is_dir()
    np.testing.assert_array_equal(on_disk(items(files), 8, 3, nothing).pixels[:], in_memory(items(files), 8, 3, nothing).pixels)


def test_a_second_run_waits_for_the_first_and_decodes_nothing():
    files, calls, said = photos(64), [], []
    child = _elsewhere(0.01)
    _wait_for(image_cache.folder() / f"{image_cache.key(items(files).ids, 8, 3)}.part")
    on_disk(items(files, calls), 8, 3, nothing, said.append)
    assert child.wait() == 0
    assert not calls and "waiting" in said[0]


@pytest.mark.parametrize("name", ["pixels", "digests", "canvas.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "emptied"])
def test_a_damaged_canvas_is_made_anew(name, damage):
    files = photos(9)
    on_disk(items(files), 8, 3, nothing)
    (place,) = (p for p in image_cache.folder().iterdir() if not p.suffix)
    content = (place / name).read_bytes()
    if damage == "gone":
        (place / name).unlink()
    else:
        (place / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    made = on_disk(items(files), 8, 3, nothing)
    assert not made.cached
    np.testing.assert_array_equal(made.pixels[:], in_memory(items(files), 8, 3, nothing).pixels)


def _place() -> Path:
    (place,) = (p for p in image_cache.folder().iterdir() if not p.suffix)
    return place


def _bit(at: int):
    def change(content: bytearray) -> None:
        content[at] ^= 128

    return change


def _zeros(start: int, stop: int):
    def change(content: bytearray) -> None:
        content[start:stop] = bytes(len(content[start:stop]))

    return change


def _exchange(content: bytearray) -> None:
    content[:192], content[192:384] = content[192:384], content[:192]


def _only_read(path: Path, mode: str):
    if "+" in mode or "w" in mode:
        raise OSError(30, "Read-only file system")
    return open(path, mode)


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [(_bit(0), 1), (_bit(9 * 192 - 1), 1), (_zeros(100, 500), 3), (_zeros(0, 9 * 192), 9), (_exchange, 2)],
    ids=["first bit", "last byte", "a page", "all", "two images"],
)
@pytest.mark.parametrize("writable", [True, False])
def test_damaged_pixels_are_decoded_anew_and_told_in_a_line(damage, wrong, writable, caplog, monkeypatch):
    files = photos(9)
    files[4] = b"broken"
    wanted = in_memory(items(files), 8, 3, nothing).pixels
    good = np.delete(np.arange(9), 4)
    on_disk(items(files), 8, 3, nothing)
    content = bytearray((_place() / "pixels").read_bytes())
    damage(content)
    content[4 * 192 : 5 * 192] = bytes(192)  # nothing is promised of the image that could not be read
    (_place() / "pixels").write_bytes(content)
    if not writable:
        monkeypatch.setattr(Path, "open", lambda path, mode="r", *_, **__: _only_read(path, mode))
    made = on_disk(items(files), 8, 3, nothing)
    for _ in range(2):
        np.testing.assert_array_equal(made.pixels[good], wanted[good])
    assert made.cached
    (record,) = caplog.records
    expected = wrong - (wrong == 9)
    assert f"{expected} of 9 cached images were damaged ('" in record.message and record.message.endswith("; decoded anew")
    if writable:
        caplog.clear()
        np.testing.assert_array_equal(on_disk(items(files), 8, 3, nothing).pixels[good], wanted[good])
        assert not caplog.records


@settings(seeded, max_examples=40)
@given(st.data())
def test_no_damage_of_a_canvas_is_silent(data):
    """Whatever bytes of any of its files change, the pixels are those of the images."""
    files = photos(7)
    with tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", cache)
        wanted = on_disk(items(files), 8, 3, nothing).pixels[:]
        path = _place() / data.draw(st.sampled_from(["pixels", "digests", "canvas.json"]))
        content = bytearray(path.read_bytes())
        for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
            content[at] = byte
        path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content), len(content) // 2]))])
        np.testing.assert_array_equal(on_disk(items(files), 8, 3, nothing).pixels[:], wanted)


def test_a_json_file_nested_too_deeply_is_no_canvas():
    on_disk(items(photos(3)), 8, 3, nothing)
    (_place() / "canvas.json").write_text("[" * 100_000)
    assert not on_disk(items(photos(3)), 8, 3, nothing).cached


def test_the_canvas_of_other_images_under_this_name_is_not_used():
    for n in (3, 4):
        on_disk(items(photos(4)[n - 3 : n]), 8, 3, nothing)
    first, second = (p for p in image_cache.folder().iterdir() if not p.suffix)
    for name in ("pixels", "digests", "canvas.json"):
        (first / name).write_bytes((second / name).read_bytes())
    for files in (photos(4)[:3], photos(4)[1:]):
        wanted = in_memory(items(files), 8, 3, nothing).pixels
        np.testing.assert_array_equal(on_disk(items(files), 8, 3, nothing).pixels[:], wanted)


def test_an_image_that_is_damaged_in_the_cache_and_changed_since_is_named():
    files = photos(3)
    on_disk(items(files), 8, 3, nothing)
    content = bytearray((_place() / "pixels").read_bytes())
    content[0] ^= 1
    (_place() / "pixels").write_bytes(content)
    ids, changed = items(files).ids, [photos(4)[3], *files[1:]]
    made = on_disk(items(changed)._replace(ids=ids), 8, 3, nothing)
    with pytest.raises(InputError, match=r"image 0.png is damaged in the cache and cannot be decoded again: .* start again"):
        made.pixels[:]
    again = on_disk(items(changed)._replace(ids=ids), 8, 3, nothing)
    assert not again.cached
    np.testing.assert_array_equal(again.pixels[:], in_memory(items(changed), 8, 3, nothing).pixels)


def test_too_many_bad_images_stop_it_and_a_repaired_one_is_decoded_then():
    files = photos(8)

    def refuse(done, bad):
        if bad:
            raise InputError("too many")

    ids = items(files).ids
    with pytest.raises(InputError):
        on_disk(items([*files[:7], b"broken"])._replace(ids=ids), 8, 3, refuse)
    assert on_disk(items(files), 8, 3, refuse).bad == {}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError(), ImportError("no decoder")])
def test_a_failure_that_passes_leaves_no_image_out_for_ever(error):
    """The reason was kept with the canvas: each later run left the image out."""
    files, failing = photos(6), [3]

    def get(i: int) -> bytes:
        if i in failing:
            raise error
        return files[i]

    own = items(files)._replace(get=get)
    assert set(on_disk(own, 8, None, nothing).bad) == {3} == set(on_disk(own, 8, None, nothing).bad)
    failing.clear()
    after = on_disk(own, 8, None, nothing)
    assert after.bad == {} and not after.cached and on_disk(own, 8, None, nothing).cached
    np.testing.assert_array_equal(after.pixels[:], in_memory(items(files), 8, None, nothing).pixels)


def test_room_is_made_by_what_went_unused_for_longest(monkeypatch):
    for n in (3, 4, 5):
        on_disk(items(photos(n)), 8, 3, nothing)
    places = {json.loads((p / "canvas.json").read_text())["images"]: p for p in image_cache.folder().iterdir() if not p.suffix}
    for age, n in enumerate((4, 3, 5)):
        os.utime(places[n] / "canvas.json", (1000 + age, 1000 + age))
    held = on_disk(items(photos(3)), 8, 3, nothing)
    os.utime(places[3] / "canvas.json", (1001, 1001))
    free = iter([0, 0, 0, 10**9])
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: type("", (), {"free": next(free)}))
    image_cache.make_room(items(photos(6)), 8, 3, 100)
    assert [n for n, p in places.items() if p.is_dir()] == [5]
    np.testing.assert_array_equal(held.pixels[:], in_memory(items(photos(3)), 8, 3, nothing).pixels)  # open, so still there


def test_nothing_is_evicted_for_images_that_would_not_fit_all_the_same(monkeypatch):
    on_disk(items(photos(3)), 8, 3, nothing)
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: type("", (), {"free": 1000}))
    image_cache.make_room(items(photos(4)), 8, 3, 10**9)
    assert on_disk(items(photos(3)), 8, 3, nothing).cached


def test_an_interrupted_canvas_needs_no_room_for_a_second_one(tmp_path, monkeypatch):
    """It is gone on with where the disk has room for what is left alone, and others are evicted for no more than that."""
    rng = np.random.default_rng(1)
    for i in range(20):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)).save(tmp_path / "set" / "ab"[i % 2] / f"{i}.png")
    on_disk(items(photos(3)), 8, 3, nothing)
    source = ImageFolder(str(tmp_path / "set")).open()

    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(source, canvas=128, progress=interrupted)
    for about in image_cache.folder().glob("*.part/canvas.json"):
        os.utime(about, (1000, 1000))  # weeks old
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: type("", (), {"free": 50_000})())
    data = load(source, canvas=128)
    assert data.storage == "disk" and not list(image_cache.folder().glob("*.part"))
    assert on_disk(items(photos(3)), 8, 3, nothing).cached
    shutil.rmtree(next(p for p in image_cache.folder().iterdir() if p.is_dir() and (p / "pixels").stat().st_size > 900_000))
    assert load(source, canvas=128).storage == "memory"


def test_a_canvas_that_is_gone_on_with_after_weeks_makes_no_room_for_others(monkeypatch):
    files, place = photos(9), image_cache.folder() / f"{image_cache.key(items(photos(9)).ids, 8, 3)}.part"
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: type("", (), {"free": 0})())

    def get(i: int) -> bytes:
        if i == 5 and (place / "digests").read_bytes():
            if not begun:
                raise KeyboardInterrupt
            image_cache.make_room(items(photos(3)), 8, 3, 1)
        return files[i]

    begun = []
    with pytest.raises(KeyboardInterrupt):
        on_disk(items(files)._replace(get=get), 8, 3, nothing)
    os.utime(place / "canvas.json", (1000, 1000))
    begun.append(1)
    assert on_disk(items(files)._replace(get=get), 8, 3, nothing).bad == {}


def test_images_that_change_during_a_run_that_stores_none_are_refused():
    files = photos(4)
    pixels = in_memory(items(files), 8, 3, nothing, keep=False).pixels
    pixels[:]
    files[2] = photos(5)[4]
    with pytest.raises(InputError, match=r"image 2.png has other pixels than when the run began; restore it, or start again"):
        pixels[np.array([2])]


def test_kinds_of_pixels_are_indexed_alike():
    files = photos(12)
    stored, plain = on_disk(items(files), 8, 3, nothing).pixels, in_memory(items(files), 8, 3, nothing).pixels
    fresh = in_memory(items(files), 8, 3, nothing, keep=False).pixels
    assert isinstance(stored, StoredPixels) and isinstance(fresh, LazyPixels)
    where = np.array([3, 3, 11, 0], np.int32)
    for pixels in (stored, fresh, PixelSubset(stored, np.arange(12)), PixelSubset(fresh, np.arange(12))):
        assert pixels.shape == plain.shape and len(pixels) == 12
        for index in (where, slice(2, 5), slice(None)):
            np.testing.assert_array_equal(pixels[index], plain[index])
    np.testing.assert_array_equal(PixelSubset(stored, where)[np.array([2])], plain[[11]])


def test_an_image_that_vanishes_later_is_named():
    files = photos(3)
    pixels = in_memory(items(files), 8, 3, nothing, keep=False).pixels
    files[1] = b"broken"
    with pytest.raises(InputError, match=r"image 1.png could be read before but not now: not an image"):
        pixels[np.array([0, 1])]


def test_a_file_that_cannot_be_written_is_an_error_before_any_work(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("/proc/nowhere")))
    with pytest.raises(OSError):
        on_disk(items(photos(3), calls), 8, 3, nothing)
    assert not calls


GIB = 2**30


@pytest.mark.parametrize(
    ("wanted", "needed", "disk", "host", "cached", "storage", "words"),
    [
        ("auto", 10, 100, 100, False, "disk", "decoded once to 10 GiB on disk"),
        ("auto", 10, 0, 100, True, "disk", "by an earlier run"),
        ("auto", 10, 11, 100, False, "memory", "the disk of the cache has 11 GiB free"),
        ("auto", 10, 11, 19, False, "nothing", "decoded for each batch: 10 GiB decoded fit neither"),
        ("streamed", 10, 100, 0, False, "disk", "on disk"),
        ("decoded", 10, 100, 100, True, "nothing", "as asked"),
    ],
)
def test_storage_of_decoded_images(wanted, needed, disk, host, cached, storage, words):
    got, why = choose_storage(wanted, needed * GIB, disk=disk * GIB, host=host * GIB, cached=cached)
    assert got == storage and words in why


def test_images_that_fit_nowhere_cannot_be_asked_for():
    for wanted in ("resident", "streamed"):
        with pytest.raises(InputError, match=rf"images is '{wanted}'; 10 GiB decoded fit neither .*; free some, or use auto or decoded"):
            choose_storage(wanted, 10 * GIB, disk=GIB, host=GIB, cached=False)


@seeded
@given(st.integers(0, 100), st.integers(0, 100))
def test_images_are_resident_where_they_leave_the_network_its_share(needed, device):
    got, why = choose_residence("auto", needed * GIB, "disk", device=device * GIB)
    assert got == (5 * needed <= 2 * device)
    assert ("resident" in why) == got
    assert choose_residence("auto", needed, "nothing", device=device)[0] is False
    for wanted in ("resident", "streamed", "decoded"):
        assert choose_residence(wanted, needed, "disk", device=device)[0] == (wanted == "resident")


@pytest.mark.parametrize("missing", ["key", "digests"])
def test_a_canvas_that_does_not_say_what_it_holds_is_decoded_anew(missing):
    wanted = on_disk(items(photos(4)), 8, 3, nothing).pixels[:]
    about = json.loads((_place() / "canvas.json").read_text())
    del about[missing]
    (_place() / "canvas.json").write_text(json.dumps(about))
    again = on_disk(items(photos(4)), 8, 3, nothing)
    assert not again.cached and on_disk(items(photos(4)), 8, 3, nothing).cached
    np.testing.assert_array_equal(again.pixels[:], wanted)
