"""The recipe's readers: which passages, queries and answers `prepare.py` finds in a small copy of each source."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

PREPARE = Path(__file__).parents[3] / "models" / "default" / "recipe" / "prepare.py"
MADE_HERE = {"keywords", "sentence"}
"""Kinds of queries that `prepare.py` makes of any passage by itself."""


def words(subject, count=30):
    """A sentence of so many words, the first of which are the subject."""
    filling = "flows past the old mill and turns a wheel of oak which drives the stones that grind all the corn of it"
    return " ".join([*subject.split(), *(filling.split() * (count // 10))][:count]) + "."


def defined(*terms):
    """What may be asked for a headword."""
    forms = ("what is {}", "{}", "define {}", "{} meaning", "what does {} mean", "{} definition", "definition of {}")
    return {form.format(term) for term in terms for form in forms}


@dataclass(frozen=True)
class Source:
    """A source to read, and what has to be found.

    Attributes:
        passages: for each passage the texts it may have: readers put headwords in front of some.
        asked: for each passage the queries it may be the answer to.
        unanswered: queries without a passage.
        kind: of the queries.
        all_asked: whether every passage that has queries must get one; else the reader draws some of them.
    """

    passages: list[set[str]]
    asked: list[set[str]]
    kind: str
    unanswered: tuple[str, ...] = ()
    all_asked: bool = True


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".dz" else data)
    return path


def debian(path):
    names = [f"tool{number}" for number in range(12)]
    bodies = [words(f"This program number {number} reads tables and", 40) for number in range(12)]
    stanzas = [
        f"Package: {name}\nDescription-md5: 0123\nDescription-en: reads tables as {name}\n"
        f" {body[:60]}\n .\n {body[60:]}\n"
        for name, body in zip(names, bodies, strict=True)
    ]
    stanzas.append(f"Package: old\nDescription-en: transitional package\n {words('An old name', 40)}\n")
    stanzas.append("Package: brief\nDescription-en: too brief\n Says little.\n")
    write(path, "\n".join(stanzas))
    passages = [{f"{body[:60].strip()} {body[60:].strip()}"} for body in bodies]
    return Source(passages, [{f"reads tables as {name}"} for name in names], "title", all_asked=False)


def wordnet(path):
    meaning = 'sloping land (especially the slope beside a body of water); "they pulled the canoe up on the bank"'
    entries = f"bank\n    n 1: {meaning} [syn:\n         {{bank}}, {{shore}}]\nshort\n    adj 1: not long\n"
    write(path, entries + f"4th\n    n 1: {meaning} and more of the same\n")
    return Source([{meaning, f"bank: {meaning}"}], [defined("bank")], "define")


def foldoc(path):
    text = words("An order of records that is made by exchanging neighbours", 30)
    body = f"   <algorithm> {{{text[:8]}}}{text[8:80]}\n   {text[80:]}\n\n   (1995-02-01)\n\n"
    write(path, f"bubble sort\n\n{body}tiny\n\n   Too short to learn from.\n\n")
    read = f"<algorithm> {text[:8]}{text[8:80]} {text[80:]}".replace("  ", " ")
    return Source([{read, f"bubble sort: {read}"}], [defined("bubble sort")], "define")


def medquad(path):
    first, second, third = (words(f"Part {number} of the answer on asthma", 70) for number in range(3))
    pairs = [("What is asthma?", f"{first} {second}\n {third}"), ("What is a cold?", "Nothing much.")]
    inside = "".join(f"<QAPair><Question>{q}</Question><Answer>{a}</Answer></QAPair>" for q, a in pairs)
    write(path / "collection" / "1.xml", f"<Document><QAPairs>{inside}</QAPairs></Document>")
    write(path / "collection" / "2.xml", "<Document><QAPairs>")
    return Source([{first}, {second}, {third}], [{"What is asthma?"}, set(), set()], "question")


def tldr(path):
    about = "# tar\n\n> Archiving utility.\n> Often used with gzip.\n"
    write(path / "common" / "tar.md", f"{about}\n- Create an archive:\n\n`tar cf {{{{target.tar}}}} {{{{file}}}}`\n")
    write(path / "common" / "empty.md", "# nothing\n\n> Has no examples.\n")
    text = "tar: Archiving utility. Often used with gzip. Create an archive: tar cf target.tar file."
    task = "create an archive"
    return Source([{text}], [{f"how to {task}", f"{task} command line", task, f"command to {task}"}], "howto")


def docs(path):
    text = words("The cmdlet gets the item", 40)
    head = '---\ntitle: "Get-Item"\n---\n# Get-Item\n'
    page = f"{head}\n## Examples\n\n`{text[:10]}`{text[10:]} [see](more.md)\n\n## Notes\nNone.\n"
    write(path / "reference" / "Get-Item.md", page)
    read = " ".join(f"{text[:10]} {text[10:]} see".split())
    return Source([{read}], [{"Examples", "Get-Item Examples"}], "title")


def pubmedqa(path):
    contexts = [words(f"Aim {number} of the study", 30) for number in range(2)]
    write(path, json.dumps({"1": {"QUESTION": "Does  it help?", "CONTEXTS": contexts}}))
    return Source([{context} for context in contexts], [{"Does it help?"}, set()], "question")


def selqa(path):
    first, second = words("The river Nile is long and", 80), words("The river Rhine is cold and", 80)
    record = {"article": "Rivers", "section": "Europe", "candidates": [first, second]}
    asked = [{"question": "how cold is the Rhine", "answers": [1]}, {"question": "who cares", "answers": []}]
    write(path / "train.json", json.dumps([record | question for question in asked]))
    passages = [{part, f"Rivers. {part}"} for part in (first, second)]
    return Source(passages, [set(), {"how cold is the Rhine"}], "question")


def covidqa(path):
    first, second = words("Bats carry viruses which", 80), words("Masks filter droplets which", 80)
    asked = [
        {"question": "what do masks filter?", "answers": [{"text": "filter droplets"}]},
        {"question": "what is not there?", "answers": []},
    ]
    write(path, json.dumps({"data": [{"paragraphs": [{"context": f"{first} {second}", "qas": asked}]}]}))
    return Source([{first}, {second}], [set(), {"what do masks filter?"}], "question")


def factbook(path):
    text = words("a mild climate near the sea and", 30)
    country = {
        "Government": {"Country name": {"conventional short form": {"text": "Arlen"}}},
        "Environment": {"Climate": {"text": f"<b>{text}</b>"}, "Area": {"text": "small"}},
    }
    write(path / "europe" / "ar.json", json.dumps(country))
    write(path / "europe" / "broken.json", "{")
    write(path / "meta.json", json.dumps({"title": "no country"}))
    forms = ("{k} {n}", "{n} {k}", "{k} of {n}", "what is the {k} of {n}", "tell me about {k} in {n}")
    asked = {form.format(k="climate", n="Arlen") for form in forms}
    return Source([{text, f"Arlen: Climate. {text}"}], [asked], "title")


def questions(path):
    write(path, "who built the bridge\n\n  when was  it built \t\n")
    return Source([], [], "asked", unanswered=("who built the bridge", "when was it built"))


def textbooks(path):
    texts = [words(f"Cells of kind {number} have walls and", 40) for number in range(8)]
    meaning = words("the smallest unit of life that can live by itself", 12).rstrip(".")
    sections = "".join(
        f'<section id="s{number}"><title>Walls of kind {number}</title><note id="n"><para id="x">Aside.</para></note>'
        f'<para id="p{number}">{text[:20]}<emphasis>{text[20:30]}</emphasis>{text[30:]}</para></section>'
        for number, text in enumerate(texts)
    )
    entry = f'<definition id="d"><term>cell</term><meaning id="m">{meaning}</meaning></definition>'
    write(path / "m1.cnxml", f"<document><content>{sections}</content><glossary>{entry}</glossary></document>")
    read = [" ".join(f"{text[:20]} {text[20:30]} {text[30:]}".split()) for text in texts]
    return Source(
        [*({text} for text in read), {meaning, f"cell: {meaning}"}],
        [*({f"Walls of kind {number}"} for number in range(8)), defined("cell")],
        "title",
        all_asked=False,
    )


def json_lines(path):
    passages = [words(f"Passage {number} of a file", 30) for number in range(3)]
    asked = [["what is  first?", "and what else?"], [], ["what is last?"]]
    lines = [{"text": f" {text}\n", "queries": queries} for text, queries in zip(passages, asked, strict=True)]
    write(path, "".join(json.dumps(line) + "\n" for line in lines))
    return Source(
        [{text} for text in passages], [{"what is first?", "and what else?"}, set(), {"what is last?"}], "question"
    )


READERS = {
    "debian": (debian, "Translation-en"),
    "wordnet": (wordnet, "wn.dict.dz"),
    "foldoc": (foldoc, "foldoc.dict.dz"),
    "medquad": (medquad, "MedQuAD"),
    "tldr": (tldr, "pages"),
    "docs": (docs, "docs"),
    "pubmedqa": (pubmedqa, "ori_pqal.json"),
    "selqa": (selqa, "selqa"),
    "covidqa": (covidqa, "COVID-QA.json"),
    "factbook": (factbook, "factbook"),
    "questions": (questions, "questions.tsv"),
    "textbooks": (textbooks, "osbooks"),
    "json": (json_lines, "texts.jsonl"),
}


def prepare(out, *sources):
    done = subprocess.run(
        [sys.executable, str(PREPARE), str(out), *sources], check=False, capture_output=True, text=True
    )
    if done.returncode:
        return done.stderr
    found = []
    for name in ("documents", "queries"):
        with gzip.open(out / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found.append([json.loads(line) for line in lines])
    return found


@pytest.mark.parametrize("name", READERS)
def test_a_source_gives_its_passages_with_the_queries_they_answer(name, tmp_path):
    make, file = READERS[name]
    expected = make(tmp_path / file)
    documents, queries = prepare(tmp_path / "out", f"{name}={tmp_path / file}")
    passages = [document["text"] for document in documents if document["class"] == 0]
    assert len(passages) == len(expected.passages)
    assert all(text in allowed for text, allowed in zip(passages, expected.passages, strict=True))
    read = [query for query in queries if query["kind"] not in MADE_HERE]
    answers = {query["text"]: query["own"] for query in read}
    assert len(answers) == len(read)
    for query, own in answers.items():
        assert query in (expected.asked[own] if own >= 0 else expected.unanswered)
    assert {query for query, own in answers.items() if own < 0} == set(expected.unanswered)
    answered = set(answers.values()) - {-1}
    could_be = {number for number, queries in enumerate(expected.asked) if queries}
    assert answered == could_be if expected.all_asked else set() < answered < could_be
    kinds = {query["kind"] for query in read}
    assert expected.kind in kinds
    assert kinds <= {expected.kind, "define"}


def test_every_reader_is_tested():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import sources; print(*sources.READERS)"
    done = subprocess.run([sys.executable, "-c", code, str(PREPARE.parent)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(READERS)


def test_a_query_line_may_name_its_kind(tmp_path):
    write(tmp_path / "questions.tsv", "who built it\nweather tomorrow\tweb\n")
    _, queries = prepare(tmp_path / "out", f"questions={tmp_path / 'questions.tsv'}")
    assert {query["text"]: query["kind"] for query in queries} == {"who built it": "asked", "weather tomorrow": "web"}


def test_an_unknown_source_is_refused_with_the_names_there_are(tmp_path):
    message = prepare(tmp_path / "out", "nothing=here")
    assert "unknown source 'nothing'" in message
    assert all(name in message for name in READERS)


def test_documents_of_all_lengths_and_queries_of_passages_are_made(tmp_path):
    texts = [" ".join(words(f"Text {number} part {part} tells that", 15) for part in range(4)) for number in range(60)]
    write(tmp_path / "texts.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in [*texts, texts[0]]))
    documents, queries = prepare(tmp_path / "out", f"json={tmp_path / 'texts.jsonl'}")
    passages, short, long = ([d for d in documents if d["class"] == number] for number in range(3))
    assert [document["text"] for document in passages] == texts  # the repeated one once
    assert [document["from"] for document in passages] == [[number, number] for number in range(60)]
    assert len(short) == 60
    for document in short:
        number, last = document["from"]
        assert number == last
        assert document["text"] in texts[number]
    assert long
    for document in long:
        first, last = document["from"]
        assert " ".join(texts[first : last + 1]).startswith(document["text"])
        assert 110 <= len(document["text"].split()) <= 200
    assert all(a["from"][0] < b["from"][0] for a, b in pairwise(long))
    sentences = [query for query in queries if query["kind"] == "sentence"]
    assert sentences
    for query in sentences:  # a passage that holds the query word for word is no answer to it
        assert query["own"] == -1
        assert query["text"] in texts[query["hide"]]
