"""The eight ports of a local stack."""

from collections.abc import Callable
from dataclasses import dataclass

from shortctl.embedded.ports import LOOPBACK, ports_in_use

DEFAULT_BASE = 8000
BASE_STEP = 100
COUNT = 8


class PortsTakenError(Exception):
    """The requested ports are in use; the message names them and the option that changes them."""


@dataclass(frozen=True)
class Ports:
    """Eight consecutive ports that start at `base`."""

    base: int

    @property
    def writer(self) -> int:
        """The port of the API."""
        return self.base

    @property
    def redirector(self) -> int:
        """The port of the short links."""
        return self.base + 1

    @property
    def writer_admin(self) -> int:
        """The admin port of the writer."""
        return self.base + 2

    @property
    def redirector_admin(self) -> int:
        """The admin port of the redirector."""
        return self.base + 3

    @property
    def relay_admin(self) -> int:
        """The admin port of the relay."""
        return self.base + 4

    @property
    def worker_admin(self) -> int:
        """The admin port of the worker."""
        return self.base + 5

    @property
    def postgres(self) -> int:
        """The port of PostgreSQL."""
        return self.base + 6

    @property
    def redis(self) -> int:
        """The port of Valkey."""
        return self.base + 7

    @classmethod
    def choose(cls, requested: int | None, print_message: Callable[[str], None]) -> "Ports":
        """Return the ports from `requested` on, or without one the first eight that are free.

        A message says so if the default ports are in use. Raises PortsTakenError if a requested
        port is in use.
        """
        base = DEFAULT_BASE if requested is None else requested
        first = in_use = ports_in_use(range(base, base + COUNT))
        while in_use and requested is None and base < DEFAULT_BASE + 100 * BASE_STEP:
            base += BASE_STEP
            in_use = ports_in_use(range(base, base + COUNT))
        if in_use:
            raise PortsTakenError(
                f"{_listed(in_use)} in use: choose others with --port-base (make run PORT_BASE=...)"
            )
        if first:
            print_message(f"{_listed(first)} in use: using {base} to {base + COUNT - 1} instead")
        return cls(base)


def url(port: int) -> str:
    """Return the HTTP address of a local port."""
    return f"http://{LOOPBACK}:{port}"


def _listed(ports: list[int]) -> str:
    names = ", ".join(map(str, ports))
    return f"port {names} is" if len(ports) == 1 else f"ports {names} are"
