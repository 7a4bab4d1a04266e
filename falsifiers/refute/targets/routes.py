"""The ways into an engine: the names that targets give them, and which way a request takes.

A target lists its own (`Target.entry_points`); a falsifier that has to try each of them asks the target.
"""

from collections.abc import Set as AbstractSet

from refute.targets.base import Request

GENERATE = "generate"
TWIN = "generate-twin"
CALLBACK = "stream-callback"
ITERATOR = "stream-iterator"
SESSION = "session"
SESSION_TWIN = "session-twin"
CHAT = "chat"

_NEEDS = {
    GENERATE: "token_ids",
    TWIN: "cache_off",
    CALLBACK: "stream",
    ITERATOR: "stream",
    SESSION_TWIN: "sessions",
    SESSION: "sessions",
    CHAT: "chat",
}


def entry_points(capabilities: AbstractSet[str]) -> tuple[str, ...]:
    """Return the ways into an engine that promises this much."""
    return tuple(route for route, needs in _NEEDS.items() if needs in capabilities)


def route_of(request: Request) -> str:
    """Name the way that a request takes."""
    if request.messages:
        return CHAT
    if request.delivery is not None:
        return CALLBACK if request.delivery.by == "callback" else ITERATOR
    return GENERATE if request.cache else TWIN
