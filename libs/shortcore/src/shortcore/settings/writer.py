"""Settings of the writer."""

from pydantic import Field, field_validator

from shortcore.links.custom_codes import RESERVED_CODES
from shortcore.links.record import RedirectStatus
from shortcore.links.targets import TargetPolicy
from shortcore.settings.fields import Milliseconds, Origins, Port, Words
from shortcore.settings.shared import DomainSettings, ServiceSettings, ShortUrlSettings
from shortcore.settings.webhooks import WebhookAddressSettings


class WriterSettings(ServiceSettings, DomainSettings, ShortUrlSettings, WebhookAddressSettings):
    """The writer (`shortlinks-writer serve`)."""

    writer_host: str = Field("0.0.0.0", description="Address that the API listens on")  # noqa: S104  # a server in a container
    writer_port: Port = Field(8000, description="Port of the API")
    writer_admin_port: Port = Field(9000, description="Port of probes and metrics")
    writer_cors_origins: Origins = Field(
        frozenset(),
        description="Origins whose scripts may call the API, separated by commas (such as "
        "`https://app.example.com`); `*` allows every web page",
    )
    reserved_codes: Words = Field(
        RESERVED_CODES,
        description="Codes that the API refuses as custom codes, separated by commas",
    )
    publish_timeout_ms: Milliseconds = Field(
        25,
        description="Timeout of a write to Redis before the API answers. If it fails, the relay "
        "writes the change later",
    )
    default_redirect_status: RedirectStatus = Field(
        302, description="Redirect status of new links without a redirect status"
    )
    target_schemes: Words = Field(
        frozenset({"http", "https"}),
        description="Permitted schemes of targets, separated by commas",
    )
    target_max_length: int = Field(
        8192, ge=16, le=65_536, description="Maximum length of a target in characters"
    )
    target_allow_credentials: bool = Field(
        False, description="Whether a target may contain `user:password@`"
    )
    body_max_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        description="Maximum size of the body of a batch or an import. Other bodies have lower "
        "limits; see the [limits of the API](api.md#limits)",
    )
    batch_max_items: int = Field(
        1000, ge=1, le=10_000, description="Maximum number of links in a batch"
    )
    idempotency_ttl_s: int = Field(
        86_400,
        ge=60,
        description="Time for which the response to a request with an `Idempotency-Key` is stored. "
        "Within it, a retry gets the stored response",
    )

    @field_validator("default_redirect_status", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        # The values of an environment are text, which a Literal of numbers does not accept.
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    def target_policy(self, own_hosts: frozenset[str]) -> TargetPolicy:
        """Return the rules for targets; `own_hosts` are the domains of short links."""
        return TargetPolicy(
            schemes=self.target_schemes,
            allow_credentials=self.target_allow_credentials,
            max_length=self.target_max_length,
            own_hosts=own_hosts,
            own_port=self.short_url_port or {"http": 80, "https": 443}[self.short_url_scheme],
        )
