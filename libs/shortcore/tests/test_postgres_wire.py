"""Messages from PostgreSQL are checked before asyncpg reads them, wherever a read ends."""

import asyncio
import struct
import subprocess
import sys
import time
from itertools import pairwise

import asyncpg
import pytest
from harness.proxy import Mode, Proxy
from hypothesis import given
from hypothesis import strategies as st

from shortcore.errors import DatabaseUnavailable
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import open_postgres
from shortcore.storage.postgres_wire import MAX_MESSAGE, CheckedProtocol, Messages

MESSAGES = st.lists(
    st.builds(
        lambda kind, body: kind + struct.pack("!i", len(body) + 4) + body,
        st.sampled_from([b"R", b"D", b"1", b"Z", b"t"]),
        st.binary(max_size=20),
    ),
    min_size=1,
    max_size=6,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


@given(MESSAGES, st.lists(st.integers(0, 1000), max_size=8))
def test_messages_are_valid_wherever_a_read_ends(sent, cuts):
    messages = Messages()
    assert all(messages.valid(piece) for piece in pieces(b"".join(sent), cuts))
    assert messages.valid(b"Z\0\0\0\5I")


@given(
    MESSAGES,
    st.sampled_from(
        [
            b"\0\xff!garbage",
            b"\0\0\0\0\4",
            b"Z\0\0\0\3",
            b"Z\xff\xff\xff\xff",
            b"Z" + struct.pack("!i", MAX_MESSAGE + 1),
            b"\xff\0\0\0\4",
        ]
    ),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_an_invalid_message_is_found_wherever_a_read_ends(sent, garbage, cuts):
    messages = Messages()
    assert not all(messages.valid(piece) for piece in pieces(b"".join(sent) + garbage, cuts))


QUERY = """
import asyncio, sys, time
from shortcore.storage.circuit_breaker import Breaker
from shortcore.errors import DatabaseUnavailable
from shortcore.storage.postgres import open_postgres

async def main():
    postgres = await open_postgres(sys.argv[1], name="PostgreSQL", pool_size=1, statement_cache=0,
        timeout_ms=5000, breaker=Breaker(failures=5, open_s=1.0, clock=time.monotonic), application="test")
    try:
        async with postgres.connection() as connection:
            await connection.fetchval("SELECT 1")
    except DatabaseUnavailable as error:
        print("unavailable:", error)

asyncio.run(main())
"""


def test_a_server_of_another_protocol_is_unavailable_and_blocks_no_caller(database_url):
    with Proxy(database_url) as wire:
        wire.set(Mode.GARBAGE)
        # In a separate process, as without the check it would never end.
        done = subprocess.run(
            [sys.executable, "-c", QUERY, f"{wire.url}?sslmode=disable"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    assert "unavailable:" in done.stdout
    assert "invalid message from PostgreSQL" in done.stdout + done.stderr


async def test_a_connection_whose_server_sends_garbage_is_replaced(database_url):
    assert asyncpg.protocol.Protocol is CheckedProtocol
    with Proxy(database_url) as wire:
        postgres = await open_postgres(
            wire.url,
            name="PostgreSQL",
            pool_size=1,
            statement_cache=0,
            timeout_ms=5000,
            breaker=Breaker(failures=5, open_s=1.0, clock=time.monotonic),
            application="test",
        )
        try:
            async with postgres.connection() as connection:
                rows = await connection.fetch(
                    "SELECT n, repeat('x', n % 3000) AS x FROM generate_series(1, 5000) AS n"
                )
                assert [len(row["x"]) for row in rows] == [n % 3000 for n in range(1, 5001)]
            wire.set(Mode.GARBAGE)
            with pytest.raises(DatabaseUnavailable):
                async with postgres.connection() as connection:
                    await connection.fetchval("SELECT 1")
            wire.set(Mode.PASS)
            async with asyncio.timeout(30):
                while True:
                    try:
                        async with postgres.connection() as connection:
                            assert await connection.fetchval("SELECT 1") == 1
                            break
                    except DatabaseUnavailable:
                        await asyncio.sleep(0.05)
        finally:
            await postgres.close()
