"""The interpreter ends, also with work in flight, and whatever it was doing."""

import pytest
from fresh_python import run_python

SETUP = """
import asyncio, os, sys, threading, time
from crossrank import AsyncReranker, Reranker
DOCUMENTS = ["the river carries cold water " * 8 + str(place) for place in range(20_000)]
def busy(engine):
    engine.score("who reads", DOCUMENTS)
def wait_for_runs(engine):
    while engine.stats().runs < 3:
        time.sleep(0.001)
"""


IN_FLIGHT = {
    "a daemon thread that scores": """
engine = Reranker(sys.argv[1], threads=2)
threading.Thread(target=busy, args=(engine,), daemon=True).start()
wait_for_runs(engine)
""",
    "the same, and the reranker dropped": """
engine = Reranker(sys.argv[1], threads=2)
threading.Thread(target=busy, args=(engine,), daemon=True).start()
wait_for_runs(engine)
del engine
""",
    "tasks nobody waits for": """
async def main():
    engine = AsyncReranker(sys.argv[1], threads=2)
    tasks = [asyncio.create_task(engine.rank("who", DOCUMENTS[:2000])) for _ in range(2)]
    while engine.stats().runs < 3:
        await asyncio.sleep(0.001)
asyncio.run(main())
""",
    "a stream that was left early": """
engine = Reranker(sys.argv[1], threads=2)
stream = engine.iter_rank("who", DOCUMENTS)
next(stream)
""",
    "an event loop that was stopped and not ended": """
engine = AsyncReranker(sys.argv[1], threads=2)
loop = asyncio.new_event_loop()
task = loop.create_task(engine.rank("who", DOCUMENTS))
loop.call_later(0.2, loop.stop)
loop.run_forever()
""",
}


@pytest.mark.parametrize("code", IN_FLIGHT.values(), ids=IN_FLIGHT.keys())
def test_the_interpreter_ends_with_work_in_flight(tiny_artifact, code):
    assert "the end" in run_python(SETUP + code + "print('the end')", tiny_artifact)


def test_an_interrupt_while_waiting_ends_the_program_soon(tiny_artifact):
    code = """
import signal
engine = Reranker(sys.argv[1], threads=2)
def interrupt():
    wait_for_runs(engine)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    busy(engine)
except KeyboardInterrupt:
    print("interrupted")
assert len(engine.score("who", list("abcdefghij"))) == 10
assert engine.stats().pairs < len(DOCUMENTS)
engine.close()
"""
    assert "interrupted" in run_python(SETUP + code, tiny_artifact)
