# ruff: noqa: T201  # what it finds goes to standard output
"""Runs in a pod beside the services: makes links, follows them, keeps them under load.

python -c "$(cat client.py)" make WRITER KEY COUNT [JSON]   prints each answer's JSON, a line each
python -c "$(cat client.py)" follow SERVER CODE…            prints status and location, a line each
python -c "$(cat client.py)" load SERVER THREADS PAUSE WRITER KEY CODE…  until its input ends; prints a summary
"""

import http.client
import json
import sys
import threading
import time

HOST = {"Host": "go.example"}


def call(server, method, path, headers, body=None):
    connection = http.client.HTTPConnection(server, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("location"), answer.read()
    finally:
        connection.close()


def make(server, key, count, more="{}"):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for number in range(int(count)):
        body = {"target": f"https://example.com/{number}", **json.loads(more)}
        status, _, text = call(server, "POST", "/api/v1/links", headers, json.dumps(body))
        if status != 201:
            raise SystemExit(f"{status}: {text[:300]!r}")
        print(json.dumps(json.loads(text)))


def follow(server, *codes):
    for code in codes:
        status, location, _ = call(server, "GET", f"/{code}", HOST)
        print(status, location)


class Visitor(threading.Thread):
    """Follows links one after the other; half of the visitors keep their connection.

    Every answer but a redirect is a failure, and so is a connection that breaks: nothing is
    repeated.
    """

    def __init__(self, number, server, pause, codes, over):
        super().__init__(daemon=True)
        self.keep = number % 2 == 0
        self.server, self.pause, self.codes, self.over = server, pause, codes, over
        self.done, self.slowest, self.failures = 0, 0.0, []

    def run(self):
        connection = None
        turn = 0
        while not self.over.is_set():
            turn += 1
            start = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection(self.server, timeout=10)
                connection.request("GET", f"/{self.codes[turn % len(self.codes)]}", headers=HOST)
                answer = connection.getresponse()
                answer.read()
                if answer.status not in {301, 302, 307, 308}:
                    self.failures.append(f"{time.time():.2f} status {answer.status}")
                if not self.keep or answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                kept = "kept" if self.keep else "new"
                self.failures.append(f"{time.time():.2f} {kept} connection: {error!r}")
                if connection:
                    connection.close()
                connection = None
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.done += 1
            time.sleep(self.pause)


class Author(threading.Thread):
    """Creates a link again and again; every answer but 201 is a failure."""

    def __init__(self, server, key, over):
        super().__init__(daemon=True)
        self.server, self.key, self.over = server, key, over
        self.done, self.slowest, self.failures = 0, 0.0, []

    def run(self):
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        body = json.dumps({"target": "https://example.com/created-under-load"})
        while not self.over.wait(0.2):
            try:
                status, _, text = call(self.server, "POST", "/api/v1/links", headers, body)
                if status != 201:
                    self.failures.append(f"{time.time():.2f} create {status}: {text[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{time.time():.2f} create: {error!r}")
            self.done += 1


def load(server, threads, pause, writer, key, *codes):
    """Follow `codes` all the time, and create links, too, with a `key` that is not empty."""
    over = threading.Event()
    visitors = [Visitor(n, server, float(pause), codes, over) for n in range(int(threads))]
    if key:
        visitors.append(Author(writer, key, over))
    for visitor in visitors:
        visitor.start()
    print("started", flush=True)
    sys.stdin.read()
    over.set()
    for visitor in visitors:
        visitor.join(15)
    failures = [each for visitor in visitors for each in visitor.failures]
    print(
        json.dumps(
            {
                "requests": sum(visitor.done for visitor in visitors),
                "failed": len(failures),
                "failures": failures[:20],
                "slowest_ms": round(1000 * max(visitor.slowest for visitor in visitors)),
            }
        )
    )


if __name__ == "__main__":
    {"make": make, "follow": follow, "load": load}[sys.argv[1]](*sys.argv[2:])
