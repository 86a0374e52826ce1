"""Fuzzing of the opening handshake, both ends: every request gets an answer that is HTTP."""

from __future__ import annotations

from typing import Final

import h11

from broker.protocol.handshake import HandshakeState, ServerHandshake
from broker.protocol.handshake_client import ClientHandshake
from tests.fuzz.choices import Choices, cut

__all__ = ["fuzz_client_handshake", "fuzz_server_handshake"]

_SIZES: Final = (200, 1000, 8192)
_ORIGINS: Final = frozenset({"https://example.org"})


def fuzz_server_handshake(data: bytes) -> None:
    """Ask the broker for a WebSocket, at once and in pieces."""
    choices = Choices(data)
    size = choices.one_of(_SIZES)
    sizes, received = choices.take(3), choices.rest()
    whole = ServerHandshake(size, _ORIGINS)
    whole.receive(received)
    pieces = ServerHandshake(size, _ORIGINS)
    for piece in cut(received, sizes):
        pieces.receive(piece)
    for handshake in (whole, pieces):
        _check_answer(handshake)
    if whole.state is not HandshakeState.REJECTED or len(received) <= size:
        # Where it is refused for its size, another fault may have been seen before.
        assert whole.state is pieces.state
        assert whole.rejection == pieces.rejection
        assert whole.target == pieces.target
        assert whole.leftover == pieces.leftover
        assert received.endswith(whole.leftover)


def _check_answer(handshake: ServerHandshake) -> None:
    answer = handshake.data_to_send()
    if handshake.state is HandshakeState.PENDING:
        assert answer == b""
        assert handshake.rejection is None
        return
    client = h11.Connection(h11.CLIENT)
    client.send(
        h11.Request(
            method="GET",
            target="/",
            headers=[("Host", "h"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
        )
    )
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    response = client.next_event()
    assert isinstance(response, h11.InformationalResponse | h11.Response)
    if handshake.state is HandshakeState.ACCEPTED:
        assert response.status_code == 101
    else:
        assert handshake.rejection is not None
        assert response.status_code == handshake.rejection.status
        assert 400 <= response.status_code < 500


def fuzz_client_handshake(data: bytes) -> None:
    """Answer a client that asks for a WebSocket: it ends up with one, or knows why not."""
    choices = Choices(data)
    size = choices.one_of(_SIZES)
    sizes, received = choices.take(3), choices.rest()
    client = ClientHandshake("h", max_size=size)
    for piece in cut(received, sizes):
        client.receive(piece)
        assert len(client._body) <= size + len(piece)
    client.receive_eof()
    assert client.state is not HandshakeState.PENDING
    assert (client.rejection is None) == (client.state is HandshakeState.ACCEPTED)
