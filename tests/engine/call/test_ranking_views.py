"""A ranking as people look at it: one line, a notebook's table, a pandas table."""

import dataclasses
import html.parser
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.call.ranking_views import shown_text
from crossrank.engine.call.results import DocumentWindow, RankedDocument, RankResult
from crossrank.engine.text.windows import Windows

DOCUMENTS = ["the river\nheats cold water", {"text": "every reader", "title": "Readers & <b>books</b>"}, "bread " * 900]
QUERY = "who reads documents"


class Cells(html.parser.HTMLParser):
    """Reads a table as a browser would: its rows of cells, and every other tag that has a colour or is unknown."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.after, self.styles = [], set(), "", set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.styles |= set(dict(attributes).get("style", "").split(";"))
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_data(self, data):
        if "small" in self.tags:
            self.after += data
        else:
            self.rows[-1][-1] += data


def ranking_of(*documents, **options):
    items = [RankedDocument(place, 1.5 - place, document, False) for place, document in enumerate(documents)]
    return RankResult(tuple(items), len(items), 0, False, **options)


@pytest.fixture(scope="module")
def ranking(tiny_artifact):
    with ArtifactReranker(tiny_artifact, provider="cpu") as reranker:
        return reranker.rank(QUERY, DOCUMENTS)


def test_rankings_and_their_documents_are_one_line(ranking):
    first = ", ".join(f"[{item.index}] {item.score:.4f}" for item in ranking)
    assert repr(ranking) == f"<RankResult: 3 of 3 documents: {first}>"
    for item in ranking:
        assert repr(item).startswith(f"RankedDocument(index={item.index}, score={item.score}, document=")
        assert "\n" not in repr(item)
        assert len(repr(item)) < 250
    assert repr(ranking_of(*"abcde")) == "<RankResult: 5 of 5 documents: [0] 1.5000, [1] 0.5000, [2] -0.5000, ...>"
    assert repr(ranking_of()) == "<RankResult: 0 of 0 documents>"


def test_the_repr_says_what_has_no_score():
    items = (RankedDocument(1, 0.5, "a", True), RankedDocument(0, None, "b", False, unscored_because="failed"))
    ranking = RankResult(items, 1, 1, False, (0,), "failed")
    assert repr(ranking) == "<RankResult: 2 of 2 documents, 1 unscored (failed): [1] 0.5000, [0] ->"
    assert repr(items[1]) == (
        "RankedDocument(index=0, score=None, document='b', truncated=False, unscored_because='failed')"
    )
    assert "truncated=True" in repr(items[0])


@given(
    st.one_of(
        st.text(),
        st.dictionaries(st.text(), st.text() | st.none() | st.lists(st.lists(st.text(), max_size=4), max_size=4)),
        st.text(max_size=5).map(lambda text: text * 10_000),
    )
)
def test_whatever_the_document_is_its_repr_is_short_and_one_line(document):
    shown = repr(RankedDocument(0, 1.0, document, False))
    assert len(shown.splitlines()) == 1
    assert len(shown) < 300


def test_rerankers_are_one_line_whether_open_or_closed(tiny_artifact):
    reranker = ArtifactReranker(tiny_artifact, provider="cpu", threads=2, max_length=32)
    line = "<ArtifactReranker 'tiny-bert' int8 on cpu, 2 threads, 32 tokens a pair>"
    assert repr(reranker) == line
    assert repr(AsyncArtifactReranker(reranker)) == f"<AsyncArtifactReranker of {line}>"
    reranker.close()
    assert repr(reranker) == line.replace("pair", "pair, closed")
    assert repr(ArtifactReranker.__new__(ArtifactReranker)) == "<ArtifactReranker not loaded>"
    assert "nothing" in repr(AsyncArtifactReranker.__new__(AsyncArtifactReranker))


def test_a_notebook_shows_a_table_in_which_documents_are_text(ranking):
    cells = Cells(ranking._repr_html_())
    assert cells.rows[0] == ["rank", "index", "score", "document"]
    assert [row[:3] for row in cells.rows[1:]] == [
        [str(rank), str(item.index), f"{item.score:.4f}"] for rank, item in enumerate(ranking, start=1)
    ]
    texts = {int(row[1]): row[3] for row in cells.rows[1:]}
    assert texts[0] == "the river heats cold water"
    assert texts[1] == "Readers & <b>books</b>: every reader"
    assert texts[2].endswith("…")
    assert len(texts[2]) < 300
    assert cells.after == "3 of 3 documents"
    assert cells.tags == {"table", "thead", "tbody", "tr", "th", "td", "p", "small"}
    colours = {style for style in cells.styles if "text-align" not in style and "vertical-align" not in style}
    assert colours - {""} == {"color:inherit"}  # those of a light or dark page


def test_a_notebook_shows_the_first_twenty_and_says_how_many_more_there_are():
    cells = Cells(ranking_of(*map(str, range(50)))._repr_html_())
    assert [row[1] for row in cells.rows[1:]] == [str(place) for place in range(20)]
    assert cells.after == "50 of 50 documents, 30 more not shown"
    assert len(Cells(ranking_of()._repr_html_()).rows) == 1


@given(st.text(st.characters()))
def test_no_text_gets_out_of_its_cell(text):
    shown = ranking_of(text, {"text": text, "title": text})._repr_html_()
    shown.encode("utf-8")
    cells = Cells(shown)
    assert [len(row) for row in cells.rows] == [4, 4, 4]
    assert cells.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "small"}


def test_a_notebook_shows_the_best_window_and_the_stage_and_why_there_is_no_score():
    window = DocumentWindow(1, 3, 5, 9)
    items = (
        RankedDocument(0, 2.0, "skip this and that", False, window, 1),
        RankedDocument(1, None, None, False, None, 0, "failed"),
    )
    rows = Cells(RankResult(items, 1, 0, False, (1,), "failed")._repr_html_()).rows
    assert rows[0] == ["rank", "index", "stage", "score", "document"]
    assert rows[1] == ["1", "0", "1", "2.0000", "this"]
    assert rows[2] == ["2", "1", "0", "failed", ""]


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ("a text", "a text"),
        ({"text": "a"}, "a"),
        ({"text": "a", "title": "T", "id": 5}, "T: a"),
        ({"text": "a", "title": "", "id": 5}, "5: a"),
        ({"text": "a", "_id": "x"}, "x: a"),
    ],
)
def test_a_document_is_shown_with_its_title_or_id(document, shown):
    assert shown_text(document) == shown
    assert shown_text({"text": "abcdef", "id": "x"}, (2, 4)) == "x: cd"


COLUMNS = {
    "rank": "int64",
    "index": "int64",
    "score": "float64",
    "truncated": "bool",
    "document": "object",
    "window_start": "Int64",
    "window_end": "Int64",
    "stage": "Int64",
    "unscored_because": "object",
}


def test_pandas_gets_every_column_whatever_the_ranking(ranking, tiny_artifact):
    pd = pytest.importorskip("pandas")
    frame = ranking.to_pandas()
    for one in (frame, ranking_of().to_pandas(), ranking_of("a").to_pandas()):
        assert dict(one.dtypes.astype(str)) == COLUMNS
        assert list(one.index) == list(range(len(one)))
    assert list(frame["rank"]) == [1, 2, 3]
    assert list(frame["score"]) == [item.score for item in ranking]
    assert all(shown is item.document for shown, item in zip(frame["document"], ranking, strict=True))
    assert list(frame["truncated"]) == [item.truncated for item in ranking]
    assert frame[["window_start", "window_end", "stage", "unscored_because"]].isna().all(axis=None)
    given_frame = pd.DataFrame({"text": ["a", "b", "c"]}, index=[7, 7, 9])
    assert list(given_frame.iloc[frame["index"]]["text"]) == ["abc"[item.index] for item in ranking]

    with ArtifactReranker(tiny_artifact, provider="cpu", long_documents=Windows(tokens=8)) as reranker:
        windows = reranker.rank(QUERY, DOCUMENTS)
        late = reranker.rank(QUERY, DOCUMENTS, deadline_ms=0)
    assert list(windows.to_pandas()["window_start"]) == [item.window.start for item in windows]
    assert list(windows.to_pandas()["window_end"]) == [item.window.end for item in windows]
    assert late.to_pandas()["score"].isna().all()
    assert set(late.to_pandas()["unscored_because"]) == {"deadline"}


def test_without_pandas_it_is_said_what_to_install(monkeypatch, ranking):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        ranking.to_pandas()


def test_equal_rankings_stay_equal_and_can_be_copied(ranking):
    assert dataclasses.replace(ranking) == ranking
    assert hash(ranking_of("a")) == hash(ranking_of("a"))
