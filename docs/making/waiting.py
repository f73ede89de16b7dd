"""Who waits for whom when a small request comes beside a large one: first come, and least remaining work first."""

from __future__ import annotations

from dataclasses import dataclass

from svg import Picture

RUN_MS = 20
_LARGE, _ARRIVALS, _SMALL = 24, (70, 250), 2
_LEFT, _SCALE = 190, 1.02


@dataclass
class Request:
    """Runs that are left, and when it came."""

    name: str
    arrived: int
    runs: int


def schedule(*, small_first: bool) -> list[tuple[int, str]]:
    """One core: (start in ms, request) of every run, oldest request first or least remaining work first."""
    requests = [Request("large", 0, _LARGE), *(Request(f"small {i}", t, _SMALL) for i, t in enumerate(_ARRIVALS, 1))]
    now, runs = 0, []
    while waiting := [request for request in requests if request.runs and request.arrived <= now]:
        chosen = min(waiting, key=lambda request: (request.runs if small_first else 0, request.arrived))
        runs.append((now, chosen.name))
        chosen.runs -= 1
        now += RUN_MS
    return runs


def draw() -> Picture:
    """Draw both orders as rows of runs."""
    picture = Picture(
        860,
        300,
        "A large request of 24 runs, and two small ones that come while it runs. First come, first served: the small "
        "ones wait for all of it. Least remaining work first: they wait for the run in progress.",
    )
    picture.text(24, 34, "One queue: a small request does not wait for somebody's thousand", "title")
    for index, (title, small_first) in enumerate(
        (("first come, first served", False), ("least work left first", True))
    ):
        y = 82 + index * 98
        picture.text(24, y + 18, title, "strong small")
        for start, name in schedule(small_first=small_first):
            small = name != "large"
            picture.box(_LEFT + start * _SCALE, y, RUN_MS * _SCALE - 2, 26, "own" if small else "striped")
        for arrival in _ARRIVALS:
            picture.line(_LEFT + arrival * _SCALE, y - 16, _LEFT + arrival * _SCALE, y - 2, "arrow")
        ends = [max(start for start, name in schedule(small_first=small_first) if name == f"small {i}") for i in (1, 2)]
        waits = [end + RUN_MS - arrival for end, arrival in zip(ends, _ARRIVALS, strict=True)]
        picture.text(_LEFT, y + 46, f"the small ones are answered after {waits[0]} and {waits[1]} ms", "small")
    picture.text(
        24,
        268,
        "an arrow: a small request comes; filled: its runs; striped: runs of the large one; drawn for one core",
        "small soft",
    )
    picture.text(
        24, 286, "measured: ten documents take 52 ms beside ten callers of a thousand each, 31 ms alone", "small soft"
    )
    return picture
