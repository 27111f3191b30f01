"""Webhooks and faults of the worker: an event is delivered again with its id."""

from harness.receiver import Manner, Receiver
from harness.stack import Stack
from harness.waiting import until

TIMEOUT_MS = 1000
SETTINGS = {
    "WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.1",
    "WEBHOOKS_TIMEOUT_MS": str(TIMEOUT_MS),
    "WEBHOOKS_POLL_MS": "50",
}


def test_an_event_is_delivered_again_with_its_id_if_the_worker_is_killed_meanwhile(stack: Stack):
    stack.settings = SETTINGS
    writer, worker = stack.writer(), stack.worker()
    with Receiver(Manner.HANG) as receiver, stack.api(writer) as api:
        hook = {"url": receiver.url, "events": ["link.created"]}
        webhook = api.post("/api/v1/webhooks", json=hook).json()
        link = api.post("/api/v1/links", json={"target": "https://example.com/"}).json()
        until(lambda: receiver.received, "the event is being delivered")
        worker.child.kill()
        receiver.manner = Manner.ACCEPT
        worker.restart()
        until(lambda: len(receiver.received) >= 2, "the event was delivered again")
        first, *again = receiver.received
        assert {each.id for each in again} == {first.id}
        assert {each.body for each in again} == {first.body}
        for each in receiver.received:
            event = each.verify(webhook["secret"])
            assert event["type"] == "link.created"
            assert event["data"]["link"]["code"] == link["code"]

        def delivered() -> bool:
            found = api.get(f"{webhook['self']}/deliveries").json()["items"]
            return [each["status"] for each in found] == ["delivered"]

        until(delivered, "the delivery is stored")
        assert worker.metric('shortlinks_webhook_attempts_total{result="delivered"}') == 1


def test_a_worker_that_stops_does_not_wait_for_a_receiver_that_hangs(stack: Stack):
    stack.settings = SETTINGS | {"WEBHOOKS_TIMEOUT_MS": "60000"}
    writer, worker = stack.writer(), stack.worker()
    with Receiver(Manner.HANG) as receiver, stack.api(writer) as api:
        hook = {"url": receiver.url, "events": ["link.created"]}
        api.post("/api/v1/webhooks", json=hook).raise_for_status()
        api.post("/api/v1/links", json={"target": "https://example.com/"}).raise_for_status()
        until(lambda: receiver.received, "the event is being delivered")
        worker.child.stop()
        assert not worker.child.running


def test_an_event_of_a_link_that_has_served_its_last_visit_is_delivered_once(stack: Stack):
    stack.settings = SETTINGS
    writer = stack.writer()
    stack.relay()
    stack.worker()
    redirector = stack.redirector()
    with Receiver() as receiver, stack.api(writer) as api:
        hook = {"url": receiver.url, "events": ["link.exhausted"]}
        webhook = api.post("/api/v1/webhooks", json=hook).json()
        limited = {"target": "https://example.com/", "max_visits": 2}
        link = api.post("/api/v1/links", json=limited).json()
        address = f"{redirector.url}/{link['code']}"
        statuses = [api.get(address, headers={"host": "localhost"}).status_code for _ in range(4)]
        assert statuses[:2] == [302, 302]
        assert set(statuses[2:]) == {410}
        until(lambda: receiver.received, "the event has arrived")
        (received,) = receiver.received
        event = received.verify(webhook["secret"])
        assert event["type"] == "link.exhausted"
        assert event["data"]["link"]["code"] == link["code"]
        assert event["data"]["link"]["status"] == "exhausted"
