"""Settings that change while a service runs: one watched file over the settings of the start.

The file is checked as a whole, by the same rules as at the start, before any of it counts: a
faulty one changes nothing. It is read again and again, not watched by inotify, as Kubernetes
swaps the symbolic link above the file and never touches the file itself.
"""

import asyncio
import copy
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from shortcore.runtime.metrics import FromMemory
from shortcore.settings.catalog import ALL, DYNAMIC
from shortcore.settings.shared import DynamicFileSettings

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S = 2.0
"""How often the file is read; it holds a few lines."""

S = TypeVar("S", bound=DynamicFileSettings)


class DynamicFile(Generic[S]):
    """Holds the settings in force; `take` gets them at each change, and must not wait.

    `read()` looks at the file once and never raises for what stands in it: a fault is logged, a
    line each, and counted, and the last good settings stay.
    """

    def __init__(self, settings: S, take: Callable[[S], None]) -> None:
        self.generation = 0
        """A number made of the content in force: equal in all processes with the same; 0: none."""
        self.applied_at = 0.0
        self.errors = 0
        self._given = settings
        self._path = settings.dynamic_file
        self._take = take
        self._seen = ""

    def read(self) -> bool:
        """Take over what stands in the file; returns whether that changed the settings."""
        if self._path is None:
            return False
        try:
            content = self._path.read_bytes()
        except OSError as error:
            return self._fault(f"unreadable: {error.strerror}", [str(error)])
        digest = hashlib.sha256(content).hexdigest()
        if digest == self._seen:
            return False
        try:
            changed = checked(content)
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
                for fault in error.errors(include_url=False)
            ]
            return self._fault(digest, lines)
        except (ValueError, yaml.YAMLError) as error:
            return self._fault(digest, [" ".join(str(error).split())])
        known = type(self._given).model_fields
        settings = self._given.model_copy(
            update={name: value for name, value in changed.items() if name in known}
        )
        logging.getLogger().setLevel(str(changed.get("log_level", _level(self._given))).upper())
        self._take(settings)
        self._seen = digest
        self.generation = int(digest[:12], 16)
        self.applied_at = time.time()
        log.info("dynamic settings in force", generation=self.generation, names=sorted(changed))
        return True

    async def watch(self) -> None:
        """Read the file for ever."""
        while True:
            self.read()
            await asyncio.sleep(INTERVAL_S)

    def export(self, figures: FromMemory) -> None:
        """Add its figures to what `/metrics` shows."""
        figures.gauge(
            "shortlinks_config_generation",
            "Made of the dynamic settings in force, so that equal ones have equal numbers; 0: none",
            lambda: self.generation,
        )
        figures.gauge(
            "shortlinks_config_applied_timestamp_seconds",
            "When they were taken over, in Unix time; 0: never",
            lambda: self.applied_at,
        )
        figures.counter(
            "shortlinks_config_errors",
            "Times that the file of dynamic settings was found faulty or unreadable",
            lambda: self.errors,
        )

    def _fault(self, seen: str, lines: list[str]) -> bool:
        if seen != self._seen:  # the same fault again is no news
            self._seen = seen
            self.errors += 1
            for line in lines:
                log.error("dynamic settings are faulty", file=str(self._path), fault=line)
        return False


def checked(content: bytes) -> Mapping[str, Any]:
    """Return the settings in a YAML text; those that are null are left out.

    Raises ValidationError, yaml.YAMLError, or ValueError when it is no mapping or not UTF-8.
    """
    found = yaml.safe_load(content.decode())
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError("not a mapping of names to values")  # noqa: TRY004  # a fault of the file, not of the caller
    given = {name: value for name, value in found.items() if value is not None}
    values = _MODEL.model_validate(given)
    return {name: getattr(values, name) for name in values.model_fields_set}


def _level(settings: DynamicFileSettings) -> object:
    return getattr(settings, "log_level", "info")


def _declared() -> dict[str, Any]:
    return {
        name: (info.annotation, copy.copy(info))
        for settings in ALL
        for name, info in settings.model_fields.items()
        if name in DYNAMIC
    }


# Every service checks the whole file, also what only its neighbours read: a file that one of
# them refuses is refused by all.
_MODEL: type[BaseModel] = create_model(
    "Dynamic", __config__=ConfigDict(extra="forbid"), **_declared()
)
