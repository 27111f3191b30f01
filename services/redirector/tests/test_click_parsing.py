"""What a click has of a request: everything with a bound, and nothing of visitors who object."""

import pytest
from harness.mmdb import city, database
from hypothesis import given
from hypothesis import strategies as st

from redirector.clicks.geo import GeoDatabase
from redirector.clicks.parsing import ClickParser
from redirector.client_address import ClientAddresses
from redirector.responses.responses import Response, make_template
from shortcore.clicks.wire import Flag, decode_batch, encode_rows
from shortcore.settings.clicks import ClickSettings

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_MS = 1_800_000_000_000
LINK = 7
PROXY, DIRECT = ("10.0.0.1", 4711), ("203.0.113.9", 4711)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36"
BROWSER = {
    "User-Agent": CHROME,
    "Accept-Language": "de-DE,de;q=0.9,en;q=0.5",
    "Referer": "https://news.example/page",
    "X-Forwarded-For": "192.0.2.7",
}


def parser_of(path=None, **settings):
    geo = GeoDatabase(path)
    geo.load()
    return ClickParser(
        ClickSettings(**settings), SECRET, ClientAddresses(["10.0.0.0/8"]), geo, NOW_MS
    )


def click_of(
    parser, headers=BROWSER, *, method="GET", target="/a", peer=PROXY, click_flags=0, pairs=None
):
    """Return the click as the worker decodes it."""
    followed = Response(
        make_template(302, [], 0, click_flags=click_flags), "https://t.example/", LINK
    )
    sent = pairs or [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    row = parser.click(followed, method, "go.example", target, sent, peer, NOW_MS)
    return decode_batch(encode_rows(b"s", 1, [row])).clicks[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("geo") / "geo.mmdb"
    path.write_bytes(database({"192.0.2.0/24": city("DE", "BE"), "203.0.113.0/24": city("FR")}))
    return path


def test_a_click_has_what_the_request_says(path):
    target = "/a?utm_source=news&utm_medium=e-mail&utm_campaign=spring&secret=1"
    click = click_of(parser_of(path), target=target)
    assert (click.link_id, click.at_ms, click.flags) == (LINK, NOW_MS, 0)
    assert len(click.visitor) == 8
    assert (click.agent, click.referrer, click.language) == (CHROME, "news.example", "de")
    assert (click.country, click.region) == ("DE", "BE")
    assert (click.source, click.medium, click.campaign) == ("news", "e-mail", "spring")
    assert (click.host, click.rule) == ("go.example", "")


def test_a_request_without_fields_is_a_bots(path):
    click = click_of(parser_of(path), {}, peer=None)
    assert click.flags == Flag.BOT
    assert not any((click.visitor, click.agent, click.referrer, click.language, click.country))


def test_flags_of_the_request_and_of_the_response_add_up():
    headers = {"User-Agent": "Googlebot/2.1", "Purpose": "prefetch"}
    click = click_of(parser_of(), headers, method=b"HEAD", click_flags=int(Flag.EXPIRED))
    assert click.flags == Flag.BOT | Flag.HEAD | Flag.PREFETCH | Flag.EXPIRED


@pytest.mark.parametrize(
    ("peer", "sent", "place"),
    [
        (PROXY, "US", ("US", "")),
        (PROXY, "DE", ("DE", "BE")),
        (PROXY, "XX", ("DE", "BE")),
        (PROXY, "T1", ("DE", "BE")),
        (PROXY, "us", ("DE", "BE")),
        (PROXY, "U" * 60_000, ("DE", "BE")),
        (DIRECT, "US", ("FR", "")),
        (None, "US", ("", "")),
    ],
)
def test_a_country_header_counts_only_from_a_trusted_proxy(path, peer, sent, place):
    headers = BROWSER | {"cf-ipcountry": sent}
    click = click_of(parser_of(path, geoip_country_header="CF-IPCountry"), headers, peer=peer)
    assert (click.country, click.region) == place


def test_a_country_header_is_not_read_without_the_setting(path):
    click = click_of(parser_of(path), BROWSER | {"CF-IPCountry": "US"})
    assert click.country == "DE"


def test_a_country_header_needs_no_database():
    parser = parser_of(geoip_country_header="CF-IPCountry")
    assert click_of(parser, BROWSER | {"CF-IPCountry": "US"}).country == "US"
    assert click_of(parser, BROWSER | {"CF-IPCountry": "XX"}).country == ""


def test_several_forwarded_fields_are_one_list(path):
    parser = parser_of(path)
    fields = [(b"X-Forwarded-For", hop) for hop in (b"192.0.2.7", b"10.0.0.2", b"10.0.0.3")]
    one = [(b"X-Forwarded-For", b"192.0.2.7,10.0.0.2,10.0.0.3")]
    assert click_of(parser, pairs=fields) == click_of(parser, pairs=one)
    assert click_of(parser, pairs=fields).country == "DE"
    assert click_of(parser, pairs=fields[::-1]).country == "DE"


def test_a_new_database_applies_to_known_addresses(path, tmp_path):
    parser = parser_of(path)
    assert click_of(parser).country == "DE"
    new = tmp_path / "geo.mmdb"
    new.write_bytes(database({"192.0.2.0/24": city("AT")}))
    parser._geo.path = new
    assert parser._geo.load()
    parser.forget_places()
    assert click_of(parser).country == "AT"


@pytest.mark.parametrize(
    "objection", [{"DNT": "1"}, {"Sec-GPC": "1"}, {"dnt": "1", "sec-gpc": "0"}]
)
def test_a_visitor_who_objects_is_only_counted(path, objection):
    parser = parser_of(path, clicks_respect_dnt=True, geoip_country_header="CF-IPCountry")
    headers = {"CF-IPCountry": "US"} | BROWSER | objection
    click = click_of(parser, headers, target="/a?utm_source=news", method="HEAD")
    assert (click.link_id, click.at_ms, click.flags) == (LINK, NOW_MS, Flag.HEAD)
    assert click.host == "go.example"
    assert not any(
        (
            click.visitor,
            click.agent,
            click.referrer,
            click.country,
            click.region,
            click.language,
            click.source,
            click.medium,
            click.campaign,
        )
    )
    assert click_of(parser, headers | {"User-Agent": "Googlebot/2.1"}).flags == Flag.BOT


@pytest.mark.parametrize("sent", [{}, {"DNT": "0"}, {"Sec-GPC": "0"}, {"DNT": "unspecified"}])
def test_other_visitors_are_captured_as_usual(path, sent):
    parser = parser_of(path, clicks_respect_dnt=True)
    assert click_of(parser, BROWSER | sent) == click_of(parser)


def test_an_objection_is_ignored_without_the_setting(path):
    parser = parser_of(path)
    assert click_of(parser, BROWSER | {"DNT": "1", "Sec-GPC": "1"}) == click_of(parser)


@pytest.mark.parametrize(
    "pairs",
    [
        [(b"User-Agent", b"a" * 65_536)],
        [(b"User-Agent", b"\xff" * 65_536), (b"Referer", b"https://" + b"a" * 65_536)],
        [(b"Accept-Language", b"de," * 20_000), (b"X-Forwarded-For", b"192.0.2.1," * 6_000)],
        [(b"X-Forwarded-For", b"192.0.2.1")] * 1000,
        [(b"x-%d" % number, b"") for number in range(10_000)],
        [(b"a" * 65_536, b"")],
    ],
    ids=["agent", "bytes", "lists", "repeated", "names", "name"],
)
def test_hostile_headers_give_a_small_click_and_leave_nothing_in_memory(pairs):
    parser = parser_of()
    query = "&".join(f"utm_source={number}" for number in range(1000))
    click = click_of(parser, pairs=pairs, target=f"/a?{query}%&utm_medium=%ff{'%e2' * 1000}")
    assert len(encode_rows(b"s", 1, [_row(parser, pairs)])) < 2000
    assert click.source == "0"
    caches = (
        parser._names,
        parser._agents,
        parser._hosts,
        parser._languages,
        parser._origins,
    )
    for cache in caches:
        assert len(cache) <= 4096
        assert sum(len(str(key)) for key in cache) < 200_000


def _row(parser, pairs):
    followed = Response(make_template(302, [], 0), "https://t.example/", LINK)
    return parser.click(followed, "GET", "go.example", "/a", pairs, PROXY, NOW_MS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"User-Agent",
                    b"Referer",
                    b"Accept-Language",
                    b"CF-IPCountry",
                    b"X-Forwarded-For",
                    b"DNT",
                ]
            ),
            st.binary(),
        )
    ),
    st.text(st.characters(max_codepoint=127)),
)
def test_any_request_makes_a_click_that_the_worker_can_decode(pairs, target):
    parser = parser_of(geoip_country_header="CF-IPCountry", clicks_respect_dnt=True)
    click_of(parser, pairs=pairs or [(b"a", b"b")], target="/" + target)
