"""Fetch each URL of the standard input with the library that is named, and follow redirects.

With FOLLOW_BODY in the environment a POST with so many bytes is sent.
"""

import asyncio
import importlib
import os
import sys

library = importlib.import_module(sys.argv[1])
URLS = sys.stdin.read().split()
BODY = b"x" * int(os.environ.get("FOLLOW_BODY", "0"))
METHOD = "POST" if BODY else "GET"


def complain(url: str, error: Exception) -> None:
    sys.stderr.write(f"{url} {error!r}\n")


def with_requests() -> None:
    with library.Session() as session:
        for url in URLS:
            try:
                session.request(METHOD, url, data=BODY, timeout=10)
            except library.RequestException as error:
                complain(url, error)


def with_httpx() -> None:
    with library.Client(follow_redirects=True, timeout=10) as client:
        for url in URLS:
            try:
                client.request(METHOD, url, content=BODY)
            except (library.HTTPError, library.InvalidURL) as error:
                complain(url, error)


async def with_aiohttp() -> None:
    async with library.ClientSession() as session:
        for url in URLS:
            try:
                async with session.request(METHOD, url, data=BODY or None) as answer:
                    await answer.read()
            except library.ClientError as error:
                complain(url, error)


if library.__name__ == "aiohttp":
    asyncio.run(with_aiohttp())
else:
    {"requests": with_requests, "httpx": with_httpx}[library.__name__]()
