"""The load generator in pure Python, for machines without wrk and without a C compiler.

The twin of generator.c: same arguments, same file, same JSON, same correction. It costs about
three times the processor time a request, so its own queueing shows in the tail above half of
what its core can send: `cpu_share` of its JSON near 1 says that it measured itself.
"""

import json
import select
import socket
import sys
import time
from collections import Counter
from pathlib import Path

GRACE_S = 1.0


class Connection:
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("busy", "due", "fd", "head", "left", "rest", "sock", "status")

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        self.busy = False
        self.due = 0.0
        self.head = b""
        self.left = -1
        self.rest = b""
        self.status = ""

    def take(self, data: bytes) -> bool:
        """Read on; returns whether the answer is whole."""
        if self.left < 0:
            data = self.head + data
            body = data.find(b"\r\n\r\n")
            if body < 0:
                self.head = data
                return False
            head = data[:body].lower()
            at = head.find(b"\r\ncontent-length:")
            if at < 0:
                raise SystemExit("generator: an answer without Content-Length")
            length = head[at + 17 :].split(b"\r\n", 1)[0]
            self.status = head[9:12].decode()
            self.head = b""
            self.left = int(length) - (len(data) - body - 4)
        else:
            self.left -= len(data)
        return self.left <= 0


class Run:
    """One measurement; times are `time.monotonic()` seconds."""

    def __init__(self, connections: list[Connection], requests: list[bytes], offset: int) -> None:
        self.connections = connections
        self.requests = requests
        self.at = offset % len(requests)
        self.epoll = select.epoll()
        self.by_fd = {each.fd: each for each in connections}
        for each in connections:
            self.epoll.register(each.fd, select.EPOLLIN)
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.unanswered = 0
        self.total = 0

    def go(self, seconds: float, warm: float, rate: float) -> None:
        """Send for `warm` + `seconds`; `rate` 0 is the closed loop."""
        count = len(self.connections)
        interval = count / rate if rate else 0.0
        start = time.monotonic()
        for index, each in enumerate(self.connections):
            each.due = start + interval * index / count
        self.since = start + warm
        self.end = self.since + seconds
        while time.monotonic() < self.end:
            self._receive(self._send_due(), interval)
        while any(each.busy for each in self.connections):
            if time.monotonic() > self.end + GRACE_S:
                break
            self._receive(0.01, interval)
        self._count_missing(interval)

    def _send_due(self) -> float:
        """Send what is due; returns the seconds until more is."""
        now = time.monotonic()
        upcoming = self.end
        for each in self.connections:
            if each.busy:
                continue
            if each.due <= now:
                each.busy = True
                each.left = -1
                request = self.requests[self.at]
                self.at = (self.at + 1) % len(self.requests)
                each.rest = request
                self._push(each)
            elif each.due < upcoming:
                upcoming = each.due
        return max(0.0, upcoming - time.monotonic())

    def _push(self, each: Connection) -> None:
        try:
            sent = each.sock.send(each.rest)
        except BlockingIOError:
            sent = 0
        each.rest = each.rest[sent:]
        if each.rest:
            self.epoll.modify(each.fd, select.EPOLLIN | select.EPOLLOUT)

    def _receive(self, wait: float, interval: float) -> None:
        events = self.epoll.poll(0)
        if not events and wait > 0:
            # epoll waits whole milliseconds, select takes microseconds.
            if not select.select([self.epoll], [], [], wait)[0]:
                return
            events = self.epoll.poll(0)
        for fd, event in events:
            each = self.by_fd[fd]
            if event & select.EPOLLOUT:
                self._push(each)
                if not each.rest:
                    self.epoll.modify(fd, select.EPOLLIN)
            if not event & ~select.EPOLLOUT:
                continue
            data = each.sock.recv(65536)
            if not data:
                raise SystemExit("generator: the server closed a connection")
            if each.take(data):
                self._done(each, interval)

    def _done(self, each: Connection, interval: float) -> None:
        now = time.monotonic()
        each.busy = False
        self.total += 1
        if now >= self.since and (each.due >= self.since if interval else now < self.end):
            self.latencies.append(now - each.due)
            self.statuses[each.status] += 1
        each.due = each.due + interval if interval else now

    def _count_missing(self, interval: float) -> None:
        now = time.monotonic()
        for each in self.connections:
            while interval and each.due < self.end:
                if each.due >= self.since:
                    self.latencies.append(now - each.due)
                    self.unanswered += 1
                each.due += interval


def load(path: Path) -> list[bytes]:
    """Read a file of requests (see requests.py)."""
    requests = []
    with path.open("rb") as file:
        while line := file.readline():
            requests.append(file.read(int(line)))
    return requests


def main(arguments: list[str]) -> None:
    """HOST PORT CONNECTIONS SECONDS WARM_SECONDS RATE OFFSET FILE."""
    host, port, count, seconds, warm, rate, offset, file = arguments
    connections = [Connection(host, int(port)) for _ in range(int(count))]
    run = Run(connections, load(Path(file)), int(offset))
    cpu, began = time.process_time(), time.monotonic()
    run.go(float(seconds), float(warm), float(rate))
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    ordered = sorted(run.latencies) or [0.0]

    def at(part: float) -> float:
        return round(ordered[min(int(part * len(ordered)), len(ordered) - 1)] * 1e6, 1)

    result = {
        "answers": len(run.latencies) - run.unanswered,
        "total": run.total,
        "seconds": float(seconds),
        "unanswered": run.unanswered,
        "cpu_share": round(share, 4),
        "us": {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": at(1)},
        "statuses": dict(run.statuses),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
