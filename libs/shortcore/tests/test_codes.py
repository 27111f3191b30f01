import math
import random
from collections import Counter
from hashlib import blake2b
from itertools import pairwise

import pytest
from hashids import Hashids
from hypothesis import example, given
from hypothesis import strategies as st

from shortcore.links.codes import ALPHABET, MAX_ID, SPARSENESS, CodeSpace
from shortcore.links.custom_codes import RESERVED_CODES, CodeError, check_custom_code
from shortcore.links.folded_codes import FOLDED_ALPHABET
from shortcore.links.permutation import keyed_round, permute, unpermute

SECRET = b"a secret for the tests of codes"
SPACE = CodeSpace(SECRET)
ORACLE = Hashids(
    blake2b(SECRET, digest_size=32, person=b"shortlinks.salt").hexdigest(), alphabet=ALPHABET
)

# The first ids of the tiers: 35 * 36**(digits - 1) // 256 ids in each, from 5 digits on.
TIER_STARTS = [0, 229_635, 8_496_495, 306_103_455, 11_019_954_015]

ids = st.integers(0, 2**45)


def working_alphabet(space):
    """Return the characters of generated codes, found by encoding ids."""
    return "".join(sorted({letter for id_ in range(2_000) for letter in space.encode(id_)}))


def rounds(key, pairs=4):
    return [(keyed_round(key, 0, 2 * n), keyed_round(key, 0, 2 * n + 1)) for n in range(pairs)]


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 7), (7, 1), (35, 36), (36, 35), (210, 144)])
@pytest.mark.parametrize("key", [b"one", b"two"])
def test_the_permutation_is_a_bijection_over_its_whole_domain(a, b, key):
    steps = rounds(key)
    images = [permute(number, a, b, steps) for number in range(a * b)]
    assert sorted(images) == list(range(a * b))
    assert all(unpermute(image, a, b, steps) == number for number, image in enumerate(images))


def test_the_permutation_is_a_bijection_over_a_domain_of_a_million():
    a, b = 1024, 1024
    steps = rounds(b"large", pairs=1)  # one pair: the law is the structure's, not the rounds'
    seen = bytearray(a * b)
    for number in range(a * b):
        seen[permute(number, a, b, steps)] = 1
    assert seen.count(1) == a * b


@given(a=st.integers(1, 2**36), b=st.integers(1, 2**36), data=st.data(), key=st.binary(max_size=32))
def test_the_permutation_is_undone_on_domains_too_large_to_walk(a, b, data, key):
    number = data.draw(st.integers(0, a * b - 1))
    steps = rounds(key)
    image = permute(number, a, b, steps)
    assert 0 <= image < a * b
    assert unpermute(image, a, b, steps) == number


@given(ids)
@example(MAX_ID)
def test_a_code_gives_back_its_id(id_):
    assert SPACE.decode(SPACE.encode(id_)) == id_


@given(ids, ids)
def test_a_larger_id_never_has_a_shorter_code(one, other):
    low, high = sorted((one, other))
    assert len(SPACE.encode(low)) <= len(SPACE.encode(high))


@given(st.text(max_size=20) | st.text(working_alphabet(SPACE), min_size=6, max_size=15))
def test_a_string_that_decodes_is_the_code_of_that_id(text):
    id_ = SPACE.decode(text)
    assert id_ is None or SPACE.encode(id_) == text


@pytest.mark.parametrize("digits", range(5, 10))
def test_each_tier_ends_exactly_where_the_next_begins(digits):
    start = TIER_STARTS[digits - 5]
    end = start + 35 * 36 ** (digits - 1) // SPARSENESS
    assert len(SPACE.encode(start)) == len(SPACE.encode(end - 1)) == digits + 1
    assert len(SPACE.encode(end)) == digits + 2
    for border in (start, end - 1, end):
        assert SPACE.decode(SPACE.encode(border)) == border


def test_every_bigint_has_a_code_and_nothing_else_has():
    assert len(SPACE.encode(MAX_ID)) == 15
    for outside in (-1, MAX_ID + 1):
        with pytest.raises(ValueError, match="An id is 0 to"):
            SPACE.encode(outside)


@given(ids)
def test_codes_are_what_hashids_writes_for_the_same_number(id_):
    code = SPACE.encode(id_)
    (number,) = ORACLE.decode(code)
    assert ORACLE.encode(number) == code
    assert 36 ** (len(code) - 2) <= number < 36 ** (len(code) - 1)


