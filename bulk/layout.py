"""Which columns hold queries and documents, what is carried along, and how text files without quotes are read."""

from __future__ import annotations

from dataclasses import dataclass

from crossrank.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of the pairs and of the output.

    Attributes:
        query: column of the queries.
        document: column of the documents.
        score: column of the scores in the output, float32; none of the carried columns may have its name.
        keep: columns that are carried to the output, in this order; None carries all.
        header: names of the columns of CSV and TSV files that have no header line; None reads the line.
        quotes: whether quotes enclose values in CSV and TSV files, as RFC 4180 has it, in those that are read and in
            the one that is written. Without them a quote is a character like others, and no value may hold the
            delimiter or a line end.
    """

    query: str = "query"
    document: str = "document"
    score: str = "score"
    keep: tuple[str, ...] | None = None
    header: tuple[str, ...] | None = None
    quotes: bool = True

    def __post_init__(self) -> None:
        """Refuse names that are given twice, and what are no names.

        Raises:
            InvalidInputError: a column is named twice, the scores have no name, or a value is of another type.
        """
        for name in ("query", "document", "score"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInputError(f"{name}={getattr(self, name)!r}: the name of a column expected")
        if not self.score:
            raise InvalidInputError("the column of the scores needs a name (score=, --score-column); '' is none")
        if not isinstance(self.quotes, bool):
            raise InvalidInputError(f"quotes={self.quotes!r}: True or False expected")
        for name, columns in (("keep", self.keep), ("header", self.header)):
            if columns is not None:
                sequence = isinstance(columns, (tuple, list))
                if not sequence or not all(isinstance(column, str) for column in columns):
                    raise InvalidInputError(f"{name}={columns!r}: a tuple of column names expected, such as ('id',)")
                object.__setattr__(self, name, tuple(columns))
                check_names(columns, name)
        if self.keep is not None and self.score in self.keep:
            raise InvalidInputError(
                f"the column {self.score!r} is to be kept, and the scores would have its name; name them otherwise "
                "(score=, --score-column)"
            )

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are scored, each once."""
        return (self.query,) if self.query == self.document else (self.query, self.document)

    def carried(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Of the columns of a file, those that go to the output."""
        return columns if self.keep is None else self.keep


def check_names(names: tuple[str, ...] | list[str], where: str) -> None:
    """Refuse a column that is named twice.

    Args:
        names: of the columns.
        where: they stand, for the message.

    Raises:
        InvalidInputError: two are the same.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{where}: the column {twice[0]!r} is there twice; different names expected")
