"""Cascades: which documents reach the next stage, their order, shared models and encodings, refused input."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from fake_runner import FakeRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_artifacts import copy_artifact
from tiny_checkpoints import make_texts

from crossrank import Cascade, InvalidInputError, Reranker, Stage, Windows
from crossrank.cascade_file import default_cascade_file, read_stages, stages_as_toml
from crossrank.engine.runtime import providers
from crossrank.engine.runtime.providers import ProviderResolution
from crossrank.engine.runtime.session import GraphSession
from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import ClosedError, InferenceError, ModelNotFoundError
from crossrank.models.embedded import DEFAULT_CASCADE, DEFAULT_CASCADE_OF_ONE_MODEL, EMBEDDED_MODELS

QUERY = "the river carries"
DOCUMENTS = [text[: 40 + 9 * index] for index, text in enumerate(make_texts(16, seed=4))]
SHORT = 20
BAD = "bad winter"


@pytest.fixture(scope="module")
def model(tiny_artifact):
    with Reranker(tiny_artifact, provider="cpu", precision="int8") as reranker:
        yield reranker


@pytest.fixture(scope="module")
def short(tiny_artifact):
    """The same model on fewer tokens, as a reranker of its own."""
    with Reranker(tiny_artifact, provider="cpu", precision="int8", max_length=SHORT) as reranker:
        yield reranker


def scores_of(reranker, documents):
    return [item.score for item in sorted(reranker.rank(QUERY, documents), key=lambda item: item.index)]


def expected_order(stages, documents):
    """Indices in the order that a cascade must give, from each stage's scores of all documents and its `keep`."""
    alive, tail = list(range(len(documents))), []
    for scores, keep in stages:
        best_first = sorted(alive, key=lambda index: (-scores[index], index))
        promoted, dropped = (best_first, []) if keep is None else (best_first[:keep], best_first[keep:])
        tail = dropped + tail
        alive = promoted
    return alive + tail


DOCUMENT_LISTS = st.lists(st.sampled_from([*DOCUMENTS, "", "?"]), max_size=14)


@given(documents=DOCUMENT_LISTS, keep=st.integers(14, 20), top_k=st.none() | st.integers(0, 15))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cascade_that_keeps_everything_equals_the_full_model(model, documents, keep, top_k):
    cascade = Cascade([Stage(model, keep=keep, max_length=SHORT), Stage(model)])
    full, ranking = model.rank(QUERY, documents, top_k=top_k), cascade.rank(QUERY, documents, top_k=top_k)
    assert [(item.index, item.score, item.truncated) for item in ranking] == [
        (item.index, item.score, item.truncated) for item in full
    ]
    assert (ranking.scored, ranking.truncated_documents) == (full.scored, full.truncated_documents)
    assert [run.scored for run in ranking.stages] == [0, len(documents)]


@given(documents=DOCUMENT_LISTS, keep=st.integers(1, 13), top_k=st.none() | st.integers(0, 15))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_later_stages_rank_above_earlier_ones_and_nothing_is_lost(model, short, documents, keep, top_k):
    cascade = Cascade([Stage(model, keep=keep, max_length=SHORT), Stage(model)])
    ranking = cascade.rank(QUERY, documents, top_k=top_k)
    first, full = scores_of(short, documents), scores_of(model, documents)
    order = expected_order([(first, keep), (full, None)], documents) if keep < len(documents) else None
    order = order or expected_order([(full, None)], documents)
    assert [item.index for item in ranking] == order[:top_k]
    assert ranking.scored == len(documents)
    for rank, item in enumerate(ranking):
        assert item.stage == (1 if rank < keep or keep >= len(documents) else 0)
        assert item.score == (full if item.stage else first)[item.index]
        assert item.document is documents[item.index]


def test_three_stages(model, short):
    cascade = Cascade([Stage(model, keep=9, max_length=SHORT), Stage(short, keep=4), Stage(model)])
    ranking = cascade.rank(QUERY, DOCUMENTS)
    first, full = scores_of(short, DOCUMENTS), scores_of(model, DOCUMENTS)
    assert [item.index for item in ranking] == expected_order([(first, 9), (first, 4), (full, None)], DOCUMENTS)
    assert [item.stage for item in ranking] == [2] * 4 + [1] * 5 + [0] * 7
    assert [run.scored for run in ranking.stages] == [16, 9, 4]
    assert [run.max_length for run in ranking.stages] == [SHORT, SHORT, 64]


