"""Groups rows into batches, each with an idempotency key made from its content.

The key of a batch is a hash of its rows and of the key before. So the API recognises a batch that
is sent again (after a lost response, by `--resume`, or by another run of the import) and creates
nothing twice, while two equal batches of one file have different keys.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import msgspec

from shortcore.links.rows import Fault, Row

BATCH_ROWS = 2000
BATCH_BYTES = 2 * 1024 * 1024
"""Maximum size of a batch. If the limit of the server is lower, the batch is sent in halves."""

BATCH_PASSWORDS = 100
"""The API's limit of passwords per request, since it must hash each of them."""


@dataclass(slots=True)
class Batch:
    """Rows that are sent together: their JSON, their line numbers, and the rows with faults."""

    key: str
    items: list[bytes]
    lines: list[int]
    faults: list[Fault] = field(default_factory=list)


def batches(rows: Iterable[Row], salt: str = "") -> Iterator[Batch]:
    """Group `rows` into batches of bounded size; equal rows and an equal salt give equal keys."""
    key = salt
    batch = Batch("", [], [])
    size = passwords = 0
    for row in rows:
        item = b"" if row.faults else msgspec.json.encode(row.item)
        has_password = "password" in row.item
        if (
            len(batch.lines) + len(batch.faults) >= BATCH_ROWS
            or (batch.items and size + len(item) > BATCH_BYTES)
            or passwords + has_password > BATCH_PASSWORDS
        ):
            yield (complete := _with_key(batch, key))
            key = complete.key
            batch = Batch("", [], [])
            size = passwords = 0
        if row.faults:
            batch.faults.extend(row.faults)
            continue
        batch.items.append(item)
        batch.lines.append(row.line)
        size += len(item)
        passwords += has_password
    if batch.lines or batch.faults:
        yield _with_key(batch, key)


def _with_key(batch: Batch, previous_key: str) -> Batch:
    digest = hashlib.blake2b(previous_key.encode(), digest_size=20)
    for item in batch.items:
        digest.update(b"\n" + item)
    # So that a batch of nothing but faults changes the key as well.
    digest.update(str(len(batch.faults)).encode())
    return replace(batch, key=f"import-{digest.hexdigest()}")
