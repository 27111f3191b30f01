"""Types of settings: how their text is parsed, and the range of their values."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from shortcore.links.targets import normalise_host
from shortcore.origins import normalise_origins


def _split(value: object) -> object:
    if isinstance(value, str):
        return frozenset(word.strip() for word in value.split(",") if word.strip())
    return value


Port = Annotated[int, Field(ge=0, le=65535)]
Milliseconds = Annotated[int, Field(ge=0, le=600_000)]
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\z")]
"""The name of an HTTP header field (RFC 9110, 5.1)."""

Host = Annotated[str, AfterValidator(normalise_host)]

Words = Annotated[frozenset[str], NoDecode, BeforeValidator(_split)]
"""A set of words; an environment variable separates them with commas."""

Origins = Annotated[
    frozenset[str], NoDecode, BeforeValidator(_split), AfterValidator(normalise_origins)
]
"""A set of origins of web pages, separated with commas like `Words`."""
