"""Reads pickles of plain values, without the unpickler and without running code from the file.

Only the instructions that build plain values are known, every one of them takes constant time, and their number is bounded. An ordinary
unpickler hashes whatever is used as a key, which for nested tuples takes exponential time, deaf to signals.
Format: pickletools.py of Python's library.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

from ...core.errors import InputError

MAX_INSTRUCTIONS = 2_000_000
"""Bound on the instructions of a pickle: two seconds. A tensor of a state dict takes about forty."""

_MARK = object()
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_ARGUMENTS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
_PAIRS = {"SETITEM": 2, "SETITEMS": None, "DICT": None}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}


class Inert:
    """Stand-in for a class and its instances, of which nothing is kept and nothing is run: whatever a pickle gives them is dropped."""


class StateDict(dict):
    """Stand-in for collections.OrderedDict, whose own state is ignored."""


class PickleReader:
    """Reads one pickle after the other from a stream.

    Attributes:
        names: values of the global names that a pickle may use; functions among them may be called, `Inert` ones stay inert.
        persistent: turns a persistent id into its value.
    """

    def __init__(self, names: Mapping[str, object], persistent: Callable[[object], object]) -> None:
        self.names, self.persistent = names, persistent

    def read(self, stream: IO[bytes]) -> object:
        """Read exactly one pickle and return its value.

        Raises:
            InputError: for an instruction or a name that plain values do not need.
            ValueError: or any error of Python's library, for a damaged pickle.
        """
        self._stack: list[Any] = []
        self._memo: dict[int, object] = {}
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if steps > MAX_INSTRUCTIONS:
                raise InputError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        (value,) = self._stack
        return value

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            if isinstance(argument, int) and abs(argument) >= 1 << 80:  # the magic number of the older format has 77 bits
                raise InputError("a number in its pickle is too large")
            stack.append(argument)
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in _PAIRS:
            values = self._pop(_PAIRS[name])
            if name == "DICT":
                stack.append({})
            self._set(values)
        elif name == "LIST":
            stack.append(self._pop(None))
        elif name in ("APPEND", "APPENDS"):
            values = self._pop(1 if name == "APPEND" else None)
            if not isinstance(stack[-1], Inert):
                self._top(list).extend(values)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self._named(argument if name == "GLOBAL" else " ".join(map(str, self._pop(2)))))
        elif name in ("REDUCE", "BUILD", "BINPERSID", "NEWOBJ"):
            self._build(name)
        elif name not in ("PROTO", "FRAME"):
            raise InputError(f"its pickle contains the instruction {name}, which no tensor needs")

    def _pop(self, count: int | None) -> list[Any]:
        """Remove the last values of the stack, those after the mark if the count is None."""
        stack = self._stack
        if count is None:
            count = next(i for i, value in enumerate(reversed(stack)) if value is _MARK)
            values = stack[len(stack) - count :]
            del stack[len(stack) - count - 1 :]
            return values
        if len(stack) < count:
            raise ValueError("a value is missing")
        values = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return values

    def _top[T](self, kind: type[T]) -> T:
        if not (self._stack and isinstance(self._stack[-1], kind)):
            raise ValueError(f"a {kind.__name__} is missing")
        return self._stack[-1]

    def _set(self, values: list[Any]) -> None:
        if self._stack and isinstance(self._stack[-1], Inert):
            return
        into = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, Inert):
                continue
            # Only keys whose hash takes constant time.
            if not isinstance(key, (str, int, float, type(None))):
                raise InputError(f"its pickle has a key of type {type(key).__name__}, which no tensor needs")
            into[key] = value

    def _named(self, text: str) -> object:
        module, _, name = text.partition(" ")
        if text not in self.names:
            fix = "do not trust this file; where it was made, torch.save(model.state_dict(), FILE) writes one with tensors alone"
            raise InputError(f"it asks for {module}.{name}, which no tensor needs; {fix}")
        return self.names[text]

    def _build(self, name: str) -> None:
        if name == "BINPERSID":
            self._stack.append(self.persistent(*self._pop(1)))
            return
        target, value = self._pop(2)
        if isinstance(target, Inert):
            self._stack.append(target)
        elif name == "BUILD":  # the state of a state dict is the versions of its modules
            if not isinstance(target, StateDict):
                raise InputError("its pickle sets the state of a function or class")
            self._stack.append(target)
        elif name == "REDUCE" and callable(target) and isinstance(value, tuple):
            self._stack.append(target(*value))
        else:
            raise InputError("its pickle calls what is no function")
