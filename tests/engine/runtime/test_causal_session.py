"""Causal graphs: what comes before the documents is computed once, exactly, and by no other pair's account."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tiny_checkpoints import make_texts
from tiny_decoders import make_decoder

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.runtime import causal_session
from crossrank.engine.runtime.causal_session import CausalSession, open_graph
from crossrank.engine.runtime.reference_pairs import artifact_encoder, encode_pairs
from crossrank.engine.text.encoded import TokenArrays
from crossrank.errors import ArtifactError, InferenceError
from crossrank.models.artifact import Artifact

DOCUMENTS = make_texts(12, seed=4)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    from export_cases import write_pairs

    from crossrank.export import export

    root = tmp_path_factory.mktemp("causal")
    checkpoint = make_decoder(root / "checkpoint", "qwen3", generates=True)
    pairs = write_pairs(root / "pairs.jsonl", queries=2, documents=4)
    options = {"template": "qwen3-reranker", "verification_pairs": pairs, "min_kendall_tau": 0.3}
    return export(checkpoint, root / "artifact", precisions=("fp32", "int8"), **options).artifact


@pytest.fixture
def session(artifact) -> CausalSession:
    opened = Artifact.open(artifact)
    return open_graph(artifact / "fp32.onnx", opened.manifest, threads=1, spin=False)


@pytest.fixture
def runs(monkeypatch):
    """What every run of a session was asked for: tokens of a row, and tokens of the beginning that it was given."""
    seen = []
    original = CausalSession._run

    def counted(self, outputs, tokens, beginning, whole):
        seen.append((tokens.input_ids.shape, next(iter(beginning.values())).shape[2]))
        return original(self, outputs, tokens, beginning, whole)

    monkeypatch.setattr(CausalSession, "_run", counted)
    return seen


def arrays_of(artifact, pairs):
    encoder = artifact_encoder(Artifact.open(artifact))
    encoded = encode_pairs(encoder, pairs)
    return encoder.assemble(encoded, np.arange(len(pairs)), int(encoded.lengths.max()))


def unmarked(arrays):
    return arrays._replace(token_type_ids=np.zeros_like(arrays.token_type_ids))


def test_scores_with_a_shared_beginning_are_those_without(artifact, session):
    arrays = arrays_of(artifact, [(query, text) for query in ("river", "cold water") for text in DOCUMENTS])

    shared, whole = session.run(arrays), session.run(unmarked(arrays))

    assert np.std(whole) > 0.1
    np.testing.assert_allclose(shared, whole, atol=1e-5, rtol=0)


def test_the_beginning_of_a_query_is_computed_once_for_all_runs_of_its_documents(artifact, session, runs):
    arrays = arrays_of(artifact, [("river", text) for text in DOCUMENTS])
    beginning = int(arrays.token_type_ids[0].argmax())

    session.run(arrays)
    session.run(TokenArrays(*(array[3:5] for array in arrays)))

    assert runs[0] == ((1, beginning), 0)
    assert [given for _, given in runs[1:]] == [beginning, beginning]
    assert runs[1][0] == (12, arrays.input_ids.shape[1] - beginning)


def test_rows_of_several_queries_in_one_batch_get_their_own_scores(artifact, session, runs):
    pairs = [(f"query {index % 3}", text) for index, text in enumerate(DOCUMENTS)]
    arrays = arrays_of(artifact, pairs)
    alone = np.concatenate([session.run(TokenArrays(*(array[row : row + 1] for array in arrays))) for row in range(12)])
    runs.clear()

    np.testing.assert_allclose(session.run(arrays), alone, atol=1e-5, rtol=0)
    assert len(runs) == 3, "one run a query; their beginnings were known"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_score_does_not_depend_on_its_call(artifact, precision):
    options = {"precision": precision, "activation": "identity"}
    with ArtifactReranker(artifact, **options) as reranker:
        together = reranker.score("river", DOCUMENTS)
    with ArtifactReranker(artifact, **options) as reranker:
        mixed = reranker.score_pairs([(query, text) for text in DOCUMENTS for query in ("other", "river")])[1::2]
    alone = []
    for text in DOCUMENTS[:3]:
        with ArtifactReranker(artifact, **options) as reranker:
            alone.append(reranker.score("river", [text])[0])
    if precision == "int8":
        np.testing.assert_array_equal(mixed, together)
        np.testing.assert_array_equal(alone, together[:3])
    else:
        np.testing.assert_allclose(mixed, together, atol=1e-5, rtol=0)
        np.testing.assert_allclose(alone, together[:3], atol=1e-5, rtol=0)


def test_beginnings_that_were_used_longest_ago_are_forgotten(artifact, session, runs, monkeypatch):
    arrays = [arrays_of(artifact, [(f"query {index}", "cold water")]) for index in range(3)]
    bytes_a_token = 2 * 2 * 2 * 32 * 4
    room = int(arrays[0].token_type_ids.argmax()) * bytes_a_token
    monkeypatch.setattr(causal_session, "KEPT_BYTES", 2 * room + 100)

    for which in (0, 1, 0, 2, 0, 1):
        session.run(arrays[which])

    assert [given for _, given in runs].count(0) == 4, "0, 1 and 2 once, and 1 again, which 2 took the place of"


def test_one_beginning_larger_than_all_room_is_kept_for_its_documents(artifact, session, runs, monkeypatch):
    monkeypatch.setattr(causal_session, "KEPT_BYTES", 1)
    arrays = arrays_of(artifact, [("river", "cold water")])

    for _ in range(3):
        session.run(arrays)

    assert [given for _, given in runs].count(0) == 1


def test_threads_that_need_the_same_beginning_wait_for_one_of_them(artifact, session, runs):
    arrays = arrays_of(artifact, [("river", text) for text in DOCUMENTS])
    expected = session.run(unmarked(arrays))
    runs.clear()
    found, start = {}, threading.Barrier(6)

    def score(number):
        start.wait()
        found[number] = session.run(TokenArrays(*(array[2 * number : 2 * number + 2] for array in arrays)))

    threads = [threading.Thread(target=score, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [given for _, given in runs].count(0) == 1
    np.testing.assert_allclose(np.concatenate([found[number] for number in range(6)]), expected, atol=1e-5, rtol=0)


def test_a_beginning_that_failed_is_computed_again(artifact, session, monkeypatch):
    arrays = arrays_of(artifact, [("river", "cold water")])
    original = CausalSession._run
    failures = iter([True])

    def failing(self, outputs, tokens, beginning, whole):
        if next(failures, False):
            raise InferenceError("no memory")
        return original(self, outputs, tokens, beginning, whole)

    monkeypatch.setattr(CausalSession, "_run", failing)
    with pytest.raises(InferenceError, match="no memory"):
        session.run(arrays)

    np.testing.assert_allclose(session.run(arrays), session.run(unmarked(arrays)), atol=1e-5, rtol=0)


def test_a_document_of_nothing_but_padding_tokens_is_computed_with_its_query(artifact, session, runs):
    arrays = arrays_of(artifact, [("river", "cold water")])
    start = int(arrays.token_type_ids.argmax())
    pad = Artifact.open(artifact).manifest.pad_token_id
    ids = arrays.input_ids.copy()
    ids[0, start:] = pad

    session.run(arrays._replace(input_ids=ids))

    assert [shape for shape, _ in runs] == [ids.shape]


def test_a_graph_that_takes_no_beginning_is_refused(tiny_graphs, artifact):
    manifest = Artifact.open(artifact).manifest
    with pytest.raises(ArtifactError, match="of a causal model logits, and keys"):
        open_graph(tiny_graphs / "fp32.onnx", manifest, threads=1, spin=False)
