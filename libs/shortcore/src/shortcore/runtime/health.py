"""What a process knows of itself and its dependencies, for probes and for people."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shortcore.storage.dependency import Dependency


class Phase(enum.Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(slots=True)
class Health:
    """The state behind `/livez`, `/readyz` and `/health`.

    Readiness is «started and not draining» and nothing else: a redirector whose database is
    away still answers from its caches, and taking every pod out of the Service at once would
    turn a slow dependency into an outage.
    """

    phase: Phase = Phase.STARTING
    started_at: float = field(default_factory=time.time)
    checks: list[Callable[[], Dependency]] = field(default_factory=list)

    def add(self, check: Callable[[], Dependency]) -> None:
        """Show `check` in `/health`; it must answer from memory, at once."""
        self.checks.append(check)

    @property
    def ready(self) -> bool:
        """Whether traffic should come here."""
        return self.phase is Phase.READY

    def dependencies(self) -> list[Dependency]:
        """Return the state of every dependency."""
        return [check() for check in self.checks]
