"""Who follows a link, as far as its headers say."""

import pytest

from redirector.clicks.user_agent import BOTS, agent_class, is_prefetch, referrer_host

CHROME = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (f"{CHROME} Mobile Safari/537.36", "chrome/android/mobile"),
        (f"{CHROME} Safari/537.36", "chrome/android/tablet"),
        (f"{CHROME} Mobile Safari/537.36 CUBOT_X30", "chrome/android/mobile"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1",
            "safari/ios/mobile",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0 Safari/537.36 Edg/140.0",
            "edge/windows/desktop",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0", "firefox/linux/desktop"),
        ("something", "other/other/other"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        ("facebookexternalhit/1.1", "bot"),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "bot"),
        ("WhatsApp/2.23", "bot"),
        ("curl/8.5.0", "bot"),
        ("", "bot"),
    ],
)
def test_an_agent_is_read_as_a_class(agent, expected):
    assert agent_class(agent.encode()) == expected


@pytest.mark.parametrize("mark", BOTS)
def test_every_mark_makes_a_bot_in_any_case(mark):
    assert agent_class(f"Mozilla/5.0 X{mark.upper()}1".encode()) == "bot"


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        ("https://News.Example/a?q=secret", "news.example"),
        ("https://user:word@news.example:8443", "news.example"),
        ("android-app://com.google.android.gm/", "com.google.android.gm"),
        ("https://news.example./", "news.example"),
        ("news.example/a", ""),
        ("about:blank", ""),
        ("https://a b/", ""),
        ("https://\xff\xfe/", ""),
        ("https://" + "a" * 300, ""),
        ("", ""),
    ],
)
def test_of_a_referrer_only_the_host_is_kept(referrer, host):
    assert referrer_host(referrer.encode("latin-1")) == host


def test_prefetches_and_previews_say_so():
    assert all(map(is_prefetch, (b"prefetch", b"Prefetch;prerender", b"preview")))
    assert not is_prefetch(b"")
