"""`crossrank rerank`: the order the library gives, printed for people or for programs."""

import dataclasses
import json
import re

import pytest
from rich.cells import cell_len

from crossrank.engine.artifact_reranker import ArtifactReranker

DOCUMENTS = ["the river heats cold water", "every reader ranks long documents", "日本語で", "bread and butter"]
LINES = "\n".join(DOCUMENTS)
QUERY = "who reads documents"


@pytest.fixture
def rerank(crossrank, tiny_artifact):
    """Run `rerank` with the tiny model on documents given as standard input."""

    def run(*arguments, stdin=LINES, query=QUERY):
        return crossrank("rerank", "-q", query, "-m", tiny_artifact, *arguments, stdin=stdin)

    return run


@pytest.fixture
def ranking(tiny_artifact):
    with ArtifactReranker(tiny_artifact, provider="cpu") as reranker:
        return reranker.rank(QUERY, DOCUMENTS)


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def test_jsonl_has_rank_index_score_and_document(rerank, ranking):
    assert lines(rerank("--format", "jsonl")) == [
        {"rank": rank, "index": item.index, "score": item.score, "truncated": False, "document": item.document}
        for rank, item in enumerate(ranking, start=1)
    ]


def test_the_table_shows_rank_score_and_text_and_a_summary_goes_to_standard_error(rerank, ranking):
    result = rerank()
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["rank", "score", "document"]
    assert [row.split(maxsplit=2) for row in map(str.rstrip, rows)] == [
        [str(rank), f"{item.score:.4f}", item.document] for rank, item in enumerate(ranking, start=1)
    ]
    assert "4 of 4 documents" in result.stderr
    assert "tiny-bert int8 on cpu" in result.stderr


WIDE = ["日本語で書かれた長い文書です。" * 20, "every reader ranks long documents " * 20, "short"]


@pytest.mark.parametrize("columns", [24, 60, 133])
def test_on_a_terminal_each_document_takes_one_line_of_its_width(terminal, tiny_artifact, tmp_path, columns):
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(WIDE), encoding="utf-8")
    with ArtifactReranker(tiny_artifact, provider="cpu") as reranker:
        ranking = reranker.rank(QUERY, WIDE)
    shown = terminal(columns, "rerank", "-q", QUERY, "-m", tiny_artifact, path)
    header, *rows = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert "\x1b" not in header + "".join(rows)
    assert header.split() == ["rank", "score", "document"]
    assert len(rows) == len(WIDE)
    assert all(cell_len(row) <= columns for row in rows)
    assert max(cell_len(row) for row in rows) >= columns - 1  # a wide character may not fit into the last column
    for rank, (row, item) in enumerate(zip(rows, ranking, strict=True), start=1):
        number, score, text = row.split(maxsplit=2)
        assert (number, score) == (str(rank), f"{item.score:.4f}")
        assert (
            text == item.document
            if item.document == "short"
            else item.document.startswith(text.removesuffix("…").rstrip())
        )
        assert text.endswith("…") == (item.document != "short")


def test_on_a_terminal_too_narrow_for_anything_the_numbers_stay(terminal, tiny_artifact, tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(WIDE), encoding="utf-8")
    shown = terminal(5, "rerank", "-q", QUERY, "-m", tiny_artifact, path)
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["1", "2", "3"]


