"""Cascades and windows on the command line."""

import json
import sys

import pytest

from crossrank import Cascade, Windows
from crossrank.cascade_file import read_stages
from crossrank.engine.artifact_reranker import ArtifactReranker

LONG = "cold water " * 20 + "every reader ranks long documents " * 10
DOCUMENTS = ["the river heats cold water", LONG, "bread and butter", "who reads"]
QUERY = "who reads documents"


@pytest.fixture
def rerank(crossrank, tiny_artifact):
    def run(*arguments, model=True):
        model_options = ("-m", tiny_artifact) if model else ()
        return crossrank("rerank", "-q", QUERY, *model_options, *arguments, stdin="\n".join(DOCUMENTS))

    return run


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def test_windows_are_read_and_the_passage_is_shown(rerank, tiny_artifact):
    options = ["--long-documents", "windows", "--window-tokens", 20, "--window-stride", 10, "--max-windows", 9]
    printed = lines(rerank(*options, "--aggregation", "top-mean", "--format", "jsonl"))
    how = Windows(tokens=20, stride=10, max_windows_per_document=9, aggregation="top-mean")
    with ArtifactReranker(tiny_artifact, provider="cpu", long_documents=how) as reranker:
        expected = reranker.rank(QUERY, DOCUMENTS)
    assert [(line["index"], line["score"]) for line in printed] == [(item.index, item.score) for item in expected]
    assert [line["window"]["count"] for line in printed] == [item.window.count for item in expected]
    long = next(line["window"] for line in printed if line["index"] == 1)
    assert long["count"] == 9
    passage = LONG[long["start"] : long["end"]]
    assert len(passage) < 120
    assert any(row.rstrip().endswith(passage.strip()) for row in rerank(*options).stdout.splitlines())


def test_window_options_without_windows_are_wrong_usage(rerank):
    for option in (("--window-tokens", 20), ("--window-stride", 9), ("--max-windows", 9), ("--aggregation", "max")):
        result = rerank(*option)
        assert result.exit_code == 2
        assert option[0] in result.stderr
        assert "--long-documents windows" in result.stderr


@pytest.fixture
def cascade_file(tiny_artifact, tmp_path):
    file = tmp_path / "cascade.toml"
    model = f"[[stage]]\nmodel = {json.dumps(str(tiny_artifact))}\n"
    file.write_text(f"{model}keep = 2\nmax_length = 12\n{model}")
    return file


def test_a_cascade_is_read_from_a_file(rerank, cascade_file):
    printed = lines(rerank("--cascade", cascade_file, "--format", "jsonl", model=False))
    with Cascade.from_toml(cascade_file) as cascade:
        expected = cascade.rank(QUERY, DOCUMENTS)
    assert [(line["index"], line["stage"], line["score"]) for line in printed] == [
        (item.index, item.stage + 1, item.score) for item in expected
    ]
    table = rerank("--cascade", cascade_file, model=False)
    assert table.stdout.splitlines()[0].split() == ["rank", "stage", "score", "document"]
    assert "on 12 tokens for 4 documents" in table.stderr
    assert "on 64 tokens for 2 documents" in table.stderr


def test_the_embedded_models_cascade_is_named_default(rerank):
    printed = lines(rerank("--cascade", "default", "--format", "jsonl", "--threads", 1, model=False))
    assert {line["stage"] for line in printed} == {2}


def test_options_that_a_cascade_sets_itself_are_wrong_usage_beside_it(rerank, cascade_file):
    for arguments in (["--max-length", 12], ["--activation", "sigmoid"], ["--trust-remote-code"]):
        result = rerank("--cascade", cascade_file, *arguments, model=False)
        assert result.exit_code == 2
        assert "do not go with it" in result.stderr
    assert rerank("--cascade", cascade_file).exit_code == 2
    missing = rerank("--cascade", cascade_file.with_name("nothing.toml"), model=False)
    assert missing.exit_code == 2
    assert "nothing.toml" in missing.stderr


def test_tuning_writes_a_cascade_that_rerank_takes(crossrank, rerank, tiny_artifact, tmp_path):
    folder = tmp_path / "collection"
    folder.mkdir()
    texts = [f"{text} {number}" for number in range(5) for text in DOCUMENTS]
    for name, records in (("corpus", texts), ("queries", [QUERY, "cold water"])):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps({"_id": str(index), "text": text}) + "\n" for index, text in enumerate(records))
        )
    files = [tmp_path / name for name in ("cascade.toml", "figures.json")]
    arguments = ["-m", tiny_artifact, "--collection", folder, "--candidates", 16, "--max-lengths", "16,40"]
    options = zip(("--toml", "--json"), files, strict=True)
    result = crossrank(
        "bench",
        "cascade",
        *arguments,
        "--plots",
        tmp_path,
        "--share",
        0.5,
        "--least-overlap",
        0,
        "--confirm",
        1,
        *(value for pair in options for value in pair),
    )
    assert result.exit_code == 0, result.output
    assert "chosen" in result.stdout
    figures = json.loads(files[1].read_text())
    assert figures["collections"][0]["queries"] == 2
    assert (tmp_path / "cascade.png").stat().st_size > 1000
    assert len(read_stages(files[0])) == 2
    assert len(lines(rerank("--cascade", files[0], "--format", "jsonl", model=False))) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        missing = crossrank("bench", "cascade", *arguments, "--plots", tmp_path)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr.startswith("crossrank: plots need matplotlib")
    none = crossrank("bench", "cascade", *arguments[:-1], "6", "--share", 1, "--confirm", 0)
    assert none.exit_code == 1
    assert "no cascade keeps 100%" in none.stderr
    wrong = crossrank("bench", "cascade", *arguments[:-1], "a,b")
    assert wrong.exit_code == 2
