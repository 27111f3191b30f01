"""The phase of a process and the state of its dependencies, for probes and for people."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shortcore.storage.dependency import Dependency


class Phase(enum.Enum):
    """The phases of a process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(slots=True)
class Health:
    """The state that `/livez`, `/readyz` and `/health` report.

    A process is ready if it has started and is not draining; dependencies do not matter. A
    redirector whose database is down still answers from its caches. If a slow dependency made all
    pods unready at once, it would cause an outage.
    """

    phase: Phase = Phase.STARTING
    started_at: float = field(default_factory=time.time)
    checks: list[Callable[[], Dependency]] = field(default_factory=list)

    def add(self, check: Callable[[], Dependency]) -> None:
        """Show the result of `check` in `/health`; it must not block."""
        self.checks.append(check)

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests to this process."""
        return self.phase is Phase.READY

    def dependencies(self) -> list[Dependency]:
        """Return the state of each dependency."""
        return [check() for check in self.checks]
