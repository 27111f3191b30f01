"""Events arrive at webhooks signed, at least once, however badly receivers behave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness.receiver import Manner, Receiver
from harness.waiting import until_async
from standardwebhooks import WebhookVerificationError

from shortcore.clock import utc_now
from shortcore.runtime.background import Background
from shortcore.runtime.metrics import FromMemory
from shortcore.runtime.stopping import Stopping
from writer.worker.repository import LinkTotal, add_to_link_totals
from writer.worker.webhooks.addresses import AddressPolicy
from writer.worker.webhooks.connecting import Resolver
from writer.worker.webhooks.delivery import PLACES, WebhookDelivery
from writer.worker.webhooks.messages import Messages
from writer.worker.webhooks.schedule import MAX_RETRY_AFTER_S, PAUSES_S, next_pause
from writer.worker.webhooks.sender import Sender, retry_after_s

LOOPBACK = frozenset({"127.0.0.1"})
LINK = {"target": "https://example.com/"}
ALL = ["link.created", "link.updated", "link.deleted", "link.expired", "link.exhausted"]


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"webhooks_allowed_networks": LOOPBACK})


@contextlib.asynccontextmanager
async def delivering(
    api: Any, *, timeout_s: float = 5.0, pauses_s: tuple[float, ...] = (0.05, 0.05)
) -> AsyncIterator[WebhookDelivery]:
    """Deliver webhooks as a worker does, with short pauses."""
    background, stopping = Background(), Stopping()
    sender = Sender(AddressPolicy(LOOPBACK), Resolver(8).resolve, utc_now, timeout_s=timeout_s)
    delivery = WebhookDelivery(
        api.container.postgres,
        sender,
        Messages("https", None),
        background,
        stopping,
        utc_now,
        attempt_timeout_s=timeout_s,
        poll_s=0.02,
        retention_s=7 * 86_400,
        postgres_timeout_ms=20_000,
        pauses_s=pauses_s,
    )
    tasks = [background.run_forever(name, loop) for name, loop in delivery.loops().items()]
    try:
        yield delivery
    finally:
        background.ending = True
        stopping.set()
        await asyncio.gather(*tasks)
        await background.close()


async def add(api: Any, url: str, *events: str, **fields: Any) -> dict[str, Any]:
    answer = await api.client.post(
        "/api/v1/webhooks", json={"url": url, "events": [*events] or ALL, **fields}
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def deliveries(api: Any, webhook: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    answer = await api.client.get(f"{webhook['self']}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def settled(api: Any, webhook: dict[str, Any], status: str, number: int = 1) -> Any:
    async def there() -> list[dict[str, Any]]:
        found = await deliveries(api, webhook, status=status)
        return found if len(found) >= number else []

    return await until_async(there, f"{number} deliveries are {status}")


async def test_each_change_of_a_link_arrives_signed_with_the_link_as_it_was_then(api):
    with Receiver() as receiver:
        webhook = await add(api, receiver.url)
        async with delivering(api):
            link = await api.create(title="one", password="secret", tags=["a"])
            await api.client.patch(link["self"], json={"title": "two"})
            await api.client.delete(link["self"])
            await api.client.post(f"{link['self']}:restore")
            await settled(api, webhook, "delivered", 4)
    events = [each.verify(webhook["secret"]) for each in receiver.received]
    by_version = sorted(events, key=lambda event: event["data"]["link"]["version"])
    assert [(each["type"], each["data"]["link"]["title"]) for each in by_version] == [
        ("link.created", "one"),
        ("link.updated", "two"),
        ("link.deleted", "two"),
        ("link.updated", "two"),
    ]
    assert [each["data"]["link"]["status"] for each in by_version] == [
        "active", "active", "deleted", "active",
    ]  # fmt: skip
    created = by_version[0]["data"]["link"]
    assert created == {name: link[name] for name in link if name not in {"visits", "clicks"}}
    assert created["has_password"] is True
    assert "password_hash" not in str(events)
    assert len({each.id for each in receiver.received}) == 4
    with pytest.raises(WebhookVerificationError):
        receiver.received[0].verify("whsec_" + "A" * 44)


async def test_imports_and_batches_cause_one_event_per_link(api):
    with Receiver() as receiver:
        webhook = await add(api, receiver.url, "link.created")
        items = [dict(LINK) for _ in range(120)]
        await api.client.post("/api/v1/links:batch", json={"items": items[:3]})
        await api.client.post("/api/v1/links:batch", json={"items": items})
        rows = "\n".join(["target", *("https://example.com/" for _ in range(110))])
        done = await api.client.post(
            "/api/v1/links:import", content=rows, headers={"content-type": "text/csv"}
        )
        assert done.json()["created"] == 110
        assert await api.fetch("SELECT count(*) FROM webhook_events") == 233
        async with delivering(api):
            await until_async(lambda: len(receiver.received) >= 233, "every event has arrived")
            await settled(api, webhook, "delivered", 50)
    codes = {each.verify(webhook["secret"])["data"]["link"]["code"] for each in receiver.received}
    assert len(codes) == 233


async def test_without_a_webhook_that_wants_it_no_event_is_written(api):
    await add(api, "https://example.com/", "link.deleted")
    await add(api, "https://example.com/", "link.created", enabled=False)
    link = await api.create()
    await api.client.patch(link["self"], json={"title": "x"})
    await api.client.post("/api/v1/links:batch", json={"items": [LINK] * 120})
    assert await api.fetch("SELECT count(*) FROM webhook_events") == 0
    await api.client.delete(link["self"])
    assert await api.fetch("SELECT count(*) FROM webhook_events") == 1


async def test_an_event_is_rolled_back_with_its_change(api):
    await add(api, "https://example.com/", "link.created")
    await api.create(code="taken")
    answer = await api.client.post(
        "/api/v1/links:batch", json={"items": [LINK, LINK | {"code": "taken"}], "atomic": True}
    )
    assert answer.status_code == 409
    assert await api.fetch("SELECT count(*) FROM webhook_events") == 1


async def test_a_failed_delivery_is_repeated_with_the_same_id_and_body(api):
    with Receiver(Manner.FAIL) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api, pauses_s=(0.05,) * 50):
            await api.create()
            await until_async(lambda: len(receiver.received) >= 2, "two attempts were made")
            (pending,) = await deliveries(api, webhook)
            assert pending["status"] == "pending"
            receiver.manner = Manner.ACCEPT
            (done,) = await settled(api, webhook, "delivered")
    assert done["id"] == receiver.received[0].id
    assert len({(each.id, each.body) for each in receiver.received}) == 1
    assert done["attempts"] == len(receiver.received)
    for each in receiver.received:
        each.verify(webhook["secret"])


@pytest.mark.parametrize(
    "manner",
    [
        Manner.FAIL,
        Manner.REDIRECT,
        Manner.HANG,
        Manner.RESET,
        Manner.SLOW_HEAD,
        Manner.ENDLESS_HEAD,
        Manner.GARBAGE,
    ],
)
async def test_after_the_last_attempt_a_delivery_is_dead_and_can_be_replayed(api, manner):
    with Receiver(manner) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api, timeout_s=1.0) as delivery:
            await api.create()
            (dead,) = await settled(api, webhook, "dead")
            assert dead["attempts"] == 3
            assert dead["error"]
            assert dead["next_attempt_at"] is None
            assert delivery.attempts == {"delivered": 0, "failed": 2, "dead": 1}
            receiver.manner = Manner.ACCEPT
            answer = await api.client.post(f"{dead['self']}:replay")
            assert answer.status_code == 202
            assert answer.json()["status"] == "pending"
            (done,) = await settled(api, webhook, "delivered")
    assert done["id"] == dead["id"]
    assert {each.id for each in receiver.received} == {dead["id"]}


async def test_a_response_with_a_body_without_end_counts_by_its_status(api):
    with Receiver(Manner.ENDLESS_BODY) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api):
            await api.create()
            (done,) = await settled(api, webhook, "delivered")
    assert done["response_status"] == 200


async def test_a_redirect_is_not_followed(api):
    with Receiver(Manner.REDIRECT) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api):
            await api.create()
            (dead,) = await settled(api, webhook, "dead")
    assert dead["response_status"] == 302
    assert "redirect" in dead["error"]


async def test_a_webhook_that_hangs_holds_up_no_other(api):
    with Receiver(Manner.HANG) as hanging, Receiver() as receiver:
        slow = await add(api, hanging.url, "link.created")
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api, timeout_s=20):
            await api.client.post("/api/v1/links:batch", json={"items": [LINK] * 40})
            await until_async(lambda: len(receiver.received) == 40, "the others have arrived")
            await settled(api, webhook, "delivered", 40)
            assert len(hanging.received) == PLACES
            assert not await deliveries(api, slow, status="delivered")


async def test_a_receiver_that_is_gone_gets_no_more_and_its_webhook_is_disabled(api):
    with Receiver(Manner.GONE) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api):
            await api.create()
            await settled(api, webhook, "dead")
            await api.create()
        seen = (await api.client.get(webhook["self"])).json()
        assert seen["enabled"] is False
        assert "410" in seen["disabled_reason"]
        assert len(receiver.received) == 1
        answer = await api.client.patch(webhook["self"], json={"enabled": True})
        assert answer.json()["disabled_reason"] is None


async def test_a_busy_receiver_is_asked_again_when_it_says(api):
    with Receiver(Manner.BUSY) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api):
            await api.create()
            await until_async(lambda: receiver.received, "one attempt was made")

            async def answered() -> Any:
                (found,) = await deliveries(api, webhook)
                return found if found["response_status"] == 429 else None

            waiting = await until_async(answered, "its answer is stored")
    pause = datetime.fromisoformat(waiting["next_attempt_at"]) - datetime.now(UTC)
    assert timedelta(minutes=50) < pause < timedelta(minutes=70)
    assert len(receiver.received) == 1


async def test_both_secrets_sign_for_a_day_after_a_rotation(api):
    with Receiver() as receiver:
        webhook = await add(api, receiver.url, "link.created")
        rotated = (await api.client.post(f"{webhook['self']}:rotate-secret")).json()
        assert rotated["secret"] != webhook["secret"]
        assert rotated["previous_secret_until"]
        async with delivering(api):
            await api.create()
            await settled(api, webhook, "delivered")
            for secret in (webhook["secret"], rotated["secret"]):
                receiver.received[0].verify(secret)
            await api.fetch("UPDATE webhooks SET previous_until = now() RETURNING 1")
            await api.create()
            await settled(api, webhook, "delivered", 2)
    receiver.received[1].verify(rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        receiver.received[1].verify(webhook["secret"])


async def test_a_link_that_expires_causes_one_event(api):
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    with Receiver() as receiver:
        webhook = await add(api, receiver.url, "link.expired")
        links = [await api.create(expires_at=soon) for _ in range(3)]
        await api.client.delete(links[2]["self"])
        async with delivering(api) as first, delivering(api) as second:
            await settled(api, webhook, "delivered", 2)
            await first.find_expired()
            await second.find_expired()
            await api.client.patch(links[0]["self"], json={"title": "edited after its end"})
            await first.find_expired()
        assert await api.fetch("SELECT count(*) FROM webhook_events") == 2
    events = [each.verify(webhook["secret"]) for each in receiver.received]
    assert {each["data"]["link"]["code"] for each in events} == {link["code"] for link in links[:2]}
    assert {each["data"]["link"]["status"] for each in events} == {"expired"}


async def test_links_that_expired_before_a_webhook_wanted_it_cause_no_event(api):
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    link = await api.create(expires_at=soon)
    async with delivering(api) as delivery:

        async def passed() -> Any:
            return await api.fetch(
                "SELECT p.expires_at > l.expires_at FROM webhook_expiries p, links l"
            )

        await until_async(passed, "the search has passed the link")
        await add(api, "https://example.com/", "link.expired")
        await delivery.find_expired()
    assert link["status"] == "active"
    assert await api.fetch("SELECT count(*) FROM webhook_events") == 0


async def test_visits_that_reach_a_threshold_cause_one_event(api):
    async def count(link_id: int, visits: int) -> None:
        total = LinkTotal(clicks=visits + 1, visits=visits, last_click_ms=1_900_000_000_000)
        async with api.container.postgres.connection() as connection:
            await add_to_link_totals(connection, [(link_id, total), (10**9, total)])

    with Receiver() as receiver, Receiver() as other:
        webhook = await add(api, receiver.url, "visits.threshold", thresholds=[3, 10, 50])
        await add(api, other.url, "visits.threshold", thresholds=[50])
        link = await api.create()
        link_id = await api.fetch("SELECT id FROM links")
        async with delivering(api):
            for visits in (2, 1, 0, 9, 1):
                await count(link_id, visits)
            await settled(api, webhook, "delivered", 2)
            await count(link_id, 100)
            await settled(api, webhook, "delivered", 3)
            await until_async(lambda: other.received, "the other webhook got its event")
    data = [each.verify(webhook["secret"])["data"] for each in receiver.received]
    passed = {each["threshold"]: each["visits"] for each in data}
    assert passed == {3: 3, 10: 12, 50: 113}
    assert {each["link"]["code"] for each in data} == {link["code"]}
    assert len(other.received) == 1
    assert await api.fetch("SELECT count(*) FROM webhook_events") == 3


async def test_events_and_deliveries_are_deleted_after_their_retention(api):
    await add(api, "https://example.com/", "link.created", enabled=True)
    await api.create()
    async with delivering(api, timeout_s=0.2) as delivery:
        await until_async(lambda: delivery.events == 1, "the event is dispatched")
        await api.fetch(
            "UPDATE webhook_events SET created_at = now() - interval '8 days' RETURNING 1"
        )
        await delivery.purge()  # unless its loop was first
        assert await api.fetch("SELECT count(*) FROM webhook_events") == 0
        assert await api.fetch("SELECT count(*) FROM webhook_deliveries") == 0


async def test_the_lag_of_a_webhook_is_measured(api):
    with Receiver(Manner.HANG) as receiver:
        webhook = await add(api, receiver.url, "link.created")
        async with delivering(api, timeout_s=20) as delivery:
            await api.client.post("/api/v1/links:batch", json={"items": [LINK] * 9})
            await until_async(lambda: len(receiver.received) == PLACES, "its places are taken")
            await delivery.measure()
            assert 0 < delivery.lag_s[webhook["id"]] < 60
            memory = FromMemory()
            delivery.export(memory)
            names = {metric.name for metric in memory.collect()}
    assert names == {
        "shortlinks_webhook_events",
        "shortlinks_webhook_attempts",
        "shortlinks_webhook_lag_seconds",
    }


def test_the_attempts_span_a_day():
    assert sum(PAUSES_S) == pytest.approx(86_400, rel=0.01)
    pauses = [next_pause(attempt) for attempt in range(1, len(PAUSES_S) + 1)]
    for pause, planned in zip(pauses, PAUSES_S, strict=True):
        assert pause == pytest.approx(planned, rel=0.11)
    assert next_pause(len(PAUSES_S) + 1) is None
    assert next_pause(1, retry_after_s=1e9) == pytest.approx(MAX_RETRY_AFTER_S, rel=0.11)
    assert next_pause(3, retry_after_s=0.0) == pytest.approx(1800, rel=0.11)


def test_retry_after_is_a_number_or_a_date():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert retry_after_s("120", now) == 120
    assert retry_after_s("Tue, 01 Jan 2030 00:02:00 GMT", now) == 120
    assert retry_after_s("Tue, 01 Jan 2020 00:02:00 GMT", now) == 0
    for invalid in ("", "soon", "-1", "9" * 40, "1e9", "\x00"):
        assert retry_after_s(invalid, now) is None
