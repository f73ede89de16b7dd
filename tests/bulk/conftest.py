"""Small blocks, so that few rows make many of them."""

import pytest

pytest.importorskip("pyarrow")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of ten rows."""
    monkeypatch.setattr("crossrank.bulk.blocks.BLOCK_ROWS", 10)
