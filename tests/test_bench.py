"""What the benchmark says of creates: their rate, and when Redis had been told of all of them."""

import asyncio

import asyncpg
from bench.creates import Created, settle
from bench.report import Result, markdown


async def test_a_measurement_waits_until_all_created_in_bulk_was_told(database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO outbox_many (changed_at, links) VALUES (now(), 1000)")
    waiting = asyncio.create_task(settle(database_url))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await connection.execute("DELETE FROM outbox_many")
    assert await waiting >= 0.3
    await connection.close()


def test_the_longest_delivery_stands_beside_the_rate():
    found = Created("batches", rates=[900.0, 1000.0, 1100.0], delivered_s=[0.4, 2.5, 1.0])
    head, _, row = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown(Result({}, [], [found], [])).splitlines()
        if line.startswith(("| way", "| ---", "| batches"))
    ][-3:]
    told = dict(zip(head, row, strict=True))
    assert (told["links per s"], told["delivered after s"]) == ("1,000", "2.5")
