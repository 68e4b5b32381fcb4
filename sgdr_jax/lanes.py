"""Lanes: several runs at once, their updates one program with a leading axis, everything else that is alike in them done once.

Each lane is a run as `recipe.run` does it, with its own run folder; it knows nothing of the others. Only its engine is another: an update
waits until all lanes have come to theirs, and is then done for all of them by one vectorised program; the other programs, which turn
examples into examples, are run once for each distinct call, so that lanes with the same seed share their augmented images, and all lanes
what a common frozen body makes of them. A lane may stop early or fail: its place in the program then computes something that nobody reads.
A lane's seconds are its share of the time: what all do at once counts in equal parts for each, what one does while others wait for it alone
(see `Meeting.seconds`).

Whether the vectorised update gains anything over one update after the other is tried out when an update is first called for: for heads and
small networks it does, for large convolutions with a kernel for each lane it seldom does, and those are then updated in turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import optim
from .contest import contest
from .engine import Engine, Tick
from .feed import Images
from .meeting import Meeting, Together
from .mesh import Devices
from .plan import StagePlan
from .sampling import Batch
from .setting import Setting
from .state import TrainState
from .steps import Scanned, Step


class Stack:
    """Arrays of all lanes, each [lanes, ...], as one program gave them.

    Attributes:
        leaves: the arrays.
        holders: lanes that have been given their part of it.
    """

    def __init__(self, leaves: Sequence[jax.Array], holders: Sequence[int], unstack: Callable[..., Any]) -> None:
        self.leaves, self.holders = list(leaves), frozenset(holders)
        self._unstack, self._rows, self._host = unstack, None, {}

    def rows(self) -> Sequence[Sequence[jax.Array]]:
        """Arrays of each lane by itself."""
        if self._rows is None:
            self._rows = self._unstack(self.leaves)
        return self._rows

    def row(self, leaf: int, lane: int) -> np.ndarray:
        """One array of one lane on the host."""
        if self._rows is not None:
            return np.asarray(self._rows[lane][leaf])
        if leaf not in self._host:
            self._host[leaf] = np.asarray(self.leaves[leaf])
        return self._host[leaf][lane]

    def give_up(self, lanes: Sequence[int]) -> list[jax.Array]:
        """The arrays, to be used up for these lanes; what other lanes hold of them is taken out before."""
        if self.holders - set(lanes):
            self.rows()
        self._host = {}
        return self.leaves


class Part:
    """One lane's part of one array of a stack: what a lane holds in place of an array."""

    def __init__(self, stack: Stack, leaf: int, lane: int) -> None:
        self.stack, self.leaf, self.lane = stack, leaf, lane
        self.shape, self.dtype = stack.leaves[leaf].shape[1:], stack.leaves[leaf].dtype

    @property
    def array(self) -> jax.Array:
        """The part as an array of its own."""
        return self.stack.rows()[self.lane][self.leaf]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def sharding(self) -> Any:
        """Where the array lies."""
        return self.array.sharding

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.stack.row(self.leaf, self.lane), dtype, copy=copy)

    def __jax_array__(self) -> jax.Array:
        return self.array

    def __float__(self) -> float:
        return float(self.stack.row(self.leaf, self.lane))

    def __int__(self) -> int:
        return int(self.stack.row(self.leaf, self.lane))


def _own(tree: Any) -> Any:
    """A tree with arrays in place of parts."""
    return jax.tree.map(lambda x: x.array if isinstance(x, Part) else x, tree)


