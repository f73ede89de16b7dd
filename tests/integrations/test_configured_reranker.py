"""A reranker by its configuration: it travels as that, is loaded once and late, and is never another than it says."""

import asyncio
import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from adapter_cases import MODEL, QUERY, TEXTS
from pydantic import ValidationError

from crossrank import Cascade, ModelNotFoundError, Reranker, Stage
from crossrank.integrations import configured_reranker
from crossrank.integrations.configured_reranker import ConfiguredReranker
from crossrank.models.embedded import embedded_artifact


@pytest.fixture
def loads(monkeypatch):
    """The options of every reranker that is loaded."""
    loaded = []

    class Counted(Reranker):
        def __init__(self, **options):
            loaded.append(options)
            super().__init__(**options)

    monkeypatch.setattr(configured_reranker, "Reranker", Counted)
    return loaded


def ranked(ranking):
    return [(item.index, item.score) for item in ranking]


def test_it_is_loaded_at_the_first_call_and_once_for_all_threads(loads, logits):
    configured = ConfiguredReranker(model=MODEL)
    assert loads == []
    with ThreadPoolExecutor(8) as pool:
        rankings = list(pool.map(lambda _: ranked(configured.rank(QUERY, TEXTS)), range(8)))
    assert rankings == [logits] * 8
    assert len(loads) == 1
    configured.close()


def test_a_model_that_does_not_exist_is_refused_when_it_is_loaded():
    configured = ConfiguredReranker(model="no-such-model")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        configured.rank(QUERY, TEXTS)


