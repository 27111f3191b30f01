"""Import: batches in order, a few in flight, each sent under a key made from its content.

Rows are read where Ctrl-C arrives, as a pipe may stay silent, and sent by threads that hold up no
end of the process, as a server may take its time.

The key of a batch is a hash of it and of the key before, so that a batch that is sent again
(after a lost answer, by `--resume`, or because the whole import is run once more) is answered by
the API from memory and creates nothing twice, while equal batches at two places of a file are two.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue

import msgspec

from shortctl.api.client import check
from shortctl.api.connection import Answer, Connection, NoAnswer
from shortctl.links.rows import Fault, Row

BATCH_ROWS = 2000
BATCH_BYTES = 2 * 1024 * 1024
"""A server that takes less gets the batch in halves."""

BATCH_PASSWORDS = 100
"""What the API takes at once, as each must be hashed."""

IN_FLIGHT = 4
TRIES = 6
LONGEST_PAUSE_S = 10.0
PATH = "/api/v1/links:import"

_TOO_LARGE = 413
_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed; 409: the first try is still worked on."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far an import came: batches done, the key of the last one, and what became of rows.

    `again` of the links were created by an earlier import of the same rows; `salt` tells an import
    that is meant once more from the one before.
    """

    batches: int = 0
    key: str = ""
    created: int = 0
    failed: int = 0
    again: int = 0
    salt: str = ""


class CheckpointFile:
    """The file beside the input that `--resume` goes on from; without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> Checkpoint | None:
        """Return what was kept, or None. Raises ValueError for a file that is not ours."""
        if self._path is None or not self._path.exists():
            return None
        return msgspec.json.decode(self._path.read_bytes(), type=Checkpoint)

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep `checkpoint`."""
        if self._path is not None:
            staging = self._path.with_name(self._path.name + ".new")
            staging.write_bytes(msgspec.json.encode(checkpoint))
            staging.replace(self._path)

    def remove(self) -> None:
        """Forget: the import is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class OtherFileError(Exception):
    """The input is not the one that the checkpoint was made from."""


@dataclass(slots=True)
class Batch:
    """Rows to send together: each row's JSON and its line, and what is wrong with the others."""

    key: str
    items: list[bytes]
    lines: list[int]
    faults: list[Fault] = field(default_factory=list)


class _Failure(msgspec.Struct, frozen=True):
    line: int
    problem: object


class _Done(msgspec.Struct, frozen=True):
    created: int
    failed: list[_Failure]


