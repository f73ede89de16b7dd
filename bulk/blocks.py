"""Cuts all rows into blocks, each scored by one call: by rows and characters alone, so always at the same places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossrank.bulk.rows import columns_of, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crossrank.bulk.layout import Layout
    from crossrank.bulk.pair_files import PairFile

BLOCK_ROWS = 1024
BLOCK_CHARACTERS = 4 << 20
"""Of a block at most; a longer row is a block by itself."""


@dataclass
class Block:
    """Rows that are scored together.

    Attributes:
        first: number of its first row among all, from 0.
        pairs: query and document of the rows that have both as texts.
        scored: which of the block's rows these are.
        places: where each row of the block stands, in words made on request: its file and line or row.
    """

    first: int
    pairs: list[tuple[str, str]] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    places: list[tuple[PairFile, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)

    def place(self, index: int) -> str:
        """Where a row of the block is, in words."""
        file, number = self.places[index]
        return file.place(number)


def read_blocks(files: Sequence[PairFile], layout: Layout, start: int) -> Iterator[Block]:
    """The blocks from a row on, which has to be the first of one.

    Args:
        files: all of them.
        layout: of their columns.
        start: rows to leave out.
    """
    block, characters, passed = Block(start), 0, 0
    for file in files:
        schema = columns_of(file, layout)
        for rows in read_rows(file, layout, None if schema is None else layout.texts):
            if passed + len(rows) <= start:
                passed += len(rows)
                continue
            texts = zip(rows.column(layout.query), rows.column(layout.document), rows.places, strict=True)
            for query, document, place in texts:
                passed += 1
                if passed <= start:
                    continue
                paired = isinstance(query, str) and isinstance(document, str)
                size = len(query) + len(document) if paired else 0
                if len(block) == BLOCK_ROWS or (len(block) and characters + size > BLOCK_CHARACTERS):
                    yield block
                    block, characters = Block(passed - 1), 0
                if paired:
                    block.scored.append(len(block))
                    block.pairs.append((query, document))
                block.places.append((file, place))
                characters += size
    if len(block):
        yield block
