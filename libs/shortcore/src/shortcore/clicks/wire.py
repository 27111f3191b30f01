"""The wire form of clicks between a redirector and the worker, without addresses.

A batch is one entry (field `d`) of a click stream. All clicks of a link are in one stream.

No click is counted twice. If an XADD times out, the redirector does not know whether it was executed, so
it sends the batch again with the same `source` and `number`. It sends the batches of a stream one after
another, in the order of their numbers. The reader stores, with its position, the highest number of each
source and stream, and skips batches that are not above it: copies, and batches that arrive after the
redirector gave them up (and counted them as dropped). A gap between two numbers means batches that were
given up, or trimmed off the stream before they were read.

Redirectors write form 2; a stream may still hold batches of form 1, of older redirectors.

* **Form 1** is a MessagePack array of `source`, `number` and an array of clicks, each an array of link_id,
  at_ms, flags, referrer, agent (a class such as `chrome/android/mobile`) and visitor.
* **Form 2** is the byte 2, which begins no MessagePack array, and a MessagePack array of `source`, `number`,
  the number of clicks, the earliest at_ms, and the columns of `Row` in their order. A column is an array of
  values and a byte string. If the byte string is empty, the values are those of the clicks, in their order,
  or the one value of all clicks. Otherwise it has the index of each click's value: one byte each, or two
  (little-endian) if there are more than 256 values. The values of at_ms count from the earliest. New columns
  go to the end; older readers ignore them.
"""

import enum
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Annotated, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

FIELD = "d"
"""The field of a stream's entry that holds the batch."""

VISITOR_BYTES = 8
MAX_BYTES = 1_048_576
"""A longer entry is corrupt, and is not decoded."""
MAX_CLICKS = 4096
"""Maximum number of clicks in a batch."""
MAX_AGENT = 512
MAX_HOST = 253
MAX_CAMPAIGN = 64
"""Maximum characters of each UTM value."""

_FORM_2 = b"\x02"
_BYTE = 256
_PLACE = r"^([A-Z]{2}(-[A-Z0-9]{1,3})?)?\Z"


class Flag(enum.IntFlag):
    """Reasons why a click is not a person's visit; the numbers are part of the wire format."""

    BOT = 1
    HEAD = 2
    PREFETCH = 4
    """A browser or a preview requested the link without a click."""
    EXPIRED = 8
    """The link had expired, and the visitor was sent to its `expired_target`."""


class Click(msgspec.Struct, frozen=True, gc=False):
    """One redirect of the link `link_id`, parsed at `at_ms` (Unix ms), about 2 ms after the response.

    Every text is "" if it is unknown. `agent` is the User-Agent, up to MAX_AGENT characters; in form 1,
    it is a class such as `chrome/android/mobile`, or `bot`. A click without `agent` is a bot only if its
    BOT flag is set: the redirector also leaves the agent out for visitors who ask not to be tracked.
    `visitor` has VISITOR_BYTES bytes, or none. `referrer` is the host of the page with the link, `host`
    the domain of the link. `country` is an ISO 3166-1 code (`DE`), `region` the part of an
    ISO 3166-2 code after the country (`BE`), `language` the primary subtag of the preferred language
    (`de`). `source`, `medium` and `campaign` are the UTM values of the request's query. `rule` names
    the rule that chose the target.
    """

    link_id: int
    at_ms: int
    flags: int
    visitor: bytes = b""
    agent: str = ""
    referrer: str = ""
    country: str = ""
    region: str = ""
    language: str = ""
    source: str = ""
    medium: str = ""
    campaign: str = ""
    host: str = ""
    rule: str = ""


class ClickBatch(msgspec.Struct, frozen=True):
    """The batch `number` of the process `source` (random bytes) in one stream, in the wire form `form`."""

    source: bytes
    number: int
    clicks: Sequence[Click]
    form: int = 2


class CorruptBatch(ValueError):
    """The bytes of an entry are not a batch."""


def partition_of(link_id: int, partitions: int) -> int:
    """Return the number of the stream of a link's clicks; consecutive ids fill all streams evenly."""
    return link_id % partitions


Campaign: TypeAlias = tuple[str, str, str]
"""The UTM values source, medium and campaign."""

Row: TypeAlias = tuple[int, int, int, bytes, str, str, str, str, Campaign, str, str]
"""A click as a redirector makes it: the fields of `Click` in their order.

Country and region are one text (`DE-BE`, or `DE`), and the UTM values are one field. They are found
together, and one column is encoded faster than two or three.
"""


def row_of(click: Click) -> Row:
    """Return the row of a click."""
    return (
        click.link_id,
        click.at_ms,
        click.flags,
        click.visitor,
        click.agent,
        click.referrer,
        f"{click.country}-{click.region}" if click.region else click.country,
        click.language,
        (click.source, click.medium, click.campaign),
        click.host,
        click.rule,
    )


def encode_batch(batch: ClickBatch) -> bytes:
    """Return the bytes of a batch, like `encode_rows`."""
    return encode_rows(batch.source, batch.number, [row_of(click) for click in batch.clicks])


def encode_rows(source: bytes, number: int, rows: Sequence[Row]) -> bytes:
    """Return the bytes for a stream, in form 2, of 1 to MAX_CLICKS clicks within the bounds of the fields."""
    link_id, at_ms, flags, visitor, *texts = zip(*rows, strict=True)
    earliest = min(at_ms)
    body = (
        source,
        number,
        len(rows),
        earliest,
        _values(link_id),
        _values([each - earliest for each in at_ms]),
        _values(flags),
        _values(visitor),
        *map(_indexed, texts),
    )
    return _FORM_2 + _encoder.encode(body)


