import pytest

from shortcore.origins import normalise_origin, normalise_origins
from shortcore.settings.redirector import RedirectorSettings
from shortcore.settings.writer import WriterSettings


@pytest.mark.parametrize(
    ("raw", "origin"),
    [
        ("*", "*"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ],
)
def test_an_origin_has_the_form_that_browsers_send(raw, origin):
    assert normalise_origin(raw) == origin


@pytest.mark.parametrize(
    "raw",
    [
        "", "null", "app.example.com", "https://", "https://app.example.com/", "https://a b",
        "https://user@app.example.com", "https://*.example.com", "https://a,https://b",
        "https://app.example.com\r\nx: y", "https://app.example.com?x", "https://host:99999",
    ],
)  # fmt: skip
def test_a_value_that_no_browser_sends_is_refused(raw):
    with pytest.raises(ValueError, match="is not an origin"):
        normalise_origin(raw)


def test_a_wildcard_beside_origins_is_refused():
    with pytest.raises(ValueError, match="not both"):
        normalise_origins(["*", "https://app.example.com"])


@pytest.mark.parametrize(
    ("settings", "name"),
    [(WriterSettings, "writer_cors_origins"), (RedirectorSettings, "redirector_cors_origins")],
)
def test_no_origin_is_allowed_unless_a_setting_names_it(settings, name, monkeypatch):
    required = {"postgres_url": "x", "redis_url": "x", "code_secret": "0123456789abcdef"}
    assert getattr(settings(**required), name) == frozenset()
    monkeypatch.setenv(f"SHORTLINKS_{name.upper()}", "https://A.example, http://b.example:80")
    assert getattr(settings(**required), name) == {"https://a.example", "http://b.example"}