def test_the_tokens_of_all_stages_are_told(model, short):
    cascade = Cascade([Stage(model, keep=4, max_length=SHORT), Stage(model)])
    ranking = cascade.rank(QUERY, DOCUMENTS, top_k=1)
    kept = [DOCUMENTS[item.index] for item in cascade.rank(QUERY, DOCUMENTS)[:4]]
    assert ranking.tokens == short.rank(QUERY, DOCUMENTS).tokens + model.rank(QUERY, kept).tokens
    assert cascade.rank(QUERY, DOCUMENTS[:3]).tokens == model.rank(QUERY, DOCUMENTS[:3]).tokens


def test_equal_scores_keep_the_callers_order(model):
    cascade = Cascade([Stage(model, keep=2, max_length=SHORT), Stage(model)])
    ranking = cascade.rank(QUERY, [{"text": "cold water", "id": number} for number in range(5)])
    assert [item.index for item in ranking] == [0, 1, 2, 3, 4]
    assert [item.stage for item in ranking] == [1, 1, 0, 0, 0]


def test_one_model_is_loaded_once_and_documents_are_encoded_once(tiny_artifact, monkeypatch):
    sessions, encoded = [], []
    load, encode = GraphSession.__init__, PairEncoder.encode_documents

    def counted_load(self, *arguments, **options):
        sessions.append(options["threads"])
        load(self, *arguments, **options)

    def counted_encode(self, texts):
        encoded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(GraphSession, "__init__", counted_load)
    monkeypatch.setattr(PairEncoder, "encode_documents", counted_encode)
    stages = [Stage(tiny_artifact, keep=8, max_length=SHORT), Stage(tiny_artifact, keep=4, max_length=40)]
    with Cascade([*stages, Stage(str(tiny_artifact))], provider="cpu", threads=1) as cascade:
        cascade.rank(QUERY, DOCUMENTS)
        assert sessions == [1]
        assert sorted(encoded) == sorted(DOCUMENTS)


def test_a_folder_of_an_embedded_models_name_is_not_taken_for_that_model(tiny_artifact, tmp_path, monkeypatch):
    copy_artifact(tiny_artifact, tmp_path / "default")
    monkeypatch.chdir(tmp_path)
    with Cascade([Stage("default", keep=1), Stage(Path("default"))], provider="cpu", threads=1) as cascade:
        ranking = cascade.rank(QUERY, DOCUMENTS[:2])
        assert [run.model for run in ranking.stages] == ["default", "tiny-bert"]
    with Cascade([Stage("./default", keep=1), Stage(tmp_path / "default")], provider="cpu", threads=1) as cascade:
        assert cascade.rerankers[0] is cascade.rerankers[1]


def test_a_stage_of_another_tokenizer_encodes_only_what_reaches_it(model, short, monkeypatch):
    expected = scores_of(short, DOCUMENTS)
    cascade = Cascade([Stage(model, keep=3), Stage(short)])
    encoded = []
    encode = PairEncoder.encode_documents
    monkeypatch.setattr(
        PairEncoder,
        "encode_documents",
        lambda self, texts: (encoded.append((self.max_length, len(texts))), encode(self, texts))[1],
    )
    ranking = cascade.rank(QUERY, DOCUMENTS)
    assert encoded == [(64, 16), (SHORT, 3)]
    assert all(item.score == expected[item.index] for item in ranking[:3])


def test_prepared_documents_are_accepted(model):
    cascade = Cascade([Stage(model, keep=5, max_length=SHORT), Stage(model)])
    prepared = cascade.prepare(DOCUMENTS)
    assert cascade.rank(QUERY, prepared).documents == cascade.rank(QUERY, DOCUMENTS).documents
    with pytest.raises(InvalidInputError, match="other"):
        Cascade([Stage(model)]).rank(QUERY, Reranker(model._model, max_length=16).prepare(["a"]))


def test_a_stage_of_another_tokenizer_reads_no_more_of_shortened_documents(model, short):
    cascade = Cascade([Stage(model, keep=3), Stage(short)])
    ranking = cascade.rank(QUERY, cascade.prepare(DOCUMENTS).shortened(4).shortened(1000))
    expected = short.rank(QUERY, short.prepare(DOCUMENTS).shortened(4))
    scores = {item.index: (item.score, item.truncated) for item in expected}
    assert [(item.score, item.truncated) for item in ranking[:3]] == [scores[item.index] for item in ranking[:3]]
    assert ranking.truncated_documents == expected.truncated_documents > 0


def test_prepared_documents_fewer_than_a_first_stage_keeps_go_to_a_stage_of_another_tokenizer(model, short):
    cascade = Cascade([Stage(short, keep=4), Stage(model)])
    for documents in (DOCUMENTS[:2], DOCUMENTS):
        prepared = cascade.prepare(documents)
        assert cascade.rank(QUERY, prepared).documents == cascade.rank(QUERY, documents).documents


