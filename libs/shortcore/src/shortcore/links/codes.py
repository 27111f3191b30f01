"""Codes of links: from an id to a short, unguessable string and back, without a lookup.

A generated code is made in three steps, each of which is reversible:

1. The id selects a *tier*, the number of base-36 digits of its code. Short tiers are used first, so that
   the length grows with the id.
2. A keyed permutation maps the id to a number of the whole tier. Only one number in `SPARSENESS` is ever
   used, so that nearly every made-up string is refused here.
3. `hashids` writes the number: one lottery character, then the digits.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hashids import Hashids

from shortcore.links.folded_codes import FoldedScript
from shortcore.links.permutation import Round, keyed_round, permute, remembered, unpermute

ALPHABET = "346789ABCDEFGHJKLMNPQRSTUVWXYabcdefghjkmnpqrstuvwxyz"
"""The characters that hashids may use, without the look-alikes `0Oo 1lIi 2Z 5`. It uses 12 of them as
separators and 4 as guards."""

SPARSENESS = 256
"""One number in this many is a code. With the lottery, 1 made-up string in 9,216 is a valid code."""

MAX_ID = 2**63 - 1
"""The largest id, that of a PostgreSQL `bigint`."""

MIN_SECRET_BYTES = 16

_BASE = 36
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LOTTERY_MODULUS = 100  # of hashids: the lottery of a single number n is letter n % 100 % 36
_SHORTEST = 5
_LONGEST = 14  # the tier that holds MAX_ID
_ROUND_PAIRS = 4
_PAIRS = [(one + two).encode() for one in _DIGITS for two in _DIGITS]


class CodeSpace:
    """The codes of one secret: a bijection between the ids 0 to `MAX_ID` and codes.

    `secret` has at least 16 bytes (ValueError otherwise), and must not change while links with its
    codes are in use. Generated codes have 6 to 15 characters, those of case-insensitive domains 7 to
    16.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"The secret for codes needs at least {MIN_SECRET_BYTES} bytes.")
        scribe = Hashids(_derive(secret, b"shortlinks.salt").hex(), alphabet=ALPHABET)
        letters_of = [_letters(scribe, lottery) for lottery in range(_BASE)]
        self._writers = [
            (letters[0], bytes.maketrans(_DIGITS.encode(), letters[1:].encode()))
            for letters in letters_of
        ]
        self._readers = {
            letters[0]: (lottery, _reader(letters[1:]))
            for lottery, letters in enumerate(letters_of)
        }
        self._tiers = _tiers(_derive(secret, b"shortlinks.code"))
        self._by_length = {tier.digits + 1: tier for tier in self._tiers}
        self._ends = [tier.end for tier in self._tiers]
        self._encoding: dict[int, Sequence[tuple[Round, Round]]] = {}
        key = _derive(secret, b"shortlinks.fold")
        self._folded = FoldedScript(key, keyed_round(key, 0, 0))

    def encode(self, id: int) -> str:  # noqa: A002 -- `id` is the field's word for it
        """Return the code of `id`; raises ValueError if it is negative or above `MAX_ID`."""
        tier, number = self._scatter(id)
        letter, table = self._writers[number % _LOTTERY_MODULUS % _BASE]
        digits = b""
        while number:
            digits = _PAIRS[number % _BASE**2] + digits
            number //= _BASE**2
        return letter + digits[-tier.digits :].translate(table).decode()

    def encode_folded(self, id: int) -> str:  # noqa: A002
        """Return the code of `id` for a case-insensitive domain, of 7 to 16 characters."""
        tier, number = self._scatter(id)
        return self._folded.write(number, tier.digits)

    def _scatter(self, id: int) -> "tuple[_Tier, int]":  # noqa: A002
        if not 0 <= id <= MAX_ID:
            raise ValueError(f"An id is 0 to {MAX_ID}, not {id}.")
        tier = self._tiers[bisect(self._ends, id)]
        rounds = self._encoding.get(tier.digits)
        if rounds is None:
            # Decoding does without these tables, as they would take megabytes in a redirector.
            rounds = self._encoding[tier.digits] = [
                (remembered(mix_left, tier.b, tier.a), remembered(mix_right, tier.a, tier.b))
                for mix_left, mix_right in tier.rounds
            ]
        return tier, tier.offset + permute(id - tier.start, tier.a, tier.b, rounds)

    def decode(self, code: str) -> int | None:
        """Return the id of the code, or None for any other string.

        The order of the checks makes a scan of random paths cheap: the lottery refuses 35 of 36
        strings before the hashes of the permutation are computed.
        """
        tier = self._by_length.get(len(code))
        if tier is None or not code.isascii():
            return None
        reader = self._readers.get(code[0])
        if reader is None:
            return None
        lottery, table = reader
        digits = code[1:].encode().translate(table)
        if not digits.isalnum():
            return None
        number = int(digits, _BASE)
        if number % _LOTTERY_MODULUS % _BASE != lottery or number < tier.offset:
            return None
        return _gather(tier, number)

    def decode_folded(self, code: str) -> int | None:
        """Return the id of the code of a case-insensitive domain, or None for any other string."""
        tier = self._by_length.get(len(code) - 1)
        if tier is None:
            return None
        number = self._folded.read(code)
        if number is None or not tier.offset <= number < tier.offset * _BASE:
            return None
        return _gather(tier, number)

    def decode_any(self, code: str) -> int | None:
        """Return the id of the code of a domain of either kind, or None for any other string."""
        id_ = self.decode(code)
        if id_ is not None or code != code.lower():  # most codes of a scan have capitals
            return id_
        return self.decode_folded(code)


