"""The codec alone on the cases of the Autobahn test suite, whole and in pieces.

`tests/integration/test_scorecard_door_autobahn.py` has them over a real socket.
"""

from __future__ import annotations

import json

import pytest

from tests.protocol.autobahn_cases import AUTOBAHN, DONE
from tests.protocol.websocket_bytes import CLOSE, PONG, data_of, frames_in, server


@pytest.mark.parametrize("piece", [1 << 20, 997, 1], ids=["whole", "997 bytes", "single bytes"])
@pytest.mark.parametrize(
    ("data", "said", "outcome", "pongs"), AUTOBAHN.values(), ids=AUTOBAHN.keys()
)
def test_autobahn(
    data: bytes, said: list[bytes], outcome: int | None, pongs: list[bytes], piece: int
) -> None:
    wire = server()
    messages = []
    for start in range(0, len(data), piece):
        messages += wire.receive(data[start : start + piece])
    assert data_of(messages) == [json.loads(message)["data"] for message in said]
    assert wire.finished == (outcome == DONE)
    assert (wire.failure and wire.failure.close_code) == (outcome or None)
    replies = frames_in(wire.take_replies())
    if outcome == DONE:
        opcode, payload = replies.pop()
        assert opcode == 0x80 | CLOSE
        assert len(payload) in (0, 2)
    assert replies == [(0x80 | PONG, payload) for payload in pongs]
