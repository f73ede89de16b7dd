"""`crossrank report`: one page that says what an artifact is, what was verified, and how long calls take here."""

import re
import shutil
from html.parser import HTMLParser

import pytest
from tiny_artifacts import copy_artifact, rewrite_manifest
from typer.testing import CliRunner

from crossrank.benchmarks.report.content import make_report
from crossrank.benchmarks.report.page import html_page
from crossrank.cli.app import app
from crossrank.models.artifact import Artifact

VOID = {"meta", "br", "img", "path", "use", "rect", "line"}


class Page(HTMLParser):
    """Text, elements and whatever a browser would fetch; fails where an element is not closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.fetched = [], [], [], []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.fetched += [value for name, value in attributes if name in {"src", "href", "xlink:href", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(tag)
        self.fetched += [value for name, value in attributes if name in {"src", "href", "xlink:href", "data"}]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def crossrank():
    """A function that runs the program."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def report(tiny_artifact):
    """Of the tiny artifact, with times of a few calls."""
    return make_report(tiny_artifact, command="crossrank report tiny", seconds=0, top_ks=(1, 3))


def test_the_page_says_what_the_artifact_is_and_what_was_verified(report):
    page = Page(html_page(report))
    manifest = report.manifest
    assert report.passed
    assert f"the scores of {len(manifest.reference_pairs)} reference pairs agree with the recorded ones" in page.text
    for graph in manifest.graphs:
        assert f"{graph.file} ({graph.precision})" in page.text
        assert f"{graph.fidelity.max_abs_logit_difference:.2g}" in page.text
    for record in manifest.files:
        assert record.sha256 in page.text
    for pair in manifest.reference_pairs:
        assert " ".join(pair.query.split()) in page.text
    assert dict(report.run.rows())["processor"] in page.text
    assert report.run.date in page.text
    assert "crossrank report tiny" in page.text


def test_every_combination_is_timed_and_drawn(report):
    precisions = [graph.precision for graph in report.manifest.graphs if "cpu" in graph.providers]
    assert {(cell.precision, cell.top_k) for cell in report.latency} == {(p, k) for p in precisions for k in (1, 3)}
    page = Page(html_page(report))
    assert page.elements.count("svg") == 2
    assert "Time of a call" in page.text


def test_the_page_loads_and_runs_nothing(report):
    text = html_page(report)
    page = Page(text)
    assert "script" not in page.elements
    assert [target for target in page.fetched if not target.startswith("#")] == []
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_the_plots_have_the_text_colour_and_no_other(report):
    plots = "".join(re.findall(r"<svg.*?</svg>", html_page(report), re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", plots)) <= {"#808080"}
    assert "currentColor" in plots


def test_the_same_report_is_the_same_page(report):
    assert html_page(report) == html_page(report)


def test_what_comes_from_the_artifact_is_text_and_not_part_of_the_page(tiny_artifact, tmp_path):
    folder = copy_artifact(tiny_artifact, tmp_path / "copy", name="<script>alert(1)</script>")
    page = Page(html_page(make_report(folder, command="crossrank report '<b>'", seconds=None)))
    assert "script" not in page.elements
    assert "b" not in page.elements
    assert "<script>alert(1)</script>" in page.text


def test_without_times_it_says_so(crossrank, tiny_artifact, tmp_path):
    result = crossrank("report", tiny_artifact, "--output", tmp_path / "page.html", "--no-latency")
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Not measured: not asked for." in page.text
    assert "svg" not in page.elements


def test_scores_that_differ_are_shown_and_end_with_1(crossrank, tiny_artifact, tmp_path):
    graphs = [graph.model_dump(mode="json") for graph in Artifact.open(tiny_artifact).manifest.graphs]
    for graph in graphs:
        graph["reference_logits"] = [logit + 5 for logit in graph["reference_logits"]]
    folder = copy_artifact(tiny_artifact, tmp_path / "copy", graphs=graphs)
    result = crossrank("report", folder, "--output", tmp_path / "page.html", "--no-latency")
    assert result.exit_code == 1
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "reference pairs DIFFER from the recorded ones" in page.text


def test_the_page_never_goes_into_the_artifact_by_itself(crossrank, tiny_artifact, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_artifact, tmp_path / "copy")
    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    result = crossrank("report", ".", "--no-latency")
    assert result.exit_code == 2
    assert "--output" in result.stderr
    assert sorted(folder.iterdir()) == before
    monkeypatch.chdir(tmp_path)
    assert crossrank("report", "copy/../copy/.", "--no-latency").exit_code == 0
    page = (tmp_path / "copy.html").read_text(encoding="utf-8")
    precisions = {graph.precision for graph in Artifact.open(folder).manifest.graphs}
    assert ("fp16 was computed" in page) == ("fp16" in precisions)


def test_a_time_for_calls_that_are_not_timed_is_refused(crossrank, tiny_artifact, tmp_path):
    result = crossrank("report", tiny_artifact, "-o", tmp_path / "page.html", "--no-latency", "--seconds", "1")
    assert result.exit_code == 2
    assert "--seconds 1 together with --no-latency" in result.stderr


def test_a_damaged_artifact_gives_no_page(crossrank, tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact, tmp_path / "copy")
    with (folder / "fp32.onnx").open("ab") as file:
        file.write(b"x")
    result = crossrank("report", folder, "--output", tmp_path / "page.html", "--no-latency")
    assert result.exit_code == 1
    assert "fp32.onnx" in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_without_matplotlib_it_says_what_to_install(crossrank, tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    result = crossrank("report", tiny_artifact, "--output", tmp_path / "page.html")
    assert result.exit_code == 1
    assert "crossrank[bench]" in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_provider_without_a_graph_is_not_timed(tiny_artifact, tmp_path):
    rewrite_manifest(folder := shutil.copytree(tiny_artifact, tmp_path / "copy"))
    graphs = [
        graph.model_dump(mode="json") | {"providers": ["cuda"]} for graph in Artifact.open(folder).manifest.graphs
    ]
    rewrite_manifest(folder, graphs=graphs)
    report = make_report(folder, command="", seconds=0)
    assert report.latency == ()
    assert report.not_timed == "the artifact has no graph for cpu"
