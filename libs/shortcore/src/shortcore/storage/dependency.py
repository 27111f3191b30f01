"""The state of one dependency, as `/health` shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dependency:
    """One line of `/health`: whether it answers, and what was last heard."""

    name: str
    ok: bool
    detail: str
