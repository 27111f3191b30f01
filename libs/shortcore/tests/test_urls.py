import json
import re
from pathlib import Path

import pytest
from ada_url import parse_url
from hypothesis import example, given
from hypothesis import strategies as st

from shortcore.links import targets
from shortcore.links.targets import (
    NEVER_SCHEMES,
    TargetError,
    TargetPolicy,
    header_safe,
    normalise_host,
    normalise_target,
)

DEFAULT = TargetPolicy()
OURS = TargetPolicy(own_hosts=frozenset({"Go.Example.", "bücher.example:8080", "[::1]"}))

# Every case of the Standard that we do not answer as it does; docs/urls.md gives the reasons.
CREDENTIALS = frozenset(
    {
        "http://user:pass@foo:21/bar;par?b#c",
        "https://test:@test",
        "http://a:b@c:29/d",
        "http://é@é",
        "http://é@example.com",
        "http://&a:foo(b]c@d:2/",
        "http://::@c@d:2",
        "http://foo.com:b@d/",
        "http://a:b@c\\",
        "http://%25DOMAIN:foobar@foodomain.com/",
        "http:a:b@www.example.com",
        "http:/a:b@www.example.com",
        "http://a:b@www.example.com",
        "http::b@www.example.com",
        "http:/:b@www.example.com",
        "http://:b@www.example.com",
        "http:a:@www.example.com",
        "http:/a:@www.example.com",
        "http://a:@www.example.com",
        "http://www.@pple.com",
        "http://foo:\U0001f4a9@example.com/bar",
        "http://\U0001f600x@host/",
        "http://a:\U0001f600x@host/",
        "http://\U0001f600@host/",
        "https://@test@test@example:800/",
        "https://@@@example",
        "http://`{}:`{}@h/`{}?`{}",
        "https://user:pass[\x7f@foo/bar",
    }
)
HOST_OF_DOTS = frozenset({"http://./", "http://../"})
SPACE_IN_OPAQUE_PATH = frozenset(
    {
        "a:\t foo.com",
        "lolscheme:x x#x x",
        "non-special:opaque  ?hi",
        "non-special:opaque  #hi",
        "non-special:opaque  x?hi",
        "non-special:opaque  x#hi",
        "non-special:opaque \t\t  \t#hi",
        "non-special:opaque \t\t  #hi",
        "non-special:opaque\t\t  \r #hi",
    }
)


def is_absolute(case):
    """Whether the case reads the same without its base (URL Standard, section 4.4)."""
    if case["base"] is None:
        return True
    scheme = re.match(r"[\x00-\x20]*([A-Za-z][A-Za-z0-9+.-]*):(//)?", case["input"])
    if not scheme:
        return False
    return scheme[2] is not None or scheme[1].lower() != case["base"].partition(":")[0].lower()


DATA = json.loads((Path(__file__).parent / "data" / "urltestdata.json").read_text("utf-8"))
CASES = [case for case in DATA if isinstance(case, dict) and is_absolute(case)]
FAILURES = sorted({case["input"] for case in CASES if "failure" in case})
SUCCESSES = {case["input"]: case["href"] for case in CASES if "failure" not in case}
WEB = {raw: href for raw, href in SUCCESSES.items() if href.startswith(("http:", "https:"))}
OTHER = {raw: href for raw, href in SUCCESSES.items() if raw not in WEB}
SCHEMES = frozenset(href.partition(":")[0] for href in SUCCESSES.values())
EVERYTHING = TargetPolicy(schemes=SCHEMES - NEVER_SCHEMES, allow_credentials=True)


def rule_of(raw, policy):
    with pytest.raises(TargetError) as refused:
        normalise_target(raw, policy)
    assert str(refused.value).endswith(".")
    return refused.value.rule


def test_the_conformance_cases_are_all_there():
    assert (len(FAILURES), len(WEB), len(OTHER)) == (257, 181, 245)


@pytest.mark.parametrize("raw", FAILURES, ids=ascii)
def test_what_the_standard_refuses_is_refused(raw):
    assert rule_of(raw, EVERYTHING) in {"syntax", "scheme", "host"}
    assert rule_of(raw, DEFAULT) in {"syntax", "scheme", "host"}


@pytest.mark.parametrize(("raw", "href"), WEB.items(), ids=ascii)
def test_a_web_target_comes_out_as_the_standard_writes_it(raw, href):
    if raw in HOST_OF_DOTS:
        assert rule_of(raw, DEFAULT) == rule_of(raw, EVERYTHING) == "host"
        return
    assert normalise_target(raw, EVERYTHING) == href
    if raw in CREDENTIALS:
        assert rule_of(raw, DEFAULT) == "credentials"
    else:
        assert normalise_target(raw, DEFAULT) == href


