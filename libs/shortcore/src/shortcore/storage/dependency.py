"""The state of one dependency, as `/health` shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dependency:
    """One line of `/health`: whether the dependency answers, and its last error."""

    name: str
    ok: bool
    detail: str
