"""Settings that several services have: logs, the dynamic file, shutdown, domains and codes."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from shortcore.settings.connections import ConnectionSettings
from shortcore.settings.fields import Host, Milliseconds, Port
from shortcore.settings.sources import Settings
from shortcore.settings.storage import CacheSettings, PostgresSettings, RedisSettings

LogFormat = Literal["auto", "json", "console"]


class LogSettings(Settings):
    """Logs."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Log level: messages below it are not logged"
    )
    log_format: LogFormat = Field(
        "auto",
        description="Log format. `json`: one object per line; `console`: lines for people; `auto`: "
        "`console` if standard error is a terminal, else `json`",
    )


class DynamicFileSettings(Settings):
    """Changes without a restart."""

    dynamic_file: Path | None = Field(
        None,
        description="YAML file of dynamic settings. The services watch it and apply its changes "
        "within seconds, without a restart",
    )


class DrainSettings(Settings):
    """Graceful shutdown."""

    drain_delay_ms: Milliseconds = Field(
        5000,
        description="Delay between SIGTERM and the end of new connections. The process still "
        "answers, but is not ready, so that load balancers stop sending requests. Time in which the "
        "process does not run does not count, up to 5 s",
    )
    drain_timeout_ms: Milliseconds = Field(
        10_000,
        description="Timeout of requests in flight after that delay. Requests that take longer are "
        "cancelled. Open connections may send one more request within the first second of it (or "
        "within the length of the delay, if that is shorter)",
    )


class DomainSettings(Settings):
    """Domains and codes."""

    default_domain: Host = Field(
        "localhost",
        description="Domain of new links without a domain. Its links also answer requests for "
        "unknown hosts, if `unknown_host` is `default`",
    )
    code_secret: SecretStr = Field(
        min_length=16,
        description="Secret key that makes generated codes unpredictable. Never change it while "
        "links exist",
    )


class ShortUrlSettings(Settings):
    """Short URLs, as the API and webhooks show them."""

    short_url_scheme: Literal["http", "https"] = Field("https", description="Scheme of short URLs")
    short_url_port: Port | None = Field(
        None, description="Port in short URLs. If unset, the default port of the scheme"
    )


class ServiceSettings(
    LogSettings,
    DynamicFileSettings,
    PostgresSettings,
    RedisSettings,
    CacheSettings,
    DrainSettings,
    ConnectionSettings,
):
    """The settings that every service has."""
