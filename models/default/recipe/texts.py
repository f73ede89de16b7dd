"""Small text helpers shared by the recipe's scripts."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def squeeze(text: str) -> str:
    """Returns the text with every run of white space replaced by one space."""
    return " ".join(text.split())


def sentences(text: str) -> list[str]:
    """Splits a text after full stops, question marks and exclamation marks."""
    return [part for part in SENTENCE_END.split(squeeze(text)) if part]


def passages(text: str, least: int = 25, most: int = 110) -> list[str]:
    """Cuts a text into passages of whole sentences.

    Args:
        text: The text to cut.
        least: Passages with fewer words are dropped.
        most: A passage ends before the sentence that would exceed this number of words.

    Returns:
        The passages, each at most about 900 characters long.
    """
    result: list[str] = []
    current: list[str] = []
    words = 0
    for sentence in sentences(text):
        length = len(sentence.split())
        if words >= least and words + length > most:
            result.append(" ".join(current)[:900])
            current, words = [], 0
        current.append(sentence)
        words += length
    if words >= least:
        result.append(" ".join(current)[:900])
    return result


def first_passage(text: str, characters: int = 700) -> str:
    """Returns the first passage of a text, or its beginning when it is too short to cut."""
    found = passages(text)
    return found[0] if found else squeeze(text)[:characters]


def read_json_lines(path: Path) -> Iterator[Any]:
    """Yields the values of a JSON Lines file, compressed with gzip when its name ends in .gz."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Writes values as JSON Lines (gzip when the name ends in .gz), replacing the file at the end."""
    opener = gzip.open if path.suffix == ".gz" else open
    temporary = path.with_name("writing-" + path.name)
    with opener(temporary, "wt", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
    temporary.replace(path)
