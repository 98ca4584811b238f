"""REST Hooks for Flask: every commit of a tracked record sends signed webhooks, none is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["RESTHooks", "RESTHooksError", "__version__"]

from ._version import __version__
from .errors import RESTHooksError

if TYPE_CHECKING:
    from .extension import RESTHooks


def __getattr__(name: str) -> Any:
    # Found at its first use: a receiver of hooks needs nothing of the sending side.
    if name == "RESTHooks":
        from .extension import RESTHooks

        return RESTHooks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
