"""Readers of the text collections the default model is trained on.

Each reader takes the path of a local copy and a random generator and yields `Item` values: a passage, its
source's name and the queries that are known to be answered by it. A source is optional; `READERS` names all.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from texts import first_passage, passages, squeeze

DEFINITION_FORMS = (
    "what is {}",
    "{}",
    "define {}",
    "{} meaning",
    "what does {} mean",
    "{} definition",
    "definition of {}",
)


@dataclass
class Item:
    """A passage with its queries; a passage may be empty where only queries are known.

    Attributes:
        source: Name of the source.
        text: The passage.
        queries: Pairs of query text and kind: title, define, question, howto, asked or web.
    """

    source: str
    text: str
    queries: list[tuple[str, str]] = field(default_factory=list)


Reader = Callable[[Path, random.Random], Iterator[Item]]


def debian(path: Path, rng: random.Random) -> Iterator[Item]:
    """Package descriptions of a Debian Translation-en file; the short description is the query."""
    seen: set[str] = set()
    for stanza in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        match = re.search(r"^Description(?:-en)?: (.*(?:\n .*)*)", stanza, re.MULTILINE)
        if match is None:
            continue
        short, *rest = match.group(1).split("\n")
        body = squeeze(" ".join(line for line in rest if line.strip() != "."))
        if len(body) < 160 or body[:150] in seen or re.search("transitional|dummy|debug symbols", short):
            continue
        seen.add(body[:150])
        queries = [(short.strip(), "title")] if rng.random() < 0.5 else []
        yield Item("debian", first_passage(body), queries)


def wordnet(path: Path, rng: random.Random) -> Iterator[Item]:
    """Definitions of the dictd edition of WordNet 3.0 (wn.dict.dz)."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        entries = re.findall(r"^(\S.*)\n((?:    .*\n?)+)", file.read(), re.MULTILINE)
    for headword, body in entries:
        without_links = re.sub(r"\[(?:syn|ant|also)[^\]]*\]", "", body)
        meaning = re.sub(r"^(?:n|v|adj|adv)?\s*\d*:?\s*", "", squeeze(without_links))[:500]
        if len(meaning) < 60 or not re.fullmatch(r"[A-Za-z][A-Za-z '-]{2,}", headword):
            continue
        text = f"{headword}: {meaning}" if rng.random() < 0.7 else meaning
        yield Item("wordnet", text, [(rng.choice(DEFINITION_FORMS).format(headword), "define")])


