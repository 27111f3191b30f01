"""The normal form of a password, which is hashed."""

import unicodedata


def normalise_password(text: str) -> str:
    """Return `text` in Normalization Form C (RFC 8265, section 4.2.2).

    Keyboards and systems write "é" as one code point or as two, and a visitor cannot see which.
    """
    return unicodedata.normalize("NFC", text)
