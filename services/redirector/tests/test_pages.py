"""What the pages of a link say, and that nothing in them misleads."""

import re
from datetime import UTC, datetime

import pytest
from argon2 import PasswordHasher

from redirector.responses.display import SHOWN, place_name, shortened, visible

HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("sesame")


@pytest.mark.parametrize(
    ("opens", "said"),
    [
        (datetime(2030, 12, 1, 9, 0, tzinfo=UTC), "1 December 2030 at 09:00 UTC"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "31 December 9999 at 23:59:59 UTC"),
    ],
)
async def test_a_scheduled_link_says_when_it_opens(run, table, opens, said):
    await table.link("abc", valid_from=opens)
    app = await run()
    for path in ("/abc", "/abc+"):
        response = await app.get(path)
        assert (response.status_code, response.headers["cache-control"]) == (404, "no-store")
        assert f'<time datetime="{opens:%Y-%m-%dT%H:%M:%SZ}">{said}</time>' in response.text
        assert "target.example" not in response.text
    counts = app.redirector.counts
    assert counts.values[counts.response("scheduled", 404)] == 2


async def test_a_disabled_link_says_so_and_an_unknown_or_ended_one_something_else(run, table):
    await table.domain(not_found_target="https://lost.example/")
    await table.link("off", enabled=False, title="Secret")
    await table.link("gone", deleted=True)
    app = await run()
    for path in ("/off", "/off", "/off+", "/off/x"):
        response = await app.get(path)
        assert response.status_code == 404, path
        assert "has disabled it" in response.text
        assert "Secret" not in response.text
        assert "target.example" not in response.text
    assert (await app.get("/none")).headers["location"] == "https://lost.example/"
    assert (await app.get("/gone")).status_code == 410
    await table.edit("off", enabled=True)
    app.redirector.cache.expire()
    assert (await app.get("/off")).status_code == 302


async def test_an_expired_target_takes_the_forwarded_query_as_the_target_does(run, table, clock):
    over = "https://over.example/x?a=b#c"
    spent = {"expired_target": over, "max_visits": 1, "visits": 1}
    await table.link("yes", forward_query=True, forward_path=True, **spent)
    await table.link("no", **spent)
    past = datetime.fromtimestamp(clock.now_ms() / 1000 - 1, UTC)
    await table.link("late", forward_query=True, expires_at=past, expired_target=over)
    app = await run()
    for path in ("/yes/rest", "/late"):
        response = await app.get(f"{path}?d=%0D%0A&e=|")
        assert response.headers["location"] == "https://over.example/x?a=b&d=%0D%0A&e=%7C#c"
    assert (await app.get("/no?d=e")).headers["location"] == over


async def test_a_preview_shows_the_host_and_the_target_and_has_a_button(run, table):
    await table.link("abc", "https://t.example/a?b=<c>&d='", title="Sale")
    page = (await (await run()).get("/abc+")).text
    sent = "https://t.example/a?b=%3Cc%3E&amp;d=&#39;"
    assert "<strong><bdi>t.example</bdi></strong>" in page
    assert f"<p><bdi>{sent}</bdi></p>" in page
    button = f'<a class="button" href="{sent}" rel="noopener noreferrer nofollow">'
    assert f"{button}Continue to <bdi>t.example</bdi></a>" in page
    assert "<details>" not in page


async def test_a_preview_that_hides_the_target_has_a_button_to_the_link_itself(run, table):
    await table.link("locked", "https://secret.example/", password_hash=HASH)
    await table.link("few", "https://secret.example/", max_visits=1)
    app = await run()
    for code in ("locked", "few"):
        page = (await app.get(f"/{code}+")).text
        assert f'<a class="button" href="/{code}">' in page
        assert "secret.example" not in page


async def test_a_long_target_is_shortened_in_its_middle_and_can_be_read_in_full(run, table):
    target = f"https://{'a' * 60}.{'b' * 60}.{'c' * 60}.evil.example/{'x' * 8000}/end"
    await table.link("abc", target)
    page = (await (await run()).get("/abc+")).text
    shown = re.search(r"<p><bdi>(https:[^<]*)</bdi></p>\n<details>", page)[1]
    assert len(shown) <= SHOWN
    assert shown.startswith("https://aaa")
    assert shown.endswith("xxx/end")
    assert "evil.example</bdi></strong>" in page, "the host is never cut"
    assert f"<p><bdi>{target}</bdi></p></details>" in page


async def test_marks_that_turn_the_direction_of_text_are_shown_and_isolated(run, table):
    title = "Bank\u202emoc.live\u2066\u200f\u061c\u0085\u2028 <b>\u05d0"
    await table.link("abc", title=title)
    page = (await (await run()).get("/abc+")).text
    said = "Bank[U+202E]moc.live[U+2066][U+200F][U+061C][U+0085][U+2028] &lt;b&gt;\u05d0"
    assert f"<title>{said}</title>" in page
    assert f"<h1><bdi>{said}</bdi></h1>" in page
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", page)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("https://t.example/x", "t.example"),
        ("https://bank.example@evil.example/", "evil.example"),
        ("https://bank.example%2F@evil.example:81/", "evil.example"),
        ("http://[2001:db8::1]/", "[2001:db8::1]"),
        ("https://xn--80ak6aa92e.com/", "xn--80ak6aa92e.com"),
        ("mailto:a@bank.example", "mailto:"),
    ],
)
def test_the_host_is_the_one_that_a_browser_will_ask(target, name):
    assert place_name(target) == name


def test_short_texts_without_marks_stay_as_they_are():
    assert visible("naïve שלום 👨‍👩‍👧 text") == "naïve שלום 👨‍👩‍👧 text"
    assert shortened("https://t.example/") == "https://t.example/"
    assert len(shortened("x" * 10_000)) <= SHOWN
