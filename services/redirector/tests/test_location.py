"""Every `Location` is an RFC 3986 reference to the very target that is stored."""

import contextlib
import re
import time
from urllib.parse import unquote_to_bytes

import hypothesis
import pytest
from hypothesis import strategies as st

from redirector.rules.location import as_reference, escape
from shortcore.links.record import is_simple_target
from shortcore.links.targets import TargetError, TargetPolicy, normalise_target

# RFC 3986, appendix A, with an authority that holds a registered name or an IPv6 address.
PCHAR = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
AUTHORITY = rf"(?:{PCHAR}*@)?(?:\[[0-9a-f:.]+\]|{PCHAR}*)(?::[0-9]*)?"
PART = rf"(?:{PCHAR}|[/?])*"
REFERENCE = re.compile(
    rf"[a-z][a-z0-9+.\-]*:(?://{AUTHORITY}(?=[/?#]|\Z))?(?:{PCHAR}|/)*(?:\?{PART})?(?:#{PART})?"
)

ANY_SCHEME = TargetPolicy(schemes=frozenset({"http", "https", "mailto", "app"}))
ODD = [*list("[]|`^{}\\\"<>#%?&/@:'é\u202e "), "%41", "%zz", "%2F", "//", "[::1]"]


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("https://t.example/a[1]|b", "https://t.example/a%5B1%5D%7Cb"),
        ("https://t.example/?[\\]^`{|}", "https://t.example/?%5B%5C%5D%5E%60%7B%7C%7D"),
        ("https://t.example/#a#[\\]^{|}", "https://t.example/#a%23%5B%5C%5D%5E%7B%7C%7D"),
        ("https://t.example/100%?a=%zz&b=%4", "https://t.example/100%25?a=%25zz&b=%254"),
        ("https://t.example/%41%5b", "https://t.example/%41%5b"),
        ("http://[2001:db8::1]:8080/[x]", "http://[2001:db8::1]:8080/%5Bx%5D"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("mailto:a|b@t.example", "mailto:a%7Cb@t.example"),
        # Only a row that was not written by the API can hold these.
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://t.example/a\r\nSet-Cookie: b=c", "https://t.example/a%0D%0ASet-Cookie:%20b=c"),
        ("http://[::1]x/", "http://%5B::1%5Dx/"),
        ("é\r\n\x00", "%C3%A9%0D%0A%00"),
    ],
)
def test_what_rfc_3986_forbids_is_percent_encoded(target, location):
    assert as_reference(target) == location


@hypothesis.given(
    st.tuples(
        st.sampled_from(["https://t.example/", "http://[::1]:8/", "app://o{/", "app:", "mailto:"]),
        st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=12).map("".join),
    ).map("".join)
)
@hypothesis.settings(max_examples=500)
def test_any_target_becomes_a_reference_to_the_same_place(raw):
    with contextlib.suppress(TargetError):
        target = normalise_target(raw, ANY_SCHEME)
        location = as_reference(target)
        assert REFERENCE.fullmatch(location), location
        assert unquote_to_bytes(location) == unquote_to_bytes(target)
        assert as_reference(location) == location


@hypothesis.given(st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3))).map("".join))
def test_a_forwarded_part_never_ends_the_part_that_it_is_put_into(part):
    escaped = escape(part)
    assert re.fullmatch(PART, escaped)
    assert unquote_to_bytes(escaped) == unquote_to_bytes(part)


@pytest.mark.parametrize("piece", ["<", "%", "%<", "\u00e9"])
def test_the_longest_query_is_escaped_in_little_time(piece):
    part = piece * (8192 // len(piece))
    took = []
    for _ in range(5):
        began = time.process_time()
        escaped = escape(part)
        took.append(time.process_time() - began)
    assert min(took) < 0.002
    assert unquote_to_bytes(escaped) == unquote_to_bytes(part)


async def test_each_kind_of_redirect_sends_a_reference_and_the_preview_shows_the_same(run, table):
    odd, sent = (
        "https://t.example/[a]?q={b}|%#c#d",
        "https://t.example/%5Ba%5D?q=%7Bb%7D%7C%25#c%23d",
    )
    await table.domain(default_target=odd, not_found_target=odd)
    await table.link("plain", odd, redirect_status=301)
    await table.link("limited", odd, max_visits=9)
    await table.link("over", expired_target=odd, max_visits=1, visits=1)
    await table.link("forward", odd, forward_query=True, forward_path=True)
    app = await run()
    for path in ("/plain", "/plain", "/limited", "/over", "/", "/unknown", "/forward"):
        assert (await app.get(path)).headers["location"] == sent, path
    forwarded = await app.get('/forward/[x]?"<y>"')
    assert forwarded.headers["location"] == (
        "https://t.example/%5Ba%5D/%5Bx%5D?q=%7Bb%7D%7C%25&%22%3Cy%3E%22#c%23d"
    )
    assert sent.replace("&", "&amp;") in (await app.get("/plain+")).text


@pytest.mark.parametrize(
    ("target", "simple"),
    [
        ("https://example.com", True),
        ("http://a.b.example.com:8080/x/y?z=1&u=:@", True),
        ("https://example.com/a[b]", False),
        ("https://example.com/?a|b", False),
        ("https://example.com/100%25", False),
        ("https://example.com/#part", False),
        ("https://example.com/\r\nset-cookie:a=b", False),
        ("https://localhost/", False),
        ("https://go.localhost/", False),
        ("https://go.localhost:8001", False),
        ("https://127.0.0.1/", False),
        ("https://[::1]/", False),
        ("https://u@example.com/", False),
        ("https://exämple.com/", False),
        ("mailto:a@example.com", False),
    ],
)
def test_a_simple_target_needs_no_escape_and_has_a_public_host(target: str, simple: bool) -> None:
    assert is_simple_target(target) is simple
    if simple:
        assert as_reference(target) is target
