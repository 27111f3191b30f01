"""Where a visitor comes from and which language it prefers, as far as the request says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redirector.clicks.fields import (
    country_code,
    is_prefetch,
    preferred_language,
    referrer_host,
)
from redirector.clicks.utm import campaign_of
from shortcore.clicks.wire import MAX_CAMPAIGN, MAX_HOST


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
        ("https://" + "a" * 253 + "/", "a" * 253),
        ("https://" + "a" * 253 + "./", "a" * 253),
        ("https://" + "a" * 254 + "/", ""),
        ("https://" + "a." * 30_000, ""),
        ("", ""),
    ],
)
def test_of_a_referrer_only_the_host_is_kept(referrer, host):
    assert referrer_host(referrer.encode("latin-1")) == host


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("de", "de"),
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("EN-us", "en"),
        ("zh-Hant-TW, zh;q=0.5", "zh"),
        ("gsw, de;q=0.9", "gsw"),
        ("en;q=0.5, fr;q=0.9, de;q=0.9", "fr"),
        ("en ; q=0.5 , fr", "fr"),
        ("en;q=0, de;q=0.1", "de"),
        ("en;q=0", ""),
        ("*", ""),
        ("*, it;q=0.2", "it"),
        ("i-klingon, x-private", ""),
        ("deutsch", ""),
        ("d", ""),
        ("de_DE", ""),
        ("de;q=high", ""),
        ("\xfc\xfc", ""),
        ("", ""),
        ("," * 60_000 + "de", ""),
        ("a" * 65_536, ""),
    ],
)
def test_of_the_languages_the_preferred_one_is_kept(accept, language):
    assert preferred_language(accept.encode("latin-1")) == language


@pytest.mark.parametrize(
    ("value", "country"),
    [
        (b"DE", "DE"),
        (b"XX", ""),
        (b"T1", ""),
        (b"ZZ", ""),
        (b"de", ""),
        (b"DEU", ""),
        (b"", ""),
        (b"DE\n", ""),
    ],
)
def test_a_country_has_two_capital_letters(value, country):
    assert country_code(value) == country


def test_prefetches_and_previews_say_so():
    assert all(map(is_prefetch, (b"prefetch", b"Prefetch;prerender", b"preview")))
    assert not is_prefetch(b"")


@pytest.mark.parametrize(
    ("target", "campaign"),
    [
        ("/a", ("", "", "")),
        ("/a?x=1", ("", "", "")),
        (
            "/a?utm_source=news&utm_medium=e-mail&utm_campaign=Spring+Sale",
            ("news", "e-mail", "Spring Sale"),
        ),
        ("/a?x=1&utm_campaign=%C3%9Cber%20uns&y", ("", "", "Über uns")),
        ("/a&utm_source=pasted", ("pasted", "", "")),
        ("/a?x=1&amp;utm_source=pasted", ("pasted", "", "")),
        ("/a?utm_source=first&utm_source=second", ("first", "", "")),
        ("/a?utm_source=&utm_source=second", ("", "", "")),
        ("/a?xutm_source=no&utm_source", ("", "", "")),
        ("/a/utm_source=no", ("", "", "")),
        ("/a?x=utm_source=no", ("", "", "")),
        ("/a?utm_source=utm_medium=x", ("utm_medium=x", "", "")),
        ("/a?utm_source=a#&utm_medium=b", ("a", "b", "")),
        ("/a?utm_source=%zz%&utm_medium=%e4", ("%zz%", "\N{REPLACEMENT CHARACTER}", "")),
        ("/a?utm_source=%00a%0Ab%1B[31m%E2%80%AEc", ("ab[31mc", "", "")),
        ("/a?utm_source=%20%20a%20%20", ("a", "", "")),
        ("/a?utm_source=" + "a" * 8000, ("a" * 64, "", "")),
        ("/a?utm_source=" + "%F0%9F%98%80" * 600, ("\N{GRINNING FACE}" * 64, "", "")),
        ("/a?" + "utm_content=x&" * 20 + "utm_source=a", ("a", "", "")),
        ("/a?" + "utm_source=a&" * 600 + "utm_medium=b", ("a", "", "")),
    ],
)
def test_the_utm_values_of_a_request_are_decoded_and_bounded(target, campaign):
    assert campaign_of(target) == campaign


@given(st.text(), st.binary())
def test_hostile_fields_give_bounded_printable_texts(text, data):
    for value in campaign_of(f"/a?utm_source={text}&utm_medium={data.decode('latin-1')}"):
        assert len(value) <= MAX_CAMPAIGN
        assert value.isprintable()
    assert len(referrer_host(b"https://" + data)) <= MAX_HOST
    assert len(preferred_language(data)) <= 3
    assert country_code(data) == "" or len(data) == 2