def test_windows_are_read_by_stages_without_a_length_only(tiny_artifact):
    options = {"provider": "cpu", "precision": "fp32", "long_documents": Windows(tokens=12)}
    with Cascade([Stage(tiny_artifact, keep=4, max_length=SHORT), Stage(tiny_artifact)], **options) as cascade:
        ranking = cascade.rank(QUERY, DOCUMENTS)
    assert all((item.window is None) == (item.stage == 0) for item in ranking)
    assert max(item.window.count for item in ranking if item.window) > 1


def test_a_truncated_query_is_reported(model):
    cascade = Cascade([Stage(model, keep=1, max_length=8), Stage(model)])
    assert cascade.rank("the river heats cold water", ["a", "b"]).query_truncated
    assert not cascade.rank("the river heats cold water", ["a"]).query_truncated


@pytest.fixture
def failing(request, tiny_artifact, monkeypatch):
    """A reranker whose model gives no number for a document that it reads BAD in; or whose run fails ("run fails")."""
    run_fails = getattr(request, "param", None) == "run fails"
    with Reranker(tiny_artifact, provider="cpu", precision="fp32") as plain:
        tokens = plain.loaded_model.encoder.encode_documents([BAD]).ids.tolist()

    class Runner(FakeRunner):
        def outputs(self, arrays):
            outputs = super().outputs(arrays)
            for row, ids in enumerate(arrays.input_ids.tolist()):
                if any(ids[start : start + len(tokens)] == tokens for start in range(len(ids))):
                    if run_fails:
                        raise InferenceError("onnxruntime failed")
                    outputs[row] = np.nan
            return outputs

    monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: Runner(2))
    with Reranker(tiny_artifact, provider="cpu", precision="fp32") as reranker:
        yield reranker


@pytest.mark.parametrize("prepared", [False, True])
def test_a_document_that_a_stage_cannot_score_costs_no_other_its_score(failing, prepared):
    documents = [f"cold water by hand {index}" for index in range(12)]
    documents[3] = f"{BAD} {'by hand ' * 20}"
    documents[8] = f"{'by hand ' * 10} {BAD}"  # read by the last stage alone
    good = [index for index in range(12) if index not in (3, 8)]
    with Cascade([Stage(failing, keep=11, max_length=SHORT), Stage(failing)]) as cascade:
        ranking = cascade.rank(QUERY, cascade.prepare(documents) if prepared else documents)
        top = cascade.rank(QUERY, documents, top_k=4)
    expected = failing.rank(QUERY, [documents[index] for index in good])
    assert [(item.index, item.score) for item in ranking[:10]] == [(good[item.index], item.score) for item in expected]
    assert [(item.index, item.score, item.unscored_because, item.stage) for item in ranking[10:]] == [
        (8, None, "failed", 1),
        (3, None, "failed", 0),
    ]
    assert all(item.document is documents[item.index] for item in ranking)
    assert (ranking.scored, ranking.unscored, ranking.unscored_because) == (10, (8, 3), "failed")
    assert list(ranking.failures) == [3, 8]
    assert all("no number" in reason for reason in ranking.failures.values())
    assert [run.scored for run in ranking.stages] == [11, 10]
    assert (list(top), top.unscored) == (list(ranking[:4]), (8, 3))


def documents_whose_best_is_bad(failing, count):
    """Documents of which the best after a short first stage cannot be scored by the last one; and its index."""
    documents = [f"cold water by hand {index} {'by hand ' * 10}" for index in range(count)]
    best = failing.score_indices(QUERY, failing.prepare(documents), np.arange(count), max_length=SHORT).logits.argmax()
    documents[best] += BAD
    return documents, int(best)


def test_a_last_stage_whose_only_document_has_no_score_leaves_it_unscored(failing):
    documents, bad = documents_whose_best_is_bad(failing, 6)
    with Cascade([Stage(failing, keep=1, max_length=SHORT), Stage(failing)]) as cascade:
        ranking = cascade.rank(QUERY, documents)
    assert sorted(item.index for item in ranking[:5]) == [index for index in range(6) if index != bad]
    assert all(item.stage == 0 and item.score is not None for item in ranking[:5])
    assert (ranking[5].index, ranking[5].score, ranking[5].unscored_because, ranking[5].stage) == (
        bad,
        None,
        "failed",
        1,
    )
    assert (ranking.scored, ranking.unscored, list(ranking.failures)) == (5, (bad,), [bad])
    assert "no number" in ranking.failures[bad]
    assert [run.scored for run in ranking.stages] == [6, 0]


