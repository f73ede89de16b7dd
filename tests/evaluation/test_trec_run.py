"""Run files: what is written is what is read, by us and by tools that order by score alone."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.errors import InvalidInputError
from crossrank.evaluation import read_run, write_run

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Z", "C")), min_size=1)
SCORES = st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=8).map(
    lambda own: sorted(own, reverse=True)
)


@given(st.dictionaries(NAMES, SCORES, min_size=1, max_size=4))
def test_a_run_is_read_as_it_was_written_by_rank_and_by_score(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("runs") / "new" / "x.trec"
    rankings = {query: [(f"d{7 * i % 8}", value) for i, value in enumerate(own)] for query, own in scores.items()}
    write_run(path, rankings, tag="mine")
    expected = {query: tuple(name for name, _ in own) for query, own in rankings.items()}
    assert read_run(path) == expected
    by_score: dict[str, list[tuple[np.float32, str]]] = {}
    for query, _, name, _, score, _ in (line.split() for line in path.read_text(encoding="utf-8").splitlines()):
        by_score.setdefault(query, []).append((np.float32(score), name))
    assert {query: tuple(name for _, name in sorted(own, reverse=True)) for query, own in by_score.items()} == expected
    assert all(len({score for score, _ in own}) == len(own) for own in by_score.values()), "scores tie"


def test_scores_without_ties_are_written_as_they_are(tmp_path):
    path = tmp_path / "x.trec"
    scores = [float(np.float32(value)) for value in (3.25, 0.1, -7.5)]
    write_run(path, {"q": list(zip("abc", scores, strict=True))})
    assert [np.float32(row.score) for row in ir_measures.read_trec_run(str(path))] == [
        np.float32(value) for value in scores
    ]


@pytest.mark.parametrize(("query", "document", "tag"), [("a b", "d", "t"), ("q", "", "t"), ("q", "d", "t\n")])
def test_names_with_blanks_are_refused(tmp_path, query, document, tag):
    with pytest.raises(InvalidInputError, match="names without blanks"):
        write_run(tmp_path / "x.trec", {query: [(document, 1.0)]}, tag=tag)
    assert not (tmp_path / "x.trec").exists()


def test_a_run_that_is_missing_is_refused_by_its_path(tmp_path):
    with pytest.raises(InvalidInputError, match=r"no\.trec is not there"):
        read_run(tmp_path / "no.trec")


def test_a_run_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.trec"
    write_run(path, {"q": [("d", 1.0)]})
    before = path.read_text()
    write_text = Path.write_text

    def full(self, text, **options):
        write_text(self, text[:5], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_run(path, {"q": [("other", 1.0)]})
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
