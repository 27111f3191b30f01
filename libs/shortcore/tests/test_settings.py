import os

import pytest

from shortcore.errors import ConfigurationError
from shortcore.settings.catalog import ALL
from shortcore.settings.loader import load
from shortcore.settings.redirector import RedirectorSettings
from shortcore.settings.relay import RelaySettings
from shortcore.settings.urls import redact_url
from shortcore.settings.writer import WriterSettings

REQUIRED = {
    "SHORTLINKS_POSTGRES_URL": "postgresql://u:p@db/links",
    "SHORTLINKS_REDIS_URL": "redis://cache",
    "SHORTLINKS_CODE_SECRET": "0123456789abcdef",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SHORTLINKS_"):
            monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def faults(kind=WriterSettings):
    with pytest.raises(ConfigurationError) as caught:
        load(kind)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("kind", ALL)
def test_what_is_required_is_enough(kind):
    assert load(kind).redis_url.get_secret_value() == "redis://cache"


def test_each_missing_setting_is_a_line_that_names_both_its_sources(monkeypatch):
    for name in REQUIRED:
        monkeypatch.delenv(name)
    assert sorted(faults()) == [
        f"{name}: required; set {name} or {name}_FILE" for name in sorted(REQUIRED)
    ]


def test_an_unknown_setting_stops_the_start(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_REDIS_TIMEOUT", "50")
    assert faults() == ["SHORTLINKS_REDIS_TIMEOUT: unknown setting; see docs/configuration.md"]


def test_a_setting_of_another_service_is_no_fault(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_L1_TTL_S", "3")
    monkeypatch.setenv("SHORTLINKS_RELAY_BATCH_SIZE", "7")
    assert load(WriterSettings)
    assert load(RedirectorSettings).l1_ttl_s == 3
    assert load(RelaySettings).relay_batch_size == 7


def test_all_faults_are_told_at_once_one_line_each(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_WRITER_PORT", "eighty")
    monkeypatch.setenv("SHORTLINKS_LOG_LEVEL", "loud")
    monkeypatch.setenv("SHORTLINKS_CODE_SECRET", "short")
    monkeypatch.setenv("SHORTLINKS_NONSENSE", "1")
    lines = faults()
    assert len(lines) == 4
    for name in ("WRITER_PORT", "LOG_LEVEL", "CODE_SECRET", "NONSENSE"):
        assert any(line.startswith(f"SHORTLINKS_{name}: ") for line in lines)


@pytest.mark.parametrize("rate", ["0", "1e-300", "1001", "nan"])
def test_a_rate_of_password_checks_that_no_timer_can_keep_is_refused(monkeypatch, rate):
    monkeypatch.setenv("SHORTLINKS_PASSWORD_LINK_CHECKS_PER_S", rate)
    (line,) = faults(RedirectorSettings)
    assert line.startswith("SHORTLINKS_PASSWORD_LINK_CHECKS_PER_S: ")


def test_no_fault_shows_a_secret(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_CODE_SECRET", "hush")
    assert "hush" not in "\n".join(faults())


def test_a_secret_comes_from_its_file_without_the_last_line_break(monkeypatch, tmp_path):
    path = tmp_path / "url"
    path.write_text("redis://from-a-file\n")
    monkeypatch.delenv("SHORTLINKS_REDIS_URL")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL_FILE", str(path))
    assert load(WriterSettings).redis_url.get_secret_value() == "redis://from-a-file"


def test_the_environment_goes_before_a_file_of_secrets(monkeypatch, tmp_path):
    path = tmp_path / "url"
    path.write_text("redis://from-a-file")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL_FILE", str(path))
    assert load(WriterSettings).redis_url.get_secret_value() == "redis://cache"


def test_a_file_of_secrets_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("SHORTLINKS_REDIS_URL")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL_FILE", str(tmp_path / "none"))
    (line,) = faults()
    assert line.startswith("SHORTLINKS_REDIS_URL_FILE: cannot read ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'writer_port = 8123\nlog_level = "debug"\n'),
        ("c.yaml", "writer_port: 8123\nlog_level: debug\n"),
        ("c.yml", "writer_port: 8123\nlog_level: debug\n"),
    ],
)
def test_a_configuration_file_gives_what_the_environment_does_not(
    monkeypatch, tmp_path, name, text
):
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(tmp_path / name))
    monkeypatch.setenv("SHORTLINKS_LOG_LEVEL", "error")
    found = load(WriterSettings)
    assert (found.writer_port, found.log_level) == (8123, "error")


@pytest.mark.parametrize(("name", "text"), [("c.toml", "typo = 1"), ("c.yaml", "typo: 1")])
def test_an_unknown_name_in_the_configuration_file_is_told(monkeypatch, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(path))
    assert faults() == [f"{path}: typo: unknown setting; see docs/configuration.md"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.toml", "this is = = no toml"), ("c.yaml", "a: [1"), ("c.yaml", "- a\n- list\n")],
)
def test_a_broken_configuration_file_is_one_error_that_names_it(monkeypatch, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(path))
    assert faults()[0].startswith(f"{path}: ")


def test_a_configuration_file_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(tmp_path / "none.toml"))
    assert faults() == [f"SHORTLINKS_CONFIG_FILE: the file {tmp_path}/none.toml does not exist"]


@pytest.mark.parametrize(
    "name",
    [
        "SHORTLINKS_WRITER_SERVICE_HOST",
        "SHORTLINKS_WRITER_SERVICE_PORT",
        "SHORTLINKS_WRITER_SERVICE_PORT_HTTP",
        "SHORTLINKS_REDIRECTOR_PORT_8001_TCP",
        "SHORTLINKS_REDIRECTOR_PORT_8001_TCP_ADDR",
        "SHORTLINKS_REDIRECTOR_PORT_8001_TCP_PROTO",
        "SHORTLINKS_POSTGRESQL_PORT",
    ],
)
def test_what_kubernetes_adds_for_services_is_let_pass(monkeypatch, name):
    monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    assert load(WriterSettings)


@pytest.mark.parametrize("name", ["WRITER_PORT", "REDIRECTOR_PORT"])
def test_a_service_link_that_has_the_name_of_a_setting_is_not_taken_for_it(monkeypatch, name):
    # With a Service called shortlinks-writer, Kubernetes sets SHORTLINKS_WRITER_PORT itself.
    monkeypatch.setenv(f"SHORTLINKS_{name}", "tcp://10.0.0.1:8000")
    kind = WriterSettings if name == "WRITER_PORT" else RedirectorSettings
    default = kind.model_fields[name.lower()].default
    assert getattr(load(kind), name.lower()) == default


def test_lists_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_TARGET_SCHEMES", "https, mailto,")
    assert load(WriterSettings).target_schemes == {"https", "mailto"}


def test_domains_are_normalised_and_refused_by_the_url_standard(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_DEFAULT_DOMAIN", "Bücher.Example.")
    assert load(WriterSettings).default_domain == "xn--bcher-kva.example"
    monkeypatch.setenv("SHORTLINKS_DEFAULT_DOMAIN", "https://go.example/")
    (line,) = faults()
    assert line.startswith("SHORTLINKS_DEFAULT_DOMAIN: ")


def test_what_is_given_goes_before_the_environment():
    found = load(RelaySettings, redis_url="redis://given")
    assert found.redis_url.get_secret_value() == "redis://given"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@db:5432/links?sslpassword=x", "postgresql://db:5432/links"),
        ("redis+sentinel://:p@a:1,b:2/name", "redis+sentinel://a:1,b:2/name"),
        ("redis://cache", "redis://cache"),
    ],
)
def test_urls_are_shown_without_their_credentials(url, shown):
    assert redact_url(url) == shown