def test_a_pipe_gets_whole_texts_between_tabs(shell, tiny_artifact, tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("\n".join([*WIDE, "a\ttab and  spaces"]), encoding="utf-8")
    with ArtifactReranker(tiny_artifact, provider="cpu") as reranker:
        ranking = reranker.rank(QUERY, [*WIDE, "a\ttab and  spaces"])
    arguments = ("rerank", "-q", QUERY, "-m", tiny_artifact, path)
    shown = shell(*arguments, env={"COLUMNS": "20", "FORCE_COLOR": "1", "PYTHONIOENCODING": "utf-8"}, encoding="utf-8")
    assert [line.split("\t") for line in shown.stdout.splitlines()] == [
        ["rank", "score", "document"],
        *([str(rank), f"{item.score:.4f}", " ".join(item.document.split())] for rank, item in enumerate(ranking, 1)),
    ]
    ascii_only = shell(*arguments, env={"PYTHONIOENCODING": "ascii"})
    assert ascii_only.returncode == 0
    assert "every reader ranks" in ascii_only.stdout


def test_a_document_that_cannot_be_scored_is_in_the_table_and_the_reason_beside_it(rerank, monkeypatch, ranking):
    one, *others = ranking
    failed = dataclasses.replace(one, score=None, unscored_because="failed")
    result = dataclasses.replace(
        ranking, documents=(*others, failed), unscored=(one.index,), failures={one.index: "no number"}
    )
    monkeypatch.setattr(ArtifactReranker, "rank", lambda *_, **__: result)
    printed = rerank()
    assert printed.exit_code == 0
    assert printed.stdout.splitlines()[-1].split("\t")[:2] == [str(len(ranking)), "-"]
    assert f"documents[{one.index}] has no score: no number" in printed.stderr


@pytest.mark.parametrize(("top_k", "shown"), [(0, 0), (1, 1), (4, 4), (99, 4)])
def test_top_k_bounds_what_is_printed(rerank, ranking, top_k, shown):
    printed = lines(rerank("-k", top_k, "--format", "jsonl"))
    assert [line["index"] for line in printed] == [item.index for item in ranking][:shown]


def test_ten_are_printed_by_default(rerank):
    result = rerank("--format", "jsonl", stdin="\n".join(f"document {index}" for index in range(15)))
    assert len(lines(result)) == 10


def test_a_file_is_read_as_standard_input_is(rerank, tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(DOCUMENTS), encoding="utf-8")
    expected = rerank("--format", "jsonl").stdout
    assert rerank("--format", "jsonl", path, stdin="ignored").stdout == expected
    assert rerank("--format", "jsonl", "-").stdout == expected


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_only_line_feeds_end_lines_and_blank_ones_are_skipped(rerank, ending):
    text = "first\u2028still first", "second\x0cstill second", "", "   ", "third"
    printed = lines(rerank("--format", "jsonl", stdin=ending.join(text) + ending))
    by_index = sorted(printed, key=lambda line: line["index"])
    assert [line["document"] for line in by_index] == ["first\u2028still first", "second\x0cstill second", "third"]
    assert [line["index"] for line in by_index] == [0, 1, 2]


@pytest.mark.parametrize("stdin", ["", "\n\n", "\ufeff"])
def test_no_documents_give_an_empty_ranking(rerank, stdin):
    assert lines(rerank("--format", "jsonl", stdin=stdin)) == []
    table = rerank(stdin=stdin)
    assert table.exit_code == 0
    assert "0 of 0 documents" in table.stderr


RECORDS = [
    {"text": "the river", "id": 7, "nested": {"a": [1, 2.5, None, True]}, "größe": "Zürich"},
    {"id": "x", "text": "every reader", "text2": "y"},
]


@pytest.mark.parametrize("how", ["a .jsonl file", "a .ndjson file", "option", "the first line"])
def test_jsonl_documents_are_kept_whole(rerank, tmp_path, how):
    text = "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    arguments = ["--format", "jsonl"]
    if how.startswith("a "):
        path = tmp_path / f"documents{how.split()[1]}"
        path.write_text(text, encoding="utf-8")
        result = rerank(*arguments, path)
    else:
        result = rerank(*arguments, *(["--input-format", "jsonl"] if how == "option" else []), stdin=text)
    printed = {line["index"]: line["document"] for line in lines(result)}
    assert printed == dict(enumerate(RECORDS))
    assert "größe" in result.stdout


def test_json_is_text_where_lines_are_asked_for_or_there_is_no_text_field(rerank):
    printed = lines(rerank("--format", "jsonl", "--input-format", "lines", stdin='{"text": "a"}\n'))
    assert printed[0]["document"] == '{"text": "a"}'
    other = lines(rerank("--format", "jsonl", stdin='{"body": "a"}\n[1]\n'))
    assert {line["document"] for line in other} == {'{"body": "a"}', "[1]"}


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"text": "cold water", "title": "Rivers"}, "Rivers: cold water"),
        ({"text": "cold water", "id": 7}, "7: cold water"),
        ({"text": "cold\n \twater"}, "cold water"),
        ({"text": "[bold]cold[/bold] :smile: [/x]"}, "[bold]cold[/bold] :smile: [/x]"),
        ({"text": "a\x1b[31mred\x07"}, "a\ufffd[31mred\ufffd"),
        ({"text": "a\ud800b"}, "a\ufffdb"),
        ({"text": "\u00fc\u0308 \U0001f469\u200d\U0001f680"}, "\u00fc\u0308 \U0001f469\u200d\U0001f680"),
    ],
)
def test_the_table_labels_documents_and_nothing_in_them_commands_the_terminal(rerank, record, shown):
    result = rerank(stdin=json.dumps(record))
    assert result.exit_code == 0, result.exception
    assert result.stdout.splitlines()[1].rstrip().split(maxsplit=2)[2] == shown


