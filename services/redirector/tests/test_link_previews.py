"""Link previews, prefetches and HEAD use up no visit of a limited link, and people do."""

import pytest

from redirector.links.link_previews import is_preview_agent

CHROME = (
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"
    " Mobile Safari/537.36"
)
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15"
AGENTS = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slack-ImgProxy 0.19 (+https://api.slack.com/robots)",
    "WhatsApp/2.23.20.0 A",
    "TelegramBot (like TwitterBot)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "facebookexternalhit/1.1 Facebot Twitterbot/1.0",
    "Twitterbot/1.0",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Snap URL Preview Service; bot; snapchat; https://developers.snap.com/robots",
    "Mozilla/5.0 (compatible; Bluesky Cardyb/1.1; +mailto:support@bsky.app)",
    "Synapse (bot; +https://github.com/matrix-org/synapse)",
    "Iframely/1.3.1 (+https://iframely.com/docs/about) Notion",
]
PEOPLE = [
    CHROME,
    f"{CHROME} WhatsApp/2.24.3.78",
    f"WhatsApp/2.2037.6 {CHROME}",
    f"{IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/450.0.0.0;FBBV/123456;]",
    f"{IPHONE} Mobile/15E148 [LinkedInApp]/9.29",
    f"{IPHONE} Mobile/15E148 Twitter for iPhone/10.21",
    f"{IPHONE} Mobile/15E148 [Pinterest/iOS]",
    f"{CHROME} Telegram-Android/11.2",
    f"{IPHONE} Safari Line/12.21.1",
    f"{CHROME} KAKAOTALK 10.4.5",
    "",
    "curl/8.5.0",
]
UNCOUNTED = [
    {"user-agent": AGENTS[0]},
    {"user-agent": AGENTS[2]},
    {"sec-purpose": "prefetch"},
    {"sec-purpose": "prefetch;prerender"},
    {"Sec-Purpose": "prefetch; anonymous-client-ip"},
    {"purpose": "prefetch"},
    {"x-purpose": "preview"},
    {"x-moz": "prefetch"},
]


@pytest.mark.parametrize("agent", AGENTS)
def test_programs_that_make_previews_are_known(agent: str) -> None:
    assert is_preview_agent(agent.encode())
    assert not is_preview_agent((CHROME + " " * 512 + agent).encode())


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_are_not_taken_for_them_in_an_app_either(agent: str) -> None:
    assert not is_preview_agent(agent.encode())


async def visits(table, code="abc"):
    return await table.visits(code)


async def test_a_one_time_link_is_neither_used_up_nor_shown_by_a_preview(run, table):
    await table.link("abc", "https://secret.example/", max_visits=1, expired_target=None)
    app = await run()
    for headers in UNCOUNTED:
        response = await app.get("/abc", headers=headers)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store"), (
            headers
        )
        assert "secret.example" not in response.text + str(response.headers)
        assert 'href=""' in response.text  # a person follows the link from the page
    response = await app.http.head("/abc")
    assert (response.status_code, "location" in response.headers) == (200, False)
    assert await visits(table) == 0
    person = await app.get("/abc", headers={"user-agent": CHROME})
    assert (person.status_code, person.headers["location"]) == (302, "https://secret.example/")
    for headers in UNCOUNTED:
        assert (await app.get("/abc", headers=headers)).status_code == 410
    assert (await app.http.head("/abc")).status_code == 410
    uncounted = app.redirector._visits.uncounted
    assert uncounted == {"head": 1, "prefetch": 6, "preview": 2}


async def test_above_the_setting_they_get_the_redirect_uncounted(run, table):
    await table.link("abc", "https://target.example/", max_visits=3)
    app = await run(preview_max_visits=2)
    for headers in UNCOUNTED:
        response = await app.get("/abc", headers=headers)
        assert (response.status_code, response.headers["location"]) == (
            302,
            "https://target.example/",
        )
        assert response.headers["cache-control"] == "no-store"
    assert (await app.http.head("/abc")).status_code == 302
    assert await visits(table) == 0
    people = [(await app.get("/abc")).status_code for _ in range(4)]
    assert people == [302, 302, 302, 410]


async def test_without_postgresql_they_get_no_redirect_either(run, table, clock):
    await table.link("abc", max_visits=100)
    app = await run(preview_max_visits=0)
    assert (await app.get("/abc", headers=UNCOUNTED[0])).status_code == 302
    await app.redirector._primary.close()
    assert (await app.get("/abc", headers=UNCOUNTED[0])).status_code == 503


async def test_an_unlimited_link_redirects_them_as_anybody(run, table):
    await table.link("abc")
    app = await run()
    for headers in UNCOUNTED:
        assert (await app.get("/abc", headers=headers)).status_code == 302
