"""The texts that are measured on: docstrings of Python's standard library, or the documents of a BEIR folder.

Docstrings are on every machine that runs Python, so nothing has to be fetched or shipped. They differ a little between
Python versions; a result file has their digest, so that results on different texts can be distinguished.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.evaluation.beir import read_collection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODULES = (
    "abc", "argparse", "ast", "asyncio", "base64", "bisect", "calendar", "collections", "concurrent.futures",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "dis", "doctest",
    "email.message", "enum", "fileinput", "fractions", "ftplib", "functools", "gettext", "glob", "gzip", "hashlib",
    "heapq", "hmac", "html.parser", "http.client", "http.server", "imaplib", "importlib.util", "inspect", "io",
    "ipaddress", "itertools", "json", "logging", "logging.handlers", "mailbox", "math", "mimetypes",
    "multiprocessing.pool", "optparse", "os", "pathlib", "pdb", "pickle", "pkgutil", "platform", "plistlib", "pprint",
    "queue", "random", "re", "sched", "selectors", "shelve", "shutil", "smtplib", "socket", "socketserver",
    "statistics", "string", "struct", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit", "token",
    "tokenize", "trace", "traceback", "types", "unittest", "unittest.mock", "urllib.parse",
    "urllib.request", "uuid", "warnings", "wave", "weakref", "webbrowser", "xml.dom.minidom",
    "xml.etree.ElementTree", "xmlrpc.client", "zipfile",
)  # fmt: skip
_FEWEST_WORDS = 12
"""Shorter docstrings ("Return the value.") are left out."""
_QUERY = "how to read a file line by line without loading all of it into memory"


@dataclass(frozen=True)
class Passages:
    """The texts that benchmark documents are made of.

    Attributes:
        name: of the source, for the result file.
        query: the query to score them against.
        texts: distinct passages of many lengths, in a fixed order.
        natural: documents that a workload of mixed lengths uses unchanged; empty if the source has none.
    """

    name: str
    query: str
    texts: tuple[str, ...]
    natural: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over all the text."""
        return hashlib.sha256("\0".join((self.query, *self.texts)).encode()).hexdigest()


@functools.cache
def standard_library_passages() -> Passages:
    """Docstrings of the standard library's modules, classes and functions, the same ones at every call."""
    texts: dict[str, None] = {}
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:  # a build of Python without it
            continue
        for text in _docstrings(module):
            if len(text.split()) >= _FEWEST_WORDS:
                texts[text] = None
    return Passages("Python standard library docstrings", _QUERY, tuple(texts))


def beir_passages(folder: Path) -> Passages:
    """The documents of a BEIR folder and its first query; natural ones are that query's run, or all without a run.

    Raises:
        InvalidInputError: the folder is not a BEIR collection.
    """
    collection = read_collection(folder)
    first = next(iter(collection.queries))
    run = collection.runs.get(first, ())
    texts = tuple(text for text in collection.documents.values() if text)
    natural = tuple(collection.documents[identifier] for identifier in run) or texts
    return Passages(f"BEIR folder {folder.name}", collection.queries[first], texts, natural)


def _docstrings(module: object) -> Iterator[str]:
    """Docstrings of a module, of its public classes and functions, and of the classes' public methods."""
    yield _docstring(module)
    for name, item in sorted(vars(module).items()):
        defined_here = getattr(item, "__module__", None) == getattr(module, "__name__", "")
        if name.startswith("_") or not defined_here or not (inspect.isclass(item) or inspect.isroutine(item)):
            continue
        yield _docstring(item)
        if inspect.isclass(item):
            for member, method in sorted(vars(item).items()):
                if not member.startswith("_") and inspect.isroutine(method):
                    yield _docstring(method)


def _docstring(item: object) -> str:
    """The item's docstring on one line; empty if it has none."""
    text = getattr(item, "__doc__", None)
    return " ".join(text.split()) if isinstance(text, str) else ""
