"""HTTP clients of all kinds follow any redirect, and arrive at the very target that is stored."""

import functools
import importlib.util
import os
import random
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from harness import servers
from harness.databases import Databases
from harness.stack import Stack

CLIENTS = Path(__file__).parent / "clients"
LEAST_CLIENTS = 4
GENERATED = 60

PATHS = [
    "",
    "a[1]|b",
    "100%",
    "%zz%4",
    "%41%5B%2f",
    "a;b=c,d",
    "a'(b)*!$&+:@",
    "é/日本",
    '^`{}<>"\\',
]
QUERIES = [
    "",
    "q=[\\]^`{|}",
    "q=\"<>'",
    "a=100%&b=%zz%4",
    "a=b+c%20d%2B",
    "u=https://u.example/?x=y",
    "é",
]
FRAGMENTS = ["", "#[\\]^{|}", "#a#b", "#:~:text=a%20b"]
ALPHABET = "aZ09-._~!$&'()*+,=:@/?[]|\\^`{}\"<>%é日 "
"""Without `;`, as requests drops one at the end of any path."""

FORWARDED = ["x=1", "q=%22%3C%3E%7C", "a=100%25", "%5B%5D&b=c%2Fd"]


@dataclass(eq=False)
class Arrivals:
    """A site that answers everything, and notes the targets of the requests as they came."""

    port: int
    seen: list[bytes] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def site() -> Iterator[Arrivals]:
    class Site(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            arrivals.seen.append(self.raw_requestline.split(b" ")[1])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            arrivals.bodies.append(len(self.rfile.read(int(self.headers["content-length"]))))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    socketserver.TCPServer.request_queue_size = 128
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.daemon_threads = True
        arrivals = Arrivals(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield arrivals
        server.shutdown()


@dataclass(frozen=True)
class Followed:
    """A short URL, its status, and the path and query that it leads to, decoded."""

    url: str
    status: int
    path: bytes
    query: bytes


@pytest.fixture(scope="module")
def links(
    databases: Databases, redis_server: servers.Server, site: Arrivals
) -> Iterator[list[Followed]]:
    with (
        servers.open_folder() as folder,
        databases.fresh() as url,
        Stack(folder, url, redis_server.url, {"DEFAULT_DOMAIN": "go.example"}) as stack,
    ):
        writer, redirector = stack.writer(), stack.redirector()
        targets, queries = list(tails()), {}
        items = [
            {
                "target": f"http://127.0.0.1:{site.port}/{number}/{tail}",
                "redirect_status": (301, 302, 307, 308)[number % 4],
            }
            for number, tail in enumerate(targets)
        ]
        for number, query in enumerate(FORWARDED):
            queries[len(items)] = query
            items.append(
                {"target": f"http://127.0.0.1:{site.port}/f{number}?o=[x]", "forward_query": True}
            )
        with stack.api(writer) as api:
            made = api.post("/api/v1/links:batch", json={"items": items}).raise_for_status().json()
        found = []
        for number, result in enumerate(made["items"]):
            assert result["status"] == 201, result
            link = result["link"]
            target = urlsplit(link["target"])
            query = target.query + (f"&{queries[number]}" if number in queries else "")
            asked = f"?{queries[number]}" if number in queries else ""
            found.append(
                Followed(
                    f"{redirector.url}/{link['code']}{asked}",
                    link["redirect_status"],
                    unquote_to_bytes(target.path),
                    unquote_to_bytes(query),
                )
            )
        yield found


def tails() -> Iterator[str]:
    """Give what follows the host: listed pieces in all pairs, and made-up ones."""
    for path in PATHS:
        for query in QUERIES:
            yield f"{path}?{query}" if query else path
    for fragment in FRAGMENTS:
        yield f"page?a=b{fragment}"
    chance = random.Random(11)
    for _ in range(GENERATED):
        yield "".join(chance.choices(ALPHABET, k=chance.randint(1, 40)))


@functools.cache
def commands() -> dict[str, list[str]]:
    """Return the clients that this machine has, by name."""
    found = {
        name: [sys.executable, str(CLIENTS / "follow.py"), name]
        for name in ("requests", "httpx", "aiohttp")
        if importlib.util.find_spec(name)
    }
    programs = {
        "curl": ["--silent", "--show-error", "--location", "--globoff", "--config", "-"],
        "wget": ["--no-verbose", "--tries=1", "--output-document=/dev/null", "--input-file=-"],
        "node": [str(CLIENTS / "follow.mjs")],
        "javac": [],
        "go": ["run", str(CLIENTS / "follow.go")],
    }
    for name, arguments in programs.items():
        program = shutil.which(name)
        if program:
            found[name] = [program, *arguments]
    if "javac" in found:
        java = str(Path(found.pop("javac")[0]).with_name("java"))
        found["java"] = [java, "-XX:TieredStopAtLevel=1", str(CLIENTS / "Follow.java")]
    return found


def test_enough_clients_are_there_to_be_tried() -> None:
    assert len(commands()) >= LEAST_CLIENTS, f"only {sorted(commands())}"


def arrive(
    client: str, links: list[Followed], site: Arrivals, folder: Path, *, posted: int = 0
) -> tuple[list[tuple[bytes, bytes]], str]:
    """Have a client follow the links; return the decoded targets it asked for, and its errors."""
    if client not in commands():
        pytest.skip(f"this machine has no {client}")
    site.seen.clear()
    site.bodies.clear()
    asked = "\n".join(
        f'url = "{link.url}"\noutput = /dev/null' if client == "curl" else link.url
        for link in links
    )
    command = list(commands()[client])
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    if posted:
        (folder / "body").write_bytes(b"x" * posted)
        environment["FOLLOW_BODY"] = str(posted)
        options = {"curl": "--data-binary=@body", "wget": "--post-file=body"}
        if client in options:
            command[1:1] = options[client].split("=", 1) if client == "curl" else [options[client]]
    done = subprocess.run(
        command,
        input=asked + "\n",
        env=environment | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,  # Go compiles its library the first time
        check=False,
    )
    arrived = [seen.partition(b"?") for seen in site.seen]
    decoded = [(unquote_to_bytes(path), unquote_to_bytes(query)) for path, _, query in arrived]
    return decoded, done.stderr[-4000:]


NAMES = ["requests", "httpx", "aiohttp", "curl", "wget", "node", "java", "go"]


@pytest.mark.parametrize("client", NAMES)
def test_a_client_arrives_at_every_target(
    client: str, links: list[Followed], site: Arrivals, tmp_path: Path
) -> None:
    arrived, errors = arrive(client, links, site, tmp_path)
    assert arrived == [(link.path, link.query) for link in links], errors


@pytest.mark.parametrize("client", NAMES)
def test_a_client_takes_its_body_to_the_target_of_a_link_that_keeps_the_method(
    client: str, links: list[Followed], site: Arrivals, tmp_path: Path
) -> None:
    keeping = [link for link in links if link.status in {307, 308}][:10]
    arrived, errors = arrive(client, keeping, site, tmp_path, posted=2 * 2**20)
    assert arrived == [(link.path, link.query) for link in keeping], errors
    assert site.bodies == [2 * 2**20] * len(keeping), errors
