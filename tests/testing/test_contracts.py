"""One suite over memory, TCP and WebSocket: the test broker is the real broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from broker.core.settings import LimitSettings, Settings, TimingSettings
from broker.protocol.errors import Reason
from tests.testing import contracts
from tests.testing.worlds import WORLDS, Backend, run_in_world

NO_QUEUE: Final = Settings(limits=LimitSettings(waiting_per_group=0))
# Not so quick that a busy machine could make a healthy client late.
QUICK_PING: Final = Settings(timing=TimingSettings(ping_ms=1000))

# What the members of each story see, and the settings where they are not the default ones.
STORIES: Final[dict[Callable[[Any], Any], tuple[Any, Settings]]] = {
    contracts.connect_and_identify: (
        (
            "web",
            "admin",
            True,
            True,
            [("IdentifyFailed", "IDENTIFY_FAILED"), ("IdentifyFailed", "IDENTIFY_FAILED")],
        ),
        Settings(),
    ),
    contracts.not_identified: ((2, b'"UNAUTHORIZED"'), Settings()),
    contracts.emit_to_everyone: (
        (
            [
                ([("ä € 😀", "web")], [("ä € 😀", "web")]),
                ([([1.5, None, {"a": True}], "admin")], [([1.5, None, {"a": True}], "admin")]),
                ([(4, "web")], [(4, "web")]),
            ],
            [("ä € 😀", "web"), (4, "web")],
        ),
        Settings(),
    ),
    contracts.emit_to_group: (
        (
            [("for the group", "admin")],
            [("for the group", "admin")],
            [("for the sender", "admin")],
        ),
        Settings(),
    ),
    contracts.emit_to_one: ((True, True), Settings()),
    contracts.emit_one_of_a_group_in_turn: (
        [[(0, "web"), (3, "web")], [(1, "web"), (4, "web")], [(2, "web"), (5, "web")]],
        Settings(),
    ),
    contracts.emit_to_nobody: (["NO_ROUTE", "NO_ROUTE"], Settings()),
    contracts.listen_by_pattern: (
        ([("user_came", "web"), ("user_left", "web")], [("user_left", "web")]),
        Settings(),
    ),
    contracts.request_answered: ((6, 4, True, 5), Settings()),
    contracts.many_requests_at_a_time: (True, Settings()),
    contracts.no_route: (("NO_ROUTE", 0, "NO_ROUTE", "NO_ROUTE", "NO_ROUTE"), Settings()),
    contracts.peer_gone: (("WAIT", ["PEER_GONE"]), Settings()),
    contracts.expired: (("EXPIRED", 1, 0), Settings()),
    contracts.overloaded: ((["done"], "OVERLOADED", 1), NO_QUEUE),
    contracts.forbidden_reply: ((["done"], ["FORBIDDEN"]), Settings()),
    contracts.errors_of_services: (
        [
            ("BadRequest", "BAD_REQUEST", "", {}),
            ("ServiceError", "OUT_OF_STOCK", "none left", {"item": 7}),
            ("HandlerError", "HANDLER_ERROR", "KeyError", {}),
            ("UnknownEvent", "UNKNOWN_EVENT", "nothing here handles NO_SUCH_EVENT", {}),
            ("BadRequest", "BAD_REQUEST", "", {}),
        ],
        Settings(),
    ),
    contracts.what_the_broker_answers: (
        ([("web", "a page", {"shard": 3})], "UNKNOWN_EVENT", 1),
        Settings(),
    ),
    contracts.heartbeat: (
        ([0, 3, 2], ["PEER_GONE"], True, {Reason.PING_TIMEOUT: 1}),
        QUICK_PING,
    ),
    contracts.leaving: ((["done"], True, "NO_REASON"), Settings()),
    contracts.stopping_the_broker: ((["done"], ("Disconnected", "SERVER_RESTART")), Settings()),
}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_same_everywhere(story: Callable[[Any], Any], world: str, backend: Backend) -> None:
    expected, settings = STORIES[story]
    assert run_in_world(world, backend, story, settings) == expected


def test_every_story_is_told() -> None:
    stories = {
        function
        for name, function in vars(contracts).items()
        if getattr(function, "__module__", "") == contracts.__name__
        and "world" in getattr(function, "__annotations__", {})
    }
    assert stories == set(STORIES)
