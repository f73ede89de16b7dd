"""A run queue with simulated workers and a simulated clock."""

import heapq

import numpy as np
from fake_runner import COST, pairs_of

from crossrank.engine.plan.batch_kinds import SinglePairs
from crossrank.engine.plan.planner import plan
from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.request import Terms, new_request
from crossrank.engine.schedule.run_queue import RunQueue

WORKERS, AHEAD = 2, 1
LENGTH = 60


def simulate(arrivals, *, repeated=0, until=0.0):
    """Time from arrival to the last run of each request; arrivals are (time, number of pairs).

    The first `repeated` of them come again as soon as they have ended, before the time `until`.
    """
    arrivals = list(arrivals)
    again = set(range(repeated))
    given = len(arrivals)
    queue = RunQueue(SinglePairs(COST, 4096), RunTimes(COST, WORKERS), WORKERS, lambda _: None)
    events = [(at, 0, index, None) for index, (at, _) in enumerate(arrivals)]
    heapq.heapify(events)
    left = [count for _, count in arrivals]
    ended = [0.0] * len(arrivals)
    handed_out, busy, serial = [], 0, 1_000_000
    while events:
        now, _, index, run = heapq.heappop(events)
        if run is None:
            encoded = pairs_of([LENGTH] * arrivals[index][1])
            batches = plan(encoded.lengths, SinglePairs(COST, 4096), WORKERS)
            queue.add(new_request(index, encoded, batches, 1, Terms(arrival=now)), now)
        else:
            busy -= 1
            for part in run.parts:
                number = part.request.number
                left[number] -= len(part.indices)
                ended[number] = now
                if number in again and not left[number] and now < until:
                    again.add(len(arrivals))
                    heapq.heappush(events, (now, 0, len(arrivals), None))
                    arrivals.append((now, arrivals[number][1]))
                    left.append(arrivals[number][1])
                    ended.append(0.0)
        while len(queue) and len(handed_out) + busy < WORKERS + AHEAD:
            handed_out.append(queue.next_run(now, idle=False))
        while handed_out and busy < WORKERS:
            busy += 1
            serial += 1
            next_run = handed_out.pop(0)
            heapq.heappush(events, (now + next_run.seconds, serial, -1, next_run))
    assert not any(left)
    return (np.array(ended) - np.array([at for at, _ in arrivals]))[:given]