@pytest.mark.parametrize("failing", ["run fails"], indirect=True)
def test_a_stage_whose_runs_all_fail_names_itself_and_its_documents(failing):
    documents, bad = documents_whose_best_is_bad(failing, 6)
    with Cascade([Stage(failing, keep=1, max_length=SHORT), Stage(failing)]) as cascade:
        message = rf"stage 2 of the cascade could not score documents\[{bad}\]: .*onnxruntime failed"
        with pytest.raises(InferenceError, match=message):
            cascade.rank(QUERY, documents)
        with pytest.raises(InferenceError, match=r"stage 2 .* score documents\[0\]: "):
            cascade.rank(QUERY, [BAD])
        with pytest.raises(InferenceError, match=r"stage 1 .* documents\[0\], .*documents\[9\] and 4 more: "):
            cascade.rank(QUERY, [f"{BAD} {index}" for index in range(14)])


def test_documents_are_left_out_where_they_are_not_wanted(model):
    ranking = Cascade([Stage(model, keep=1), Stage(model)]).rank(QUERY, DOCUMENTS, return_documents=False)
    assert {item.document for item in ranking} == {None}


def test_closing_closes_what_was_made_and_nothing_else(model, tiny_artifact):
    cascade = Cascade([Stage(model, keep=1), Stage(tiny_artifact)], provider="cpu")
    cascade.close()
    cascade.close()
    with pytest.raises(ClosedError):
        cascade.rank(QUERY, ["a", "b"])
    assert np.isfinite(model.score(QUERY, ["a"])).all()


def test_it_pickles_as_its_stages_and_options(tiny_artifact):
    stages = [Stage(tiny_artifact, keep=4, max_length=SHORT), Stage(tiny_artifact)]
    with (
        Cascade(stages, provider="cpu", precision="int8") as cascade,
        pickle.loads(pickle.dumps(cascade)) as other,
    ):
        assert other.stages == tuple(stages)
        assert other.rank(QUERY, DOCUMENTS).documents == cascade.rank(QUERY, DOCUMENTS).documents


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: [], "one Stage"),
        (lambda model: [model], "one Stage"),
        (Stage, "stages is a Stage"),
        (lambda model: [Stage(model), Stage(model)], "stage 1 of 2 has no keep"),
        (lambda model: [Stage(model, keep=5)], "keep=5 of the last stage"),
        (lambda model: [Stage(model, keep=5, max_length=65), Stage(model)], "stage 1 of the cascade: max_length=65"),
        (lambda model: [Stage(model, keep=5, max_length=4), Stage(model)], "stage 1 of the cascade: max_length=4"),
        (lambda model: [Stage(model, keep=0), Stage(model)], "keep=0"),
        (lambda model: [Stage(model, keep=0.5), Stage(model)], "keep=0.5"),
        (lambda model: [Stage(model, max_length=True)], "max_length=True"),
    ],
)
def test_stages_that_make_no_cascade_are_refused(model, make, message):
    with pytest.raises(InvalidInputError, match=message):
        Cascade(make(model))


def test_a_file_holds_a_cascade(tiny_artifact, tmp_path):
    stages = [Stage(str(tiny_artifact), keep=4, max_length=SHORT), Stage("default")]
    file = tmp_path / "cascade.toml"
    file.write_text(stages_as_toml(stages, "two\nlines"), encoding="utf-8")
    assert file.read_text().startswith("# two\n# lines\n\n[[stage]]\n")
    parsed = read_stages(file)
    assert [(str(stage.model), stage.keep, stage.max_length) for stage in parsed] == [
        (str(tiny_artifact), 4, SHORT),
        ("default", None, None),
    ]
    (tmp_path / "beside").symlink_to(tiny_artifact)
    file.write_text('[[stage]]\nmodel = "beside"\nkeep = 3\nmax_length = 20\n[[stage]]\nmodel = "beside"\n')
    with Cascade.from_toml(str(file), provider="cpu", precision="int8", threads=1) as cascade:
        assert [item.stage for item in cascade.rank(QUERY, DOCUMENTS, top_k=4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected, found"),
        ("stage = 3", "tables and nothing else"),
        ("stage = [3]", "stage 1: a"),
        ("[[stage]]\n[other]\n", "found \\['other'\\]"),
        ('[[stage]]\nkeep = "5"', "keep = '5'"),
        ("[[stage]]\nkeep = true", "keep = True"),
        ("[[stage]]\ntop = 5", "top = 5"),
        ("[[stage]", "is not TOML"),
    ],
)
def test_a_file_that_holds_something_else_is_named(tmp_path, text, message):
    file = tmp_path / "cascade.toml"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_stages(file)
    assert str(file) in str(caught.value)
    with pytest.raises(InvalidInputError, match="cannot read the cascade"):
        Cascade.from_toml(tmp_path / "nothing.toml")


