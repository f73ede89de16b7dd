"""Times and ratios."""

from __future__ import annotations

import pytest

from crossrank.benchmarks.harness.sampling import Effort, call_times, latency, ratio_per_round


def test_ratios_are_taken_round_by_round():
    # The second round was twice as slow for both, which does not change the ratio.
    ratio = ratio_per_round([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert (ratio.median, ratio.smallest, ratio.largest) == (2.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        ratio_per_round([1.0], [1.0, 2.0])


def test_percentiles():
    times = latency([float(value) for value in range(1, 102)])
    assert (times.p50, times.p90, times.p99, times.fastest, times.calls) == (51, 91, 100, 1, 101)


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        (Effort(warm_up=2, fewest=3, most=50, seconds=0), 3),
        (Effort(warm_up=0, fewest=1, most=4, seconds=1e9), 4),
    ],
)
def test_calls_are_bounded_and_warm_ups_do_not_count(effort, expected):
    calls = []
    assert len(call_times(lambda: calls.append(1), effort)) == expected
    assert len(calls) == expected + effort.warm_up
