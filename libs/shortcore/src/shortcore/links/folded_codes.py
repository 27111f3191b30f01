"""Generated codes of domains with case-insensitive codes: in lower case.

The number of the code is the same as that of a mixed-case code (`codes`). It is written in an
alphabet of 29 characters instead of 36 characters out of 52, so it is one character longer. A
made-up string is valid with a probability of 1 in 75,000 (shortest codes) to 1 in 10,700 (longest
codes); a mixed-case string, of 1 in 9,216.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

FOLDED_ALPHABET: Final = "346789abcdefghjkmnpqrstuvwxyz"
"""No `0o`, `1il`, `2` or `5`, as they look alike, also in capitals."""

_BASE = len(FOLDED_ALPHABET)
_LOW = 2**64 - 1  # the bits of a number that decide its check character


def fold_code(code: str) -> str:
    """Return the canonical spelling of a code in a case-insensitive domain.

    All characters of a code are ASCII, so that this changes only A-Z.
    """
    return code.lower()


class FoldedScript:
    """Converts a number of `n` base-36 digits to a code of `n` + 2 characters, and back.

    `mix` is a keyed function of 64 bits of the number. It gives the check character, which comes
    first and shifts the others.
    """

    def __init__(self, key: bytes, mix: Callable[[int], int]) -> None:
        def place(letter: str) -> bytes:
            return blake2b(letter.encode(), key=key, digest_size=8).digest()

        self._letters = "".join(sorted(FOLDED_ALPHABET, key=place))
        self._values = {letter: value for value, letter in enumerate(self._letters)}
        self._mix = mix

    def write(self, number: int, digits: int) -> str:
        """Return the code of a number below 36 ** `digits`; `digits` is at most 15."""
        check = self._mix(number & _LOW) % _BASE
        letters = self._letters
        code = ""
        for _ in range(digits + 1):
            number, digit = divmod(number, _BASE)
            code = letters[(digit + check) % _BASE] + code
        return letters[check] + code

    def read(self, code: str) -> int | None:
        """Return the number of a code that `write` returned, or None for any other string."""
        values = self._values
        check = values.get(code[:1])
        if check is None:
            return None
        number = 0
        for letter in code[1:]:
            value = values.get(letter)
            if value is None:
                return None
            number = number * _BASE + (value - check) % _BASE
        return number if self._mix(number & _LOW) % _BASE == check else None
