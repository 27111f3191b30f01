"""Three real Sentinels over a primary and its replica."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import redis

from harness.waiting import until
from shortctl.embedded import EmbeddedValkey, account
from shortctl.embedded.ports import free_port

NAME = "links"
DOWN_AFTER_MS = 500


@dataclass(eq=False)
class SentinelGroup:
    """A primary, one replica and three Sentinels; `url` is what a service is given."""

    folder: Path

    def __enter__(self) -> Self:
        self.primary = EmbeddedValkey(self.folder / "primary", options=_REPLICATED)
        self.primary.start()
        self.replica = EmbeddedValkey(
            self.folder / "replica",
            options=_REPLICATED | {"replicaof": f"127.0.0.1 {self.primary.port}"},
        )
        self.replica.start()
        self.sentinels = [self._sentinel(number) for number in range(3)]
        addresses = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        self.url = f"redis+sentinel://{addresses}/{NAME}"
        self._wait(self._complete, "each Sentinel knows the others and the replica")
        return self

    def __exit__(self, *_: object) -> None:
        for one in (*self.sentinels, self.replica, self.primary):
            one.stop()

    def primary_port(self) -> int:
        """Return where the Sentinels send clients now."""
        with redis.Redis.from_url(self.sentinels[0].url) as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def wait_failed_over(self, from_port: int) -> None:
        """Return when another server is the primary and takes writes."""
        self._wait(
            lambda: self.primary_port() != from_port and _role(self.primary_port()),
            "another server is the primary",
        )

    def _sentinel(self, number: int) -> EmbeddedValkey:
        folder = self.folder / f"sentinel{number}"
        folder.mkdir(mode=0o711, parents=True)
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {NAME} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} 3000\n"
        )
        server = EmbeddedValkey(
            folder, port=free_port(), extra_args=(str(configuration), "--sentinel")
        )
        # It writes its configuration anew beside itself whenever it learns something.
        account.give(configuration, server._account)
        account.give(folder, server._account)
        server.start()
        return server

    def _complete(self) -> bool:
        for one in self.sentinels:
            with redis.Redis.from_url(one.url) as client:
                [state] = client.sentinel_masters().values()
                if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                    return False
        return True

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until(condition, what, details=self.sentinels[0].tail)


_REPLICATED = {"repl-diskless-sync-delay": "0"}


def _role(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return bool(client.info("replication")["role"] == "master")
