"""Draws the pictures of the documentation that no benchmark plots: `make pictures`."""

from __future__ import annotations

from pathlib import Path

import int8_scales
import peers
import planning
import pruning
import waiting

IMAGES = Path(__file__).parents[1] / "images"
PICTURES = {
    "int8.svg": int8_scales.draw,
    "peers.svg": peers.draw,
    "planning.svg": planning.draw,
    "pruning.svg": pruning.draw,
    "queue.svg": waiting.draw,
}
"""What draws each file."""


def main() -> None:
    """Write all pictures."""
    for name, draw in PICTURES.items():
        draw().write(IMAGES / name)


if __name__ == "__main__":
    main()
