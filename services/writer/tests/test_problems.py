"""Every error is a problem (RFC 9457) with field and rule, and changes nothing."""

import base64
import gzip
import json
import re

import jsonschema
import pytest

LINKS = "/api/v1/links"
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {"type": {"pattern": "^urn:shortlinks:problem:[a-z-]+$"}},
}


def check(answer, status, kind, *, pointer=None, rule=None):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    jsonschema.validate(problem, PROBLEM)
    assert problem["type"] == f"urn:shortlinks:problem:{kind}"
    assert problem["status"] == status
    assert problem["instance"] == f"urn:shortlinks:request:{answer.headers['x-request-id']}"
    if pointer is not None:
        found = [(each["pointer"], each["rule"]) for each in problem["errors"]]
        assert found == [(pointer, rule)]
        assert problem["errors"][0]["detail"].endswith(".")
    return problem


BAD_FIELDS = [
    ({}, "/target", "required"),
    ({"target": None}, "/target", "type"),
    ({"target": 5}, "/target", "type"),
    ({"target": ""}, "/target", "length"),
    ({"target": "https://e.com/" + "a" * 9000}, "/target", "length"),
    ({"target": "e.com"}, "/target", "scheme"),
    ({"target": "javascript:alert(1)"}, "/target", "scheme"),
    ({"target": "https://u:p@e.com/"}, "/target", "credentials"),
    ({"target": "https://"}, "/target", "host"),
    ({"target": "https://e.com:99999/"}, "/target", "syntax"),
    ({"target": "https://GO.test./x"}, "/target", "loop"),
    ({"target": "https://e.com/\x00"}, "/target", "nul"),
    ({"target": "https://e.com/\ud800"}, "/target", "encoding"),
    ({"expired_target": "e.com"}, "/expired_target", "scheme"),
    ({"expired_target": "https://go.test/x"}, "/expired_target", "loop"),
    ({"code": ""}, "/code", "length"),
    ({"code": "a" * 65}, "/code", "length"),
    ({"code": "a b"}, "/code", "charset"),
    ({"code": "API"}, "/code", "reserved"),
    ({"code": "a\x00"}, "/code", "nul"),
    ({"domain": "unknown.test"}, "/domain", "unknown"),
    ({"domain": "http://go.test/"}, "/domain", "unknown"),
    ({"redirect_status": 303}, "/redirect_status", "choice"),
    ({"redirect_status": "302"}, "/redirect_status", "choice"),
    ({"enabled": "no"}, "/enabled", "type"),
    ({"valid_from": "2030-01-01"}, "/valid_from", "instant"),
    ({"valid_from": "2030-01-01T00:00:00"}, "/valid_from", "instant"),
    ({"valid_from": "2030-02-30T00:00:00Z"}, "/valid_from", "instant"),
    ({"valid_from": 1893456000}, "/valid_from", "instant"),
    ({"valid_from": "0001-01-01T00:00:00+14:00"}, "/valid_from", "instant"),
    ({"valid_from": "1969-12-31T00:00:00Z"}, "/valid_from", "range"),
    ({"expires_at": "9999-12-31T23:59:59-12:00"}, "/expires_at", "instant"),
    ({"expires_at": "9999-12-31T00:00:00Z"}, "/expires_at", "range"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "past"),
    (
        {"valid_from": "2040-01-01T00:00:00Z", "expires_at": "2040-01-01T00:00:00Z"},
        "/expires_at",
        "order",
    ),
    ({"max_visits": 0}, "/max_visits", "range"),
    ({"max_visits": 10**30}, "/max_visits", "range"),
    ({"max_visits": "1"}, "/max_visits", "type"),
    ({"max_visits": True}, "/max_visits", "type"),
    ({"max_visits": 1.5}, "/max_visits", "type"),
    ({"password": ""}, "/password", "length"),
    ({"password": "p" * 129}, "/password", "length"),
    ({"password": "p", "find_if_exists": True}, "/find_if_exists", "conflict"),
    ({"forward_query": 1}, "/forward_query", "type"),
    ({"forward_path": "yes"}, "/forward_path", "type"),
    ({"title": "t" * 513}, "/title", "length"),
    ({"title": "t\x00"}, "/title", "nul"),
    ({"note": "n" * 4097}, "/note", "length"),
    ({"tags": "a"}, "/tags", "type"),
    ({"tags": [str(n) for n in range(33)]}, "/tags", "length"),
    ({"tags": ["a", ""]}, "/tags/1", "length"),
    ({"tags": ["a" * 65]}, "/tags/0", "length"),
    ({"tags": ["a,b"]}, "/tags/0", "charset"),
    ({"tags": ["a b"]}, "/tags/0", "charset"),
    ({"tagz/~": []}, "/tagz~1~0", "unknown-field"),
    ({"\ud800": 1}, "", "encoding"),
    ({"title": "\udfff"}, "/title", "encoding"),
    ({"tags": ["\udfff"]}, "/tags/0", "encoding"),
]