@given(st.binary(min_size=16, max_size=200), ids)
def test_any_secret_makes_codes_without_look_alikes_that_decode(secret, id_):
    space = CodeSpace(secret)
    code = space.encode(id_)
    assert space.decode(code) == id_
    assert not set(code) & set("0Oo1lIi2Z5")
    assert set(code) <= set(ALPHABET)


def test_generated_codes_use_exactly_36_letters():
    assert len(working_alphabet(SPACE)) == 36


def test_another_secret_gives_other_codes_and_refuses_these():
    other = CodeSpace(SECRET + b"!")
    sample = range(2_000)
    assert sum(SPACE.encode(id_) == other.encode(id_) for id_ in sample) == 0
    # A code of another secret is like a random string: at most a few in 2,000 may pass.
    assert sum(other.decode(SPACE.encode(id_)) is not None for id_ in sample) <= 5


def test_the_same_secret_always_gives_the_same_codes():
    # Constants: if one of these changes, the codes of all links in use change.
    assert [SPACE.encode(id_) for id_ in (0, 1, 229_635, 2**40)] == [
        "8rEVDp",
        "b9jBMA",
        "nDbqgJX",
        "7mA8jMDVDeb",
    ]


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="at least 16 bytes"):
        CodeSpace(b"fifteen bytes..")


@pytest.mark.parametrize("length", [6, 7, 8])
def test_at_least_999_of_1000_random_strings_of_a_codes_length_are_refused(length):
    seed, count = 20260101 + length, 40_000
    letters = working_alphabet(SPACE)
    rng = random.Random(seed)
    passed = sum(
        SPACE.decode("".join(rng.choices(letters, k=length))) is not None for _ in range(count)
    )
    # Expected: 1 in 9,216, about 4.
    assert passed <= count // 1000, f"seed {seed}"


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "a",
        "é" * 6,
        "\ud800" * 6,
        "\x00" * 6,
        "_" * 7,
        "+12345",
        "      ",
        "x" * 1_000_000,
        "٣" * 6,
        "0000000",
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_odd_strings_decode_to_nothing_and_never_raise(odd):
    assert SPACE.decode(odd) is None


def test_a_number_with_a_leading_zero_decodes_to_nothing():
    # Such a string passes the lottery; without its own check, 1 in 256 would have two codes.
    for number in range(36**3, 36**3 + 5_000):
        lottery, *digits = ORACLE.encode(number)
        zero = chr(SPACE._writers[number % 100 % 36][1][ord("0")])
        assert SPACE.decode(lottery + zero + "".join(digits)) is None


@given(ids, st.sampled_from("0Oo1lIi2Z5-_ é\n\x00+\ud800"), st.data())
def test_a_code_with_a_character_outside_the_alphabet_decodes_to_nothing(id_, foreign, data):
    code = SPACE.encode(id_)
    place = data.draw(st.integers(0, len(code) - 1))
    assert SPACE.decode(code[:place] + foreign + code[place + 1 :]) is None


