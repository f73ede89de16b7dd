"""Verification: its pairs, its bounds, and that it finds graphs that go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_cases import write_pairs
from tiny_checkpoints import MAX_LENGTH

from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import FidelityError, InvalidInputError, UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.export.checkpoint.torch_model import load_torch_model
from crossrank.export.verify.pairs import (
    VerificationQuery,
    all_pairs,
    calibration_feeds,
    choose_reference_pairs,
    fit_queries,
    load_queries,
    split_by_query,
)
from crossrank.export.verify.reference import TorchReference
from crossrank.export.verify.verification import Bounds, check, ignores_other_pairs, run_graph
from crossrank.models.artifact import Artifact
from crossrank.models.manifest import Fidelity


@pytest.fixture(scope="module")
def artifact(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    pairs = write_pairs(folder / "pairs.jsonl")
    export(tiny_checkpoint("bert"), folder / "out", verification_pairs=pairs, min_kendall_tau=0.5)
    return folder / "out"


@pytest.fixture
def encoder(artifact):
    return PairEncoder.load(artifact / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0)


@pytest.fixture
def queries(tmp_path):
    return load_queries(write_pairs(tmp_path / "pairs.jsonl"))


def figures(difference: float, tau: float | None, reference: str = "fp32") -> Fidelity:
    return Fidelity(
        reference=reference,
        queries=4,
        pairs=80,
        max_abs_logit_difference=difference,
        kendall_tau=tau,
        top10_overlap=0.9,
    )


class TestPairs:
    def test_our_own(self):
        queries = load_queries()
        assert len(queries) >= 20
        assert all(len(item.documents) >= 20 for item in queries)

    def test_a_file_of_the_users(self, tmp_path):
        path = tmp_path / "mine.jsonl"
        path.write_text(
            '{"query": "a", "documents": ["b", "c"], "note": "x"}\n\n{"query": "", "documents": ["", "d"]}\n'
        )
        assert load_queries(path) == (VerificationQuery("a", ("b", "c")), VerificationQuery("", ("", "d")))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no verification pairs"),
            ("\n \n", "no verification pairs"),
            ('{"query": "a", "documents": ["b", "c"]}\n{"query"', "line 2: no JSON"),
            ("[1]", "line 1: expected"),
            ('{"documents": ["b", "c"]}', "line 1: expected"),
            ('{"query": "a", "documents": "b"}', "line 1: expected"),
            ('{"query": "a", "documents": ["b"]}', "two or more"),
            ('{"query": "a", "documents": ["b", 3]}', "line 1: expected"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, text, message, tmp_path):
        path = tmp_path / "mine.jsonl"
        path.write_text(text)
        with pytest.raises(InvalidInputError, match=message):
            load_queries(path)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(InvalidInputError, match="cannot read"):
            load_queries(tmp_path / "nowhere.jsonl")

    def test_a_line_may_hold_unusual_line_separators(self, tmp_path):
        path = tmp_path / "mine.jsonl"
        item = {"query": "a\u2028b", "documents": ["c\u0085d", "e"]}
        path.write_text(json.dumps(item, ensure_ascii=False) + "\n", encoding="utf-8")
        assert load_queries(path) == (VerificationQuery("a\u2028b", ("c\u0085d", "e")),)

    def test_queries_without_room_for_a_document_are_shortened(self, encoder):
        long = VerificationQuery("cold water " * 60, ("bread", "butter"))
        short = VerificationQuery("cold water", ("bread", "butter"))
        fitted = fit_queries([long, short], encoder)
        assert fitted[1] == short
        assert long.query.startswith(fitted[0].query)
        assert len(fitted[0].query) > 20
        assert not encoder.encode_query(fitted[0].query).truncated

    def test_splitting_undoes_flattening(self, queries):
        pairs = all_pairs(queries)
        numbers = np.arange(len(pairs), dtype=np.float32)
        split = split_by_query(numbers, queries)
        assert [len(part) for part in split] == [len(item.documents) for item in queries]
        np.testing.assert_array_equal(np.concatenate(split), numbers)

    def test_reference_pairs_span_the_lengths(self, queries):
        pairs = all_pairs(queries)
        lengths = [len(query) + len(document) for query, document in pairs]
        chosen = choose_reference_pairs(queries)
        assert [pairs[index] for index, _ in chosen] == [(pair.query, pair.document) for _, pair in chosen]
        chosen_lengths = [lengths[index] for index, _ in chosen]
        assert (chosen_lengths[0], chosen_lengths[-1], len(chosen_lengths)) == (min(lengths), max(lengths), 8)

    def test_few_pairs_are_all_reference_pairs(self):
        queries = [VerificationQuery("a", ("long document", "b"))]
        assert [index for index, _ in choose_reference_pairs(queries)] == [1, 0]

    def test_calibration_feeds_are_single_unpadded_pairs(self, queries, encoder):
        feeds = calibration_feeds(queries[:2], encoder, {"input_ids": np.int64, "attention_mask": np.int32})
        assert len(feeds) == 16
        for feed in feeds:
            assert list(feed) == ["input_ids", "attention_mask"]
            assert feed["input_ids"].shape[0] == 1
            assert feed["attention_mask"].dtype == np.int32
            assert feed["attention_mask"].all()


class TestBounds:
    @pytest.mark.parametrize(
        ("precision", "fidelity", "holds"),
        [
            ("fp32", figures(1e-4, 1.0, "pytorch"), True),
            ("fp32", figures(1.1e-4, 1.0, "pytorch"), False),
            ("fp32", figures(1.1e-4, 1.0, "self"), False),
            ("int8", figures(0.5, 0.85), True),
            ("int8", figures(0.01, 0.8499), False),
            ("fp16", figures(0.01, 0.99), True),
            ("int8", figures(0.0, None), False),
            ("int8", figures(0.0, 1.0, "self"), True),
            ("int8", figures(0.1, 1.0, "self"), False),
        ],
    )
    def test_what_holds(self, precision, fidelity, holds):
        assert Bounds().holds(precision, fidelity) is holds
        if holds:
            check([(precision, fidelity)], Bounds())
        else:
            with pytest.raises(FidelityError, match="MISSED"):
                check([(precision, fidelity)], Bounds())

    def test_all_figures_are_reported_when_one_misses(self):
        with pytest.raises(FidelityError) as caught:
            check([("fp32", figures(2e-6, 1.0, "pytorch")), ("int8", figures(0.3, 0.8))], Bounds())
        first, second, fix = str(caught.value).splitlines()[1:]
        assert "2e-06" in first
        assert first.endswith("holds")
        assert "tau 0.8," in second
        assert "at least 0.85: MISSED" in second
        assert "--precision fp32)" in fix
        assert "--min-kendall-tau" in fix

    def test_the_fix_keeps_the_precisions_that_hold_and_a_missed_difference_has_none(self):
        good, low = figures(0.0, 0.9), figures(0.3, 0.8)
        with pytest.raises(FidelityError, match=r"--precision fp32,fp16\)"):
            check([("fp32", figures(0.0, 1.0)), ("int8", low), ("fp16", good)], Bounds())
        with pytest.raises(FidelityError) as caught:
            check([("fp32", figures(1.0, 0.9)), ("int8", low)], Bounds())
        assert "--" not in str(caught.value)

    @pytest.mark.parametrize("tau", [1.01, -2, float("nan")])
    def test_bounds_that_cannot_be(self, tau):
        with pytest.raises(InvalidInputError, match="min_kendall_tau"):
            Bounds(min_kendall_tau=tau)


class TestRuns:
    def test_runs_alone_and_in_company_agree(self, artifact, queries):
        advanced = []
        runs = run_graph(artifact, "fp32", queries, advance=lambda done, total: advanced.append((done, total)))
        assert advanced[-1] == (32, 32)
        assert len(runs.others) == 3
        for run in runs.others:
            for alone, other in zip(runs.single, run, strict=True):
                np.testing.assert_allclose(other, alone, atol=1e-5)
        assert runs.milliseconds_per_pair > 0

    def test_int8_is_the_same_to_the_bit_in_a_call_of_its_own(self, artifact, queries):
        runs = run_graph(artifact, "int8", queries)
        assert len(runs.others) == 1
        np.testing.assert_array_equal(np.concatenate(runs.single), np.concatenate(runs.others[0]))

    def test_company_is_ignored_where_scales_are_fixed_and_the_manifest_says_so(self, artifact, queries):
        assert ignores_other_pairs(artifact, "int8", queries, "equal_length")
        assert ignores_other_pairs(artifact, "int8", queries, "packed")
        batching = {graph.precision: graph.batching for graph in Artifact.open(artifact).manifest.graphs}
        assert batching["int8"] == "packed"

    @pytest.mark.parametrize("batching", ["equal_length", "packed"])
    def test_company_that_shows_keeps_pairs_apart(self, batching, artifact, queries, monkeypatch):
        def leaky(session, arrays):
            logits = np.full((len(arrays.input_ids), 1), 0.5, np.float32)
            return logits + np.float32(1e-6) * (len(logits) == 5)

        monkeypatch.setattr("crossrank.engine.runtime.session.GraphSession.run", leaky)
        assert not ignores_other_pairs(artifact, "int8", queries, batching)

    def test_company_of_other_lengths_that_shows_is_seen_where_packing_is_tried(self, artifact, queries, monkeypatch):
        def leaky(session, arrays):
            padding = arrays.attention_mask.size - arrays.attention_mask.sum()
            return np.full((len(arrays.input_ids), 1), 0.5, np.float32) + np.float32(1e-6) * (padding > 0)

        monkeypatch.setattr("crossrank.engine.runtime.session.GraphSession.run", leaky)
        assert ignores_other_pairs(artifact, "int8", queries, "equal_length")
        assert not ignores_other_pairs(artifact, "int8", queries, "packed")

    def test_int8_that_depends_on_the_call_is_an_error(self, artifact, queries, monkeypatch):
        def moved(reranker, single, queries):
            return single + np.float32(1e-6)

        monkeypatch.setattr("crossrank.export.verify.verification._score_calls_of_one", moved)
        with pytest.raises(FidelityError, match="not a bit may change"):
            run_graph(artifact, "int8", queries)

    def test_uneven_batches_are_really_padded(self, artifact, queries, monkeypatch):
        """A graph that mixes padding into its scores must show in the uneven run."""
        from crossrank.engine.runtime.session import GraphSession

        original = GraphSession.run

        def leaky(session, arrays):
            return original(session, arrays) + (1 - arrays.attention_mask).sum(axis=1, keepdims=True).astype(np.float32)

        monkeypatch.setattr(GraphSession, "run", leaky)
        runs = run_graph(artifact, "fp32", queries)
        uneven = runs.others[-1]
        assert max(np.max(np.abs(a - b)) for a, b in zip(runs.single, uneven, strict=True)) > 5

    def test_a_score_that_is_no_number_fails(self, artifact, queries, monkeypatch):
        from crossrank.engine.runtime.session import GraphSession
        from crossrank.errors import InferenceError

        def overflown(session, arrays):
            raise InferenceError("the model gave a score that is no number")

        monkeypatch.setattr(GraphSession, "run", overflown)
        with pytest.raises(FidelityError, match=r"fp32 graph failed.*no number"):
            run_graph(artifact, "fp32", queries)


class TestReference:
    def test_a_tokenizer_that_keeps_the_end_of_documents_is_refused(self, tiny_checkpoint, tmp_path):
        folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
        with pytest.raises(UnsupportedCheckpointError, match=r"truncation_side 'left'.*tokenizer_config\.json"):
            read_checkpoint(folder)

    def test_padded_batches_agree_with_single_pairs(self, tiny_checkpoint, queries):
        checkpoint = read_checkpoint(tiny_checkpoint("roberta"))
        reference = TorchReference(checkpoint, load_torch_model(checkpoint))
        pairs = all_pairs(queries)
        done = []
        single = reference.logits(pairs, advance=lambda part, total: done.append((part, total)))
        assert sorted(done) == [(part, 32) for part in range(1, 33)]
        assert np.std(single) > 0.1
        np.testing.assert_allclose(reference.logits(pairs, batch_size=7), single, atol=1e-4)

    def test_two_labels_give_the_difference(self, tiny_checkpoint, queries):
        folder = tiny_checkpoint("bert", num_labels=2)
        logits = []
        for positive in (0, 1):
            checkpoint = read_checkpoint(folder, positive_label=positive)
            logits.append(TorchReference(checkpoint, load_torch_model(checkpoint)).logits(all_pairs(queries)))
        np.testing.assert_allclose(logits[0], -logits[1])
        assert np.std(logits[0]) > 0.1

    def test_torchs_threads_are_as_they_were(self, tiny_checkpoint, queries):
        import torch

        before = torch.get_num_threads()
        checkpoint = read_checkpoint(tiny_checkpoint("bert"))
        TorchReference(checkpoint, load_torch_model(checkpoint)).logits(all_pairs(queries))
        assert torch.get_num_threads() == before
