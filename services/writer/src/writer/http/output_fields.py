"""Types of output fields: what the OpenAPI document says of a time and of a URL."""

from datetime import datetime
from typing import Annotated

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""An instant in UTC: RFC 3339, `date-time` in the document."""

AbsoluteUrl = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri"})]
"""A URL with its scheme."""

Path = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri-reference"})]
"""A path on the server that sent it."""
