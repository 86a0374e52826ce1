"""Intent to peers."""

from __future__ import annotations

import pytest

from broker.core.registry import Registry
from broker.core.router import InvalidIntentError, Router
from broker.protocol.codec import EnvelopeIntent
from broker.protocol.errors import ErrorCode
from tests.core.peers import make_peer

RED = [make_peer("red"), make_peer("red"), make_peer("red", echo=False)]
BLUE = [make_peer("blue")]
EVERYONE = [*RED, *BLUE]


@pytest.fixture
def router() -> Router:
    registry = Registry()
    for peer in EVERYONE:
        registry.add(peer)
    return Router(registry)


def test_global_is_everyone(router: Router) -> None:
    intent = EnvelopeIntent("GLOBAL")

    assert router.receivers(RED[0], intent) == EVERYONE
    assert router.receivers(RED[2], intent) == [*RED[:2], *BLUE]


@pytest.mark.parametrize("identifier", [None, "", "red", "peer-1", "nobody"])
def test_global_asks_for_no_identifier(router: Router, identifier: str | None) -> None:
    assert router.receivers(BLUE[0], EnvelopeIntent("GLOBAL", identifier)) == EVERYONE


@pytest.mark.parametrize("pick", [None, "ALL"])
def test_group_is_its_members(router: Router, pick: str | None) -> None:
    intent = EnvelopeIntent("GROUP", "red", pick)  # type: ignore[arg-type]

    assert router.receivers(RED[0], intent) == RED
    assert router.receivers(BLUE[0], intent) == RED
    assert router.receivers(RED[2], intent) == RED[:2]
    assert not router.receivers(RED[0], EnvelopeIntent("GROUP", "nobody"))
    assert not router.receivers(RED[0], EnvelopeIntent("GROUP", RED[0].id))


def test_a_group_of_one_without_echo_has_nobody_for_itself() -> None:
    registry, alone = Registry(), make_peer("red", echo=False)
    registry.add(alone)

    assert not Router(registry).receivers(alone, EnvelopeIntent("GROUP", "red"))


def test_direct_is_one_connection(router: Router) -> None:
    for sender in EVERYONE:
        for receiver in EVERYONE:  # Without echo, one's own id is still an address.
            intent = EnvelopeIntent("DIRECT", receiver.id)
            assert list(router.receivers(sender, intent)) == [receiver]
    assert not router.receivers(RED[0], EnvelopeIntent("DIRECT", "red"))


@pytest.mark.parametrize(
    ("intent", "message"),
    [
        (EnvelopeIntent("DIRECT"), "intent.identifier: DIRECT needs a connection id"),
        (EnvelopeIntent("DIRECT", ""), "intent.identifier: DIRECT needs a connection id"),
        (EnvelopeIntent("GROUP"), "intent.identifier: GROUP needs a group's name"),
        (EnvelopeIntent("GROUP", ""), "intent.identifier: GROUP needs a group's name"),
        (EnvelopeIntent("GROUP", None, "ONE"), "intent.identifier: GROUP needs a group's name"),
        (EnvelopeIntent("GLOBAL", None, "ONE"), "intent.pick: ONE is for GROUP only"),
    ],
)
def test_what_makes_no_sense(router: Router, intent: EnvelopeIntent, message: str) -> None:
    with pytest.raises(InvalidIntentError) as caught:
        router.receivers(RED[0], intent)
    assert str(caught.value) == message
    assert caught.value.code is ErrorCode.INVALID_INTENT


def test_what_is_returned_can_be_kept(router: Router) -> None:
    """Delivering may make others leave; the receivers of this frame are settled by then."""
    registry = Registry()
    for peer in EVERYONE:
        registry.add(peer)
    for intent in (EnvelopeIntent("GLOBAL"), EnvelopeIntent("GROUP", "red")):
        receivers = Router(registry).receivers(BLUE[0], intent)
        before = list(receivers)
        registry.remove(RED[1])
        assert list(receivers) == before
        registry.add(RED[1])
