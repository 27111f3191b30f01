"""Imports rows: sends several batches at the same time and settles them in order.

The main thread reads the rows, because Ctrl-C must end the import even while a pipe is silent.
Daemon threads send the batches, so that a slow server does not delay the end of the process.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue

from shortcore.links.rows import Fault, Row
from shortctl.api.connection import Connection
from shortctl.links.importing.batches import Batch, batches
from shortctl.links.importing.checkpoint import Checkpoint, CheckpointFile
from shortctl.links.importing.sender import BatchSender, Outcome

IN_FLIGHT = 4
"""Batches that are sent at the same time."""


class OtherFileError(Exception):
    """The input file is not the one of the checkpoint."""


@dataclass(frozen=True, slots=True)
class _Sending:
    """A batch that is being sent, and the queue that will hold its outcome."""

    batch: Batch
    outcome: SimpleQueue[Outcome | Exception]


class Importer:
    """Sends rows to the API in batches and reports the result of each row.

    `servers` are connections to one API; each sends one batch at a time. `reached` is current
    after each batch. `on_fault` is called for each fault of a row, `on_progress` for each batch.
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
        self._resumed = False
        self._over = threading.Event()
        self._sender = BatchSender(self._over)

    def run(self, rows: Iterable[Row], since: Checkpoint | None = None, *, salt: str = "") -> None:
        """Import `rows`, except the batches that are complete according to `since`.

        An import with a new `salt` creates links for rows that an earlier import has created.

        Raises Refused if the API refuses a whole batch, NoResponse if the API is unavailable, and
        OtherFileError if `rows` are not the rows of `since`.
        """
        in_flight: deque[_Sending] = deque()
        self._resumed = since is not None
        self.reached = Checkpoint(salt=salt if since is None else since.salt)
        try:
            for number, batch in enumerate(batches(rows, self.reached.salt), 1):
                if since is not None and number <= since.batches:
                    if number == since.batches and batch.key != since.key:
                        raise OtherFileError
                    self.reached = since
                    continue
                if len(in_flight) == self._in_flight:
                    self._settle(in_flight.popleft())
                in_flight.append(self._start(batch))
            while in_flight:
                self._settle(in_flight.popleft())
            if since is not None and self.reached.batches < since.batches:
                raise OtherFileError
        except KeyboardInterrupt:
            # Batches may have been answered while the input was silent.
            while in_flight and not in_flight[0].outcome.empty():
                self._settle(in_flight.popleft())
            raise
        finally:
            self._over.set()
            for connection in self._idle:
                connection.close()
        self._checkpoints.remove()

    def _start(self, batch: Batch) -> _Sending:
        sending = _Sending(batch, SimpleQueue())

        def send() -> None:
            connection = self._idle.pop()
            try:
                outcome: Outcome | Exception = self._sender.send(
                    connection, batch, resumed=self._resumed
                )
            except Exception as error:  # noqa: BLE001  # _settle raises it in the main thread
                outcome = error
            if self._over.is_set():
                connection.close()
            # Before the outcome is put: the main thread may then start the next batch at once.
            self._idle.append(connection)
            sending.outcome.put(outcome)

        threading.Thread(target=send, daemon=True).start()
        return sending

    def _settle(self, sending: _Sending) -> None:
        """Wait for the outcome of a batch, report its faults, and save the checkpoint."""
        outcome = sending.outcome.get()
        if isinstance(outcome, Exception):
            raise outcome
        batch = sending.batch
        faults = sorted(batch.faults + outcome.faults, key=lambda fault: fault.line)
        for fault in faults:
            self._on_fault(fault)
        now = self.reached
        self.reached = Checkpoint(
            now.batches + 1,
            batch.key,
            now.created + outcome.created,
            now.failed + len({fault.line for fault in faults}),
            now.already_created + outcome.already_created,
            now.salt,
        )
        self._checkpoints.save(self.reached)
        self._on_progress(self.reached)