async def test_a_broken_rule_is_reported_with_its_field_and_nothing_is_created(api):
    headers = {"content-type": "application/json"}
    for fields, pointer, rule in BAD_FIELDS:
        # json.dumps escapes invalid characters, as the library of a client does.
        body = json.dumps({"target": "https://e.com/"} | fields if fields else {})
        answer = await api.client.post(LINKS, content=body, headers=headers)
        check(answer, 422, "invalid-input", pointer=pointer, rule=rule)
    assert await api.fetch("SELECT count(*) FROM links") == 0
    assert await api.fetch("SELECT count(*) FROM outbox WHERE code <> ''") == 0


async def test_an_edit_follows_the_rules_of_a_create_and_a_rejected_edit_changes_nothing(api):
    headers = {"content-type": "application/json"}
    link = await api.create()
    for fields, pointer, rule in BAD_FIELDS:
        if not fields or {"code", "domain", "find_if_exists"} & fields.keys():
            continue
        answer = await api.client.patch(link["self"], content=json.dumps(fields), headers=headers)
        expected = "required" if fields == {"target": None} else rule
        check(answer, 422, "invalid-input", pointer=pointer, rule=expected)
    assert (await api.client.get(link["self"])).json() == link


async def test_all_broken_rules_are_reported_at_once(api):
    body = {"target": "e.com", "code": "a b", "expires_at": "2020-01-01T00:00:00Z", "domain": "x"}
    problem = check(await api.client.post(LINKS, json=body), 422, "invalid-input")
    pointers = {each["pointer"] for each in problem["errors"]}
    assert pointers == {"/target", "/code", "/expires_at", "/domain"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"target": "https://e.com/",}', b"\xff{}", b"9" * 5000, b"{}x"],
    ids=lambda body: repr(body[:12]),
)
async def test_a_body_that_is_not_json_is_rejected(api, body):
    headers = {"content-type": "application/json"}
    answer = await api.client.post(LINKS, content=body, headers=headers)
    if body == b"":
        check(answer, 422, "invalid-input", pointer="", rule="required")
        return
    problem = check(answer, 400, "malformed-request")
    if body.startswith(b'{"'):
        # The position of the comma or of the bracket after it: parsers differ.
        assert re.search(r"at character 2[78]\b", problem["detail"])


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        (LINKS, b"[" * 100_000, 256),
        (LINKS, b'{"target":"https://e.com/","tags":[' + b"1," * 300 + b"1]}", 256),
        (f"{LINKS}/go.test/none", b'{"a":' * 300 + b"1" + b"}" * 300, 256),
        ("/api/v1/domains", b'{"host":"a.test"' + b',"x":[]' * 300 + b"}", 256),
        ("/api/v1/keys", b'{"name":[' + b"{}," * 300 + b"{}]}", 256),
        (f"{LINKS}:batch", b'{"items":[' + b"{}," * 70_000 + b"{}]}", 64_064),
        (f"{LINKS}:batch", b'{"items":[{"target":""' + b',"x":1' * 300 + b"}]}", 256),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
async def test_a_body_with_too_many_values_is_rejected_before_it_is_decoded(
    api, path, body, most, kind
):
    method = "PATCH" if path.endswith("none") else "POST"
    answer = await api.client.request(method, path, content=body, headers={"content-type": kind})
    problem = check(answer, 422, "invalid-input", pointer="", rule="length")
    assert f"more than {most} JSON values" in problem["detail"]


async def test_an_object_with_too_many_members_is_one_error(api):
    unknown = {"target": "https://e.com/"} | {f"k{n}": 1 for n in range(40)}
    problem = check(await api.client.post(LINKS, json=unknown), 422, "invalid-input")
    assert [each["pointer"] for each in problem["errors"]] == [""]
    assert "at most 32 members, not 41" in problem["detail"]
    answer = await api.client.post(f"{LINKS}:batch", json={"items": [unknown]})
    assert [each["pointer"] for each in answer.json()["items"][0]["problem"]["errors"]] == [
        "/items/0"
    ]


