"""A custom code is pre-announced before the response to its creation, without a relay."""

import pytest
from harness.proxy import Mode, Proxy

from shortcore.cache.change_feed import START
from shortcore.links.record import link_key

HOST = "go.test"
LINKS = "/api/v1/links"
TARGET = "https://example.com/"


async def told(api):
    """Return the changes on the feed; no relay runs here."""
    batch = await api.container.publisher._feed.read(START, wait_ms=1)
    return [(change.key, change.version) for change in batch.changes]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["plain", "with a key"])
async def test_a_custom_code_is_preannounced_when_it_is_created(api, headers):
    body = {"target": TARGET, "code": "spring"}
    answer = await api.client.post(LINKS, json=body, headers=headers)
    assert answer.status_code == 201
    assert await told(api) == [(link_key(HOST, "spring"), 0)]


async def test_the_custom_codes_of_a_batch_and_of_an_import_are_preannounced(api):
    items = [{"target": TARGET, "code": "a"}, {"target": TARGET}, {"target": TARGET, "code": "b"}]
    assert (await api.client.post(f"{LINKS}:batch", json={"items": items})).status_code == 200
    codes = [f"code{number}" for number in range(700)]
    lines = "".join(f"{code},{TARGET}\n" for code in codes)
    answer = await api.client.post(
        f"{LINKS}:import", content=f"code,target\n{lines}", headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 200, answer.text
    assert await told(api) == [(link_key(HOST, code), 0) for code in ["a", "b", *codes]]


async def test_generated_codes_are_not_preannounced(api):
    await api.create()
    assert await api.container.publisher._feed.end() == START


async def test_a_custom_code_is_created_although_redis_does_not_answer(settings, opened, redis_url):
    with Proxy(redis_url) as wire:
        wire.set(Mode.BLACK_HOLE)
        there = settings.model_copy(
            update={"redis_url": type(settings.redis_url)(wire.url), "publish_timeout_ms": 25}
        )
        async with opened(there) as api:
            assert (await api.create(code="spring"))["code"] == "spring"
            assert api.container.publisher.preannounce_failures == 1
