"""The recipe of the embedded models, from texts to an artifact: every step by its command, on a small sample."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crossrank.cli.app import app

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "models" / "default" / "recipe"
WAIT = 280


ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def command(script, *arguments):
    return [sys.executable, str(RECIPE / f"{script}.py"), *map(str, arguments)]


def run(script, *arguments, fails=False):
    """Run a step to its end in a process of its own; what it printed."""
    program = command(script, *arguments)
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=WAIT, env=ONE_THREAD)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture
def run_here(monkeypatch, capsys):
    """As `run`, but in this process, where torch is loaded already: that takes longer than a step on a small sample.

    The clock is a second later each time it is read, so a step of training takes a second, on any machine.
    """
    import torch

    monkeypatch.syspath_prepend(RECIPE)
    before, threads = set(sys.modules), torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads that wait for each other take far longer

    def run(script, *arguments):
        program, *rest = command(script, *arguments)[1:]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [program, *rest])
            patch.setattr(time, "monotonic", itertools.count().__next__)
            runpy.run_path(program, run_name="__main__")
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)
    for name in {path.stem for path in RECIPE.glob("*.py")} & sys.modules.keys() - before:
        del sys.modules[name]


def state_of(folder):
    """Every file below a folder with its bytes and the time it was written."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A BERT of two layers with random weights and the default model's tokenizer, as a checkpoint to train from."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("start")
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "default" / "checkpoint")
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=1, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Generated texts, prepared and embedded."""
    folder = tmp_path_factory.mktemp("recipe")
    run("sample", folder / "texts.jsonl", "--passages", 80)
    run("prepare", folder / "data", f"json={folder / 'texts.jsonl'}")
    run("embed", folder / "data", "words", "--teacher", "hash")
    return folder / "data"


def records(file):
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_texts_become_documents_queries_and_embeddings_once(data):
    documents, queries = (records(data / f"{name}.jsonl.gz") for name in ("documents", "queries"))
    assert {document["class"] for document in documents} == {0, 1, 2}
    passages = [document["text"] for document in documents if document["class"] == 0]
    sample = [json.loads(line) for line in (data.parent / "texts.jsonl").read_text().splitlines()]
    assert passages == list(dict.fromkeys(record["text"] for record in sample))
    asked = {query["text"]: query["own"] for query in queries if query["kind"] == "question"}
    assert all(asked.keys() & set(record["queries"]) for record in sample if record["text"] in passages)
    vectors = {}
    for name, count in (("documents", len(documents)), ("queries", len(queries))):
        vectors[name] = np.load(data / f"words.{name}.npy").astype(np.float32)
        assert len(vectors[name]) == count
        assert np.allclose(np.linalg.norm(vectors[name], axis=1), 1, atol=1e-2)
    # The teacher counts common words, so a question is nearer to its passage than to most others.
    numbers = [number for number, query in enumerate(queries) if query["own"] >= 0]
    similarities = vectors["queries"][numbers] @ vectors["documents"][: len(passages)].T
    own = similarities[np.arange(len(numbers)), [queries[number]["own"] for number in numbers]]
    assert (own[:, None] >= similarities).mean() > 0.8

    before = state_of(data)
    assert "is prepared" in run("prepare", data, f"json={data.parent / 'texts.jsonl'}")
    assert "exists" in run("embed", data, "words", "--teacher", "hash")
    assert state_of(data) == before
    assert "take another folder" in run("prepare", data, f"json={data.parent / 'texts.jsonl'}", "--most", 5, fails=True)
    assert state_of(data) == before


def test_embedding_goes_on_where_it_was_stopped_and_refuses_embeddings_of_other_texts(data, tmp_path):
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    complete = np.load(folder / "words.queries.npy")
    (folder / "words.queries.npy").unlink()
    np.save(folder / "words.queries.00000000.block.npy", np.full_like(complete, 0.5))  # a block that was finished
    run("embed", folder, "words", "--teacher", "hash")
    assert (np.load(folder / "words.queries.npy") == 0.5).all()
    assert not list(folder.glob("*.block.npy"))
    np.save(folder / "words.documents.npy", complete[:3])
    assert "it is of other texts" in run("embed", folder, "words", "--teacher", "hash", fails=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_stops_goes_on_and_ends_in_a_model_that_ranks(data, start, tmp_path, run_here):
    import torch

    large = tmp_path / "large"
    training = (data, start, large, "--teachers", "words", "--lists", 2, "--documents", 4, "--minutes", 60)
    program = command("train", *training, "--save-minutes", 0.001)
    stopped = subprocess.Popen(program, stdout=subprocess.DEVNULL, env=ONE_THREAD)
    deadline = time.monotonic() + WAIT
    while not (large / "state.pt").exists():
        assert stopped.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stopped.kill()
    stopped.wait(WAIT)

    state = torch.load(large / "state.pt")
    steps = state["progress"]["steps"]
    state["progress"] |= {"seconds": 60 * 60 - 5.0, "pairs": 10**9}
    torch.save(state, large / "state.pt")
    run_here("train", *training)
    progress = torch.load(large / "state.pt")["progress"]
    assert (progress["steps"], progress["seconds"]) == (steps + 5, 60 * 60)
    assert progress["pairs"] > 10**9
    before = state_of(large)
    assert "already" in run_here("train", *training)
    assert state_of(large) == before

    cut, small = tmp_path / "cut", tmp_path / "small"
    run_here("make_small", large / "checkpoint", cut, "--layers", 0, 1, "--hidden", 32)
    before = state_of(cut)
    assert "exists" in run_here("make_small", large / "checkpoint", cut, "--layers", 0, 1, "--hidden", 32)
    assert state_of(cut) == before
    options = ("--no-freeze-words", "--rate", 3e-3, "--warmup", 5, "--lists", 4, "--documents", 4)
    run_here("train", data, cut, small, "--teachers", "words", *options, "--minutes", 200 / 60)
    config = json.loads((small / "checkpoint" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 32)

    figures = json.loads(run_here("evaluate", small / "checkpoint", "--out", tmp_path / "figures.json"))
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    odd, (least, *_) = figures["odd_documents"]["odd_mean"], figures["odd_documents"]["off_topic"]
    assert max(odd["''"], odd["' '"], odd["'.'"]) < least
    ranked = exported_ranking(small / "checkpoint", tmp_path, data)
    assert sorted(item["index"] for item in ranked) == list(range(12))
    assert ranked[-1]["document"]["text"] == "", "an empty document ranks last"


def exported_ranking(checkpoint, folder, data):
    """The scores of a question's passage, of another passage, and of an empty one, by the exported artifact."""
    query = next(query for query in records(data / "queries.jsonl.gz") if query["own"] >= 0)
    passages = [document["text"] for document in records(data / "documents.jsonl.gz") if document["class"] == 0]
    artifact = folder / "artifact"
    exporting = ["export", str(checkpoint), str(artifact), "--precision", "int8", "--activation", "identity"]
    exported = CliRunner().invoke(app, exporting)
    assert exported.exit_code == 0, exported.output
    documents = "".join(json.dumps({"text": text}) + "\n" for text in [*passages[:10], passages[query["own"]], ""])
    arguments = ["rerank", "--model", str(artifact), "--query", query["text"], "--top-k", "12", "--format", "jsonl"]
    result = CliRunner().invoke(app, arguments, input=documents)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]