async def test_a_response_lists_a_limited_number_of_broken_rules_and_counts_the_others(api):
    wrong = {f"k{n}": 1 for n in range(30)}
    item = {"target": 5, **wrong}
    answer = await api.client.post(f"{LINKS}:batch", json={"items": [item] * 2})
    for result in answer.json()["items"]:
        problem = result["problem"]
        assert len(problem["errors"]) == 8
        assert problem["detail"].startswith("31 rules are broken")
        assert "The first 8 are listed, 23 are not." in problem["detail"]
    atomic = {"items": [item] * 2, "atomic": True}
    problem = (await api.client.post(f"{LINKS}:batch", json=atomic)).json()
    assert len(problem["errors"]) == 50
    assert "The first 50 are listed, 12 are not." in problem["detail"]


async def test_the_size_limit_of_a_single_link_is_lower_than_that_of_a_batch(api):
    headers = {"content-type": "application/json"}
    body = json.dumps({"target": "https://e.com/", "note": "n" * 130_000}).encode()
    for method, path in (
        ("POST", LINKS),
        ("PATCH", f"{LINKS}/go.test/x"),
        ("POST", "/api/v1/keys"),
        ("PATCH", "/api/v1/domains/go.test"),
    ):
        answer = await api.client.request(method, path, content=body + b" " * 3000, headers=headers)
        problem = check(answer, 413, "body-too-large")
        assert "131072 bytes" in problem["detail"]
    many = json.dumps({"items": [{"target": "https://e.com/", "note": "n" * 4000}] * 900})
    answer = await api.client.post(f"{LINKS}:batch", content=many, headers=headers)
    assert answer.status_code == 200


async def test_a_link_with_every_field_at_its_limit_is_accepted_in_the_longest_escapes(api):
    smile = "\U0001f600"
    whole = {
        "target": "https://example.com/" + smile * 680,
        "expired_target": "https://example.com/" + smile * 680,
        "title": smile * 512,
        "note": smile * 4096,
        "tags": [f"{n:02}" + smile * 62 for n in range(32)],
        "password": smile * 128,
        "expires_at": "2090-01-01T00:00:00Z",
        "max_visits": 10**12,
        "code": "c" * 64,
    }
    body = json.dumps(whole, indent=4)
    assert len(body) > 90_000
    headers = {"content-type": "application/json"}
    answer = await api.client.post(LINKS, content=body, headers=headers)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("path", [LINKS, f"{LINKS}:batch", f"{LINKS}:import", "/api/v1/keys"])
