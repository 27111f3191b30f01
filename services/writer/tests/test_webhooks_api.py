"""The API of webhooks: what can be set, what is shown, and what is refused."""

import base64
from typing import Any

import pytest

from writer.webhooks.repository import MAX_WEBHOOKS

PATH = "/api/v1/webhooks"
URL = "https://hooks.example.com/x"
NEW = {"url": URL, "events": ["link.created"]}


async def create(api: Any, **fields: Any) -> dict[str, Any]:
    answer = await api.client.post(PATH, json=NEW | fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == made["self"]
    assert answer.headers["cache-control"] == "no-store"
    return made


async def broken(api: Any, method: str, path: str, body: object) -> set[tuple[str, str]]:
    answer = await api.client.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    return {(each["pointer"], each["rule"]) for each in answer.json()["errors"]}


async def test_only_the_response_to_a_creation_shows_the_secret(api):
    made = await create(api, description="for the shop")
    assert made["secret"].startswith("whsec_")
    assert len(base64.b64decode(made["secret"].removeprefix("whsec_"))) == 32
    seen = (await api.client.get(made["self"])).json()
    assert seen == {name: value for name, value in made.items() if name != "secret"}
    assert (await api.client.get(PATH)).json() == {"items": [seen]}


async def test_a_secret_can_be_set(api):
    secret = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    assert (await create(api, secret=secret))["secret"] == secret


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"url": "ftp://example.com/"}, ("/url", "scheme")),
        ({"url": "/hooks"}, ("/url", "scheme")),
        ({"url": "https://"}, ("/url", "host")),
        ({"url": "https://user:pw@example.com/"}, ("/url", "credentials")),
        ({"url": "https://example.com/" + "x" * 2048}, ("/url", "length")),
        ({"url": "http://127.0.0.1/"}, ("/url", "address")),
        ({"url": "http://0x7f.1/"}, ("/url", "address")),
        ({"url": "http://169.254.169.254/latest"}, ("/url", "address")),
        ({"url": "http://[::ffff:10.0.0.1]/"}, ("/url", "address")),
        ({"url": "http://[fd00::1]:8080/"}, ("/url", "address")),
        ({"events": []}, ("/events", "length")),
        ({"events": ["link.clicked"]}, ("/events/0", "choice")),
        ({"secret": "whsec_" + "A" * 40 + "!!"}, ("/secret", "secret")),
        ({"secret": "x" * 50}, ("/secret", "secret")),
        ({"secret": "whsec_" + base64.b64encode(bytes(65)).decode()}, ("/secret", "secret")),
        ({"events": ["visits.threshold"]}, ("/thresholds", "required")),
        ({"thresholds": [0]}, ("/thresholds/0", "range")),
        ({"thresholds": [*range(1, 18)]}, ("/thresholds", "length")),
        ({"description": "x" * 201}, ("/description", "length")),
        ({"enabled": "yes"}, ("/enabled", "type")),
        ({"color": "red"}, ("/color", "unknown-field")),
    ],
)
async def test_a_problem_names_the_field_and_the_rule(api, fields, rule):
    assert rule in await broken(api, "POST", PATH, NEW | fields)
    assert (await api.client.get(PATH)).json() == {"items": []}


async def test_an_allowed_network_may_be_named(api, settings, opened):
    allowed = settings.model_copy(update={"webhooks_allowed_networks": frozenset({"10.0.0.0/8"})})
    async with opened(allowed) as other:
        await create(other, url="http://10.1.2.3:8080/hook")
        fields = await broken(other, "POST", PATH, NEW | {"url": "http://192.168.0.1/"})
        assert fields == {("/url", "address")}


