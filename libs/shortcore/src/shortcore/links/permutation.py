"""A keyed permutation of the numbers 0 to a * b - 1, and its inverse.

It is a generalised Feistel network over Z_a x Z_b, so that it needs no cycle walking: J. Black and
P. Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002), method 3, in the alternating form
that M. Bellare et al., "Format-Preserving Encryption" (SAC 2009), call FE2. It is not one of the
approved modes of NIST SP 800-38G (FF1), and need not be: the permutation only prevents that codes
are enumerated or counted, and a code grants no permission.
"""

from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b

_REMEMBERED = 2**16  # values of one round function, 4 bytes each
_RUN = 4  # values computed together
_UNKNOWN = 2**32 - 1  # above every modulus with so few halves

Round = Callable[[int], int]
"""A keyed pseudo-random function from one half of a number to a 64-bit integer."""


def permute(number: int, a: int, b: int, rounds: Sequence[tuple[Round, Round]]) -> int:
    """Map a number of 0 to a * b - 1 to another one; no two numbers have the same result."""
    left, right = divmod(number, b)
    for mix_left, mix_right in rounds:
        left = (left + mix_left(right)) % a
        right = (right + mix_right(left)) % b
    return left * b + right


def unpermute(number: int, a: int, b: int, rounds: Sequence[tuple[Round, Round]]) -> int:
    """Undo `permute` with the same `a`, `b` and `rounds`."""
    left, right = divmod(number, b)
    for mix_left, mix_right in reversed(rounds):
        right = (right - mix_right(left)) % b
        left = (left - mix_left(right)) % a
    return left * b + right


def keyed_round(key: bytes, tier: int, step: int) -> Round:
    """Return the round function `step` of a tier: 64 bits of keyed BLAKE2b (RFC 7693).

    The reduction of 64 bits to a half of at most 36.2 bits has a bias below 2**-27.
    """
    blank = blake2b(key=key, digest_size=8, person=bytes((tier, step)))

    def mix(half: int) -> int:
        state = blank.copy()
        state.update(half.to_bytes(8, "big"))
        return int.from_bytes(state.digest(), "big")

    return mix


def remembered(mix: Round, halves: int, modulus: int) -> Round:
    """Return `mix` modulo `modulus`, memoised for 0 to `halves` - 1 if these are at most 65,536.

    A value is computed together with its neighbours, so that most values are known after a fraction
    of them has been used.
    """
    if halves > _REMEMBERED:
        return mix
    known = array("I", [_UNKNOWN]) * (-(-halves // _RUN) * _RUN)

    def mix_once(half: int) -> int:
        value = known[half]
        if value == _UNKNOWN:
            first = half // _RUN * _RUN
            for each in range(first, first + _RUN):
                known[each] = mix(each) % modulus
            value = known[half]
        return value

    return mix_once
