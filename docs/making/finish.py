"""Takes from the built site the one script that it would load from elsewhere, and checks that there is no other.

Zensical's offline pages fetch a shim for the search's worker from unpkg.com; docs/javascripts/search-from-files.js is
in its place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SITE = Path(__file__).parents[2] / ".site"
SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*></script>')
FROM_ELSEWHERE = re.compile(
    r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//[^"]*"|<link[^>]*rel="?stylesheet[^>]*//[^>]*>'
)


def main() -> None:
    """Go through all pages."""
    wrong = []
    for page in sorted(SITE.rglob("*.html")):
        text = SHIM.sub("", page.read_text(encoding="utf-8"))
        wrong += [f"{page.relative_to(SITE)}: {found}" for found in FROM_ELSEWHERE.findall(text)]
        page.write_text(text, encoding="utf-8")
    if wrong:
        sys.exit("loaded from elsewhere:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