@dataclass(slots=True)
class _Outcome:
    created: int = 0
    again: int = 0
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch on its way, and where its outcome will be found."""

    batch: Batch
    landed: SimpleQueue[_Outcome | Exception]


class Importer:
    """Sends rows to the API in batches and tells what became of each.

    It sends over all `servers`, which are connections to one API, at once. `reached` is up to date
    after each batch; `on_fault` hears of every row that failed, `on_progress` of every batch.
    """

    def __init__(
        self,
        servers: Iterable[Connection],
        checkpoints: CheckpointFile,
        on_fault: Callable[[Fault], None],
        on_progress: Callable[[Checkpoint], None],
    ) -> None:
        self.reached = Checkpoint()
        self._idle = list(servers)
        self._in_flight = len(self._idle)
        self._checkpoints = checkpoints
        self._on_fault = on_fault
        self._on_progress = on_progress
        self._anew = True
        self._over = threading.Event()

    def run(self, rows: Iterable[Row], since: Checkpoint | None = None, *, salt: str = "") -> None:
        """Import `rows`, leaving out the batches that `since` says are done.

        With a `salt` of its own an import creates what an earlier one has created already. Raises
        Refused or NoAnswer when the API refuses a whole batch or stays away, and OtherFileError
        when `rows` are not those of `since`.
        """
        flights: deque[_Flight] = deque()
        self._anew = since is None
        self.reached = Checkpoint(salt=salt if since is None else since.salt)
        try:
            for number, batch in enumerate(batches(rows, self.reached.salt), 1):
                if since is not None and number <= since.batches:
                    if number == since.batches and batch.key != since.key:
                        raise OtherFileError
                    self.reached = since
                    continue
                if len(flights) == self._in_flight:
                    self._settle(flights.popleft())
                flights.append(self._launch(batch))
            while flights:
                self._settle(flights.popleft())
            if since is not None and self.reached.batches < since.batches:
                raise OtherFileError
        except KeyboardInterrupt:
            # What was answered while a pipe stayed silent is done, too.
            while flights and not flights[0].landed.empty():
                self._settle(flights.popleft())
            raise
        finally:
            self._over.set()
            for connection in self._idle:
                connection.close()
        self._checkpoints.remove()

    def _launch(self, batch: Batch) -> _Flight:
        flight = _Flight(batch, SimpleQueue())

        def fly() -> None:
            connection = self._idle.pop()
            try:
                outcome: _Outcome | Exception = self._send(
                    connection, batch.key, batch.items, batch.lines
                )
            except Exception as error:  # noqa: BLE001  # raised by who waits for the outcome
                outcome = error
            if self._over.is_set():
                connection.close()
            # Before the outcome is told: the next batch may take it at once.
            self._idle.append(connection)
            flight.landed.put(outcome)

        threading.Thread(target=fly, daemon=True).start()
        return flight

    def _settle(self, flight: _Flight) -> None:
        outcome = flight.landed.get()
        if isinstance(outcome, Exception):
            raise outcome
        batch = flight.batch
        faults = sorted(batch.faults + outcome.faults, key=lambda fault: fault.line)
        for fault in faults:
            self._on_fault(fault)
        now = self.reached
        self.reached = Checkpoint(
            now.batches + 1,
            batch.key,
            now.created + outcome.created,
            now.failed + len({fault.line for fault in faults}),
            now.again + outcome.again,
            now.salt,
        )
        self._checkpoints.save(self.reached)
        self._on_progress(self.reached)

    def _send(
        self, connection: Connection, key: str, items: list[bytes], lines: list[int]
    ) -> _Outcome:
        if not items:
            return _Outcome()
        answer, first_try = self._post(connection, key, b"\n".join(items))
        if answer.status == _TOO_LARGE:
            return self._send_halves(connection, key, items, lines, answer)
        check(answer)
        done = msgspec.json.decode(answer.content, type=_Done)
        faults = [
            fault
            for failure in done.failed
            for fault in _faults_of(lines[failure.line - 1], failure.problem)
        ]
        # What this import did before its answer was lost, or before it was cut off, it has created.
        if first_try and self._anew and "idempotency-replayed" in answer.headers:
            return _Outcome(0, done.created, faults)
        return _Outcome(done.created, 0, faults)

    def _send_halves(
        self,
        connection: Connection,
        key: str,
        items: list[bytes],
        lines: list[int],
        refusal: Answer,
    ) -> _Outcome:
        if len(items) == 1:
            return _Outcome(faults=_faults_of(lines[0], refusal.json()))
        half = len(items) // 2
        one = self._send(connection, f"{key}.0", items[:half], lines[:half])
        two = self._send(connection, f"{key}.1", items[half:], lines[half:])
        return _Outcome(one.created + two.created, one.again + two.again, one.faults + two.faults)

    def _post(self, connection: Connection, key: str, body: bytes) -> tuple[Answer, bool]:
        """Return the answer, and whether it came to the first try."""
        headers = {"content-type": "application/jsonl", "idempotency-key": key}
        pause = 0.2
        for attempt in range(1, TRIES + 1):
            try:
                answer = connection.ask("POST", PATH, body, headers)
                if answer.status not in _AGAIN or attempt == TRIES:
                    return answer, attempt == 1
                pause = max(pause, _retry_after(answer))
            except NoAnswer:
                if attempt == TRIES or self._over.is_set():
                    raise
            self._over.wait(min(pause, LONGEST_PAUSE_S))
            pause *= 2
        raise AssertionError("the last try returns or raises")


def batches(rows: Iterable[Row], salt: str = "") -> Iterator[Batch]:
    """Group `rows` into bounded batches; the same rows and salt give the same keys."""
    key = salt
    batch = Batch("", [], [])
    size = passwords = 0
    for row in rows:
        item = b"" if row.faults else msgspec.json.encode(row.item)
        locked = "password" in row.item
        if (
            len(batch.lines) + len(batch.faults) >= BATCH_ROWS
            or (batch.items and size + len(item) > BATCH_BYTES)
            or passwords + locked > BATCH_PASSWORDS
        ):
            yield (made := _keyed(key, batch))
            key = made.key
            batch = Batch("", [], [])
            size = passwords = 0
        if row.faults:
            batch.faults.extend(row.faults)
            continue
        batch.items.append(item)
        batch.lines.append(row.line)
        size += len(item)
        passwords += locked
    if batch.lines or batch.faults:
        yield _keyed(key, batch)


def _keyed(before: str, batch: Batch) -> Batch:
    digest = hashlib.blake2b(before.encode(), digest_size=20)
    for item in batch.items:
        digest.update(b"\n" + item)
    # A batch of nothing but faults is a step of the chain, too.
    digest.update(str(len(batch.faults)).encode())
    return replace(batch, key=f"import-{digest.hexdigest()}")


def _faults_of(line: int, problem: object) -> list[Fault]:
    if not isinstance(problem, dict):
        return [Fault(line, "", "unknown", "The API gave no reason.")]
    named = [
        Fault(line, _field(each["pointer"]), each["rule"], each["detail"])
        for each in problem.get("errors", ())
    ]
    if named:
        return named
    rule = str(problem.get("type", "")).rpartition(":")[2]
    return [Fault(line, "code" if rule == "code-taken" else "", rule, str(problem.get("detail")))]


def _field(pointer: str) -> str:
    return pointer.removeprefix("/")


def _retry_after(answer: Answer) -> float:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
