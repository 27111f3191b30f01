"""Notifications of the relay: at once for an edit, at an interval for new links."""

import time
from itertools import pairwise

import pytest
from harness.waiting import until_async

from writer.relay import publisher


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
    await until_async(lambda: len(notices) == 1, "a notice was sent")
    await api.create(code="sale")
    await until_async(lambda: len(notices) == 2, "2 notices were sent")


async def test_an_edit_is_notified_at_once_among_new_links(api, notices, monkeypatch):
    monkeypatch.setattr(publisher, "_NEW_LINKS_WAIT_S", 3600)
    await api.create()
    await until_async(lambda: len(notices) == 1, "a notice was sent")
    link = await api.create()
    await api.client.patch(link["self"], json={"title": "new"})
    await until_async(lambda: len(notices) == 2, "2 notices were sent")


async def test_notifications_of_new_links_are_combined(api, notices):
    for _ in range(20):
        last = time.monotonic()
        await api.create()
    await until_async(lambda: notices and notices[-1] > last, "a notice follows the last create")
    assert all(after - before >= publisher._NEW_LINKS_WAIT_S for before, after in pairwise(notices))