def decode_batch(data: bytes) -> ClickBatch:
    """Return the batch, of either form; raises CorruptBatch for all other bytes."""
    if len(data) > MAX_BYTES:
        message = f"the entry has {len(data)} bytes, more than {MAX_BYTES}"
        raise CorruptBatch(message)
    try:
        if data[:1] == _FORM_2:
            return _decode_2(data)
        return _decode_1(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptBatch(str(error)) from error


_Value = TypeVar("_Value")
_Other = TypeVar("_Other")

# A link's id fits a bigint of PostgreSQL, and a time is before the year 6430.
_Id: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Time: TypeAlias = Annotated[int, Meta(ge=0, lt=2**47)]
_Flags: TypeAlias = Annotated[int, Meta(ge=0, lt=2**15)]
_Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Source: TypeAlias = Annotated[bytes, Meta(max_length=32)]
_Visitor: TypeAlias = Annotated[bytes, Meta(max_length=VISITOR_BYTES)]
_Agent: TypeAlias = Annotated[str, Meta(max_length=MAX_AGENT)]
_Host: TypeAlias = Annotated[str, Meta(max_length=MAX_HOST)]
_Language: TypeAlias = Annotated[str, Meta(max_length=3)]
_Utm: TypeAlias = Annotated[str, Meta(max_length=MAX_CAMPAIGN)]


class _Column(msgspec.Struct, Generic[_Value], array_like=True, gc=False):
    values: Annotated[list[_Value], Meta(min_length=1, max_length=MAX_CLICKS)]
    indices: Annotated[bytes, Meta(max_length=2 * MAX_CLICKS)]

    def spread(self, size: int) -> Iterable[_Value]:
        """Return the value of each of `size` clicks; the result may raise IndexError later."""
        return self.spread_as(self.values, size)

    def spread_as(self, values: Sequence[_Other], size: int) -> Iterable[_Other]:
        """Return the same with each value of the column replaced by that of `values`."""
        indices = self.indices
        if not indices:
            if len(values) == 1:
                return repeat(values[0], size)
            _require(len(values) == size)
            return values
        if len(values) <= _BYTE:
            _require(len(indices) == size)
            return map(values.__getitem__, indices)
        _require(len(indices) == 2 * size)
        return map(values.__getitem__, struct.unpack(f"<{size}H", indices))


class _Columns(msgspec.Struct, array_like=True, gc=False):
    source: _Source
    number: _Number
    size: Annotated[int, Meta(ge=1, le=MAX_CLICKS)]
    earliest: _Time
    link_id: _Column[_Id]
    at_ms: _Column[_Time]
    flags: _Column[_Flags]
    visitor: _Column[_Visitor]
    agent: _Column[_Agent]
    referrer: _Column[_Host]
    place: _Column[Annotated[str, Meta(pattern=_PLACE)]]
    language: _Column[_Language]
    campaign: _Column[tuple[_Utm, _Utm, _Utm]]
    host: _Column[_Host]
    rule: _Column[_Utm]


class _Click1(msgspec.Struct, array_like=True, gc=False):
    link_id: _Id
    at_ms: _Time
    flags: _Flags
    referrer: _Host
    agent: _Agent
    visitor: _Visitor


class _Batch1(msgspec.Struct, array_like=True):
    source: _Source
    number: _Number
    clicks: Annotated[list[_Click1], Meta(max_length=MAX_CLICKS)]


_encoder = msgspec.msgpack.Encoder()
_decoder_1 = msgspec.msgpack.Decoder(_Batch1)
_decoder_2 = msgspec.msgpack.Decoder(_Columns)


def _values(values: Sequence[_Value]) -> tuple[Sequence[_Value], bytes]:
    if values.count(values[0]) == len(values):  # most columns of most batches
        return values[:1], b""
    return values, b""


def _indexed(values: Sequence[_Value]) -> tuple[Sequence[_Value], bytes]:
    if values.count(values[0]) == len(values):
        return values[:1], b""
    different = dict.fromkeys(values)
    size = len(different)
    if size == len(values):
        return values, b""
    indices = map(dict(zip(different, range(size), strict=True)).__getitem__, values)
    if size <= _BYTE:
        return list(different), bytes(indices)
    return list(different), struct.pack(f"<{len(values)}H", *indices)


def _require(fits: bool) -> None:
    if not fits:
        message = "a column does not have the length of the batch"
        raise CorruptBatch(message)


def _decode_1(data: bytes) -> ClickBatch:
    batch = _decoder_1.decode(data)
    clicks = [
        Click(each.link_id, each.at_ms, each.flags, each.visitor, each.agent, each.referrer)
        for each in batch.clicks
    ]
    return ClickBatch(batch.source, batch.number, clicks, form=1)


def _decode_2(data: bytes) -> ClickBatch:
    body = _decoder_2.decode(memoryview(data)[1:])
    size, earliest = body.size, body.earliest
    places = [place.partition("-") for place in body.place.values]
    campaigns = body.campaign.values
    try:
        clicks = list(
            map(
                Click,
                body.link_id.spread(size),
                body.at_ms.spread_as([earliest + each for each in body.at_ms.values], size),
                body.flags.spread(size),
                body.visitor.spread(size),
                body.agent.spread(size),
                body.referrer.spread(size),
                body.place.spread_as([place[0] for place in places], size),
                body.place.spread_as([place[2] for place in places], size),
                body.language.spread(size),
                body.campaign.spread_as([campaign[0] for campaign in campaigns], size),
                body.campaign.spread_as([campaign[1] for campaign in campaigns], size),
                body.campaign.spread_as([campaign[2] for campaign in campaigns], size),
                body.host.spread(size),
                body.rule.spread(size),
            )
        )
    except IndexError as error:
        message = "a click has the index of a value that the column does not have"
        raise CorruptBatch(message) from error
    return ClickBatch(body.source, body.number, clicks)