class Shared:
    """What lanes have in common: results of programs within a round, and arrays for as long as the lanes run.

    Attributes:
        spared: calls of programs that had been answered by another lane's, cheap ones left out.
    """

    def __init__(self) -> None:
        self.round: dict[Any, Any] = {}
        self.found: dict[Any, Any] = {}
        self.placed: dict[int, tuple[np.ndarray, jax.Array | None]] = {}
        self.computing: set[Any] = set()
        self.spared = 0
        self._keys: dict[int, tuple[Any, bytes]] = {}

    def program(self, program: Callable[..., Any], works: bool, *args: Any, **static: Any) -> Any:
        """The program's result; that of an equal call of this round where there was one. `works`: whether it does much."""
        args = _own(args)
        leaves, form = jax.tree.flatten(args)
        key = (id(program), form, *map(self._name, leaves), *sorted(static.items(), key=lambda item: item[0]))
        if key not in self.round:
            self.round[key] = (program(*args, **static), leaves)  # the leaves are held so that no other gets the id of one
        else:
            self.spared += works
        return self.round[key][0]

    def _name(self, leaf: Any) -> Any:
        """Equal for equal host arrays and random keys, and for the same device array."""
        if isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return id(leaf)
        if isinstance(leaf, jax.Array):
            if id(leaf) not in self._keys:
                self._keys[id(leaf)] = (leaf, np.asarray(jax.random.key_data(leaf)).tobytes())
            return self._keys[id(leaf)][1]
        array = np.asarray(leaf)
        return (type(leaf), array.shape, array.dtype.str, array.tobytes())

    def clear(self) -> None:
        """Forgets the arrays of lanes that have ended."""
        for memory in (self.round, self.found, self.placed, self._keys):
            memory.clear()


@dataclass(frozen=True)
class _LaneDevices(Devices):
    """Devices of lanes: host arrays stay on the host until they are stacked; device arrays are not copied, for no lane uses one up."""

    shared: Shared = dataclasses.field(kw_only=True)

    def replicate(self, tree: Any) -> Any:
        return jax.tree.map(self._replicated, tree)

    def hold(self, tree: Any) -> Any:
        return self.replicate(tree)

    def scatter(self, tree: Any, axis: int = 0) -> Any:
        return jax.tree.map(np.asarray, tree)

    def spread(self, rows: Any) -> jax.Array:
        return self._placed(rows, super().spread)

    def _replicated(self, leaf: Any) -> jax.Array:
        if isinstance(leaf, Part):
            return leaf.array
        return leaf if isinstance(leaf, jax.Array) else self._placed(leaf, super().replicate)

    def _placed(self, host: Any, place: Callable[[Any], jax.Array]) -> jax.Array:
        """A host array on the devices, once for all lanes where they share it."""
        if id(host) not in self.shared.placed:
            return place(host)
        held, placed = self.shared.placed[id(host)]
        placed = place(host) if placed is None else placed
        self.shared.placed[id(host)] = (held, placed)
        return placed


@dataclass(frozen=True)
class _LaneEngine(Engine):
    """The engine of each lane; which one asks is known from its turn."""

    meeting: Meeting
    shared: Shared
    updates: Callable[[Step | Scanned, int], Callable[..., Any]]

    def step(self, p: StagePlan, count: int = 1) -> Callable[..., Any]:
        one = Step(self.network, optim.kind(p.optimizer), p.trained, p.collects, self.dtype, p.stage.accumulate)
        program = self.updates(Scanned(one, count) if count > 1 else one, p.steps)

        def update(state: TrainState, *rest: Any) -> tuple[TrainState, dict[str, Any]]:
            # What lies below the lowest trained group is no part of the update, and all lanes may have the same.
            params, stats = ({g: tree[g] for g in p.groups if g not in p.frozen} for tree in (state.params, state.stats))
            after, sums = program(state._replace(params=params, stats=stats), *rest)
            return after._replace(params=state.params | after.params, stats=state.stats | after.stats), sums

        return update

    def now(self) -> float:
        return self.meeting.seconds

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        while key in self.shared.computing:
            self.meeting.turn()
        if key not in self.shared.found:
            self.shared.computing.add(key)
            try:
                self.shared.found[key] = compute()
                arrays = [x for x in jax.tree.leaves(self.shared.found[key]) if isinstance(x, np.ndarray)]
                self.shared.placed |= {id(array): (array, None) for array in arrays}
            finally:
                self.shared.computing.discard(key)
        return self.shared.found[key]

    def map(
        self, function: Callable[[Batch, Any], jax.Array], n: int, images: Images | None = None, tick: Tick | None = None, first: int = 0
    ) -> np.ndarray:
        def in_turn(batch: Batch, x: Any) -> jax.Array:
            rows = function(batch, x)
            self.meeting.turn()  # the others find this batch's results
            return rows

        return super().map(in_turn, n, images, tick, first)