def test_a_stage_with_a_reranker_cannot_be_written_to_a_file(model):
    with pytest.raises(InvalidInputError, match="a name or a path expected"):
        stages_as_toml([Stage(model)])


def test_a_missing_model_is_named():
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        Cascade([Stage("no-such-model")])


NOTES = [f"a note about number {number}" for number in range(3)]
HONEY = "Bees make honey from the nectar of flowers."


def test_the_default_cascade_ends_with_the_default_model_on_whole_documents():
    with Cascade.default(provider="cpu", threads=1) as cascade:
        assert {stage.model for stage in cascade.stages} <= set(EMBEDDED_MODELS)
        assert cascade.stages[-1] == Stage("default")
        assert cascade.stages[0].max_length is not None
        ranking = cascade.rank("what do bees make?", [*NOTES, HONEY], top_k=1)
        assert ranking[0].index == 3
        documents = [*NOTES, *(f"{HONEY} Note {number}." for number in range(cascade.stages[0].keep))]
        ranking = cascade.rank("what do bees make?", documents, top_k=len(documents))
        assert [run.scored for run in ranking.stages][:2] == [len(documents), cascade.stages[0].keep]
        assert {item.index for item in ranking[-3:]} == {0, 1, 2}


@pytest.mark.parametrize(
    ("provider", "precision", "alone"),
    [
        ("cpu", "auto", False),
        ("cpu", "int8", False),
        ("auto", "auto", True),
        ("auto", "int8", True),
        ("cuda", "fp16", True),
        ("cpu", "fp32", True),
        ("cpu", "fp16", True),
    ],
)
def test_the_default_cascade_has_one_model_where_the_small_one_has_no_graph(provider, precision, alone, monkeypatch):
    found = ProviderResolution("cpu" if provider == "cpu" else "cuda", "as if CUDA worked here")
    monkeypatch.setattr(providers, "choose_provider", lambda choice: found)
    file = default_cascade_file(provider, precision)
    assert file == (DEFAULT_CASCADE_OF_ONE_MODEL if alone else DEFAULT_CASCADE)
    stages = read_stages(file)
    assert stages[-1] == Stage("default")
    if alone:
        assert {stage.model for stage in stages} == {"default"}


def test_the_embedded_models_share_encoded_documents(monkeypatch):
    encoded = []
    encode = PairEncoder.encode_documents

    def counted_encode(self, texts):
        encoded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(PairEncoder, "encode_documents", counted_encode)
    stages = [Stage("default-small", keep=2, max_length=32), Stage("default")]
    options = {"provider": "cpu", "precision": "int8", "threads": 1}
    with Cascade(stages, **options) as cascade, Reranker("default", **options) as full:
        ranking = cascade.rank("what do bees make?", [*NOTES, HONEY])
        ours = [text for text in encoded if text in (*NOTES, HONEY)]  # loading encodes reference pairs
        expected = {item.index: item.score for item in full.rank("what do bees make?", [*NOTES, HONEY])}
    assert sorted(ours) == sorted([*NOTES, HONEY])
    assert [item.stage for item in ranking] == [1, 1, 0, 0]
    assert ranking[0].index == 3
    assert all(item.score == expected[item.index] for item in ranking[:2])


def test_a_file_beside_which_a_folder_has_an_embedded_models_name_means_the_embedded_model(tmp_path):
    for name in EMBEDDED_MODELS:
        (tmp_path / name).mkdir()
    file = tmp_path / "cascade.toml"
    file.write_text('[[stage]]\nmodel = "default-small"\nkeep = 3\n[[stage]]\nmodel = "default"\n')
    assert [stage.model for stage in read_stages(file)] == ["default-small", "default"]


def test_a_cascade_and_its_rankings_are_one_line(model, short):
    cascade = Cascade([Stage(short, keep=3), Stage(model, keep=2, max_length=30), Stage(model)])
    assert repr(cascade) == (
        "<Cascade 'tiny-bert' int8 on cpu, 20 tokens a pair keeping 3, then 'tiny-bert' int8 on cpu, 30 tokens a pair "
        "keeping 2, then 'tiny-bert' int8 on cpu, 64 tokens a pair>"
    )
    assert repr(cascade.rank(QUERY, DOCUMENTS)).startswith("<CascadeResult: 16 of 16 documents: [")
    assert repr(Cascade.__new__(Cascade)) == "<Cascade not loaded>"
