"""Seeded damage: what disks, editors and other programs do to files. One change for each case, so that a failure is already small."""

from __future__ import annotations

import json
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 7, 0.25, -0.5, 1e300, 1 << 40, 1 << 70, 10**400),
    *("", "x", "1", "../..", "=1+1", "[/red]", "a\nb\tc", "\x1b[31m", "\u00e9", "package:this.x", "[" * 50),
    *([], [1], ["x", None], [[]], {}, {"type": "Experiment"}, {"a": {"b": [1]}}),
)
"""Values that take the place of others."""


def json_text(text: bytes, random: Random) -> bytes:
    """Change one place of a JSON text: a value of another kind, a key that is gone, renamed or new, two values exchanged; or bytes."""
    if random.random() < 0.15:
        return random.choice((_nested, damaged))(text, random)
    data = [json.loads(text)]
    places = list(_places(data))
    parent, key = random.choice(places)
    how = random.randrange(6)
    if how == 0 and isinstance(parent, dict):
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[key[:-1] or "x"] = parent.pop(key)
    elif how == 2:
        other, name = random.choice(places)
        parent[key], other[name] = other[name], parent[key]
    elif how == 3 and isinstance(parent[key], list):
        parent[key] = parent[key] * random.choice((0, 2))
    else:
        parent[key] = random.choice(ODD)
    try:
        return json.dumps(data[0] if random.random() < 0.98 else random.choice(ODD), ensure_ascii=random.random() < 0.5).encode()
    except (ValueError, RecursionError):  # a list that contains itself, or a number too long to print
        return b"[" * 50


def _nested(text: bytes, random: Random) -> bytes:
    at = random.randrange(len(text))
    return random.choice((b"[" * 100_000, b'{"a":' * 100_000, text[:at] + b"[" * random.choice((90, 2_000, 1 << 20)) + text[at:]))


def _places(data: Any) -> Any:
    """Yield (container, key) of every value in a list."""
    stack = [data]
    while stack:
        parent = stack.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            yield parent, key
            if isinstance(parent[key], (dict, list)):
                stack.append(parent[key])


def damaged(data: bytes, random: Random) -> bytes:
    """Damage bytes: some changed, a block zeroed, cut, shortened, doubled, or the ends exchanged."""
    if not data:
        return b"\0"
    at, size = random.randrange(len(data)), random.choice((1, 2, 16, 512, 4096))
    how, out = random.randrange(7), bytearray(data)
    if how == 0:
        out[at] ^= 1 << random.randrange(8)
    elif how == 1:
        for _ in range(random.randrange(1, 20)):
            out[random.randrange(len(out))] = random.randrange(256)
    elif how == 2:
        out[at : at + size] = bytes(len(out[at : at + size]))
    elif how == 3:
        del out[at:]
    elif how == 4:
        del out[at : at + size]
    elif how == 5:
        out[at:at] = out[at : at + size]
    else:
        out = out[at:] + out[:at]
    return bytes(out)
