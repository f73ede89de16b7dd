"""Files by their names: which ones a pattern means, and the format that a suffix stands for."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Form: TypeAlias = Literal["parquet", "jsonl", "csv", "tsv"]
Compression: TypeAlias = Literal["gzip", "bz2", "zstd", "lz4"]

_FORMS: dict[str, Form] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


@dataclass(frozen=True)
class PairFile:
    """A file of rows.

    Attributes:
        path: where it is.
        form: how its rows are written.
        compression: of the whole file; None for none, or where the form has its own.
    """

    path: Path
    form: Form
    compression: Compression | None

    @property
    def delimiter(self) -> str:
        """What stands between two values, in a CSV or TSV file."""
        return "\t" if self.form == "tsv" else ","

    def place(self, number: int) -> str:
        """Where a row is, in words: by its line, or in parquet by its number from 1."""
        return f"{self.path}, {'row' if self.form == 'parquet' else 'line'} {number}"


def pair_file(path: Path) -> PairFile:
    """A file with the format that its name says.

    Raises:
        InvalidInputError: the name says none.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    form = _FORMS.get(suffixes[-1]) if suffixes else None
    if form is None or (form == "parquet" and compression is not None):
        raise InvalidInputError(
            f"{path}: its name does not say its format; {', '.join(_FORMS)} expected, after those other than parquet "
            f"also {', '.join(_COMPRESSIONS)}"
        )
    return PairFile(path, form, compression)


def find_pair_files(patterns: Sequence[str | Path], leave_out: Collection[Path]) -> list[PairFile]:
    """The files that are meant, those of each pattern in the order of their names.

    Args:
        patterns: paths, or patterns with *, ?, [...] and ** as `glob` has them.
        leave_out: files that no pattern means, nor links to them: the output, and what is kept beside it.

    Raises:
        InvalidInputError: a file is missing, is one of those to leave out under whichever name, is meant twice, or has
            no known format.
    """
    found: list[Path] = []
    hidden = {_place(path) for path in leave_out}
    for pattern in patterns:
        if Path(pattern).exists() or not glob.has_magic(str(pattern)):
            if not Path(pattern).is_file():
                raise InvalidInputError(
                    f"{pattern}: no such file of pairs; a file, or a pattern such as 'data/*.jsonl'"
                )
            found.append(Path(pattern))
            continue
        matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207
        matches = [path for path in matches if path.is_file() and hidden.isdisjoint((_place(path), path.resolve()))]
        if not matches:
            raise InvalidInputError(f"{pattern}: no file has such a name")
        found += matches
    real: set[Path] = set()
    outputs = {path.resolve() for path in leave_out}
    for path in found:
        if path.resolve() in outputs:
            raise InvalidInputError(f"{path} is the output, or belongs to it; another file of pairs expected")
        if path.resolve() in real:
            raise InvalidInputError(f"{path} is given twice; each file of pairs once expected")
        real.add(path.resolve())
    return [pair_file(path) for path in found]


def _place(path: Path) -> Path:
    """A path by which its file can be told from others, also one that is not there yet."""
    return path.parent.resolve() / path.name
