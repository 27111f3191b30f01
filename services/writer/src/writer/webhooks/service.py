"""Creates, lists, edits, tests and removes webhooks; lists and replays deliveries."""

import base64
import binascii
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from shortcore.errors import (
    DeliveryNotFound,
    FieldError,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from shortcore.links.loopback import address_of
from shortcore.links.targets import TargetError, TargetPolicy, normalise_target
from shortcore.storage.postgres import Postgres
from writer.http.entity_tags import require_match
from writer.http.problems import invalid
from writer.webhooks import repository
from writer.webhooks.repository import MAX_WEBHOOKS, Delivery, Webhook, WebhookValues
from writer.webhooks.schemas import MAX_URL, CreateWebhook, EditWebhook
from writer.worker.webhooks.addresses import AddressPolicy
from writer.worker.webhooks.messages import PASSED, PING, event_of

MAX_REPLAYED = 10_000
"""Dead deliveries that one request replays."""

_SECRET = "whsec_"  # noqa: S105  # the prefix that Standard Webhooks defines
_GENERATED_BYTES = 32
_SECRET_BYTES = range(24, 65)  # Standard Webhooks, «Signature scheme»
_URLS = TargetPolicy(max_length=MAX_URL)


class WebhookService:
    """Changes webhooks; the worker reads them from PostgreSQL before each attempt."""

    def __init__(self, postgres: Postgres, addresses: AddressPolicy, write_timeout_ms: int) -> None:
        self._postgres = postgres
        self._addresses = addresses
        self._write_timeout_ms = write_timeout_ms

    async def all(self) -> list[Webhook]:
        """Return all webhooks, oldest first."""
        async with self._postgres.connection() as connection:
            return await repository.list_webhooks(connection)

    async def get(self, webhook_id: int) -> Webhook:
        """Return one webhook; raises WebhookNotFound."""
        async with self._postgres.connection() as connection:
            return _existing(await repository.find_webhook(connection, webhook_id), webhook_id)

    async def create(self, new: CreateWebhook) -> tuple[Webhook, str]:
        """Create a webhook; returns it and its secret, which is not shown again.

        Raises InvalidInput, and TooManyWebhooks if there are MAX_WEBHOOKS already.
        """
        fields: list[FieldError] = []
        url = self._url(new.url, fields)
        _check_thresholds(new.events, new.thresholds, fields)
        if new.secret is not None:
            _check_secret(new.secret, fields)
        if fields:
            raise invalid(fields)
        secret = new.secret or _new_secret()
        values = WebhookValues(url, new.events, new.thresholds, new.description, new.enabled)
        async with (
            self._postgres.connection(self._write_timeout_ms) as connection,
            connection.transaction(),
        ):
            webhook = await repository.add_webhook(connection, values, secret)
        if webhook is None:
            raise TooManyWebhooks(f"There are {MAX_WEBHOOKS} webhooks already; delete one first.")
        return webhook, secret

    async def edit(self, webhook_id: int, edit: EditWebhook, if_match: str | None) -> Webhook:
        """Merge `edit` into the webhook; without any change it keeps its version."""
        fields: list[FieldError] = []
        sent = edit.model_fields_set
        fields += [
            FieldError(f"/{name}", "required", "This field cannot be null.")
            for name in ("url", "events")
            if name in sent and getattr(edit, name) is None
        ]
        url = None if edit.url is None else self._url(edit.url, fields)
        if fields:
            raise invalid(fields)
        async with (
            self._postgres.connection(self._write_timeout_ms) as connection,
            connection.transaction(),
        ):
            found = await repository.find_webhook(connection, webhook_id, lock=True)
            old = _existing(found, webhook_id)
            require_match(if_match, old.version)
            values = WebhookValues(
                url if url is not None else old.url,
                edit.events if edit.events is not None else old.events,
                (edit.thresholds or []) if "thresholds" in sent else old.thresholds,
                edit.description if "description" in sent else old.description,
                edit.enabled is not False if "enabled" in sent else old.enabled,
            )
            if values == old.values:
                return old
            _check_thresholds(values.events, values.thresholds, fields)
            if fields:
                raise invalid(fields)
            return await repository.save_webhook(connection, webhook_id, values)

    async def remove(self, webhook_id: int) -> None:
        """Remove a webhook with its deliveries; raises WebhookNotFound."""
        async with self._postgres.connection() as connection:
            if not await repository.remove_webhook(connection, webhook_id):
                raise _not_found(webhook_id)

    async def rotate_secret(self, webhook_id: int) -> tuple[Webhook, str]:
        """Make a new secret; for 24 hours, requests are signed with both."""
        secret = _new_secret()
        async with self._postgres.connection() as connection:
            webhook = await repository.rotate_secret(connection, webhook_id, secret)
        return _existing(webhook, webhook_id), secret

    async def test(self, webhook_id: int) -> Delivery:
        """Send the event `ping` to the webhook; raises WebhookDisabled."""
        async with (
            self._postgres.connection(self._write_timeout_ms) as connection,
            connection.transaction(),
        ):
            webhook = _existing(
                await repository.find_webhook(connection, webhook_id, lock=True), webhook_id
            )
            if not webhook.enabled:
                raise WebhookDisabled("The webhook is disabled; enable it first.")
            return await repository.add_ping(connection, webhook_id, PING)

    async def deliveries(
        self, webhook_id: int, before: int, status: str | None, limit: int
    ) -> list[Delivery]:
        """Return deliveries of events below the id `before`, newest first."""
        async with self._postgres.connection() as connection:
            _existing(await repository.find_webhook(connection, webhook_id), webhook_id)
            return await repository.list_deliveries(connection, webhook_id, before, status, limit)

    async def replay(self, webhook_id: int, delivery_id: str) -> Delivery:
        """Deliver an event again, with the same id; has no effect if it is pending."""
        event = event_of(delivery_id)
        async with self._postgres.connection() as connection:
            _existing(await repository.find_webhook(connection, webhook_id), webhook_id)
            found = event and await repository.replay(connection, webhook_id, *event)
        if not found:
            raise DeliveryNotFound("There is no such delivery; old ones are deleted.")
        return found

    async def replay_dead(self, webhook_id: int) -> int:
        """Deliver dead deliveries again, the oldest first; returns how many, MAX_REPLAYED at most."""
        async with self._postgres.connection(self._write_timeout_ms) as connection:
            _existing(await repository.find_webhook(connection, webhook_id), webhook_id)
            return await repository.replay_dead(connection, webhook_id, MAX_REPLAYED)

    def _url(self, raw: str, fields: "list[FieldError]") -> str:
        """Return the normal form of a URL, or add the rule that it breaks to `fields`.

        The address behind a host name is checked at each connection. An address in the URL is
        checked here as well, so that its author gets the reason at once.
        """
        try:
            url = normalise_target(raw, _URLS)
        except TargetError as error:
            sentence = str(error)
            if error.rule == "credentials":
                sentence = "Take the user name and password out of the URL."
            fields.append(FieldError("/url", error.rule, sentence))
            return raw
        host = urlsplit(url).hostname or ""
        address = address_of(f"[{host}]" if ":" in host else host)
        if address is not None and not self._addresses.permits(str(address)):
            detail = f"{address} is not a public address, and not in `webhooks_allowed_networks`."
            fields.append(FieldError("/url", "address", detail))
        return url


def _check_thresholds(
    events: Sequence[str], thresholds: Sequence[int], fields: list[FieldError]
) -> None:
    if PASSED in events and not thresholds:
        detail = f"The event {PASSED} needs at least one threshold."
        fields.append(FieldError("/thresholds", "required", detail))


def _check_secret(secret: str, fields: list[FieldError]) -> None:
    try:
        size = len(base64.b64decode(secret.removeprefix(_SECRET), validate=True))
    except (ValueError, binascii.Error):
        size = 0
    if not secret.startswith(_SECRET) or size not in _SECRET_BYTES:
        detail = "A secret is `whsec_` and 24 to 64 bytes in base64."
        fields.append(FieldError("/secret", "secret", detail))


def _new_secret() -> str:
    return _SECRET + base64.b64encode(secrets.token_bytes(_GENERATED_BYTES)).decode()


def _existing(webhook: Webhook | None, webhook_id: int) -> Webhook:
    if webhook is None:
        raise _not_found(webhook_id)
    return webhook


def _not_found(webhook_id: int) -> WebhookNotFound:
    return WebhookNotFound(f"There is no webhook {webhook_id}.")
