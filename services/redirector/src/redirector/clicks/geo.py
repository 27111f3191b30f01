"""Finds the country and the region of an address in a MaxMind DB file, and reloads the file.

The file never stops a redirector. Without a usable file, clicks have no country; after a failed reload,
the last usable database stays in effect. Failures are logged and counted.
"""

import asyncio
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import maxminddb
import structlog

from shortcore.runtime.metrics import FromMemory

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S = 60.0
"""Polling interval of the file."""

MAX_BYTES = 256 * 1024 * 1024
"""Maximum size of the file. A database of cities has about 65 MB, one of countries 10 MB."""

_COUNTRY = re.compile(r"[A-Z]{2}")
_REGION = re.compile(r"[A-Z0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class _Read:
    """A state of the file: a usable database, or an error."""

    seen: object
    reader: maxminddb.Reader | None = None
    built_at: int = 0
    error: str = ""


class GeoDatabase:
    """The database in the file `path`. Without a path, no address has a place."""

    def __init__(self, path: Path | None) -> None:
        self.loads = 0
        self.failures = {"load": 0, "lookup": 0}
        self.built_at = 0
        """Unix time at which the database in effect was built; 0: there is none."""
        self.path = path
        self._reader: maxminddb.Reader | None = None
        self._seen: object = None

    def place(self, address: str) -> str:
        """Return the country and the region of an address (`DE-BE`), the country (`DE`), or ""."""
        if self._reader is None:
            return ""
        if ":" in address and self._reader.metadata().ip_version == 4:  # noqa: PLR2004  # IPv4 only
            return ""
        try:
            return place_of(self._reader.get(address.partition("%")[0]))
        except Exception as error:  # noqa: BLE001  # a damaged database can raise anything
            self.failures["lookup"] += 1
            if self.failures["lookup"] == 1:
                log.warning("GeoIP lookup failed", file=str(self.path), error=str(error))
            return ""

    async def watch(self, changed: Callable[[], None]) -> None:
        """Load the file now and after each change, and then call `changed`, until cancelled."""
        while True:
            if self._take(await asyncio.to_thread(self._read)):
                changed()
            await asyncio.sleep(INTERVAL_S)

    def load(self) -> bool:
        """Load the file if it has changed; returns whether a new database is in effect.

        A failure is logged and counted once for each state of the file.
        """
        return self._take(self._read())

    def _read(self) -> _Read | None:
        """Read the file if it has changed; changes nothing, because it runs in a thread."""
        if self.path is None:
            return None
        seen: object = None
        try:
            status = self.path.stat()
            seen = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
            if seen == self._seen:
                return None
            _require_file(status)
            reader = _open(self.path, status.st_size)
            built_at = int(reader.metadata().build_epoch)
            place_of(reader.get("192.0.2.1"))
        except Exception as error:  # noqa: BLE001  # a damaged database can raise anything
            found = seen or str(error)
            return _Read(found, error=str(error)) if found != self._seen else None
        return _Read(seen, reader, built_at)

    def _take(self, read: _Read | None) -> bool:
        if read is None:
            return False
        self._seen = read.seen
        if read.reader is None:
            self.failures["load"] += 1
            log.error("GeoIP database not loaded", file=str(self.path), error=read.error)
            return False
        self._reader, self.built_at = read.reader, read.built_at
        self.loads += 1
        log.info("GeoIP database loaded", file=str(self.path), built_at=read.built_at)
        return True

    def export(self, memory: FromMemory) -> None:
        """Export the metrics of the database."""
        memory.gauge(
            "shortlinks_geoip_database_built_timestamp_seconds",
            "Unix time at which the GeoIP database in effect was built; 0: there is none",
            lambda: self.built_at,
        )
        memory.counter(
            "shortlinks_geoip_database_loads",
            "Times that the GeoIP database was loaded",
            lambda: self.loads,
        )
        memory.counter(
            "shortlinks_geoip_failures",
            "Failures of the GeoIP database: the file could not be loaded, or a lookup failed",
            lambda: self.failures,
            "operation",
        )


def place_of(record: object) -> str:
    """Return the place in a record of a database.

    Reads the fields of MaxMind and DB-IP (`country.iso_code`, `subdivisions`), and a country that is a
    text (`country`, `country_code`). A value that is not an ISO 3166 code counts as missing.
    """
    if not isinstance(record, dict):
        return ""
    country = record.get("country", record.get("country_code"))
    if isinstance(country, dict):
        country = country.get("iso_code")
    if not isinstance(country, str) or not _COUNTRY.fullmatch(country):
        return ""
    subdivisions = record.get("subdivisions")
    first = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None
    region = first.get("iso_code") if isinstance(first, dict) else None
    if not isinstance(region, str) or not _REGION.fullmatch(region):
        return country
    return f"{country}-{region}"


def _require_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer
        message = "it is not a regular file"
        raise ValueError(message)
    if status.st_size > MAX_BYTES:
        message = f"it has {status.st_size} bytes, more than {MAX_BYTES}"
        raise ValueError(message)


def _open(path: Path, size: int) -> maxminddb.Reader:
    """Open a copy in memory: if a mapped file is truncated, the kernel ends the process (SIGBUS)."""
    with path.open("rb") as file:
        if not hasattr(os, "memfd_create"):  # not Linux: a slower reader
            return maxminddb.open_database(file, maxminddb.MODE_FD)
        copy = os.memfd_create("geoip")
        try:
            copied = 0
            while copied < size and (
                sent := os.sendfile(copy, file.fileno(), copied, size - copied)
            ):
                copied += sent
            return maxminddb.open_database(f"/proc/self/fd/{copy}")
        finally:
            os.close(copy)