def test_lone_surrogates_are_printed_unchanged(rerank):
    result = rerank("--format", "jsonl", stdin='{"text": "a\\ud800b"}\n')
    assert lines(result)[0]["document"] == {"text": "a\ud800b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text"\n', "line 2 is not JSON"),
        (b'{"text": "a"}\n{"body": "b"}\n', "line 2: an object with a string 'text' field expected"),
        (b'{"text": "a"}\n\n{"text": 5}\n', "line 3: an object with a string 'text' field expected"),
        (b'{"text": "a"}\n"b"\n', "line 2: an object"),
        (b'{"text": "a"}\n' + b"[" * 100_000, "line 2 is not JSON"),
        (b'{"text": "a"}\n{"text": "b", "n": ' + b"9" * 5000 + b"}", "line 2 is not JSON"),
        (b"caf\xe9\n", "is not UTF-8"),
        (b"\xff\xfea\x00", "is not UTF-8"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_its_line(rerank, tmp_path, content, message):
    path = tmp_path / "documents.jsonl"
    path.write_bytes(content)
    for result in (rerank(path), rerank("-", "--input-format", "jsonl", stdin=content)):
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_plain_lines_may_look_like_json_that_never_ends(rerank):
    result = rerank("--format", "jsonl", stdin="[" * 100_000 + "\n")
    assert len(lines(result)) == 1


def test_a_missing_file_is_named(rerank, tmp_path):
    for path in (tmp_path / "nothing.txt", tmp_path):
        result = rerank(path)
        assert result.exit_code == 1
        assert str(path) in result.stderr


def test_options_reach_the_reranker(rerank, ranking):
    fp32 = lines(rerank("--format", "jsonl", "--precision", "fp32", "--provider", "cpu", "--threads", 1))
    assert {line["score"] for line in fp32} != {item.score for item in ranking}
    sigmoid = lines(rerank("--format", "jsonl", "--activation", "sigmoid"))
    assert all(0 < line["score"] < 1 for line in sigmoid)
    short = rerank("--max-length", 8)
    assert "documents were cut to the model's length" in short.stderr


def test_truncation_is_reported_in_both_formats(rerank):
    long = "the river " * 60
    for form in ("table", "jsonl"):
        one = rerank("--format", form, stdin=f"{long}\nshort\n")
        assert "1 document was cut to the model's length" in one.stderr
        assert "query" not in one.stderr
        query = rerank("--format", form, query=long, stdin="short\n")
        assert "the query was cut" in query.stderr
    printed = lines(rerank("--format", "jsonl", stdin=f"{long}\nshort\n"))
    assert {line["index"]: line["truncated"] for line in printed} == {0: True, 1: False}


def test_what_does_not_fit_the_model_is_wrong_usage_and_what_is_missing_a_failure(rerank, crossrank):
    assert rerank("--max-length", 65).exit_code == 2
    assert rerank("--precision", "fp16").exit_code == 1
    cuda = rerank("--provider", "cuda")
    assert cuda.exit_code == 1
    assert "crossrank[gpu]" in cuda.stderr
    missing = crossrank("rerank", "-q", "who", "-m", "no-such-model", stdin="a\n")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no-such-model" in missing.stderr


def test_an_empty_query_is_scored(rerank):
    assert len(lines(rerank("--format", "jsonl", query=""))) == 4
