"""Damaged and hostile weight files: read, or refused in one line, in time, and without running anything."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import save

from sgdr_jax.models.pretrained.read import read_weights

from . import mutations
from .campaign import Outcome, Silent, Try, outcome_of

GOLDEN = Path(__file__).parents[1] / "golden"
RUNS = (
    "exec",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "ctypes.dlopen",
)
"""Events of Python's audit hooks that reading a file must not cause."""

_LIBRARY = os.path.dirname(os.__file__) + "/encodings"

SIZES = (0, 1, 2, 3, 6, 7, -1, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64, 10**30, 0.5, None, "6", [6])
CALLS = (
    *("os system", "posix system", "builtins eval", "builtins exec", "builtins getattr", "builtins __import__", "subprocess Popen"),
    *(
        "collections OrderedDict",
        "torch FloatStorage",
        "torch._utils _rebuild_tensor_v2",
        "torch HalfStorage",
        "torch.storage _load_from_bytes",
    ),
    *(
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "_codecs encode",
        "functools partial",
        "operator attrgetter",
        "torch Size",
        "x y",
    ),
)


@cache
def tensors() -> dict[str, np.ndarray]:
    """Return what all sound files hold."""
    return read_weights(GOLDEN / "torch_zip.pth")


class Watch:
    """Names of the events of `RUNS` while it is on; audit hooks cannot be removed."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: Any) -> None:
        if event == "exec" and getattr(arguments[0], "co_filename", "").startswith(_LIBRARY):
            return  # a codec of Python's own
        if self.on and (event in RUNS or (event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1]))):
            self.seen.append(f"{event} {str(arguments)[:100]}")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign."""
    watch, makers = Watch(), (_zip_bytes, _zip, _zip, _old, _pickle, _safetensors, _safetensors)
    for i, make in enumerate(makers):  # imports what reading needs
        path = folder / f"{i}.pth"
        path.write_bytes(make(Random(i)))
        outcome_of("", lambda path=path: str(read_weights(path)))

    def attempt(seed: int) -> Outcome:
        random = Random(f"weights {seed}")
        make = random.choice(makers)
        data = make(random)
        path = folder / f"weights.{random.choice(('pth', 'safetensors', 'bin', 'pt'))}"
        path.write_bytes(data)
        watch.seen.clear()

        def work() -> str:
            watch.on = True
            try:
                found = read_weights(path)
            finally:
                watch.on = False
            for name, array in found.items():
                assert isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype != object, name
            same = found.keys() == tensors().keys() and all(np.array_equal(found[k], v, equal_nan=True) for k, v in tensors().items())
            if make is _zip_bytes and not same:
                raise Silent("other values under a checksum")
            return "same" if same else "accepted"

        outcome = outcome_of(make.__name__[1:].replace("_", " "), work)
        return outcome._replace(outcome="code", detail="; ".join(watch.seen)) if watch.seen else outcome

    yield attempt


def _zip_bytes(random: Random) -> bytes:
    """Damage a .pth of torch's zip format, which has checksums."""
    return mutations.damaged((GOLDEN / "torch_zip.pth").read_bytes(), random)


def _zip(random: Random) -> bytes:
    """Damage a file in a .pth of torch's zip format."""
    data = (GOLDEN / "torch_zip.pth").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([*files, *[n for n in files if n.endswith("data.pkl")] * 4])
    how = random.randrange(5)
    if how == 0:
        del files[name]
    elif how == 1:
        files[name + random.choice(("x", "/", "/../../x"))] = files.pop(name)
    else:
        files[name] = (mutations.damaged if not name.endswith("pkl") or how == 2 else _opcodes)(files[name], random)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


def _old(random: Random) -> bytes:
    """Damage a .pth of torch's format before that."""
    data = (GOLDEN / "torch_old.pth").read_bytes()
    return (mutations.damaged if random.random() < 0.6 else _opcodes)(data, random)


def _opcodes(data: bytes, random: Random) -> bytes:
    """Put instructions of pickle into a file, or numbers in place of others."""
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        module, name = random.choice(CALLS).split()
        piece = random.choice(
            (
                f"c{module}\n{name}\n".encode(),
                f"c{module}\n{name}\n(S'touch {random.random()}'\ntR".encode(),
                f"\x8c{chr(len(module))}{module}\x8c{chr(len(name))}{name}\x93".encode("latin-1"),
                b"(" * random.choice((1, 100, 100_000)),
                b"2\x86" * random.choice((1, 30, 60)),
                b"}K\x01" + b"2\x86" * 40 + b"K\x01s",
                b"\x8a" + bytes([255]) + b"\xff" * 255,
                b"\x8b" + struct.pack("<I", random.choice((1 << 31, 1 << 20, 8))) + bytes(8),
                b"J" + struct.pack("<I", random.choice((0, 1 << 31, (1 << 31) - 1, 6))),
                b"\x95" + struct.pack("<Q", random.choice((1 << 63, 1 << 40, 8))),
                b"I" + b"9" * random.choice((5, 5_000, 2_000_000)) + b"\n",
                b"r" + struct.pack("<I", random.choice((0, 1 << 31, 1 << 20))),
                bytes([random.choice(b"0123(.)]}lteasbuRiocQqrhjXUVSTGNKMJ\x80\x81\x85\x86\x87\x88\x89\x8a")]),
            )
        )
        data = data[:at] + piece + data[at + random.choice((0, 0, len(piece))) :]
    return data


def _pickle(random: Random) -> bytes:
    """Write a pickle alone, of odd values, as other programs save under the same name."""
    value: Any = random.choice(
        (random.choice(mutations.ODD), {"a": np.ones(2)}, [np.float32(1)], {1: {2: 3}}, Path("x"), random.randbytes(99))
    )
    data = pickle.dumps(value, random.randrange(6))
    return random.choice((data, _opcodes(data, random), mutations.damaged(data, random)))


def _safetensors(random: Random) -> bytes:
    """Damage a safetensors file: any bytes, its header as JSON, or sizes and types in it."""
    data = save(dict(tensors()))
    how = random.randrange(4)
    if how == 0:
        return mutations.damaged(data, random)
    length = struct.unpack_from("<Q", data)[0]
    header, body = data[8 : 8 + length], data[8 + length :]
    if how == 1:
        header = mutations.json_text(header, random)
    else:
        facts = json.loads(header)
        name = random.choice(list(facts))
        entry = facts[name]
        if how == 2:
            entry["dtype"] = random.choice(
                ("F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I4", "BOOL", "C64", "f32", "", 1, None, "U64", "F4")
            )
        else:
            key = random.choice(("shape", "data_offsets"))
            entry[key] = [random.choice(SIZES) for _ in range(random.choice((0, 1, 2, 2, 3)))]
        header = json.dumps(facts).encode()
    size = len(header) if random.random() < 0.95 else random.choice((0, 1, 1 << 31, 1 << 40, (1 << 64) - 1))
    return struct.pack("<Q", size) + header + body
