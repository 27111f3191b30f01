"""Makes the delivery of webhooks from the settings of a worker."""

from shortcore.clock import utc_now
from shortcore.runtime.background import Background
from shortcore.runtime.stopping import Stopping
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.postgres import Postgres
from writer.worker.webhooks.addresses import AddressPolicy
from writer.worker.webhooks.connecting import Resolver
from writer.worker.webhooks.delivery import WebhookDelivery
from writer.worker.webhooks.messages import Messages
from writer.worker.webhooks.sender import Sender

MAX_HOSTS = 64
"""Host names that are resolved at a time: more than there may be webhooks."""


def make_delivery(
    settings: WorkerSettings, postgres: Postgres, background: Background, stopping: Stopping
) -> WebhookDelivery:
    """Return the delivery; its loops are not started. Raises ConfigurationError."""
    timeout_s = settings.webhooks_timeout_ms / 1000
    policy = AddressPolicy(settings.webhooks_allowed_networks)
    sender = Sender(policy, Resolver(MAX_HOSTS).resolve, utc_now, timeout_s=timeout_s)
    return WebhookDelivery(
        postgres,
        sender,
        Messages(settings.short_url_scheme, settings.short_url_port),
        background,
        stopping,
        utc_now,
        attempt_timeout_s=timeout_s,
        poll_s=settings.webhooks_poll_ms / 1000,
        retention_s=settings.webhooks_retention_s,
        postgres_timeout_ms=settings.postgres_write_timeout_ms,
    )
