"""Every setting of every service; nothing else reads the environment.

A setting comes from `SHORTLINKS_<NAME>`, from the file named in `SHORTLINKS_<NAME>_FILE` (for
secrets), or from the TOML or YAML file named in `SHORTLINKS_CONFIG_FILE`, in this order. An
unknown or invalid one stops the start with a line each. `docs/configuration.md` is generated
from here.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)

from shortcore.errors import ConfigurationError
from shortcore.links.custom_codes import RESERVED_CODES
from shortcore.links.record import RedirectStatus
from shortcore.links.targets import TargetPolicy, normalise_host, normalise_target
from shortcore.origins import normalise_origins

LogFormat = Literal["auto", "json", "console"]
PREFIX = "SHORTLINKS_"
CONFIG_FILE = PREFIX + "CONFIG_FILE"

# Kubernetes gives every container the addresses of the Services beside it under their names.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP)(_|$)|$)")

# For a Service called shortlinks-writer one of them has the very name of our WRITER_PORT.
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://[^/]*:\d+\Z")

Port = Annotated[int, Field(ge=0, le=65535)]
Milliseconds = Annotated[int, Field(ge=0, le=600_000)]
Host = Annotated[str, AfterValidator(normalise_host)]
Words = Annotated[frozenset[str], NoDecode]
ForwardedHeader = Literal["none", "x-forwarded-host", "forwarded"]
UnknownHostPolicy = Literal["default", "not_found", "redirect"]
Origins = Annotated[frozenset[str], NoDecode, AfterValidator(normalise_origins)]


class _FileSecrets(PydanticBaseSettingsSource):
    """`SHORTLINKS_<NAME>_FILE`: the value is the file's text without its last line break."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # the base class's signature
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text("utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{PREFIX}{field_name.upper()}_FILE: cannot read {path}: {error}"
            ) from error

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(None, name)[0] for name in self.settings_cls.model_fields
        }
        return {name: value for name, value in values.items() if value is not None}


class _Base(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit arguments, then environment, then secret files, then the configuration file."""
        del dotenv_settings, file_secret_settings
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {
                name: value
                for name, value in env_settings.env_vars.items()
                if not (value is not None and _SERVICE_ADDRESS.match(value))
            }
        sources = [init_settings, env_settings, _FileSecrets(settings_cls)]
        path = os.environ.get(CONFIG_FILE)
        if path:
            kind = (
                YamlConfigSettingsSource
                if path.endswith((".yaml", ".yml"))
                else TomlConfigSettingsSource
            )
            sources.append(kind(settings_cls, Path(path)))
        return tuple(sources)


class LogSettings(_Base):
    """Logs."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged"
    )
    log_format: LogFormat = Field(
        "auto", description="`json`, `console`, or `auto`: console on a terminal, else JSON"
    )


class DynamicFileSettings(_Base):
    """Changes while running."""

    dynamic_file: Path | None = Field(
        None,
        description="YAML file of settings that take effect within seconds, without a restart",
    )


