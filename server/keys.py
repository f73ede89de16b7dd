"""Bearer keys: a file with one key a line, and a comparison that takes the same time whatever is given."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Keys:
    """The keys that are accepted, kept as digests."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Accept these keys.

        Raises:
            InvalidInputError: there are none.
        """
        self._digests = [_digest(key) for key in keys]
        if not self._digests:
            raise InvalidInputError("no keys: a key a line expected; leave the file out to serve without keys")

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Read a file: a key a line; empty lines and lines that begin with # are left out.

        Raises:
            InvalidInputError: it cannot be read, or has no keys.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the file of keys {path} cannot be read: {error}") from error
        return cls(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))

    def accept(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries one of the keys; every key is compared, whichever matches."""
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(digest, given)
        return found and scheme.lower() == "bearer"


def _digest(key: str) -> bytes:
    # Digests have one length, so a comparison tells nothing about a key's.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
