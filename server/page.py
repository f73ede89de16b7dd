"""The page at `/`: one file that needs nothing from a network."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

PAGE = files("crossrank.server").joinpath("page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """The digests by which a browser allows the page's own scripts or styles and no others."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in found)


PAGE_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