def _groups(forward: Callable[..., Any], groups: tuple[str, ...], params: Any, stats: Any, x: Any, *, start: Any, stop: Any) -> Any:
    """`forward` with the groups that it runs only: calls that differ in others are equal."""
    names = groups[groups.index(start) if start else 0 : groups.index(stop) if stop else None]
    return forward({g: params[g] for g in names}, {g: stats[g] for g in names}, x, start=start, stop=stop)


class Lanes:
    """Runs of one network on one set of data, side by side.

    Args:
        setting: of any of them; its data, programs and images are those of all.
        width: number of lanes of the programs.
        say: told which updates are vectorised, and how long they took in the trial.
        portions: how often as many runs will be done: a trial may cost the more.
    """

    def __init__(self, setting: Setting, width: int, say: Callable[[str], None] = lambda text: None, portions: int = 1) -> None:
        self.width, self._say, self._portions = width, say, portions
        self._shared = Shared()
        self._meeting = Meeting(self._shared.round.clear)
        self._programs: dict[Step | Scanned, Callable[..., Any]] = {}
        self._vectorised = False
        run = setting.engine
        devices = _LaneDevices(**vars(run.devices), shared=self._shared)
        self._stack = jax.jit(lambda rows: [jnp.stack(leaf) for leaf in zip(*rows, strict=True)], out_shardings=self._spread(devices))
        self._unstack = jax.jit(lambda leaves: [[x[i] for x in leaves] for i in range(width)], out_shardings=devices.whole)
        names = {"augmented": True, "mixed": True, "view": True, "plain": False, "rows": False, "slots": False}
        programs: dict[str, Any] = {name: partial(self._shared.program, getattr(run, name), works) for name, works in names.items()}
        programs["forward"] = partial(_groups, partial(self._shared.program, run.forward, True), run.network.groups)
        fields: dict[str, Any] = vars(run) | programs | {"devices": devices}
        self._engine = _LaneEngine(**fields, meeting=self._meeting, shared=self._shared, updates=self._update)
        self._images = {split: dataclasses.replace(x, devices=devices, gather=self._engine.rows) for split, x in setting.images.items()}
        self._devices = devices

    @property
    def useful(self) -> bool:
        """Whether anything was gained so far: updates vectorised, or programs run once for several lanes."""
        return self._vectorised or self._shared.spared > 0

    def setting(self, setting: Setting) -> Setting:
        """The setting of one lane, from that of its run alone."""
        return setting._replace(engine=self._engine, images=self._images)

    def run(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """Runs at most `width` works, one a lane; gives what each returned, or the exception that it raised."""
        assert len(works) <= self.width
        try:
            return self._meeting.run(works)
        finally:
            self._shared.clear()

    def _spread(self, devices: Devices) -> Any:
        return devices.split if self.width % devices.count == 0 else devices.whole

    def _update(self, step: Step | Scanned, steps: int) -> Callable[..., Any]:
        """A step as a lane calls it: (state, hyper, x, labels, weight, key) → (state, sums)."""
        if step not in self._programs:
            self._programs[step] = self._tried(step, steps)
        rank = list(self._programs).index(step)
        together = self._programs[step]

        def update(state: TrainState, *rest: Any) -> tuple[TrainState, dict[str, Any]]:
            fresh = not all(isinstance(leaf, Part) for leaf in jax.tree.leaves(state))
            return self._meeting.together(Together(together, rank, fresh, (state, rest)))

        return update

    def _tried(self, step: Step | Scanned, steps: int) -> Callable[[Mapping[int, Any]], Mapping[int, Any]]:
        """The lanes' updates by whichever way is the faster, which is found out at the first call."""
        chosen: list[Callable[[Mapping[int, Any]], Mapping[int, Any]]] = []

        def advance(calls: Mapping[int, Any]) -> Mapping[int, Any]:
            if not chosen:
                chosen.append(self._faster(step, steps, calls))
            return chosen[0](calls)

        return advance

    def _faster(self, step: Step | Scanned, steps: int, calls: Mapping[int, Any]) -> Callable[[Mapping[int, Any]], Mapping[int, Any]]:
        # Not donated, for lanes may hold the same arrays.
        alone = partial(_in_turn, jax.jit(step, out_shardings=(self._devices.whole, self._devices.whole)))
        side_by_side = partial(self._advance, _vectorised(step, self._spread(self._devices)))
        first, rounds = {i: calls[i] for i in list(calls)[:1]}, self._portions * steps // step.count
        found = contest(partial(_done, alone, first), partial(_done, side_by_side, calls), self.width, rounds)
        self._vectorised |= found.gains
        told = f"not tried vectorised: {found.why}" if found.why else f"vectorised {1e3 * found.fast / step.count:.1f} ms"
        way = "vectorised" if found.gains else "in turn"
        trial = f"in turn {1e3 * found.slow / step.count:.1f} ms, {told}; the trial took {found.cost:.1f} s"
        self._say(f"  {self.width} lanes, updates of {', '.join(step.trained)}: {way} ({trial})")
        return side_by_side if found.gains else alone

    def _advance(self, program: Callable[..., Any], calls: Mapping[int, Any]) -> dict[int, Any]:
        """One update of the lanes that call for it. The others' places are filled with the first caller's arguments."""
        lanes, first = list(calls), min(calls)
        filled = [calls[i if i in calls else first] for i in range(self.width)]
        states, rests = zip(*filled, strict=True)
        form, others = jax.tree.structure(states[0]), jax.tree.structure(rests[0])
        rest = [_column(values) for values in zip(*map(jax.tree.leaves, rests), strict=True)]
        stack = self._common([jax.tree.leaves(calls[i][0]) for i in lanes], lanes)
        if stack is None:
            stack = self._stack([jax.tree.leaves(_own(state)) for state in states])
        after, sums = program(stack, rest, form, others)
        results = [(Stack(jax.tree.leaves(tree), lanes, self._unstack), jax.tree.structure(tree)) for tree in (after, sums)]
        return {
            i: tuple(jax.tree.unflatten(tree, [Part(s, leaf, i) for leaf in range(len(s.leaves))]) for s, tree in results) for i in lanes
        }

    def _common(self, states: Sequence[Sequence[Any]], lanes: Sequence[int]) -> list[jax.Array] | None:
        """The stack that the states of these lanes are their parts of, or None."""
        first = states[0][0]
        if not isinstance(first, Part):
            return None
        for lane, leaves in zip(lanes, states, strict=True):
            for i, x in enumerate(leaves):
                if not (isinstance(x, Part) and x.stack is first.stack and x.leaf == i and x.lane == lane):
                    return None
        return first.stack.give_up(lanes)


def _in_turn(program: Callable[..., Any], calls: Mapping[int, Any]) -> dict[int, Any]:
    return {i: program(*_own((state, *rest))) for i, (state, rest) in calls.items()}


def _done(advance: Callable[[Mapping[int, Any]], Mapping[int, Any]], calls: Mapping[int, Any]) -> None:
    """Does the calls and waits; the results are dropped."""
    jax.block_until_ready(_leaves(advance(calls)))


def _leaves(results: Mapping[int, Any]) -> list[jax.Array]:
    """The arrays behind the results."""
    return [x for leaf in jax.tree.leaves(results) for x in (leaf.stack.leaves if isinstance(leaf, Part) else (leaf,))]


def _column(values: Sequence[Any]) -> Any:
    """One argument of all lanes: host arrays are stacked here, device arrays within the program."""
    if any(isinstance(value, jax.Array | Part) for value in values):
        return tuple(_own(values))
    return np.stack(values)


def _vectorised(step: Step | Scanned, spread: Any) -> Callable[..., Any]:
    """A step for all lanes: (leaves of the states [lanes, ...], used up; arguments; forms of both) → (states, sums)."""

    def lanes(states: list[jax.Array], rest: list[Any], form: Any, others: Any) -> Any:
        columns = [jnp.stack(column) if isinstance(column, tuple) else column for column in rest]
        args = jax.tree.unflatten(form, states), *jax.tree.unflatten(others, columns)
        return jax.vmap(step)(*args)

    return jax.jit(lanes, donate_argnums=0, static_argnums=(2, 3), out_shardings=spread)
