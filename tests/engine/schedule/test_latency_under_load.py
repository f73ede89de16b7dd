"""Runs at 70% load, in a simulation without threads or clocks: small requests stay quick, large ones end."""

import numpy as np
import pytest
from fake_runner import COST
from simulated_queue import LENGTH, WORKERS, simulate

SIZES, SHARES = (10, 20, 50, 100), (0.4, 0.3, 0.2, 0.1)


@pytest.fixture(scope="module")
def at_seventy_percent():
    random = np.random.default_rng(5)
    pair = float(COST.seconds(1, LENGTH))
    rate = 0.7 * WORKERS / (pair * np.dot(SIZES, SHARES))
    moments = np.cumsum(random.exponential(1 / rate, size=1500))
    counts = random.choice(SIZES, p=SHARES, size=1500)
    return counts, simulate(list(zip(moments.tolist(), counts.tolist(), strict=True)))


def test_the_99th_percentile_of_small_requests_is_under_four_times_their_time_on_an_idle_machine(at_seventy_percent):
    counts, latencies = at_seventy_percent
    idle = simulate([(0.0, 10)])[0]
    assert np.percentile(latencies[counts == 10], 99) < 4 * idle


def test_large_requests_are_slowed_down_but_not_starved(at_seventy_percent):
    counts, latencies = at_seventy_percent
    idle = simulate([(0.0, 100)])[0]
    assert np.percentile(latencies[counts == 100], 99) < 15 * idle


@pytest.mark.parametrize("neighbours", [1, 3, 10])
def test_ten_documents_behind_calls_of_a_thousand_wait_for_a_few_of_their_runs_only(neighbours):
    idle = simulate([(0.0, 10)])[0]
    # They come while the large ones are served, never two of them at once.
    arrivals = [(0.0, 1000)] * neighbours + [(0.1 + 0.3 * index, 10) for index in range(8)]
    small = simulate(arrivals)[neighbours:]
    assert np.median(small) < 3 * idle
    assert small.max() < 6 * idle


@pytest.mark.parametrize("documents", [1, 3])
def test_ten_documents_are_not_kept_out_by_callers_that_ask_for_fewer_again_and_again(documents):
    idle = simulate([(0.0, 10)])[0]
    arrivals = [(0.0, documents)] * 4 + [(0.1 + 0.3 * index, 10) for index in range(8)]
    ten = simulate(arrivals, repeated=4, until=3.0)[4:]
    assert np.median(ten) < 3 * idle
    assert ten.max() < 6 * idle
