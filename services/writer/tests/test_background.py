"""The background tasks of the writer continue after PostgreSQL has refused a statement."""

import asyncio

import pytest

import writer.domains.cache
import writer.http.idempotency
import writer.keys.authenticator
import writer.relay.outbox
from writer.http.idempotency import purge_forever

SOON_S = 0.01


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(writer.keys.authenticator, "STORE_USES_INTERVAL_S", SOON_S)
    monkeypatch.setattr(writer.domains.cache, "REFRESH_INTERVAL_S", SOON_S)
    monkeypatch.setattr(writer.http.idempotency, "_PURGE_INTERVAL_S", SOON_S)


@pytest.mark.parametrize("table", ["domains", "api_keys", "idempotency"])
async def test_a_refused_statement_ends_no_task(api, table):
    container = api.container
    work = {
        "domains": container.domain_cache.refresh_forever,
        "api_keys": container.authenticator.store_uses_forever,
        "idempotency": lambda: purge_forever(container.postgres, 60),
    }[table]
    assert (await api.client.get("/api/v1/links")).status_code == 200  # a use of the key
    await api.fetch(f"ALTER TABLE {table} RENAME TO elsewhere")
    task = container.background.run_forever("again", work())
    await asyncio.sleep(50 * SOON_S)
    assert not task.done()
    assert container.background.check().ok
    await api.fetch(f"ALTER TABLE elsewhere RENAME TO {table}")
    await asyncio.sleep(50 * SOON_S)
    assert not task.done()


async def test_a_refused_notification_ends_no_task(api, monkeypatch):
    publisher = api.container.publisher
    monkeypatch.setattr(writer.relay.outbox, "CHANNEL", "x" * 100)  # longer than a name may be
    task = api.container.background.run_forever("again", publisher.notify_forever())
    publisher.wake_relay()
    await asyncio.sleep(50 * SOON_S)
    assert not task.done()
    assert api.container.background.check().ok
