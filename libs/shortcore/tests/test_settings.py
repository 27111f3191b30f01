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


def errors(kind=WriterSettings):
    with pytest.raises(ConfigurationError) as caught:
        load(kind)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("kind", ALL)
def test_the_required_settings_are_enough(kind):
    assert load(kind).redis_url.get_secret_value() == "redis://cache"


def test_each_missing_setting_is_reported_with_both_of_its_variables(monkeypatch):
    for name in REQUIRED:
        monkeypatch.delenv(name)
    assert sorted(errors()) == [
        f"{name}: required; set {name} or {name}_FILE" for name in sorted(REQUIRED)
    ]


def test_an_unknown_setting_is_an_error(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_REDIS_TIMEOUT", "50")
    assert errors() == ["SHORTLINKS_REDIS_TIMEOUT: unknown setting; see docs/configuration.md"]


def test_a_setting_of_another_service_is_no_error(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_L1_TTL_S", "3")
    monkeypatch.setenv("SHORTLINKS_RELAY_BATCH_SIZE", "7")
    assert load(WriterSettings)
    assert load(RedirectorSettings).l1_ttl_s == 3
    assert load(RelaySettings).relay_batch_size == 7


def test_all_errors_are_reported_at_once_with_one_line_each(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_WRITER_PORT", "eighty")
    monkeypatch.setenv("SHORTLINKS_LOG_LEVEL", "loud")
    monkeypatch.setenv("SHORTLINKS_CODE_SECRET", "short")
    monkeypatch.setenv("SHORTLINKS_NONSENSE", "1")
    lines = errors()
    assert len(lines) == 4
    for name in ("WRITER_PORT", "LOG_LEVEL", "CODE_SECRET", "NONSENSE"):
        assert any(line.startswith(f"SHORTLINKS_{name}: ") for line in lines)


@pytest.mark.parametrize("rate", ["0", "1e-300", "1001", "nan"])
def test_a_rate_of_password_checks_out_of_range_is_refused(monkeypatch, rate):
    monkeypatch.setenv("SHORTLINKS_PASSWORD_LINK_CHECKS_PER_S", rate)
    (line,) = errors(RedirectorSettings)
    assert line.startswith("SHORTLINKS_PASSWORD_LINK_CHECKS_PER_S: ")


def test_errors_do_not_show_secrets(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_CODE_SECRET", "hush")
    assert "hush" not in "\n".join(errors())


def test_a_secret_is_read_from_its_file_without_the_last_line_break(monkeypatch, tmp_path):
    path = tmp_path / "url"
    path.write_text("redis://from-a-file\n")
    monkeypatch.delenv("SHORTLINKS_REDIS_URL")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL_FILE", str(path))
    assert load(WriterSettings).redis_url.get_secret_value() == "redis://from-a-file"


def test_an_environment_variable_takes_precedence_over_a_secret_file(monkeypatch, tmp_path):
    path = tmp_path / "url"
    path.write_text("redis://from-a-file")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL_FILE", str(path))
    assert load(WriterSettings).redis_url.get_secret_value() == "redis://cache"


def test_the_error_of_an_unreadable_secret_file_names_its_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("SHORTLINKS_REDIS_URL")
    monkeypatch.setenv("SHORTLINKS_REDIS_URL_FILE", str(tmp_path / "none"))
    (line,) = errors()
    assert line.startswith("SHORTLINKS_REDIS_URL_FILE: cannot read ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'writer_port = 8123\nlog_level = "debug"\n'),
        ("c.yaml", "writer_port: 8123\nlog_level: debug\n"),
        ("c.yml", "writer_port: 8123\nlog_level: debug\n"),
    ],
)
def test_a_configuration_file_sets_what_the_environment_does_not_set(
    monkeypatch, tmp_path, name, text
):
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(tmp_path / name))
    monkeypatch.setenv("SHORTLINKS_LOG_LEVEL", "error")
    found = load(WriterSettings)
    assert (found.writer_port, found.log_level) == (8123, "error")


@pytest.mark.parametrize(("name", "text"), [("c.toml", "typo = 1"), ("c.yaml", "typo: 1")])
def test_an_unknown_name_in_the_configuration_file_is_an_error(monkeypatch, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(path))
    assert errors() == [f"{path}: typo: unknown setting; see docs/configuration.md"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.toml", "this is = = no toml"), ("c.yaml", "a: [1"), ("c.yaml", "- a\n- list\n")],
)
def test_the_error_of_a_broken_configuration_file_names_the_file(monkeypatch, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(path))
    assert errors()[0].startswith(f"{path}: ")


def test_the_error_of_a_missing_configuration_file_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLINKS_CONFIG_FILE", str(tmp_path / "none.toml"))
    assert errors() == [f"SHORTLINKS_CONFIG_FILE: the file {tmp_path}/none.toml does not exist"]


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
def test_variables_that_kubernetes_sets_for_services_are_ignored(monkeypatch, name):
    monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    assert load(WriterSettings)


@pytest.mark.parametrize("name", ["WRITER_PORT", "REDIRECTOR_PORT"])
def test_a_service_address_under_the_name_of_a_setting_is_ignored(monkeypatch, name):
    # With a Service called shortlinks-writer, Kubernetes sets SHORTLINKS_WRITER_PORT itself.
    monkeypatch.setenv(f"SHORTLINKS_{name}", "tcp://10.0.0.1:8000")
    kind = WriterSettings if name == "WRITER_PORT" else RedirectorSettings
    default = kind.model_fields[name.lower()].default
    assert getattr(load(kind), name.lower()) == default


def test_lists_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_TARGET_SCHEMES", "https, mailto,")
    assert load(WriterSettings).target_schemes == {"https", "mailto"}


def test_domains_are_normalised_and_validated_by_the_url_standard(monkeypatch):
    monkeypatch.setenv("SHORTLINKS_DEFAULT_DOMAIN", "Bücher.Example.")
    assert load(WriterSettings).default_domain == "xn--bcher-kva.example"
    monkeypatch.setenv("SHORTLINKS_DEFAULT_DOMAIN", "https://go.example/")
    (line,) = errors()
    assert line.startswith("SHORTLINKS_DEFAULT_DOMAIN: ")


def test_a_given_setting_takes_precedence_over_the_environment():
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
def test_redacted_urls_have_no_credentials(url, shown):
    assert redact_url(url) == shown
