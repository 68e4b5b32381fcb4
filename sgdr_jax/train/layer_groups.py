"""Layer groups of any tree of parameters, for loops outside the package: labels for optax, and masks of what trains."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# The trees are anybody's.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.validation import require


def group_labels(params: Any, groups: Mapping[str, Sequence[str]]) -> Any:
    """Label every leaf of a tree with its layer group: `optax.multi_transform(rules, functools.partial(group_labels, groups=groups))`.

    Args:
        params: a tree of nested dicts, NNX states, lists or objects.
        groups: name of each group to the places that it holds: keys joined by dots, such as "encoder.block1". Of several that contain a
            leaf, the longest counts; "" contains all.

    Returns:
        A tree of the structure of `params` with the name of a group at each leaf.

    Raises:
        InputError: a leaf lies in no group, a place holds no leaf, or lies in two groups.

    Example:
        >>> params = {"stem": {"w": 1.0}, "blocks": {"0": {"w": 2.0}, "1": {"w": 3.0}}, "head": {"b": 4.0, "w": 5.0}}
        >>> group_labels(params, {"early": ("stem", "blocks.0"), "late": ("blocks",), "head": ("head",)})
        {'blocks': {'0': {'w': 'early'}, '1': {'w': 'late'}}, 'head': {'b': 'head', 'w': 'head'}, 'stem': {'w': 'early'}}
    """
    import jax

    places: dict[str, str] = {}
    for name, held in groups.items():
        for place in held:
            owner = places.setdefault(place, name)
            require(owner == name, "groups", list(groups), f"{place or 'everything'!r} lies in {owner} and in {name}; leave one out")
    used: set[str] = set()

    def label(path: tuple[Any, ...], _: Any) -> str:
        keys = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        inside = [".".join(keys[:n]) for n in range(len(keys), -1, -1)]
        place = next((place for place in inside if place in places), None)
        require(place is not None, "groups", list(groups), f"{inside[0]} lies in none of them; name it, or what contains it")
        assert place is not None
        used.add(place)
        return places[place]

    labels = jax.tree_util.tree_map_with_path(label, params)
    unused = sorted(places.keys() - used)
    require(not unused, "groups", unused, "no parameters lie there alone; look at the keys of the tree")
    return labels


def trained_mask(labels: Any, trained: Sequence[str]) -> Any:
    """Return a tree of booleans, True at the leaves of the groups that train, for `optax.masked` and to count or freeze parameters.

    Args:
        labels: as returned by `group_labels`.
        trained: names of the groups.

    Raises:
        InputError: no leaf has one of the names.

    Example:
        >>> trained_mask({"stem": "early", "head": "head"}, ("head",))
        {'head': True, 'stem': False}
    """
    import jax

    known = set(jax.tree.leaves(labels))
    require(set(trained) <= known, "trained", tuple(trained), f"the groups are {', '.join(sorted(known))}")
    return jax.tree.map(lambda name: name in trained, labels)