class PostgresSettings(_Base):
    """PostgreSQL."""

    postgres_url: SecretStr = Field(
        description="Primary: `postgresql://user:password@host:port/database?sslmode=…`"
    )
    postgres_read_url: SecretStr | None = Field(
        None, description="Read replica for look-ups and read-only API calls; the primary if unset"
    )
    postgres_password: SecretStr | None = Field(
        None, description="Password, as it is, for the two URLs where they hold none"
    )
    postgres_timeout_ms: Milliseconds = Field(
        500, gt=0, description="Deadline of a look-up, waiting for a connection included"
    )
    postgres_write_timeout_ms: Milliseconds = Field(
        5000, gt=0, description="Deadline of a write transaction, waiting for a connection included"
    )
    postgres_pool_size: int = Field(
        8, ge=1, le=200, description="Connections a process opens to each server at the most"
    )
    postgres_statement_cache: int = Field(
        256,
        ge=0,
        le=10_000,
        description="Prepared statements a connection; 0 behind a pooler in transaction mode",
    )

    @model_validator(mode="before")
    @classmethod
    def _put_postgres_password(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _with_password(values, "postgres_password", "postgres_url", "postgres_read_url")


class RedisSettings(_Base):
    """Redis or Valkey."""

    redis_url: SecretStr = Field(
        description="`redis://` or `rediss://host:port/db`; `redis+sentinel://host:port,…/name`; "
        "`redis+cluster://host:port,…`"
    )
    redis_password: SecretStr | None = Field(
        None, description="Password, as it is, for the URL where it holds none"
    )
    redis_prefix: str = Field(
        "sl:", max_length=64, description="What the names of all keys begin with"
    )
    redis_timeout_ms: Milliseconds = Field(
        50, gt=0, description="Deadline of a call, connecting included"
    )
    redis_pool_size: int = Field(16, ge=1, le=1000, description="Connections a process opens")
    breaker_failures: int = Field(
        3, ge=1, le=1000, description="Failures in a row after which a dependency is left alone"
    )
    breaker_open_ms: Milliseconds = Field(
        1000, gt=0, description="How long it is left alone before one call may probe it"
    )

    @model_validator(mode="before")
    @classmethod
    def _put_redis_password(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _with_password(values, "redis_password", "redis_url")


class CacheSettings(_Base):
    """What is kept in Redis, and for how long."""

    cache_ttl_s: int = Field(86_400, ge=1, description="A link's life in Redis (less up to 10%)")
    cache_negative_ttl_s: int = Field(
        30, ge=1, le=3600, description="How long Redis remembers that a code does not exist"
    )
    cache_tombstone_ttl_s: int = Field(
        86_400, ge=60, description="How long Redis remembers that a link was deleted"
    )
    cache_fill_max_age_ms: Milliseconds = Field(
        2000, gt=0, description="A record read from PostgreSQL longer ago is not put into Redis"
    )
    feed_max_length: int = Field(
        20_000, ge=100, description="Entries that the change feed keeps at the most"
    )
    feed_max_age_s: int = Field(3600, ge=60, description="How long the change feed keeps an entry")


class DrainSettings(_Base):
    """Orderly shutdown."""

    drain_delay_ms: Milliseconds = Field(
        5000,
        description="Still serving but not ready after SIGTERM, until every load balancer knows",
    )
    drain_timeout_ms: Milliseconds = Field(
        10_000, description="How long requests in flight may take to end after that"
    )


class DomainSettings(_Base):
    """Domains and short URLs."""

    default_domain: Host = Field(
        "localhost", description="Domain of links that name none, and of unknown hosts"
    )
    short_url_scheme: Literal["http", "https"] = Field("https", description="Scheme of short URLs")
    short_url_port: Port | None = Field(
        None, description="Port in short URLs where it is not the scheme's own"
    )
    code_secret: SecretStr = Field(
        min_length=16,
        description="Key of the code permutation: never change it once links exist",
    )
    reserved_codes: Words = Field(
        RESERVED_CODES, description="Custom codes that are refused (comma separated)"
    )

    @field_validator("reserved_codes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _words(value)


class ClickSettings(_Base):
    """Clicks on their way to the statistics."""

    clicks_enabled: bool = Field(True, description="Whether clicks are captured at all")
    clicks_ring_size: int = Field(
        50_000,
        ge=1,
        le=10_000_000,
        description="Clicks that may wait in a process to be read, and as many to be sent (about "
        "100 bytes each); more are dropped and counted",
    )
    clicks_flush_ms: Milliseconds = Field(
        200, gt=0, description="How often clicks are sent; 500 of one stream are sent at once"
    )
    clicks_partitions: int = Field(
        4,
        ge=1,
        le=64,
        description="Streams that clicks are spread over, by link; the same for every part",
    )
    clicks_stream_max_length: int = Field(
        5000,
        ge=10,
        description="Entries that each stream keeps at the most, about (up to 30 KB each); what "
        "goes beyond it before it is read is lost",
    )


class ConnectionSettings(_Base):
    """Limits of connections."""

    connections_max: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of connections to the public port of a process; fewer if the "
        "limit of open files (`ulimit -n`) leaves less",
    )
    connections_per_address_max: int = Field(
        4000,
        ge=0,
        le=1_000_000,
        description="Maximum number of connections from one IPv4 address or IPv6 /64 network to "
        "the public port; 0: no limit. `trusted_proxies` have no limit",
    )
    admin_connections_max: int = Field(
        64, ge=1, le=10_000, description="Maximum number of connections to the admin port"
    )
    admin_connections_per_address_max: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Maximum number of connections from one IPv4 address or IPv6 /64 network to "
        "the admin port; 0: no limit. `trusted_proxies` have no limit",
    )
    file_descriptors_reserved: int = Field(
        256,
        ge=16,
        le=100_000,
        description="File descriptors that connections to the public port leave free, for "
        "PostgreSQL, Redis and logs; those of the admin port are added",
    )
    connection_head_timeout_ms: Milliseconds = Field(
        15_000,
        gt=0,
        description="Timeout of a request's line and headers, from the opening of the connection "
        "or from the first byte of a later request",
    )
    connection_body_grace_ms: Milliseconds = Field(
        10_000,
        gt=0,
        description="Interval over which the rate of a request's body is measured",
    )
    connection_write_timeout_ms: Milliseconds = Field(
        30_000,
        gt=0,
        description="Interval over which the rate is measured at which a client takes an answer",
    )
    connection_min_bytes_per_s: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Minimum rate of a request's body and of an answer that the client takes",
    )
    connection_idle_timeout_ms: int = Field(
        75_000,
        gt=0,
        le=3_600_000,
        description="Timeout of a connection that is kept alive and idle: longer than that of the "
        "load balancer (usually 60 s), so that it is the load balancer that closes it",
    )
    incomplete_requests_max_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Maximum size of all requests to one port of a process that have begun to arrive "
        "and are not complete; beyond it, those that began first are answered 408",
    )
    trusted_proxies: Words = Field(
        frozenset({"127.0.0.1", "::1"}),
        description="Addresses or networks of proxies (comma separated): their `X-Forwarded-For` "
        "counts, and their connections have no limit per address",
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        return _words(value)


class ServiceSettings(
    LogSettings,
    DynamicFileSettings,
    PostgresSettings,
    RedisSettings,
    CacheSettings,
    DrainSettings,
    ConnectionSettings,
):
    """The settings that every service reads."""


class WriterSettings(ServiceSettings, DomainSettings):
    """The writer (`shortlinks-writer serve`)."""

    writer_host: str = Field("0.0.0.0", description="Address of the API")  # noqa: S104  # a server in a container
    writer_port: Port = Field(8000, description="Port of the API")
    writer_admin_port: Port = Field(9000, description="Port of probes and metrics")
    writer_cors_origins: Origins = Field(
        frozenset(),
        description="Origins whose scripts may call the API (comma separated, such as "
        "`https://app.example.com`); `*` allows every web page",
    )
    publish_timeout_ms: Milliseconds = Field(
        25, description="How long an answer may wait for Redis; the relay publishes anyway"
    )
    default_redirect_status: RedirectStatus = Field(
        302, description="Redirect status of links that name none"
    )
    target_schemes: Words = Field(
        frozenset({"http", "https"}), description="Schemes a target may have (comma separated)"
    )
    target_max_length: int = Field(8192, ge=16, le=65_536, description="Characters of a target")
    target_allow_credentials: bool = Field(
        False, description="Whether a target may hold `user:password@`"
    )
    body_max_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        description="Maximum size of the body of a batch or an import; other bodies have a lower limit"
        " (see the API's limits)",
    )
    batch_max_items: int = Field(1000, ge=1, le=10_000, description="Links in one batch")
    idempotency_ttl_s: int = Field(
        86_400, ge=60, description="How long an Idempotency-Key is remembered"
    )

    @field_validator("default_redirect_status", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        # A Literal takes no text, and an environment has nothing else.
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("target_schemes", "writer_cors_origins", mode="before")
    @classmethod
    def _split_schemes(cls, value: object) -> object:
        return _words(value)

    def target_policy(self, own_hosts: frozenset[str]) -> TargetPolicy:
        """Return the rules for targets, given the hosts that short links live on."""
        return TargetPolicy(
            schemes=self.target_schemes,
            allow_credentials=self.target_allow_credentials,
            max_length=self.target_max_length,
            own_hosts=own_hosts,
            own_port=self.short_url_port or {"http": 80, "https": 443}[self.short_url_scheme],
        )


class RelaySettings(ServiceSettings):
    """The outbox relay (`shortlinks-writer relay`)."""

    relay_admin_port: Port = Field(9002, description="Port of probes and metrics")
    relay_batch_size: int = Field(
        1000, ge=1, le=10_000, description="Outbox rows that are claimed at once"
    )
    relay_poll_ms: Milliseconds = Field(
        250, gt=0, description="How often the outbox is looked at when no notice comes"
    )
    relay_redis_timeout_ms: Milliseconds = Field(
        1000, gt=0, description="Deadline of a call to Redis: a batch takes longer than a look-up"
    )
    relay_bulk_rate: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="New links a second of large batches and imports that go to Redis; changes of "
        "single links go before them",
    )
    relay_republish_rate: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        description="Links a second that go to Redis again after it lost changes",
    )