@pytest.mark.parametrize("start", TIER_STARTS[:4])
class TestSuccessiveCodesShowNoOrder:
    """2,000 successive ids a tier, measured against what 2,000 random codes would show.

    Bounds are 5 standard deviations wide; keys and ids are fixed, so a pass is a pass for ever.
    """

    count = 2_000

    def codes(self, start):
        return [SPACE.encode(start + n) for n in range(self.count)]

    def test_neighbours_share_prefixes_no_longer_than_chance(self, start):
        codes = self.codes(start)
        shared = [
            next(n for n, (x, y) in enumerate(zip(one, other, strict=True)) if x != y)
            for one, other in pairwise(codes)
        ]
        # The lottery letter agrees with chance (28 * 3**2 + 8 * 2**2) / 100**2 = 2.84%.
        expected = 0.0284 * self.count
        agreeing = sum(length >= 1 for length in shared)
        assert abs(agreeing - expected) < 5 * math.sqrt(expected)
        assert sum(length >= 2 for length in shared) < 15
        assert max(shared) <= 3

    def test_the_order_of_codes_is_unrelated_to_the_order_of_ids(self, start):
        codes = self.codes(start)
        ranks = {code: rank for rank, code in enumerate(sorted(codes))}
        squares = sum((ranks[code] - n) ** 2 for n, code in enumerate(codes))
        spearman = 1 - 6 * squares / (self.count * (self.count**2 - 1))
        assert abs(spearman) < 5 / math.sqrt(self.count - 1)

    def test_the_next_code_is_as_often_smaller_as_larger(self, start):
        codes = self.codes(start)
        rises = sum(one < other for one, other in pairwise(codes))
        # Rises among n random values: mean (n - 1) / 2, variance (n + 1) / 12.
        assert abs(rises - (self.count - 1) / 2) < 5 * math.sqrt((self.count + 1) / 12)

    def test_the_letters_of_the_middle_digits_are_evenly_distributed(self, start):
        codes = self.codes(start)
        expected = self.count / 36
        # Not the lottery, the never-zero first digit, and the last one, which hashids ties to
        # the lottery (100 and 36 share the factor 4): these follow in the next test.
        for place in range(2, len(codes[0]) - 1):
            tally = Counter(code[place] for code in codes)
            chi_square = sum((tally[x] - expected) ** 2 / expected for x in working_alphabet(SPACE))
            assert chi_square < 35 + 5 * math.sqrt(2 * 35), place

    def test_the_letters_at_every_position_are_distributed_as_in_random_numbers(self, start):
        codes = self.codes(start)
        rng = random.Random(start)
        tier = 36 ** (len(codes[0]) - 2)
        strangers = [ORACLE.encode(rng.randrange(tier, 36 * tier)) for _ in codes]
        for place in range(len(codes[0])):
            ours, theirs = (Counter(code[place] for code in some) for some in (codes, strangers))
            chi_square = sum(
                (ours[x] - theirs[x]) ** 2 / (ours[x] + theirs[x]) for x in ours | theirs
            )
            assert chi_square < 35 + 5 * math.sqrt(2 * 35), place


@pytest.mark.parametrize("code", ["a", "A-b_9", "x" * 64, "-", "_", "apis", "read-me"])
def test_a_custom_code_of_safe_characters_is_accepted(code):
    check_custom_code(code, RESERVED_CODES)


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("", "length"),
        ("x" * 65, "length"),
        ("a b", "charset"),
        ("a/b", "charset"),
        ("a+", "charset"),
        ("a\n", "charset"),
        ("é", "charset"),
        ("٣", "charset"),
        ("robots.txt", "charset"),
        ("api", "reserved"),
        ("API", "reserved"),
        ("Well-Known", "reserved"),
    ],
)
def test_a_refused_custom_code_names_the_rule_and_says_why(code, rule):
    with pytest.raises(CodeError) as refused:
        check_custom_code(code, RESERVED_CODES)
    assert refused.value.rule == rule
    assert str(refused.value).endswith(".")


def test_a_caller_chooses_the_reserved_words():
    check_custom_code("api", frozenset())
    with pytest.raises(CodeError):
        check_custom_code("Shop", frozenset({"shop"}))


def test_every_reserved_word_would_otherwise_be_a_valid_code():
    for word in RESERVED_CODES:
        check_custom_code(word, frozenset())
        assert word == word.lower()


@given(ids)
@example(MAX_ID)
@example(229_634)
@example(229_635)
def test_memoised_rounds_give_the_same_codes(id_):
    tier = next(tier for tier in SPACE._tiers if id_ < tier.end)
    number = tier.offset + permute(id_ - tier.start, tier.a, tier.b, tier.rounds)
    assert ORACLE.encode(number) == SPACE.encode(id_) == CodeSpace(SECRET).encode(id_)


@given(st.integers(0, MAX_ID))
def test_a_code_of_a_case_insensitive_domain_gives_back_its_id(id_):
    code = SPACE.encode_folded(id_)
    assert SPACE.decode_folded(code) == id_
    assert SPACE.decode_any(code) is not None
    assert SPACE.decode_any(SPACE.encode(id_)) == id_
    assert set(code) <= set(FOLDED_ALPHABET)
    assert len(code) == len(SPACE.encode(id_)) + 1


@given(st.text())
def test_any_other_text_is_not_a_code_of_a_case_insensitive_domain(text):
    id_ = SPACE.decode_folded(text)
    assert id_ is None or SPACE.encode_folded(id_) == text


def test_made_up_lower_case_codes_pass_as_rarely_as_mixed_case_ones():
    made_up = random.Random(7)
    passed = sum(
        SPACE.decode_folded("".join(made_up.choices(FOLDED_ALPHABET, k=7))) is not None
        for _ in range(200_000)
    )
    assert passed < 200_000 / 9216


def test_codes_of_case_insensitive_domains_are_all_different():
    codes = {SPACE.encode_folded(id_) for id_ in range(20_000)}
    assert len(codes) == 20_000
