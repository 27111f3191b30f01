"""The text of an API key: `sl_`, a prefix of 8 characters, `_`, 256 random bits in base64url."""

import hashlib
import re
import secrets
import string

_LETTERS = string.ascii_lowercase + string.digits
_PREFIX_LENGTH = 8
_FORM = re.compile(r"sl_([a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)


def new_secret() -> tuple[str, str]:
    """Return a new key and its prefix, by which it is found."""
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX_LENGTH))
    return f"sl_{prefix}_{secrets.token_urlsafe(32)}", prefix


def prefix_of(key: str) -> str | None:
    """Return the prefix of a key, or None if the text cannot be a key."""
    match = _FORM.fullmatch(key)
    return None if match is None else match[1]


def digest_of(key: str) -> bytes:
    """Return the hash that is stored. 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).digest()