def foldoc(path: Path, rng: random.Random) -> Iterator[Item]:
    """Definitions of the dictd edition of the Free On-line Dictionary of Computing."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        entries = re.findall(r"^(\S.*)\n(?:\S.*\n)*\n((?:   .*\n|\n)+)", file.read(), re.MULTILINE)
    for headword, body in entries:
        meaning = squeeze(re.sub(r"[{}]|\(\d{4}-\d\d-\d\d\)", "", body))
        if len(meaning) < 120:
            continue
        text = first_passage(meaning, 600)
        if rng.random() < 0.5:
            text = f"{headword}: {text}"
        yield Item("foldoc", text, [(rng.choice(DEFINITION_FORMS).format(headword), "define")])


def medquad(path: Path, rng: random.Random) -> Iterator[Item]:
    """Medical questions and answers of MedQuAD (a folder of XML files)."""
    for file in sorted(path.rglob("*.xml")):
        try:
            root = ElementTree.parse(file).getroot()
        except ElementTree.ParseError:
            continue
        for pair in root.iter("QAPair"):
            question = squeeze(pair.findtext("Question") or "")
            answer = squeeze(pair.findtext("Answer") or "")
            if not question or len(answer.split()) < 20:
                continue
            parts = passages(answer)[:3] or [answer[:700]]
            yield Item("medquad", parts[0], [(question, "question")])
            for part in parts[1:]:
                yield Item("medquad", part)


def tldr(path: Path, rng: random.Random) -> Iterator[Item]:
    """Command examples of the tldr pages (the folder `pages`)."""
    for file in sorted(path.rglob("*.md")):
        page = file.read_text(encoding="utf-8", errors="replace")
        examples = re.findall(r"^- (.*?):\n\n`(.*?)`", page, re.MULTILINE)
        if not examples:
            continue
        about = squeeze(" ".join(re.findall(r"^> (.*)", page, re.MULTILINE)))
        listed = " ".join(f"{task}: {re.sub('[{}]', '', command)}." for task, command in examples)
        task = rng.choice(examples)[0].lower()
        query = rng.choice(("how to {}", "{} command line", "{}", "command to {}")).format(task)
        yield Item("tldr", f"{file.stem}: {about} {listed}"[:700], [(query, "howto")])


def markdown_docs(path: Path, rng: random.Random) -> Iterator[Item]:
    """Sections of Markdown documentation; the heading is the query."""
    for file in sorted(path.rglob("*.md")):
        page = file.read_text(encoding="utf-8", errors="replace")
        title_line = re.search(r"^title: *(.*)", page, re.MULTILINE)
        title = title_line.group(1).strip(" \"'") if title_line else file.stem
        sections = re.findall(r"^#{2,3} (.*)\n((?:(?!#).*\n)+)", page, re.MULTILINE)
        for heading, body in rng.sample(sections, min(3, len(sections))):
            text = squeeze(re.sub(r"[`*\[\]|]|\(.*?\)", " ", body))
            if len(text.split()) > 25:
                query = f"{title} {heading}" if rng.random() < 0.5 else heading
                yield Item("docs", first_passage(text), [(query, "title")])


def pubmedqa(path: Path, rng: random.Random) -> Iterator[Item]:
    """Questions and abstracts of PubMedQA (ori_pqal.json)."""
    for record in json.loads(path.read_text(encoding="utf-8")).values():
        for number, context in enumerate(record["CONTEXTS"]):
            queries = [(squeeze(record["QUESTION"]), "question")] if number == 0 else []
            yield Item("pubmedqa", squeeze(context)[:900], queries)


def selqa(path: Path, rng: random.Random) -> Iterator[Item]:
    """Questions on sections of Wikipedia (a folder of the SelQA answer selection files)."""
    sections: dict[tuple[str, str], tuple[list[str], list[tuple[str, str]]]] = {}
    for file in sorted(path.glob("*.json")):
        for record in json.loads(file.read_text(encoding="utf-8")):
            key = (record["article"], record["section"])
            if key not in sections:
                text = " ".join(record["candidates"])
                sections[key] = (passages(text) or [squeeze(text)[:700]], [])
            if record["answers"]:
                answer = squeeze(record["candidates"][record["answers"][0]])[:60]
                sections[key][1].append((squeeze(record["question"]), answer))
    for (article, _), (parts, questions) in sections.items():
        for part in parts:
            asked = [(question, "question") for question, answer in questions if answer in part]
            yield Item("selqa", f"{article}. {part}" if rng.random() < 0.3 else part, asked)


def covidqa(path: Path, rng: random.Random) -> Iterator[Item]:
    """Questions on articles of CORD-19 (COVID-QA, the format of SQuAD)."""
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            asked = [
                (squeeze(entry["question"]), squeeze(entry["answers"][0]["text"])[:60])
                for entry in paragraph["qas"]
                if entry["answers"]
            ]
            for part in passages(paragraph["context"])[:60]:
                yield Item("covidqa", part, [(q, "question") for q, answer in asked if answer in part])


def _field_text(value: object) -> str:
    """Joins the texts of a field of the World Factbook and of the fields inside it."""
    if not isinstance(value, dict):
        return ""
    if "text" in value:
        return squeeze(re.sub(r"<.*?>", " ", str(value["text"])))
    inner = ((name, _field_text(part)) for name, part in value.items())
    return "; ".join(f"{name.strip()}: {text}" for name, text in inner if text)


def factbook(path: Path, rng: random.Random) -> Iterator[Item]:
    """Fields of the World Factbook (a folder of JSON files by country)."""
    forms = ("{k} {n}", "{n} {k}", "{k} of {n}", "what is the {k} of {n}", "tell me about {k} in {n}")
    for file in sorted(path.rglob("*.json")):
        try:
            country = json.loads(file.read_text(encoding="utf-8"))
            name = country["Government"]["Country name"]["conventional short form"]["text"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
        for section in country.values():
            fields = [(key, _field_text(value)) for key, value in section.items()]
            fields = [(key, text) for key, text in fields if len(text.split()) > 12]
            for key, text in rng.sample(fields, min(3, len(fields))):
                passage = first_passage(text)
                if rng.random() < 0.6:
                    passage = f"{name}: {key}. {passage}"
                yield Item("factbook", passage, [(rng.choice(forms).format(k=key.lower(), n=name), "title")])


def questions(path: Path, rng: random.Random) -> Iterator[Item]:
    """Queries without passages: a text file with one query a line; a tab and its kind may follow."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        query, _, kind = line.partition("\t")
        if query.strip():
            yield Item("questions", "", [(squeeze(query), kind.strip() or "asked")])