def _gather(tier: "_Tier", number: int) -> int | None:
    id_ = tier.start + unpermute(number - tier.offset, tier.a, tier.b, tier.rounds)
    return id_ if id_ < tier.end else None


@dataclass(frozen=True, slots=True)
class _Tier:
    digits: int
    offset: int  # the least number of so many digits
    start: int  # ids from start
    end: int  # to end - 1
    a: int
    b: int
    rounds: tuple[tuple[Round, Round], ...]


def _tiers(key: bytes) -> list[_Tier]:
    tiers: list[_Tier] = []
    start = 0
    for digits in range(_SHORTEST, _LONGEST + 1):
        a = (_BASE - 1) * _BASE ** ((digits - 1) // 2)
        b = _BASE ** (digits - 1 - (digits - 1) // 2)
        end = min(start + a * b // SPARSENESS, MAX_ID + 1)
        rounds = tuple(
            (keyed_round(key, digits, 2 * pair), keyed_round(key, digits, 2 * pair + 1))
            for pair in range(_ROUND_PAIRS)
        )
        tiers.append(_Tier(digits, _BASE ** (digits - 1), start, end, a, b, rounds))
        start = end
    return tiers


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return blake2b(secret, digest_size=32, person=purpose).digest()


def _letters(scribe: Hashids, lottery: int) -> str:
    """Return the character of a lottery value, and the 36 characters for 0, 1, 2, ... with it.

    hashids writes one number with the digits 1, 2, ... z, 0 and two more, which give it this lottery
    value. So the characters come from hashids itself, through its public interface.
    """
    spelled = int(_DIGITS[1:] + "0", _BASE) * _BASE**2
    code: str = scribe.encode(spelled + (lottery - spelled) % _LOTTERY_MODULUS)
    return code[0] + code[_BASE] + code[1:_BASE]


def _reader(letters: str) -> bytes:
    """Return a table for `bytes.translate` that maps these letters to digits, all others to `!`."""
    table = bytearray(b"!" * 256)
    for letter, digit in zip(letters, _DIGITS, strict=True):
        table[ord(letter)] = ord(digit)
    return bytes(table)
