"""Settings of webhooks."""

from pydantic import Field

from shortcore.settings.fields import Milliseconds, Words
from shortcore.settings.sources import Settings


class WebhookAddressSettings(Settings):
    """Addresses of webhooks."""

    webhooks_allowed_networks: Words = Field(
        frozenset(),
        description="Networks that are not public and to which webhooks may be sent all the same, "
        "separated by commas (such as `10.0.0.0/8`). Without them, webhooks go to public addresses "
        "only",
    )


class WebhookDeliverySettings(Settings):
    """Delivery of webhooks."""

    webhooks_enabled: bool = Field(
        True, description="Whether this worker delivers webhooks. At least one worker must"
    )
    webhooks_timeout_ms: Milliseconds = Field(
        15_000,
        ge=100,
        le=60_000,
        description="Timeout of an attempt to deliver an event, from the lookup of the host name to "
        "the status of the response",
    )
    webhooks_poll_ms: Milliseconds = Field(
        1000, ge=10, description="Polling interval of new events and of attempts that are due"
    )
    webhooks_retention_s: int = Field(
        604_800,
        ge=86_400,
        description="Time for which events and their deliveries are stored, dead ones included",
    )
