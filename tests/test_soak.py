"""What the soak of memory says of samples that we know."""

import random

import pytest
from bench.soak import Growth, growth_of


def samples(rise_per_s=0.0, step_at=None, noise=0.05):
    choose = random.Random(1)
    return [
        (
            at,
            140 + rise_per_s * at + (step_at is not None and at > step_at) + choose.gauss(0, noise),
        )
        for at in range(300, 600)
    ]


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (samples(), "flat"),
        (samples(rise_per_s=-0.01), "flat"),
        (samples(rise_per_s=12 / 3600), "growing"),
        (samples(step_at=450), "growing"),
        (samples(noise=10), "not shown to be flat"),
    ],
)
def test_flat_is_said_only_of_what_is_shown_to_be(given, verdict):
    assert growth_of(given).verdict == verdict


def test_a_slope_is_found_with_its_error():
    growth = growth_of(samples(rise_per_s=12 / 3600))
    assert abs(growth.mib_per_hour - 12) <= growth.error < 2


def test_one_high_sample_in_a_part_counts_for_nothing():
    given = samples(noise=0)
    given[280] = (580, 200)
    assert growth_of(given) == Growth(0, 0)
