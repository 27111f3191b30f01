"""Sends one batch to the API: retries it, halves it if it is too large, and collects row errors."""

import threading
from dataclasses import dataclass, field

import msgspec

from shortcore.links.rows import Fault
from shortctl.api.client import check
from shortctl.api.connection import Connection, NoResponse, Response
from shortctl.links.importing.batches import Batch

TRIES = 6
MAX_PAUSE_S = 10.0
PATH = "/api/v1/links:import"

_TOO_LARGE = 413
_RETRY = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed. 409: the first try is still in progress."""


class _Failure(msgspec.Struct, frozen=True):
    line: int
    problem: object


class _Imported(msgspec.Struct, frozen=True):
    created: int
    failed: list[_Failure]


@dataclass(slots=True)
class Outcome:
    """Links that a batch created, links that an earlier import created, and faults of rows."""

    created: int = 0
    already_created: int = 0
    faults: list[Fault] = field(default_factory=list)


class BatchSender:
    """Sends batches until `stop` is set, which also ends the pauses between tries."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def send(self, connection: Connection, batch: Batch, *, resumed: bool) -> Outcome:
        """Send a batch and return its outcome, without the faults known before.

        If the import was `resumed`, it created the links of a batch that the API has seen before.
        Raises Refused if the API refuses the whole batch, and NoResponse after `TRIES` tries.
        """
        return self._send(connection, batch.key, batch.items, batch.lines, resumed=resumed)

    def _send(
        self,
        connection: Connection,
        key: str,
        items: list[bytes],
        lines: list[int],
        *,
        resumed: bool,
    ) -> Outcome:
        if not items:
            return Outcome()
        response, tries = self._post(connection, key, b"\n".join(items))
        if response.status == _TOO_LARGE:
            if len(items) == 1:
                return Outcome(faults=_faults_of(lines[0], response.json()))
            half = len(items) // 2
            one = self._send(connection, f"{key}.0", items[:half], lines[:half], resumed=resumed)
            two = self._send(connection, f"{key}.1", items[half:], lines[half:], resumed=resumed)
            return Outcome(
                one.created + two.created,
                one.already_created + two.already_created,
                one.faults + two.faults,
            )
        check(response)
        imported = msgspec.json.decode(response.content, type=_Imported)
        faults = [
            fault
            for failure in imported.failed
            for fault in _faults_of(lines[failure.line - 1], failure.problem)
        ]
        # A replayed response to a later try, or after --resume, is about links of this import.
        if tries == 1 and not resumed and "idempotency-replayed" in response.headers:
            return Outcome(0, imported.created, faults)
        return Outcome(imported.created, 0, faults)

    def _post(self, connection: Connection, key: str, body: bytes) -> tuple[Response, int]:
        """Return the response and the number of tries."""
        headers = {"content-type": "application/jsonl", "idempotency-key": key}
        pause_s = 0.2
        for attempt in range(1, TRIES + 1):
            try:
                response = connection.send("POST", PATH, body, headers)
                if response.status not in _RETRY or attempt == TRIES:
                    return response, attempt
                pause_s = max(pause_s, _retry_after_s(response))
            except NoResponse:
                if attempt == TRIES or self._stop.is_set():
                    raise
            self._stop.wait(min(pause_s, MAX_PAUSE_S))
            pause_s *= 2
        raise AssertionError("the last try returns or raises")


def _faults_of(line: int, problem: object) -> list[Fault]:
    """Return the faults that a problem (RFC 9457) of the API reports for the row at `line`."""
    if not isinstance(problem, dict):
        return [Fault(line, "", "unknown", "The API gave no reason.")]
    faults = [
        Fault(line, each["pointer"].removeprefix("/"), each["rule"], each["detail"])
        for each in problem.get("errors", ())
    ]
    if faults:
        return faults
    rule = str(problem.get("type", "")).rpartition(":")[2]
    return [Fault(line, "code" if rule == "code-taken" else "", rule, str(problem.get("detail")))]


def _retry_after_s(response: Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
