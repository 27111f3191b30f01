"""The least that an HTTP server in Python can do: llhttp parses, one constant goes out."""

import asyncio
import sys
from email.utils import formatdate

import httptools
import uvloop

from bench.noop import HEADERS

ANSWER = (
    f"HTTP/1.1 302 Found\r\ndate: {formatdate(usegmt=True)}\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    + "\r\n"
).encode()


class Protocol(asyncio.Protocol):
    """Parses as much as a server must to know where a request ends, and looks at none of it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]  # it is a Transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        pass

    def on_message_complete(self) -> None:
        self.write(ANSWER)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        Protocol, "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
