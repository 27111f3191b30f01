"""Types of input fields, with their validation and their JSON schemas."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from shortcore.links.custom_codes import MAX_CUSTOM_LENGTH
from shortcore.links.record import RedirectStatus

MAX_MEMBERS: Final = 32
"""Maximum number of members of an object in a body, about twice the fields of a link."""

MAX_TITLE: Final = 512
MAX_NOTE: Final = 4096
MAX_TAGS: Final = 32
MAX_TAG: Final = 64
MAX_PASSWORD: Final = 128
MAX_VISITS: Final = 10**12
MAX_URL: Final = 65_536
"""The highest value of `target_max_length`."""

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
# Listed, because languages differ in the meaning of `\s`.
_BLANKS = "\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_TAG = re.compile(rf"[^\x00-\x20,\x7f{_BLANKS}]+")
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)
_WITHOUT_NUL = {"pattern": r"^[^\u0000]*$"}
_TAG_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_TAG,
    "pattern": rf"^[^\u0000-\u0020,\u007f{_BLANKS}]+$",
}
_CODE_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_CUSTOM_LENGTH,
    "pattern": "^[A-Za-z0-9_-]+$",
}
_HOST_SCHEMA = {"type": "string", "format": "idn-hostname"}
_INSTANT_SCHEMA = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^(19[7-9]\d|[2-9]\d{3})-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$",
}
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 30, tzinfo=UTC)


class Input(BaseModel):
    """A request body. Unknown fields are rejected, and no value is converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    read_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that only responses have; ignored in requests, so that a response can be sent back."""

    @model_validator(mode="before")
    @classmethod
    def _known_members(cls, sent: object) -> object:
        if not isinstance(sent, dict):
            return sent
        # Counted first: pydantic makes an error for each unknown member.
        if len(sent) > MAX_MEMBERS:
            raise PydanticCustomError(
                "length",
                "This object may have at most {most} members, not {members}.",
                {"most": MAX_MEMBERS, "members": len(sent)},
            )
        if cls.read_only.isdisjoint(sent):
            return sent
        return {name: value for name, value in sent.items() if name not in cls.read_only}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the ignored fields by a pattern, so that no generated client offers them."""
        schema = handler(core_schema)
        if cls.read_only:
            names = "|".join(sorted(cls.read_only))
            ignored = {"description": "A field of an answer that cannot be set; it is ignored."}
            handler.resolve_ref_schema(schema)["patternProperties"] = {f"^({names})$": ignored}
        return schema


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "encoding", "The text has a lone surrogate, which is not a character."
        ) from None
    if "\x00" in text:
        raise PydanticCustomError("nul", "The text has a NUL character, which cannot be stored.")
    return text


def read_instant(value: object) -> object:
    """Return the time in UTC that `value` names; None and times stay. Raises PydanticCustomError."""
    if value is None or isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise PydanticCustomError(
            "instant", "A time must have an offset, such as 2030-01-31T12:00:00Z (RFC 3339)."
        )
    try:
        instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("instant", "This date or time does not exist.") from None
    if not _EARLIEST <= instant < _LATEST:
        raise PydanticCustomError("range", "A time must be between the years 1970 and 9999.")
    return instant


def _whole_ms(instant: datetime) -> datetime:
    # Redis and the redirector use milliseconds; more digits would be rounded up past the expiry.
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def _whole(value: object) -> object:
    # In JSON, 5 and 5.0 are the same number, and some clients send 5.0.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: object) -> object:
    # pydantic also accepts "+5", "5.0", "5_0" and " 5 ", which are not documented.
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise PydanticCustomError("type", "This must be a whole number in decimal digits.")
    return value


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in {"true", "false"}:
        raise PydanticCustomError("type", "This must be true or false.")
    return value


def is_tag(text: str) -> bool:
    """Return whether a link may have the tag `text`."""
    return len(text) <= MAX_TAG and _TAG.fullmatch(text) is not None


def _tag(text: str) -> str:
    if not _TAG.fullmatch(text):
        raise PydanticCustomError(
            "charset", "A tag cannot contain whitespace, commas or control characters."
        )
    return text


def _few_tags(tags: object) -> object:
    # Counted first, because pydantic creates an error for each invalid tag.
    if isinstance(tags, list) and len(tags) > MAX_TAGS:
        raise PydanticCustomError(
            "length",
            "A link may have at most {most} tags, not {tags}.",
            {"most": MAX_TAGS, "tags": len(tags)},
        )
    return tags


def _distinct(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Text = Annotated[str, AfterValidator(_storable), Field(json_schema_extra=_WITHOUT_NUL)]
Code = Annotated[Text, WithJsonSchema(_CODE_SCHEMA)]
"""A custom code; `shortcore.links.codes` has its rules."""

Host = Annotated[Text, WithJsonSchema(_HOST_SCHEMA)]
"""A host name or address; `shortcore.links.targets.normalise_host` has its rules."""

CodeInPath = Annotated[str, WithJsonSchema(_CODE_SCHEMA)]
HostInPath = Annotated[str, WithJsonSchema(_HOST_SCHEMA)]
TagInPath = Annotated[str, WithJsonSchema(_TAG_SCHEMA)]
"""In a path, any text is accepted: an invalid address is not found."""

Number = Annotated[int, BeforeValidator(_number)]
"""A whole number in a path or a query."""

Redirect = Annotated[RedirectStatus, BeforeValidator(_whole)]

Flag = Annotated[bool, BeforeValidator(_flag)]
"""`true` or `false` in a query."""

Title = Annotated[Text, Field(max_length=MAX_TITLE)]
Note = Annotated[Text, Field(max_length=MAX_NOTE)]
Url = Annotated[
    Text,
    Field(min_length=1),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": MAX_URL}),
]
"""An absolute URL; the setting `target_max_length` limits its length."""

Password = Annotated[Text, Field(min_length=1, max_length=MAX_PASSWORD)]
Tag = Annotated[
    Text,
    Field(min_length=1, max_length=MAX_TAG),
    AfterValidator(_tag),
    WithJsonSchema(_TAG_SCHEMA),
]
Tags = Annotated[
    list[Tag],
    Field(max_length=MAX_TAGS),
    AfterValidator(_distinct),
    BeforeValidator(_few_tags),
]
Visits = Annotated[int, Field(ge=1, le=MAX_VISITS), BeforeValidator(_whole)]
ExactInstant = Annotated[
    datetime,
    BeforeValidator(read_instant),
    WithJsonSchema(_INSTANT_SCHEMA),
]
"""A time for comparisons, in microseconds."""

Instant = Annotated[ExactInstant, AfterValidator(_whole_ms)]
"""A time to store, in whole milliseconds."""
