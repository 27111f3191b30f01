"""A real cluster of three nodes, made by commands alone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis

from harness.waiting import until
from shortctl.embedded import EmbeddedValkey
from shortctl.embedded.ports import free_port

SLOTS = 16384
NODES = 3


@dataclass(eq=False)
class Cluster:
    """Three primaries without replicas, a third of the slots each."""

    folder: Path
    nodes: list[EmbeddedValkey] = field(default_factory=list)

    def __enter__(self) -> Self:
        for number in range(NODES):
            node = EmbeddedValkey(
                self.folder / f"node{number}",
                options={
                    "cluster-enabled": "yes",
                    "cluster-port": str(free_port()),
                    "cluster-node-timeout": "1000",
                    "cluster-require-full-coverage": "no",
                },
            )
            node.start()
            self.nodes.append(node)
        self._join()
        addresses = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"redis+cluster://{addresses}"
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    def keys_of(self, number: int) -> int:
        """Return how many keys one node holds."""
        return int(str(self._ask(number, "DBSIZE")))

    def _join(self) -> None:
        first = self.nodes[0]
        bus = int(first._options["cluster-port"])
        for number in range(NODES):
            start, end = SLOTS * number // NODES, SLOTS * (number + 1) // NODES - 1
            self._ask(number, "CLUSTER", "ADDSLOTSRANGE", start, end)
            self._ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                self._ask(number, "CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        until(
            lambda: all(self._sees_all(number) for number in range(NODES)),
            "all nodes know each other",
            details=first.tail,
        )

    def _sees_all(self, number: int) -> bool:
        info = str(self._ask(number, "CLUSTER", "INFO"))
        wanted = ("state:ok", f"known_nodes:{NODES}", f"slots_ok:{SLOTS}")
        return all(f"cluster_{fact}\\r" in info for fact in wanted)

    def _ask(self, number: int, *words: str | int) -> object:
        with redis.Redis.from_url(self.nodes[number].url) as client:
            return client.execute_command(*words)
