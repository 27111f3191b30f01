"""A bounded queue in which links, the networks of a link, and the clients of a network take turns.

It is a round robin at each level, so an item delays only later items of the same link, network or
client. A full queue drops an item of the longest sub-queue ("longest queue drop", RFC 7806, section
2): it refuses a new item only if no other sub-queue is longer than that of the new item.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Place(NamedTuple):
    """Where an item waits. `network` holds `client`, and one link has many networks."""

    link: str
    network: str
    client: str


class Limits(NamedTuple):
    """Maximum numbers of waiting items: in total, and per link, network and client of a link."""

    total: int
    link: int
    network: int
    client: int


@dataclass(slots=True)
class _Branch(Generic[T]):
    size: int = 0
    branches: "dict[str, _Branch[T]]" = field(default_factory=dict)
    items: deque[T] = field(default_factory=deque)


class Turns(Generic[T]):
    """The queue. The memory of a place is freed when its last item leaves."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._root: _Branch[T] = _Branch()

    def __len__(self) -> int:
        return self._root.size

    def put(self, place: Place, item: T) -> T | None:
        """Add `item`; returns the item that was dropped (`item` or another one), or None."""
        path = [self._root]
        for name in place:
            branch = path[-1].branches.get(name)
            if branch is None:
                break
            path.append(branch)
        dropped: T | None = None
        for depth in reversed(range(len(path))):
            if path[depth].size >= self._limits[depth]:
                victim = _victim(path[depth], place[depth:])
                if victim is None:
                    return item
                names, dropped = (*place[:depth], *victim), self._newest(path[depth], victim)
                self._shrink(names)
                break
        branch = self._root
        branch.size += 1
        for name in place:
            branch = branch.branches.setdefault(name, _Branch())
            branch.size += 1
        branch.items.append(item)
        return dropped

    def take(self, link: str) -> T | None:
        """Remove and return the next item of `link`; None if no item waits."""
        branch = self._root.branches.get(link)
        if branch is None:
            return None
        names, above = [link], branch
        while above.branches:
            name = next(iter(above.branches))
            below = above.branches[name] = above.branches.pop(name)  # to the end of the round
            names.append(name)
            above = below
        item = above.items.popleft()
        self._shrink(tuple(names))
        return item

    def remove(self, place: Place, item: T) -> None:
        """Remove `item` if it still waits."""
        branch: _Branch[T] | None = self._root
        for name in place:
            branch = branch.branches.get(name) if branch is not None else None
        if branch is not None and item in branch.items:
            branch.items.remove(item)
            self._shrink(place)

    def _newest(self, branch: _Branch[T], names: tuple[str, ...]) -> T:
        for name in names:
            branch = branch.branches[name]
        return branch.items.pop()

    def _shrink(self, names: tuple[str, ...]) -> None:
        branch = self._root
        branch.size -= 1
        for name in names:
            below = branch.branches[name]
            below.size -= 1
            if not below.size:
                del branch.branches[name]
                return
            branch = below


def _victim(branch: _Branch[T], own: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the path from `branch` to a sub-queue longer than that of `own`, or None."""
    names: list[str] = []
    for name in own:
        mine = branch.branches.get(name)
        longest = _longest(branch)
        if branch.branches[longest].size > (mine.size if mine else 0) + 1:
            names.append(longest)
            branch = branch.branches[longest]
            while branch.branches:
                names.append(_longest(branch))
                branch = branch.branches[names[-1]]
            return tuple(names)
        if mine is None:
            return None
        names.append(name)
        branch = mine
    return None


def _longest(branch: _Branch[T]) -> str:
    return max(branch.branches, key=lambda name: branch.branches[name].size)
