"""Settings that change while a service runs, from a YAML file.

The file is validated as a whole, by the same rules as the settings at the start. An invalid file
changes nothing. The file is polled, because inotify would not notice its changes: Kubernetes
replaces a symbolic link above the file and never writes to the file itself.
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
"""Polling interval of the file, which has only a few lines."""

S = TypeVar("S", bound=DynamicFileSettings)


class DynamicFile(Generic[S]):
    """Applies the settings in the dynamic file, which override the settings at the start.

    `apply` is called with the new settings at each change; it must not block.
    """

    def __init__(self, settings: S, apply: Callable[[S], None]) -> None:
        self.generation = 0
        """A hash of the content in effect, equal in all processes with the same content; 0: none."""
        self.applied_at = 0.0
        """Unix time of the last change in seconds; 0: none yet."""
        self.errors = 0
        """Times that the file was invalid or could not be read."""
        self._start_settings = settings
        self._path = settings.dynamic_file
        self._apply = apply
        self._seen = ""

    def read(self) -> bool:
        """Read the file and apply it if it changed; returns whether settings were applied.

        Raises nothing if the file is invalid: each error is logged and the file is counted once. The
        last valid settings stay in effect.
        """
        if self._path is None:
            return False
        try:
            content = self._path.read_bytes()
        except OSError as error:
            return self._invalid(f"unreadable: {error.strerror}", [str(error)])
        digest = hashlib.sha256(content).hexdigest()
        if digest == self._seen:
            return False
        try:
            changed = parse(content)
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
                for fault in error.errors(include_url=False)
            ]
            return self._invalid(digest, lines)
        except (ValueError, yaml.YAMLError) as error:
            return self._invalid(digest, [" ".join(str(error).split())])
        known = type(self._start_settings).model_fields
        settings = self._start_settings.model_copy(
            update={name: value for name, value in changed.items() if name in known}
        )
        logging.getLogger().setLevel(
            str(changed.get("log_level", _level(self._start_settings))).upper()
        )
        self._apply(settings)
        self._seen = digest
        self.generation = int(digest[:12], 16)
        self.applied_at = time.time()
        log.info("dynamic settings applied", generation=self.generation, names=sorted(changed))
        return True

    async def watch(self) -> None:
        """Poll the file until cancelled."""
        while True:
            self.read()
            await asyncio.sleep(INTERVAL_S)

    def export(self, metrics: FromMemory) -> None:
        """Export the metrics of the dynamic file."""
        metrics.gauge(
            "shortlinks_config_generation",
            "Hash of the dynamic settings in effect, equal in all processes with the same settings; 0: none.",
            lambda: self.generation,
        )
        metrics.gauge(
            "shortlinks_config_applied_timestamp_seconds",
            "Unix time at which the dynamic settings were last applied; 0: never.",
            lambda: self.applied_at,
        )
        metrics.counter(
            "shortlinks_config_errors",
            "Times that the file of dynamic settings was invalid or could not be read.",
            lambda: self.errors,
        )

    def _invalid(self, seen: str, lines: list[str]) -> bool:
        if seen != self._seen:  # the same content was not reported before
            self._seen = seen
            self.errors += 1
            for line in lines:
                log.error("dynamic settings are invalid", file=str(self._path), error=line)
        return False


def parse(content: bytes) -> Mapping[str, Any]:
    """Return the settings in a YAML text, without those that are null.

    Raises ValidationError, yaml.YAMLError, or ValueError if the text is not UTF-8 or not a mapping.
    """
    found = yaml.safe_load(content.decode())
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError("the file must be a mapping of names to values")  # noqa: TRY004  # the file is invalid, not the argument's type
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


# Every service validates all dynamic settings, also those of other services, so that all services
# accept or refuse the same file.
_MODEL: type[BaseModel] = create_model(
    "Dynamic", __config__=ConfigDict(extra="forbid"), **_declared()
)