def test_options_reach_the_reranker():
    options = {
        "precision": "int8",
        "threads": 1,
        "max_length": 64,
        "activation": "sigmoid",
        "long_documents": "windows",
    }
    configured = ConfiguredReranker(model=MODEL, **options)
    info = configured.ready().info()
    assert {name: getattr(info, name) for name in ("precision", "threads", "max_length", "activation")} == {
        name: options[name] for name in ("precision", "threads", "max_length", "activation")
    }
    assert info.long_documents != "truncate"
    assert info.model == MODEL
    configured.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precison": "int8"}, "precison"),
        ({"precision": "int4"}, "precision"),
        ({"threads": 0}, "threads=0"),
        ({"max_length": -1}, "max_length=-1"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"reranker": "default"}, "reranker"),
        ({"reranker": Cascade.__new__(Cascade), "precision": "int8"}, "reranker= together with precision"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused_at_once(options, message):
    with pytest.raises(ValidationError, match=message):
        ConfiguredReranker(**options)


@pytest.mark.parametrize(
    "travel",
    [
        lambda one: pickle.loads(pickle.dumps(one)),
        copy.deepcopy,
        lambda one: ConfiguredReranker(**one.model_dump()),
        lambda one: ConfiguredReranker.model_validate_json(one.model_dump_json()),
    ],
    ids=["pickle", "deep copy", "dictionary", "JSON"],
)
def test_it_travels_as_its_configuration_and_scores_the_same(travel, loads, logits):
    configured = ConfiguredReranker(model=MODEL, threads=1)
    configured.ready()
    arrived = travel(configured)
    assert arrived == configured
    assert len(loads) == 1
    assert ranked(arrived.rank(QUERY, TEXTS)) == logits
    assert len(loads) == 2
    configured.close()
    arrived.close()


def test_a_copy_with_another_model_ranks_with_that():
    configured = ConfiguredReranker(model=MODEL)
    other = configured.model_copy(update={"model": "default"})
    assert [one.ready().info().model for one in (configured, other)] == [MODEL, "default"]
    configured.model = "default"
    assert configured.ready().info().model == "default"
    configured.close()


@pytest.mark.parametrize(
    ("options", "name", "wrong", "message"),
    [
        ({}, "threads", 0, "threads=0"),
        ({"max_length": 64}, "max_length", -1, "max_length=-1"),
        ({}, "precision", "int4", "precision"),
        ({}, "model", "", "model"),
        ({"precision": "int8"}, "reranker", Cascade.__new__(Cascade), "reranker= together with precision"),
        ({"reranker": Cascade.__new__(Cascade)}, "model", MODEL, "reranker= together with model"),
    ],
    ids=str,
)
def test_what_is_refused_when_it_is_assigned_leaves_everything_as_it_was(options, name, wrong, message):
    configured = ConfiguredReranker(**options)
    with pytest.raises(ValidationError, match=message):
        setattr(configured, name, wrong)
    assert configured == ConfiguredReranker(**options)
    assert configured.model_fields_set == set(options)


def test_a_loaded_reranker_is_used_and_stays_open_but_cannot_be_written_as_data(logits):
    with Reranker(MODEL) as reranker:
        configured = ConfiguredReranker(reranker=reranker)
        assert configured.ready() is reranker
        assert ranked(configured.rank(QUERY, TEXTS)) == logits
        for write in (configured.model_dump, configured.model_dump_json, configured.options):
            with pytest.raises(ValueError, match="was given as a loaded reranker, which cannot be written as data"):
                write()
        arrived = pickle.loads(pickle.dumps(configured))
        assert ranked(arrived.rank(QUERY, TEXTS)) == logits
        arrived.reranker.close()
        configured.close()
        assert not reranker.health().closed


def test_after_close_the_next_call_loads_it_again(loads, logits):
    configured = ConfiguredReranker(model=MODEL)
    first = configured.ready()
    configured.close()
    assert first.health().closed
    assert ranked(configured.rank(QUERY, TEXTS)) == logits
    assert len(loads) == 2
    configured.close()
    configured.close()


def test_asynchronous_calls_give_the_same(loads, logits):
    configured = ConfiguredReranker(model=MODEL)

    async def main():
        return await asyncio.gather(*(configured.rank_async(QUERY, TEXTS) for _ in range(6)))

    assert [ranked(ranking) for ranking in asyncio.run(main())] == [logits] * 6
    assert len(loads) == 1
    configured.close()


def test_a_cancelled_call_leaves_the_queue():
    with Reranker(MODEL) as reranker:
        configured = ConfiguredReranker(reranker=reranker)

        async def main():
            task = asyncio.create_task(configured.rank_async(QUERY, [f"document {number}" for number in range(4000)]))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await configured.rank_async(QUERY, TEXTS)

        assert len(asyncio.run(main())) == len(TEXTS)
        assert reranker.stats().pairs < 4000


def test_a_cascade_ranks_too_also_beside_an_event_loop():
    with Cascade([Stage(MODEL, keep=3, max_length=32), Stage("default")]) as cascade:
        configured = ConfiguredReranker(reranker=cascade)
        expected = ranked(cascade.rank(QUERY, TEXTS))
        assert ranked(configured.rank(QUERY, TEXTS)) == expected
        assert ranked(asyncio.run(configured.rank_async(QUERY, TEXTS))) == expected


def test_a_folder_named_like_an_embedded_model_stays_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("default").symlink_to(embedded_artifact("default-small"))
    assert ConfiguredReranker(model=Path("default")).ready().info().model == "default-small"
    assert ConfiguredReranker(model="default").ready().info().model == "default"


def test_a_fork_during_the_load_leaves_no_lock_behind(loads):
    configured = ConfiguredReranker(model=MODEL)
    configured.ready()
    held, done = threading.Event(), threading.Event()

    def hold():
        with configured._loaded._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:  # it must not run the tests' own end
        os._exit(0 if len(configured.rank(QUERY, TEXTS)) == len(TEXTS) else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    configured.close()


def test_the_repr_has_what_differs_from_the_defaults():
    assert repr(ConfiguredReranker(model="a", threads=2)) == "ConfiguredReranker(model='a', threads=2)"
    assert repr(ConfiguredReranker()) == "ConfiguredReranker()"