@pytest.mark.parametrize(("raw", "href"), OTHER.items(), ids=ascii)
def test_another_scheme_is_taken_only_when_configured_and_never_if_it_runs_code(raw, href):
    assert rule_of(raw, DEFAULT) == "scheme"
    if href.partition(":")[0] in NEVER_SCHEMES:
        assert rule_of(raw, EVERYTHING) == "scheme"
    elif raw in SPACE_IN_OPAQUE_PATH:
        assert " " in href
        assert normalise_target(raw, EVERYTHING) == href.replace(" ", "%20")
    else:
        assert normalise_target(raw, EVERYTHING) == href


def test_each_listed_deviation_is_a_case_of_the_standard():
    assert WEB.keys() >= CREDENTIALS | HOST_OF_DOTS
    assert OTHER.keys() >= SPACE_IN_OPAQUE_PATH


hostile = st.sampled_from(
    ["\r\n", "\r", "\n", "\t", "\0", " ", "\x85", "\u2028", "\u2029", "\ud800", "\udfff", "\x7f",
     "\\", "%0d%0a", "%00", "://", "@", "[", "]", "#", "?", ":", "Set-Cookie: a=b", "é", "。", "\ufeff"]
)  # fmt: skip
anything = st.text(st.characters(exclude_categories=()), max_size=30)
starts = st.sampled_from(
    ["http://example.com/", "https://", "HTTP:", "mailto:", "tel:", "myapp://", "myapp:", "app:/",
     "https://example.com?", "https://example.com#", "https://u:p@example.com/", ""]
)  # fmt: skip
raws = st.builds(
    lambda start, parts: start + "".join(parts),
    starts,
    st.lists(hostile | anything, max_size=8),
)


@given(raws)
@example("http://example.com/\r\nSet-Cookie: a=b")
@example("mailto:a b\u2028c\r\nX: y")
@example("myapp:x \x00 #")
def test_no_input_can_split_a_header(raw):
    policy = TargetPolicy(
        schemes=frozenset({"http", "https", "mailto", "tel", "myapp", "app"}),
        allow_credentials=True,
        max_length=300,
    )
    try:
        href = normalise_target(raw, policy)
    except TargetError:
        return
    assert re.fullmatch(r"[\x21-\x7e]+", href)
    assert len(href) <= 300
    assert href.partition(":")[0] in policy.schemes
    assert normalise_target(href, policy) == href


@pytest.mark.parametrize("bad", ["", "a b", "a\rb", "a\nb", "a\0b", "a\tb", "a\x7f", "é", "a\n"])
def test_the_last_check_lets_no_unsafe_text_through(bad):
    with pytest.raises(TargetError):
        header_safe(bad)


def test_a_parser_with_a_fault_cannot_split_a_header(monkeypatch):
    def faulty(raw, attributes):
        return parse_url(raw, attributes) | {"href": "https://example.com/\r\nX: y"}

    monkeypatch.setattr(targets, "parse_url", faulty)
    assert rule_of("https://example.com", DEFAULT) == "syntax"


def test_the_last_check_returns_what_is_safe():
    assert header_safe("https://example.com/~a!") == "https://example.com/~a!"


@pytest.mark.parametrize(
    "raw", ["", "example.com", "example.com:8080/x", "/x", "//example.com", "a b"]
)
def test_the_error_for_a_target_without_a_scheme_says_how_to_begin(raw):
    with pytest.raises(TargetError, match=r"Begin the target with http: or https:") as refused:
        normalise_target(raw, DEFAULT)
    assert refused.value.rule == "scheme"


@pytest.mark.parametrize("raw", ["http://", "https:///", "HTTP://?x", "http://:80", "http://.../x"])
def test_the_error_for_a_web_target_without_a_host_asks_for_the_host(raw):
    assert rule_of(raw, DEFAULT) == "host"


@pytest.mark.parametrize(
    "raw", ["http://a b/", "http://a:99999/", "http://[::1", "http://a/\ud800"]
)
def test_the_error_for_an_invalid_target_asks_to_check_its_syntax(raw):
    assert rule_of(raw, DEFAULT) == "syntax"


