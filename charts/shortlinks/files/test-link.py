"""Create a link, follow it, edit it, follow it again, delete it, and check that it is gone."""

import http.client
import json
import os
import subprocess
import time
from urllib.parse import urlsplit

WRITER = urlsplit(os.environ["WRITER"]).netloc
REDIRECTOR = urlsplit(os.environ["REDIRECTOR"]).netloc
WAIT_S = 15


def key():
    if "API_KEY" in os.environ:
        return os.environ["API_KEY"]
    command = ["shortlinks-writer", "create-key", "--name", "helm-test", "--expires-in-s", "600"]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    return made.stdout.split()[-1]


def call(server, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection(server, timeout=10)
    try:
        connection.request(method, path, body and json.dumps(body), headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def expect(what, status, answer):
    if answer[0] != status:
        raise SystemExit(f"{what}: {answer[0]} instead of {status}: {answer[2][:500]!r}")
    print(f"{what}: {status}")
    return {name.lower(): value for name, value in answer[1].items()}, answer[2]


def follow(link, until):
    """Request the link until `until(status, location)` is true; edits arrive within milliseconds."""
    end = time.monotonic() + WAIT_S
    while True:
        status, headers, _ = call(REDIRECTOR, "GET", f"/{link['code']}", {"Host": link["domain"]})
        location = {name.lower(): value for name, value in headers.items()}.get("location")
        if until(status, location):
            print(f"followed: {status} {location or ''}")
            return
        if time.monotonic() > end:
            raise SystemExit(f"/{link['code']} still responds with {status} {location or ''}")
        time.sleep(0.1)


def main():
    headers = {"Authorization": f"Bearer {key()}", "Content-Type": "application/json"}
    first, second = "https://example.com/helm-test", "https://example.org/helm-test"
    body = {"target": first, "note": "made by helm test"}
    made, text = expect("create", 201, call(WRITER, "POST", "/api/v1/links", headers, body))
    link = json.loads(text)
    follow(link, lambda status, location: status in {301, 302, 307, 308} and location == first)
    match = {**headers, "If-Match": made["etag"]}
    expect("edit", 200, call(WRITER, "PATCH", link["self"], match, {"target": second}))
    follow(link, lambda _status, location: location == second)
    deleted = call(WRITER, "DELETE", link["self"], headers)
    if deleted[0] not in {200, 204}:
        raise SystemExit(f"delete: {deleted[0]}: {deleted[2][:500]!r}")
    follow(link, lambda status, _location: status == 410)
    print("a link was created, followed, edited and deleted")


main()