def _plain(markup: str) -> str:
    """Removes the elements of CNXML from a piece of markup."""
    text = re.sub(r"<(?:m:)?math.*?</(?:m:)?math>", " ", markup, flags=re.DOTALL)
    text = squeeze(re.sub(r"<[^>]+>", " ", text))
    return text.replace(" ,", ",").replace(" .", ".")


def textbooks(path: Path, rng: random.Random) -> Iterator[Item]:
    """Sections and glossaries of OpenStax textbooks (a folder of CNXML files)."""
    boxes = re.compile(r"<(exercise|note|figure|table)\b.*?</\1>", re.DOTALL)
    for file in sorted(path.rglob("*.cnxml")):
        page = file.read_text(encoding="utf-8", errors="replace")
        body, _, glossary = page.partition("<content>")[2].partition("<glossary>")
        for section in re.split(r"<section\b[^>]*>", body):
            heading = re.search(r"<title>(.*?)</title>", section, re.DOTALL)
            title = _plain(heading.group(1)) if heading else ""
            paragraphs = re.findall(r"<para[^>]*>(.*?)</para>", boxes.sub(" ", section), re.DOTALL)
            for number, part in enumerate(passages(_plain(" ".join(paragraphs)))):
                wanted = number == 0 and len(title.split()) > 1 and rng.random() < 0.6
                yield Item("textbooks", part, [(title, "title")] if wanted else [])
        for term, meaning in re.findall(
            r"<term[^>]*>(.*?)</term>.*?<meaning[^>]*>(.*?)</meaning>", glossary, re.DOTALL
        ):
            term, meaning = _plain(term), _plain(meaning)
            if len(meaning.split()) > 9:
                text = f"{term}: {meaning}" if rng.random() < 0.5 else meaning
                yield Item("textbooks", text, [(rng.choice(DEFINITION_FORMS).format(term), "define")])


def json_lines(path: Path, rng: random.Random) -> Iterator[Item]:
    """Passages in JSON Lines: objects with `text` and, where known, `queries` (texts)."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            asked = [(squeeze(query), "question") for query in record.get("queries", [])]
            yield Item(record.get("source", "json_lines"), squeeze(record["text"]), asked)


READERS: dict[str, Reader] = {
    "debian": debian,
    "wordnet": wordnet,
    "foldoc": foldoc,
    "medquad": medquad,
    "tldr": tldr,
    "docs": markdown_docs,
    "pubmedqa": pubmedqa,
    "selqa": selqa,
    "covidqa": covidqa,
    "factbook": factbook,
    "questions": questions,
    "textbooks": textbooks,
    "json": json_lines,
}