@pytest.mark.parametrize("coding", ["gzip", "br, gzip", "deflate"])
async def test_a_compressed_body_is_rejected(api, path, coding):
    headers = {"content-type": "application/json", "content-encoding": coding}
    answer = await api.client.post(path, content=gzip.compress(b"{}" * 1000), headers=headers)
    problem = check(answer, 415, "unsupported-media-type")
    assert "Content-Encoding" in problem["detail"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-16"])
async def test_json_in_an_encoding_other_than_utf_8_is_rejected(api, encoding, kind):
    body = '{"target":"https://e.com/"}'.encode(encoding)
    answer = await api.client.post(LINKS, content=body, headers={"content-type": kind})
    problem = check(answer, 400, "malformed-request")
    assert "UTF-8" in problem["detail"]


async def test_a_query_with_too_many_parameters_is_rejected(api):
    answer = await api.client.get(f"{LINKS}?" + "a&" * 20_000)
    check(answer, 422, "invalid-input", pointer="?", rule="length")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1"])
async def test_a_body_that_is_not_an_object_is_rejected(api, body):
    headers = {"content-type": "application/json"}
    answer = await api.client.post(LINKS, content=body, headers=headers)
    problem = check(answer, 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == ""


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
async def test_a_body_of_another_media_type_is_rejected(api, kind):
    headers = {} if kind is None else {"content-type": kind}
    answer = await api.client.post(LINKS, content=b'{"target":"https://e.com/"}', headers=headers)
    check(answer, 415, "unsupported-media-type")


async def test_a_body_that_is_too_long_is_rejected_by_its_declared_and_by_its_actual_length(
    settings, opened
):
    async with opened(settings.model_copy(update={"body_max_bytes": 2000})) as api:
        body = b'{"target":"https://e.com/","note":"' + b"n" * 2000 + b'"}'
        headers = {"content-type": "application/json"}
        check(await api.client.post(LINKS, content=body, headers=headers), 413, "body-too-large")
        read = 0

        async def stream():
            nonlocal read
            while True:  # without an end: only a refusal gets us out of here
                read += 1000
                yield b" " * 1000

        answer = await api.client.post(LINKS, content=stream(), headers=headers)
        check(answer, 413, "body-too-large")
        assert read <= 4000


@pytest.mark.parametrize(
    "length",
    ["0" * 5000 + "27", "0" * 5000 + "9" * 19, "9" * 5000],
    ids=["right", "zeros in front", "all digits"],
)
async def test_a_content_length_with_thousands_of_digits_is_a_client_error(api, length):
    body = b'{"target":"https://e.com/"}'
    headers = {"content-type": "application/json", "content-length": length}
    answer = await api.client.post(LINKS, content=body, headers=headers)
    if length.endswith("027"):
        assert answer.status_code == 201
    else:
        check(answer, 413, "body-too-large")


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "Bearer",
        "Bearer x",
        "Basic c2w6eA==",
        "Bearer sl_aaaaaaaa_" + "A" * 43,
        "Bearer sl_\xe4aaaaaaa_" + "A" * 43,
    ],
)
async def test_a_request_without_a_valid_key_is_rejected_before_any_other_check(api, sent):
    headers = {} if sent is None else {b"authorization": sent.encode("latin-1")}
    async with api.without_key() as client:
        for method, path in (("POST", LINKS), ("GET", LINKS), ("GET", "/api/v1/nothing")):
            answer = await client.request(method, path, content=b"{", headers=headers)
            check(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_with_a_valid_prefix_and_a_wrong_secret_is_rejected(api):
    wrong = api.key[:-1] + ("A" if api.key[-1] != "A" else "B")
    answer = await api.client.get(LINKS, headers={"authorization": f"Bearer {wrong}"})
    check(answer, 401, "unauthorized")


async def test_an_unknown_path_is_a_404_and_an_unknown_method_a_405(api):
    for path in ("/", "/api/v1", "/api/v1/link", "/api/v1/links/go.test", "/api/v1/links/"):
        check(await api.client.get(path), 404, "route-not-found")
    answer = await api.client.put(LINKS)
    check(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    one = f"{LINKS}/go.test/none"
    assert (await api.client.post(one)).headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    for method in ("GET", "PATCH", "DELETE", "PUT"):
        answer = await api.client.request(method, f"{one}:restore")
        check(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "OPTIONS, POST"
    for path in ("go.test/none", "other.test/none", "go.test/%00", "a%20b/c", "go.test/ä"):
        for send in (api.client.get, api.client.delete):
            check(await send(f"{LINKS}/{path}"), 404, "link-not-found")
        check(await api.client.patch(f"{LINKS}/{path}", json={}), 404, "link-not-found")
        check(await api.client.post(f"{LINKS}/{path}:restore"), 404, "link-not-found")
    check(await api.client.get("/api/v1/domains/other.test"), 404, "domain-not-found")
    check(await api.client.delete("/api/v1/keys/999"), 404, "key-not-found")


@pytest.mark.parametrize(
    ("query", "pointer", "rule"),
    [
        ("limit=0", "?limit", "range"),
        ("limit=201", "?limit", "range"),
        ("limit=x", "?limit", "type"),
        ("sort=target", "?sort", "choice"),
        ("status=none", "?status", "choice"),
        ("tags=a", "?tags", "unknown-field"),
        ("q=%00", "?q", "nul"),
        ("tag=a%00", "?tag", "charset"),
        ("created_after=now", "?created_after", "instant"),
    ],
)
async def test_an_invalid_list_parameter_is_reported(api, query, pointer, rule):
    problem = check(await api.client.get(f"{LINKS}?{query}"), 422, "invalid-input")
    assert (problem["errors"][0]["pointer"], problem["errors"][0]["rule"]) in {
        (pointer, rule),
        (pointer, "nul"),
    }


@pytest.mark.parametrize(
    "query",
    ["limit=%2B5", "limit=5.0", "limit=5_0", "limit=%205", "limit=", "limit=9" + "9" * 5000,
     "domain=a%00", "created_before=9999-12-31T23:59:59Z", "created_after=0001-01-01T00:00:00Z"],
)  # fmt: skip
async def test_an_undocumented_parameter_is_rejected(api, query):
    answer = await api.client.get(f"{LINKS}?{query}")
    assert answer.status_code in {404, 422}, answer.text


@pytest.mark.parametrize("value", ["yes", "1", "True", "on", "t"])
async def test_a_flag_must_be_true_or_false(api, value):
    link = await api.create()
    answer = await api.client.delete(f"{link['self']}?purge={value}")
    check(answer, 422, "invalid-input", pointer="?purge", rule="type")


@pytest.mark.parametrize("number", ["%2B1", "1.0", "1_0", "0", "9223372036854775808", "1" * 5000])
async def test_a_number_in_a_path_must_have_only_digits(api, number):
    check(await api.client.delete(f"/api/v1/keys/{number}"), 422, "invalid-input")


@pytest.mark.parametrize("at", [-(10**17) + 1, -1, -(2**63), 253402300800000000, 10**18, 2**63])
@pytest.mark.parametrize("number", [1, 2**63 - 1])
async def test_a_cursor_with_an_impossible_time_is_rejected(api, at, number):
    raw = json.dumps(["-created_at", at, number]).encode()
    cursor = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    answer = await api.client.get(LINKS, params={"cursor": cursor})
    check(answer, 422, "invalid-input", pointer="?cursor", rule="cursor")


@pytest.mark.parametrize("at", [0, 1, 253402300799999999])
async def test_a_cursor_at_the_limits_of_time_is_accepted(api, at):
    raw = json.dumps(["-created_at", at, 2**63 - 1]).encode()
    answer = await api.client.get(
        LINKS, params={"cursor": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    )
    assert answer.status_code == 200, answer.text


async def test_a_whole_number_may_have_a_fraction_of_zero(api):
    link = await api.create(max_visits=5.0, redirect_status=301.0)
    assert (link["max_visits"], link["redirect_status"]) == (5, 301)
    for wrong in ({"max_visits": 5.5}, {"max_visits": 1e300}, {"redirect_status": 301.5}):
        answer = await api.client.patch(link["self"], json=wrong)
        check(answer, 422, "invalid-input")


async def test_an_entity_tag_may_contain_a_comma(api):
    link = await api.create()
    answer = await api.client.get(link["self"], headers={"If-None-Match": '"a,b", W/"1,2"'})
    assert answer.status_code == 200
    headers = {"If-None-Match": f'"a,b", W/"{link["version"]}"'}
    assert (await api.client.get(link["self"], headers=headers)).status_code == 304


async def test_an_invalid_entity_tag_is_rejected(api):
    link = await api.create()
    for header, send in (("If-Match", api.client.delete), ("If-None-Match", api.client.get)):
        check(await send(link["self"], headers={header: "1"}), 400, "malformed-request")


async def test_an_internal_error_is_a_500_that_reveals_only_the_request_id(api):
    async def fail(*_):
        raise RuntimeError("the inside of things")

    api.container.publisher.publish_new = fail
    answer = await api.client.post(LINKS, json={"target": "https://e.com/"})
    problem = check(answer, 500, "internal-error")
    assert "inside" not in json.dumps(problem)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", f"{LINKS}:import", "text/csv"),
        ("POST", f"{LINKS}:batch", "application/json"),
        ("POST", LINKS, "application/json"),
        ("PATCH", f"{LINKS}/go.example/abc", "application/json"),
        ("POST", "/api/v1/domains", "application/json"),
        ("POST", "/api/v1/keys", "application/json"),
    ],
)
@pytest.mark.parametrize("idempotency_key", [None, b"once"])
async def test_an_incomplete_body_is_a_client_error_and_changes_nothing(
    api, method, path, kind, idempotency_key
):
    headers = [
        (b"authorization", f"Bearer {api.key}".encode()),
        (b"content-type", kind.encode()),
        (b"content-length", b"1000"),
    ]
    if idempotency_key:
        headers.append((b"idempotency-key", idempotency_key))
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "headers": headers,
    }  # fmt: skip
    messages = [
        {"type": "http.request", "body": b"target\nhttps://e.com/\n", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent = []

    async def receive():
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message):
        sent.append(message)

    await api.client._transport.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert await api.fetch("SELECT count(*) FROM links") == 0
    assert await api.fetch("SELECT count(*) FROM idempotency") == 0


async def test_a_valid_request_id_of_the_client_is_kept(api):
    answer = await api.client.get(LINKS, headers={"X-Request-Id": "abc-123"})
    assert answer.headers["x-request-id"] == "abc-123"
    for bad in ("a b", "x" * 129, "\x7f"):
        made = (await api.client.get(LINKS, headers={"X-Request-Id": bad})).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
