"""Who follows a link, as far as the User-Agent says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redirector.clicks.user_agent import BOTS, MAX_AGENT, agent_text, is_bot

CHROME = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"


@pytest.mark.parametrize(
    "agent",
    [
        f"{CHROME} Mobile Safari/537.36",
        f"{CHROME} Mobile Safari/537.36 CUBOT_X30",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0 Safari/537.36 Edg/140.0",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0",
        "something",
    ],
)
def test_a_browser_is_no_bot(agent):
    assert not is_bot(agent.encode())


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "facebookexternalhit/1.1",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "WhatsApp/2.23",
        "curl/8.5.0",
        "",
    ],
)
def test_a_program_or_a_request_without_an_agent_is_a_bot(agent):
    assert is_bot(agent.encode())


@pytest.mark.parametrize("mark", BOTS)
def test_every_mark_makes_a_bot_in_any_case(mark):
    assert is_bot(f"Mozilla/5.0 X{mark.upper()}1".encode())


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"", ""),
        (CHROME.encode(), CHROME),
        ("Ünï/1.0".encode(), "Ünï/1.0"),
        ("Ünï/1.0".encode("latin-1"), "Ünï/1.0"),
        (b"a" * 511 + "ü".encode(), "a" * 511),
        (b"a" * 510 + "ü".encode() + b"b", "a" * 510 + "ü"),
        (b"a" * 509 + "\N{GRINNING FACE}".encode(), "a" * 509),
        (b"a" * 511 + b"\xfc\xfc", "a" * 511 + "\xfc"),
        (b"a" * 65_536, "a" * 512),
        (b"caf\xc3", "caf\xc3"),
    ],
)
def test_an_agent_is_read_as_utf_8_or_latin_1_and_no_character_is_split(sent, read):
    assert agent_text(sent) == read


@given(st.binary(max_size=2 * MAX_AGENT))
def test_any_bytes_are_read_as_a_text_of_bounded_length(agent):
    assert len(agent_text(agent)) <= MAX_AGENT
    agent_text(agent).encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_agent_of_utf_8_is_cut_between_two_characters(agent):
    assert agent.startswith(agent_text(agent.encode()))
    assert len(agent.encode()) - len(agent_text(agent.encode()).encode()) <= max(
        3, len(agent.encode()) - MAX_AGENT + 3
    )
