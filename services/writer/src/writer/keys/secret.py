"""The text of an API key: `sl_`, 8 letters to find it by, `_`, 256 random bits in base64url."""

import hashlib
import re
import secrets
import string

_LETTERS = string.ascii_lowercase + string.digits
_PREFIX_LENGTH = 8
_FORM = re.compile(r"sl_([a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)


def new_secret() -> tuple[str, str]:
    """Return a fresh key and the prefix that finds it."""
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX_LENGTH))
    return f"sl_{prefix}_{secrets.token_urlsafe(32)}", prefix


def prefix_of(key: str) -> str | None:
    """Return the prefix of a key, or None for what cannot be one."""
    match = _FORM.fullmatch(key)
    return None if match is None else match[1]


def digest_of(key: str) -> bytes:
    """Return what is stored of a key: a slow hash adds nothing to 256 random bits."""
    return hashlib.sha256(key.encode()).digest()
