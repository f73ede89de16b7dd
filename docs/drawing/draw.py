"""Draws the documentation's pictures that are not plots of a benchmark: `python docs/drawing/draw.py` (`make pictures`)."""

from __future__ import annotations

from pathlib import Path

import peers

IMAGES = Path(__file__).parents[1] / "images"
PICTURES = {"peers.svg": peers.draw}
"""What draws each file."""


def main() -> None:
    """Write all pictures."""
    for name, draw in PICTURES.items():
        draw().write(IMAGES / name)


if __name__ == "__main__":
    main()
