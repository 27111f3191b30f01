"""Custom and generated codes never collide, in either order, even with concurrent creates."""

import asyncio
import random

from shortcore.links.codes import CodeSpace

SECRET = "a secret for the tests"
CODES = CodeSpace(SECRET.encode())
CREATORS = 32


async def test_a_generated_code_that_is_in_use_as_a_custom_code_is_skipped(api):
    hostile = [CODES.encode(id_) for id_ in range(1, 12)]
    for code in hostile[:10]:  # each of them takes an id as well: 0 to 9
        assert (await api.create(code=code))["code"] == code
    assert (await api.create())["code"] == hostile[10]


async def test_a_custom_code_that_was_already_generated_is_taken(api):
    link = await api.create()
    answer = await api.client.post(
        "/api/v1/links", json={"target": "https://other.test/", "code": link["code"]}
    )
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "urn:shortlinks:problem:code-taken"
    assert problem["errors"] == [
        {"pointer": "/code", "rule": "taken", "detail": f"The code {link['code']} is taken."}
    ]
    assert (await api.client.get(link["self"])).json() == link


async def test_32_concurrent_creates_with_predicted_codes_never_share_a_code(api):
    hostile = [CODES.encode(id_) for id_ in range(300)]
    wishes = [*hostile, *[None] * 300, *hostile[:50]]  # the last 50 are wished for twice
    random.shuffle(wishes)
    queue = list(enumerate(wishes))
    answers = {}

    async def creator() -> None:
        while queue:
            number, code = queue.pop()
            body = {"target": f"https://example.com/{number}"} | ({"code": code} if code else {})
            answers[number] = (code, await api.client.post("/api/v1/links", json=body))

    await asyncio.gather(*(creator() for _ in range(CREATORS)))
    made = {}
    for number, (code, answer) in answers.items():
        if answer.status_code == 409:
            assert code is not None, "a generated code was refused"
            assert answer.json()["type"] == "urn:shortlinks:problem:code-taken"
            continue
        link = answer.json()
        assert answer.status_code == 201, link
        assert link["target"] == f"https://example.com/{number}"
        assert code in {None, link["code"]}
        assert link["code"] not in made, "two links were told the same code"
        made[link["code"]] = link
    assert len(made) == await api.fetch("SELECT count(*) FROM links")
    assert len({link["version"] for link in made.values()}) == len(made)
    for link in random.sample(list(made.values()), 50):
        assert (await api.client.get(link["self"])).json() == link
    # Every predicted code exists: each rejected request met a link with that code.
    assert made.keys() >= set(hostile)
    outbox = await api.fetch("SELECT count(DISTINCT (code, version)) FROM outbox WHERE code <> ''")
    assert outbox == len(made)


async def test_batches_with_the_same_codes_in_opposite_order_do_not_deadlock(api):
    codes = [f"c{number}" for number in range(200)]

    async def send(order: list[str]) -> list[int]:
        items = [{"target": "https://example.com/", "code": code} for code in order]
        answer = await api.client.post("/api/v1/links:batch", json={"items": items})
        assert answer.status_code == 200, answer.text
        return [each["status"] for each in answer.json()["items"]]

    results = await asyncio.gather(send(codes), send(codes[::-1]), send(codes), send(codes[::-1]))
    assert sorted(status for each in results for status in each) == [201] * 200 + [409] * 600
