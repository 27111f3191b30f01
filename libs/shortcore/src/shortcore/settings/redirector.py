"""Settings of the redirector, except those of clicks and passwords."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from shortcore.links.targets import TargetPolicy, normalise_target
from shortcore.settings.clicks import ClickSettings
from shortcore.settings.fields import Origins, Port
from shortcore.settings.passwords import PasswordSettings
from shortcore.settings.shared import DomainSettings, ServiceSettings
from shortcore.settings.sources import Settings

ForwardedHeader = Literal["none", "x-forwarded-host", "forwarded"]
UnknownHostPolicy = Literal["default", "not_found", "redirect"]


class LocalCacheSettings(Settings):
    """Local cache of a redirector."""

    l1_ttl_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="TTL of a link in the local cache. If the change feed is down, edits are seen "
        "after this time at the latest",
    )
    l1_negative_ttl_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="TTL of a negative entry in the local cache: the fact that a code does not "
        "exist",
    )
    l1_max_entries: int = Field(
        100_000,
        ge=10,
        description="Maximum number of entries in the local cache. When it is full, entries "
        "that were not used recently are evicted",
    )
    l1_max_bytes: int = Field(
        128 * 1024 * 1024,
        ge=65_536,
        description="Approximate maximum size of the local cache. When it is full, entries "
        "that were not used recently are evicted",
    )
    l1_refresh_ahead: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Fraction of the TTL after which a request refreshes the entry in the "
        "background, so that no visitor waits for a lookup; 1: never",
    )
    l1_stale_if_error_s: int = Field(
        3600,
        ge=0,
        description="Time for which a link is served past its TTL while both PostgreSQL and Redis "
        "are unavailable. An expired link is never served",
    )


class LookupSettings(Settings):
    """Lookups, and protection against code scanning."""

    lookup_concurrency: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Maximum number of concurrent lookups of a process in PostgreSQL; at most "
        "`postgres_pool_size`. Further lookups wait",
    )
    custom_codes_max: int = Field(
        2_000_000,
        ge=0,
        description="Capacity of the Bloom filter of custom codes (4 bytes per code), with which a "
        "redirector refuses made-up codes without a lookup. If there are more custom codes, the "
        "filter is not used, and every unknown code is looked up",
    )
    unknown_lookups_per_s: int = Field(
        100,
        ge=1,
        description="Rate of unknown codes above which requests count as a scan. During a scan, "
        "codes that are not in the filter are refused without a lookup",
    )


class CdnSettings(Settings):
    """A CDN in front of the redirector."""

    cdn_max_age_s: int = Field(
        0,
        ge=0,
        le=2_592_000,
        description="Time for which a CDN may cache a permanent redirect; 0: no caching. See "
        "[what it costs](cdn.md)",
    )
    cdn_stale_s: int = Field(
        0,
        ge=0,
        le=2_592_000,
        description="Time after `cdn_max_age_s` for which a CDN may serve the redirect while it "
        "revalidates (`stale-while-revalidate`)",
    )
    cdn_key_header: Literal["surrogate-key", "cache-tag", "edge-cache-tag", "xkey"] = Field(
        "surrogate-key",
        description="Response header with the key (`host/code`) by which a CDN purges a cached link",
    )


class RedirectorSettings(
    ServiceSettings,
    DomainSettings,
    ClickSettings,
    LocalCacheSettings,
    LookupSettings,
    CdnSettings,
    PasswordSettings,
):
    """The redirector (`shortlinks-redirector serve`)."""

    redirector_host: str = Field("0.0.0.0", description="Address that the redirector listens on")  # noqa: S104  # a server in a container
    redirector_port: Port = Field(8001, description="Port of the short links")
    redirector_admin_port: Port = Field(9001, description="Port of probes and metrics")
    redirector_cors_origins: Origins = Field(
        frozenset(),
        description="Origins whose scripts may follow short links, separated by commas (such as "
        "`https://app.example.com`); `*` allows every web page",
    )
    redirector_server: Literal["direct", "asgi"] = Field(
        "direct",
        description="How uvicorn calls the redirector. `direct`: cached links are answered in the "
        "HTTP protocol of uvicorn, which is faster; `asgi`: every request goes through ASGI",
    )
    redirect_other_methods: bool = Field(
        True,
        description="Whether links with status 307 or 308 also redirect POST, PUT, PATCH and DELETE",
    )
    preview_max_visits: int = Field(
        10,
        ge=0,
        description="Maximum `max_visits` of links for which link-preview bots, prefetches and HEAD "
        "get the preview page. For links with more visits they get the redirect, which does not "
        "count as a visit",
    )
    clean_pasted_urls: bool = Field(
        True,
        description="Whether punctuation, spaces, slashes and parameters that were pasted along "
        "with a short URL are ignored: `/code.`, `/code%20`, `//code`, `/code&utm_source=x`",
    )
    forwarded_host_header: ForwardedHeader = Field(
        "none",
        description="Header in which trusted proxies forward the requested host: "
        "`x-forwarded-host`, `forwarded` (RFC 7239), or `none` if they preserve `Host`",
    )
    unknown_host: UnknownHostPolicy = Field(
        "default",
        description="Response to a host that is not a domain of the service. `default`: the links "
        "of the default domain; `not_found`: 404; `redirect`: a redirect to `unknown_host_target`",
    )
    unknown_host_target: str | None = Field(
        None, description="Target for unknown hosts. Required if `unknown_host` is `redirect`"
    )

    @field_validator("unknown_host_target")
    @classmethod
    def _target(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("unknown_host") == "redirect":
            raise ValueError("required, because unknown_host is redirect")
        return None if value is None else normalise_target(value, TargetPolicy())