@pytest.mark.parametrize(
    "raw",
    [
        "http://go.example/x",
        "https://GO.EXAMPLE:8443",
        "http://go.example./",
        "http://go.example../",
        "http://go%2Eexample/",
        "http://\uff47\uff4f\u3002example/",
        "http:\\\\go.example\\x",
        "ht\ntp://go.exa\tmple",
        "https://xn--bcher-kva.example/",
        "https://BÜCHER.example/",
        "http://[0:0::1]:80/",
    ],
)
def test_a_target_on_a_host_of_short_links_is_a_loop_in_any_spelling(raw):
    assert rule_of(raw, OURS) == "loop"


@pytest.mark.parametrize(
    "raw", ["http://www.go.example/", "http://example/", "http://go.example.com/"]
)
def test_a_target_on_a_similar_host_is_not_a_loop(raw):
    assert normalise_target(raw, OURS) == raw


LOCAL = TargetPolicy(own_hosts=frozenset({"localhost"}), own_port=8001)


@pytest.mark.parametrize(
    "raw",
    [
        "http://127.0.0.1:8001/x",
        "http://127.1.2.3:8001/",
        "http://2130706433:8001/",
        "http://[::1]:8001/",
        "http://[::ffff:127.0.0.1]:8001/",
        "http://0:8001/",
        "http://[::]:8001/",
        "http://go.LOCALHOST.:8001/",
        "https://localhost:9000/",
    ],
)
def test_if_localhost_has_short_links_every_loopback_address_on_the_port_is_a_loop(raw):
    assert rule_of(raw, LOCAL) == "loop"


def test_another_port_of_a_loopback_address_is_not_a_loop():
    for raw in ("http://127.0.0.1:9000/", "http://127.0.0.1/", "http://128.0.0.1:8001/"):
        assert normalise_target(raw, LOCAL) == raw
    elsewhere = TargetPolicy(own_hosts=frozenset({"go.example"}), own_port=8001)
    assert normalise_target("http://127.0.0.1:8001/", elsewhere) == "http://127.0.0.1:8001/"
    web = TargetPolicy(own_hosts=frozenset({"localhost"}), own_port=80)
    assert rule_of("http://a.localhost/", web) == "loop"
    assert rule_of("http://127.0.0.1/", web) == "loop"


def test_an_app_link_that_contains_a_host_of_short_links_is_not_a_loop():
    policy = TargetPolicy(schemes=frozenset({"myapp"}), own_hosts=frozenset({"go.example"}))
    assert normalise_target("myapp://go.example/x", policy) == "myapp://go.example/x"


def test_the_maximum_length_applies_to_the_input_and_to_its_normal_form():
    policy = TargetPolicy(max_length=30)
    longest = "https://example.com/" + "a" * 10
    assert normalise_target(longest, policy) == longest
    assert rule_of(longest + "a", policy) == "length"
    assert rule_of(" " * 31, policy) == "length"
    assert rule_of("https://example.com/éé", policy) == "length"


def test_a_target_of_a_mebibyte_is_refused_by_its_length():
    assert rule_of("https://example.com/" + "a" * 2**20, DEFAULT) == "length"


@pytest.mark.parametrize("scheme", sorted(NEVER_SCHEMES | {"JavaScript"}))
def test_no_policy_can_allow_a_scheme_that_runs_code_or_reads_local_data(scheme):
    with pytest.raises(ValueError, match="never be allowed"):
        TargetPolicy(schemes=frozenset({"https", scheme}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"schemes": frozenset()},
        {"schemes": frozenset({"https:"})},
        {"schemes": frozenset({"1a"})},
        {"max_length": 0},
        {"own_hosts": frozenset({"https://go.example"})},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        TargetPolicy(**wrong)


def test_the_names_of_schemes_are_compared_without_regard_to_case():
    assert (
        normalise_target("MAILTO:a@b", TargetPolicy(schemes=frozenset({"MailTo"}))) == "mailto:a@b"
    )


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        ("Go.Example", "go.example"),
        ("go.example.", "go.example"),
        ("go.example:8080", "go.example"),
        ("go.example.:80", "go.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("\uff47\uff4f\u3002example", "go.example"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("[0:0:0::1]", "[::1]"),
        ("localhost", "localhost"),
        ("a_b.example", "a_b.example"),
        ("x" * 63 + ".example", "x" * 63 + ".example"),
    ],
)
def test_a_host_has_one_form(raw, host):
    assert normalise_host(raw) == host
    assert normalise_host(host) == host