async def test_an_edit_merges_and_checks_the_version(api):
    made = await create(api)
    answer = await api.client.patch(
        made["self"],
        json={"events": ["link.deleted", "link.deleted", "link.updated"], "enabled": False},
        headers={"if-match": f'"{made["version"]}"'},
    )
    edited = answer.json()
    assert answer.status_code == 200
    assert (edited["events"], edited["enabled"]) == (["link.deleted", "link.updated"], False)
    assert edited["version"] == made["version"] + 1
    same = await api.client.patch(made["self"], json=edited)
    assert same.json() == edited
    stale = await api.client.patch(made["self"], json={}, headers={"if-match": '"1"'})
    assert stale.status_code == 412
    wanted = {"events": ["visits.threshold"], "thresholds": [500, 100, 500]}
    assert (await api.client.patch(made["self"], json=wanted)).json()["thresholds"] == [100, 500]
    assert await broken(api, "PATCH", made["self"], {"thresholds": None}) == {
        ("/thresholds", "required")
    }
    assert await broken(api, "PATCH", made["self"], {"url": None, "events": None}) == {
        ("/url", "required"),
        ("/events", "required"),
    }
    assert ("/url", "address") in await broken(
        api, "PATCH", made["self"], {"url": "http://10.0.0.1/"}
    )


async def test_there_is_a_maximum_number_of_webhooks(api):
    for _ in range(MAX_WEBHOOKS):
        await create(api)
    answer = await api.client.post(PATH, json=NEW)
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":too-many-webhooks")


async def test_a_deleted_webhook_is_not_found(api):
    made = await create(api)
    assert (await api.client.delete(made["self"])).status_code == 204
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", ":test"),
        ("POST", ":rotate-secret"),
        ("GET", "/deliveries"),
        ("POST", "/deliveries:replay"),
        ("POST", "/deliveries/evt_1_1:replay"),
    ):
        answer = await api.client.request(method, made["self"] + path)
        assert answer.status_code == 404, (method, path)
        assert answer.json()["type"].endswith(":webhook-not-found")


async def test_a_test_is_a_pending_ping_of_this_webhook_only(api):
    one, other = await create(api), await create(api)
    answer = await api.client.post(f"{one['self']}:test")
    assert answer.status_code == 202
    ping = answer.json()
    assert (ping["type"], ping["status"], ping["attempts"]) == ("ping", "pending", 0)
    listed = (await api.client.get(f"{one['self']}/deliveries")).json()
    assert listed == {"items": [ping], "next": None}
    assert (await api.client.get(f"{other['self']}/deliveries")).json()["items"] == []
    await api.client.patch(one["self"], json={"enabled": False})
    assert (await api.client.post(f"{one['self']}:test")).status_code == 409


async def test_deliveries_are_listed_in_pages_by_status_and_replayed(api):
    made = await create(api)
    pings = [(await api.client.post(f"{made['self']}:test")).json() for _ in range(5)]
    await api.fetch(
        "UPDATE webhook_deliveries SET status = 'dead', attempts = 8, error = 'x'"
        " WHERE event_id <= 3 RETURNING 1"
    )
    path = f"{made['self']}/deliveries"
    first = (await api.client.get(path, params={"status": "dead", "limit": 2})).json()
    rest = await api.client.get(
        path, params={"status": "dead", "limit": 2, "cursor": first["next"]}
    )
    ids = [each["id"] for each in first["items"] + rest.json()["items"]]
    assert ids == [each["id"] for each in pings[2::-1]]
    assert rest.json()["next"] is None
    for query in ({"status": "lost"}, {"cursor": "x"}, {"limit": 0}):
        assert (await api.client.get(path, params=query)).status_code == 422
    one = (await api.client.post(f"{pings[0]['self']}:replay")).json()
    assert (one["status"], one["attempts"]) == ("pending", 0)
    answer = await api.client.post(f"{path}:replay")
    assert (answer.status_code, answer.json()) == (202, {"replayed": 2})
    assert (await api.client.get(path, params={"status": "dead"})).json()["items"] == []
    for unknown in ("evt_1_1", "evt_999_5b8a1c3f2d000", "1", "evt_99999999999999999999_1"):
        answer = await api.client.post(f"{path}/{unknown}:replay")
        assert answer.status_code == 404
        assert answer.json()["type"].endswith(":delivery-not-found")