class RedirectorSettings(ServiceSettings, ClickSettings):
    """The redirector (`shortlinks-redirector serve`)."""

    default_domain: Host = DomainSettings.model_fields["default_domain"]  # type: ignore[assignment]  # one declaration, two services
    code_secret: SecretStr = DomainSettings.model_fields["code_secret"]  # type: ignore[assignment]
    redirector_host: str = Field("0.0.0.0", description="Address of the short links")  # noqa: S104  # a server in a container
    redirector_port: Port = Field(8001, description="Port of the short links")
    redirector_admin_port: Port = Field(9001, description="Port of probes and metrics")
    redirector_cors_origins: Origins = Field(
        frozenset(),
        description="Origins whose scripts may follow short links (comma separated, such as "
        "`https://app.example.com`); `*` allows every web page",
    )
    redirector_server: Literal["direct", "asgi"] = Field(
        "direct",
        description="`direct`: uvicorn, hot links answered in its protocol; `asgi`: uvicorn",
    )
    l1_ttl_s: float = Field(
        30.0, gt=0, le=3600, description="Life of a link in the local cache: the staleness bound"
    )
    l1_negative_ttl_s: float = Field(
        5.0, gt=0, le=3600, description="How long a process remembers that a code does not exist"
    )
    l1_max_entries: int = Field(100_000, ge=10, description="Links in the local cache")
    l1_max_bytes: int = Field(
        128 * 1024 * 1024, ge=65_536, description="Size of the local cache, about"
    )
    l1_refresh_ahead: float = Field(
        0.75, gt=0, le=1, description="Part of its life after which a hit renews a link meanwhile"
    )
    l1_stale_if_error_s: int = Field(
        3600,
        ge=0,
        description="How long past its life a link is still served while neither PostgreSQL nor "
        "Redis can be asked; never past its expiry",
    )
    custom_codes_max: int = Field(
        2_000_000,
        ge=0,
        description="Custom codes that a redirector knows (4 bytes each), so that made-up codes "
        "are refused without a look-up; with more of them every unknown code is looked up",
    )
    unknown_lookups_per_s: int = Field(
        100,
        ge=1,
        description="Up to so many unknown codes a second are looked up all the same; more are a "
        "scan, of which nothing is",
    )
    lookup_concurrency: int = Field(
        64, ge=1, le=10_000, description="Look-ups that may wait for PostgreSQL at once"
    )
    cdn_max_age_s: int = Field(
        0,
        ge=0,
        le=2_592_000,
        description="How long a CDN may hold a permanent redirect that is in use; 0: not at all "
        "([what that costs](cdn.md))",
    )
    cdn_stale_s: int = Field(
        0,
        ge=0,
        le=2_592_000,
        description="How long after that a CDN may send it while it asks for a new one",
    )
    cdn_key_header: Literal["surrogate-key", "cache-tag", "edge-cache-tag", "xkey"] = Field(
        "surrogate-key",
        description="Header that names a held link to the CDN (`host/code`), to be dropped by",
    )
    redirect_other_methods: bool = Field(
        True,
        description="Redirect POST, PUT, PATCH and DELETE by links with status 307 or 308, too",
    )
    password_attempts: int = Field(
        10,
        ge=1,
        description="Maximum wrong passwords of a client (an IPv4 address or an IPv6 /64) for one "
        "link in a minute",
    )
    password_link_checks_per_s: float = Field(
        10.0,
        ge=0.001,
        le=1000,
        description="Maximum password checks of one link a second, over all redirectors, beyond a "
        "burst; further checks wait their turn",
    )
    password_link_burst: int = Field(
        30,
        ge=1,
        le=10_000,
        description="Password checks of one link that do not wait for that limit; right passwords "
        "do not count",
    )
    password_concurrency: int = Field(
        2,
        ge=1,
        le=64,
        description="Maximum password checks that run at once in a process (19 MiB and about 40 ms "
        "of a core each)",
    )
    password_queue_size: int = Field(
        1024, ge=1, le=100_000, description="Maximum password checks that wait in a process"
    )
    password_link_queue_size: int = Field(
        256, ge=1, le=100_000, description="Maximum password checks of one link that wait"
    )
    password_wait_ms: Milliseconds = Field(
        30_000, gt=0, description="Maximum time that a password check waits for its turn"
    )
    password_cookie_ttl_s: int = Field(
        900,
        ge=0,
        le=86_400,
        description="Lifetime of the cookie that stands for a link's password in the browser of a "
        "visitor who gave it; 0 sets no cookie",
    )
    preview_max_visits: int = Field(
        10,
        ge=0,
        description="Greatest `max_visits` of a link for which link-preview bots, prefetches and "
        "HEAD get the preview page; above it they get the redirect, uncounted",
    )
    forwarded_host_header: ForwardedHeader = Field(
        "none",
        description="Header by which trusted proxies forward the host that a visitor asked for: "
        "`x-forwarded-host`, `forwarded` (RFC 7239), or `none`: they leave `Host` as it is",
    )
    clean_pasted_urls: bool = Field(
        True,
        description="Whether a short URL with punctuation, blanks or slashes behind its code "
        "leads where the code alone would: `/code.`, `/code%20`, `//code`, `/code&utm_source=x`",
    )
    unknown_host: UnknownHostPolicy = Field(
        "default",
        description="Answer to a host that is no domain: `default` serves the default domain's "
        "links, `not_found` answers 404, `redirect` leads to `unknown_host_target`",
    )
    unknown_host_target: str | None = Field(
        None, description="URL for hosts that are no domain, if `unknown_host` is `redirect`"
    )

    @field_validator("unknown_host_target")
    @classmethod
    def _target(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("unknown_host") == "redirect":
            raise ValueError("required, as unknown_host is redirect")
        return None if value is None else normalise_target(value, TargetPolicy())

    @field_validator("redirector_cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return _words(value)


ALL: tuple[type[_Base], ...] = (WriterSettings, RelaySettings, RedirectorSettings)
"""The settings of each service, for the documentation and for telling a typo from a neighbour."""

DYNAMIC = frozenset(
    {
        "cache_ttl_s",
        "default_redirect_status",
        "l1_negative_ttl_s",
        "l1_ttl_s",
        "log_level",
        "reserved_codes",
    }
)
"""What `dynamic_file` may hold; its values go before all others."""

S = TypeVar("S", bound=_Base)


def load(kind: type[S], environ: Mapping[str, str] | None = None, **given: Any) -> S:
    """Read and check the settings of one service; `given` ones go before all others.

    Raises ConfigurationError whose text has one line for each fault.
    """
    environ = os.environ if environ is None else environ
    faults = _unknown(environ)
    try:
        settings = kind(**given)
    except ValidationError as error:
        faults += [_line(dict(fault)) for fault in error.errors(include_url=False)]
    except (OSError, ValueError) as error:
        faults.append(f"{environ.get(CONFIG_FILE)}: {error}")
    else:
        if not faults:
            return settings
    raise ConfigurationError("\n".join(faults))


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {name for settings in ALL for name in settings.model_fields}
    faults = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG_FILE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in known or name.removesuffix("_file") in known or _SERVICE_LINK.search(variable):
            continue
        faults.append(f"{variable}: no such setting; see docs/configuration.md")
    path = environ.get(CONFIG_FILE)
    if path:
        faults += [
            f"{path}: {name}: no such setting; see docs/configuration.md"
            for name in sorted(_config_names(Path(path)) - known)
        ]
    return faults


def _config_names(path: Path) -> set[str]:
    if not path.is_file():
        raise ConfigurationError(f"{CONFIG_FILE}: there is no file {path}")
    try:
        if path.suffix in {".yaml", ".yml"}:
            return set(YamlConfigSettingsSource(_Base, path)())
        return set(TomlConfigSettingsSource(_Base, path)())
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error


def _line(fault: Mapping[str, Any]) -> str:
    name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
    if fault["type"] == "missing":
        return f"{name}: required, but not set (nor {name}_FILE)"
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"


def _words(value: object) -> object:
    if isinstance(value, str):
        return frozenset(word.strip() for word in value.split(",") if word.strip())
    return value


def _with_password(values: dict[str, Any], password: str, *urls: str) -> dict[str, Any]:
    # A secret often holds a password alone (Kubernetes operators make such); a URL that is built
    # from it outside would break at the first `@` in it.
    secret = _plain(values.get(password))
    if not secret:
        return values
    done = dict(values)
    for name in urls:
        url = _plain(values.get(name))
        if not url:
            continue
        parts = urlsplit(url)
        user, _, hosts = parts.netloc.rpartition("@")
        if ":" not in user:
            netloc = f"{user}:{quote(secret, safe='')}@{hosts}"
            done[name] = parts._replace(netloc=netloc).geturl()
    return done


def _plain(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str) else None


def redact_url(url: str) -> str:
    """Return `url` without its credentials, for logs and `/health`."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
