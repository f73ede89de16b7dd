"""Children of a process that scored: of `fork` and of `spawn`, scoring or not, they work and they end."""

import pytest
from fresh_python import run_python

SETUP = """
import multiprocessing, os, sys, threading
from crossrank.engine.artifact_reranker import ArtifactReranker
DOCUMENTS = ["the river", "", "cold water in winter", "every reader"] * 8
engine = ArtifactReranker(sys.argv[1], provider="cpu", precision=sys.argv[2], threads=int(sys.argv[3]))

def score():
    # A pair alone runs on a session with threads of its own, many run on worker threads.
    return [engine.score("who reads", documents).tobytes().hex() for documents in (DOCUMENTS, DOCUMENTS[:1])]

def end_of(child):
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
"""


@pytest.fixture(params=["1", "3"], ids=["one thread", "three threads"])
def threads(request):
    return request.param


def run(artifact, threads, code, precision="int8"):
    return run_python(SETUP + code, artifact, precision, threads)


def test_a_forked_child_scores_the_same_and_exits_and_the_parent_goes_on(tiny_artifact, threads):
    code = """
before = score()
child = os.fork()
if child == 0:
    assert score() == before
    assert score() == before
    engine.close()
    sys.exit(7)
assert score() == before
assert end_of(child) == 7
assert score() == before
"""
    run(tiny_artifact, threads, code)


def test_a_forked_child_that_never_touches_the_reranker_exits_cleanly(tiny_artifact, threads):
    code = """
score()
for _ in range(3):
    child = os.fork()
    if child == 0:
        sys.exit(5)
    assert end_of(child) == 5
score()
"""
    run(tiny_artifact, threads, code)


def test_a_forked_child_may_drop_or_close_the_reranker_without_scoring(tiny_artifact, threads):
    code = """
score()
for end in ("del engine; import gc; gc.collect()", "engine.close()"):
    child = os.fork()
    if child == 0:
        exec(end)
        sys.exit(3)
    assert end_of(child) == 3
"""
    run(tiny_artifact, threads, code)


def test_what_a_child_closed_without_scoring_says_of_itself(tiny_artifact):
    code = """
score()
child = os.fork()
if child == 0:
    engine.close()
    assert engine.stats().requests == 0
    assert engine.health().closed and not engine.health().ok
    sys.exit(3)
assert end_of(child) == 3
assert engine.stats().requests == 2
"""
    run(tiny_artifact, "1", code)


def test_a_child_forked_while_another_thread_scores_works(tiny_artifact, threads):
    code = """
expected = score()
stop = threading.Event()
def busy():
    while not stop.is_set():
        score()
callers = [threading.Thread(target=busy) for _ in range(2)]
for caller in callers:
    caller.start()
for _ in range(8):
    child = os.fork()
    if child == 0:
        assert score() == expected
        engine.close()
        os._exit(0)
    assert end_of(child) == 0
stop.set()
for caller in callers:
    caller.join()
"""
    run(tiny_artifact, threads, code)


def test_a_child_of_a_child_works(tiny_artifact):
    code = """
expected = score()
child = os.fork()
if child == 0:
    assert score() == expected
    grandchild = os.fork()
    if grandchild == 0:
        assert score() == expected
        sys.exit(4)
    assert end_of(grandchild) == 4
    assert score() == expected
    sys.exit(0)
assert end_of(child) == 0
"""
    run(tiny_artifact, "3", code)


def test_a_reranker_closed_before_the_fork_stays_closed_in_the_child(tiny_artifact):
    code = """
from crossrank import ClosedError
engine.close()
child = os.fork()
if child == 0:
    try:
        score()
    except ClosedError:
        sys.exit(6)
    sys.exit(0)
assert end_of(child) == 6
"""
    run(tiny_artifact, "2", code)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes_score_with_a_reranker_they_are_given(tiny_artifact, tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(
        SETUP.replace("import multiprocessing", "import multiprocessing, concurrent.futures").replace(
            "engine = ", "def make(): return "
        )
        + """
def work(engine, documents):
    return engine.score("who reads", documents).tobytes().hex()

if __name__ == "__main__":
    engine = make()
    expected = work(engine, DOCUMENTS)
    context = multiprocessing.get_context(sys.argv[4])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for found in pool.map(work, [engine] * 4, [DOCUMENTS] * 4):
            assert found == expected
    assert work(engine, DOCUMENTS) == expected
    print("done")
"""
    )
    code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(program)!r}, *sys.argv[1:]]))"
    assert "done" in run_python(code, tiny_artifact, "int8", "2", method)


def test_children_of_multiprocessing_fork_use_the_inherited_reranker(tiny_artifact):
    code = """
expected = score()
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
children = [context.Process(target=lambda: queue.put(score())) for _ in range(2)]
for child in children:
    child.start()
assert [queue.get(), queue.get()] == [expected] * 2
for child in children:
    child.join(60)
    assert child.exitcode == 0
"""
    run(tiny_artifact, "2", code)


def test_an_iterator_of_the_parent_ends_in_a_forked_child(tiny_artifact, threads):
    code = """
from crossrank.errors import ClosedError
stream = engine.iter_rank("who", [f"the river {place}" for place in range(500)])
next(stream)
child = os.fork()
if child == 0:
    try:
        list(stream)
    except ClosedError as error:
        assert "before the fork" in str(error)
        sys.exit(3)
assert end_of(child) == 3
assert list(stream)[-1].scored == 500
"""
    run(tiny_artifact, threads, code)
