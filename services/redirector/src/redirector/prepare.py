"""What the local cache keeps of a link: its record with targets ready to be sent, and its answer.

All that one request does not change is decided here, once a fill, so that a hit does no work.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from redirector.domains import Domains
from redirector.location import as_reference
from redirector.resolve import is_plain
from redirector.respond import Answer, Answers, Plain
from shortcore.cache.local import Prepared
from shortcore.links import Kind, LinkKey, LinkRecord, split_key

Prepare: TypeAlias = Callable[[LinkKey, LinkRecord, bool], Prepared[Plain | Answer | None]]

_ACTIVE = Kind.ACTIVE  # a member of an enum is looked up at the cost of a call


def make_prepare(answers: Answers, domains: Domains) -> Prepare:
    """Return the `prepare` function of the local cache.

    The answer is None if it depends on the request.
    """

    def prepare(key: LinkKey, record: LinkRecord, in_use: bool) -> Prepared[Plain | Answer | None]:
        if record.kind is _ACTIVE:
            record = with_references(record)
            if not is_plain(record):
                return record, None, 0
            return record, *answers.of_plain(key, record, in_use)
        if record.kind is Kind.DELETED:
            return record, answers.gone, 0
        return record, domains.of_host(split_key(key)[0]).not_found, 0

    return prepare


def with_references(record: LinkRecord) -> LinkRecord:
    """Return `record` with its targets as they stand in a `Location` header."""
    target = as_reference(record.target)
    if target is not record.target:
        record = msgspec.structs.replace(record, target=target)
    if record.expired_target is not None:
        expired_target = as_reference(record.expired_target)
        if expired_target is not record.expired_target:
            record = msgspec.structs.replace(record, expired_target=expired_target)
    return record
