"""An HTTP service around `AsyncReranker` for clients of Cohere, Jina, vLLM, infinity and text-embeddings-inference.

`crossrank serve` starts it. `create_app` gives the ASGI application alone, for another server than uvicorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossrank.server.app import create_app
    from crossrank.server.settings import ModelSettings, ServerSettings, read_settings

__all__ = ["ModelSettings", "ServerSettings", "create_app", "read_settings"]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562): the settings are read without Starlette, the base install."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = "crossrank.server.app" if name == "create_app" else "crossrank.server.settings"
    return getattr(importlib.import_module(module), name)