@pytest.mark.parametrize(
    "raw",
    ["", ".", "a..b", "go.example..", "http://go.example", "go.example/", "u@go.example", "a b",
     "a\n", "a\0b", "a%2eb", "a?b", "a#b", "a\\b", "a:x", "a:70000", "-a.example", "a-.example",
     "a!b", "x" * 64, "a." * 127 + "a", "x" * 10_000, "\ud800", "[::1", "::1", "1.2.3.4.5"],
    ids=lambda raw: ascii(raw)[:20],
)  # fmt: skip
def test_an_impossible_host_is_refused(raw):
    with pytest.raises(ValueError):
        normalise_host(raw)


@given(anything | st.lists(hostile | st.text(max_size=5), max_size=5).map("".join))
def test_a_host_is_never_more_than_letters_digits_dots_and_brackets(raw):
    try:
        host = normalise_host(raw)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z0-9._-]{1,253}|\[[0-9a-f:]+\]", host)
    assert normalise_host(host) == host
    assert normalise_target(f"https://{host}/", DEFAULT) == f"https://{host}/"


# --- what is told to be in its normal form without the parser

PIECES = st.sampled_from(
    ["a", "b.c", "xn--", "xn--a", "1", "0x1", "127.0.0.1", ".", "..", "-", "_", "com", "A", "localhost",
     "http://", "https://", "HTTPS://", "ftp://", "/", "//", "/.", "/..", "/a", "%2e", "%20", "%", "?",
     "#", "@", ":", ":80", ":443", "\\", " ", "\t", "'", '"', "<", "|", "^", "`", "{", "é", "\x00"]
)  # fmt: skip


def stands_as_it_is(raw):
    return targets._NORMAL.fullmatch(raw) is not None


def assert_the_parser_agrees(raw):
    found = parse_url(raw, ("href", "protocol", "username", "password", "hostname"))
    short = targets._NORMAL.fullmatch(raw)
    assert found["href"] == raw
    assert (found["protocol"], found["hostname"]) == (f"{short[1]}:", short[2])
    assert (found["username"], found["password"]) == ("", "")


@given(st.lists(PIECES, max_size=8).map(lambda pieces: "https://" + "".join(pieces)))
@example("https://" + "a" * 70 + ".example/")
@example("https://" + "a." * 200 + "example/")
@example("https://a--b.-c-.example/")
@example("https://example.com/a.b/c..?q=/../")
@example("https://example.com/\n")
def test_the_parser_leaves_a_plain_target_unchanged(raw):
    if stands_as_it_is(raw):
        assert_the_parser_agrees(raw)


def test_the_parser_leaves_plain_targets_of_the_standard_and_of_real_links_unchanged():
    texts = {
        text
        for case in DATA
        if isinstance(case, dict)
        for text in (case["input"], case["base"], case.get("href"))
        if text is not None
    }
    real = Path(__file__).parents[3] / "tests/data/links.csv"
    texts.update(row.partition(",")[0] for row in real.read_text("utf-8").splitlines()[1:])
    taken = [text for text in texts if stands_as_it_is(text)]
    for text in taken:
        assert_the_parser_agrees(text)
    assert len(taken) > 4000  # most real links: else all this is for nothing


@pytest.mark.parametrize(
    "raw",
    [
        "https://example.com",  # a slash is added
        "https://EXAMPLE.com/",
        "https://example.com:443/",
        "https://user@example.com/",
        "https://xn--a.example/",  # no valid Punycode
        "https://1.2.3/",  # an IPv4 address
        "https://0x7f.1/",
        "https://example.com/a/../b",
        "https://example.com/.",
        "https://example.com/%2e%2E/a",
        "https://example.com/a b",
        "https://example.com/?q='",
        "https://example.com/é",
        "ftp://example.com/",
    ],
)
def test_a_target_that_the_standard_changes_or_checks_goes_through_the_parser(raw):
    assert not stands_as_it_is(raw)


def test_a_plain_target_on_a_host_of_short_links_is_a_loop():
    with pytest.raises(TargetError, match="circle"):
        normalise_target("https://go.example/a", OURS)
    with pytest.raises(TargetError, match="https:"):
        normalise_target("http://example.com/", TargetPolicy(schemes=frozenset({"https"})))


@pytest.mark.parametrize("label", ["ü" * 8000, "a" * 254, "ab." * 100 + "com"])
def test_a_host_that_dns_cannot_hold_is_refused(label):
    with pytest.raises(TargetError) as raised:
        normalise_target(f"https://{label}/", TargetPolicy())
    assert raised.value.rule == "host"


def test_a_host_of_253_characters_and_a_final_dot_is_taken():
    host = "a." * 124 + "b.com"
    assert len(host) == 253
    assert normalise_target(f"https://{host}./", TargetPolicy()) == f"https://{host}./"
