"""Notifications of the relay: at once for an edit, at an interval for new links."""

import asyncio
import time
from itertools import pairwise

import pytest

from writer.relay import publisher


async def until(condition):
    """Return when `condition` holds; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@pytest.fixture
def notices(api, monkeypatch):
    """The times of the notifications."""
    sent = []

    async def note() -> None:
        sent.append(time.monotonic())

    monkeypatch.setattr(api.container.publisher, "notify", note)
    return sent


async def test_a_custom_code_is_notified_at_once_among_new_links(api, notices, monkeypatch):
    """A visitor may have requested the code before it existed, and redirectors cache the 404."""
    monkeypatch.setattr(publisher, "_NEW_LINKS_WAIT_S", 3600)
    await api.create()
    await until(lambda: len(notices) == 1)
    await api.create(code="sale")
    await until(lambda: len(notices) == 2)


async def test_an_edit_is_notified_at_once_among_new_links(api, notices, monkeypatch):
    monkeypatch.setattr(publisher, "_NEW_LINKS_WAIT_S", 3600)
    await api.create()
    await until(lambda: len(notices) == 1)
    link = await api.create()
    await api.client.patch(link["self"], json={"title": "new"})
    await until(lambda: len(notices) == 2)


async def test_notifications_of_new_links_are_combined(api, notices):
    for _ in range(20):
        await api.create()
    created = len(notices)
    await until(lambda: len(notices) > created)
    assert all(after - before >= publisher._NEW_LINKS_WAIT_S for before, after in pairwise(notices))
