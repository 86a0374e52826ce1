"""Where a connection vanishes: behind the n-th EVENT, in any framing, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.json_stream import JsonStream, frame_line
from broker.protocol.websocket import Role, WebSocketWire, frame_text
from services.testing.taps import EventTap

FRAMES = [
    b'{"op":1,"data":{"id":"x"}}',
    b'{"op":0,"event":"A","data":"}{"}',
    b'{"op":3}',
    b'{"op":0,"event":"$up","data":{}}',
    b'{"op":5,"id":"1","event":"A","data":{"a":{}}}',
    b'{"op":0,"event":"B","data":"' + b"}" * 125 + b'"}',
    b'{"op":0,"event":"A"}',
]
HANDSHAKE = b"HTTP/1.1 101 }\r\n\r\n"


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize(("wanted", "frames"), [(1, 2), (2, 6), (3, 7), (4, None)])
@given(cuts=st.lists(st.integers(0, 600), max_size=6))
def test_the_place(websocket: bool, wanted: int, frames: int | None, cuts: list[int]) -> None:
    frame = frame_text if websocket else frame_line
    framed = [frame(text) for text in FRAMES]
    data = HANDSHAKE + b"".join(framed)
    met: list[str] = []

    def meet(name: str) -> bool:
        met.append(name)
        return len(met) == wanted

    tap = EventTap(
        WebSocketWire(Role.CLIENT) if websocket else JsonStream(),
        skip=len(HANDSHAKE),
        watched=lambda: True,
        met=meet,
    )
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    arrived = b""
    for start, end in pairwise(places):
        piece = data[start:end]
        cut = tap.split(piece)
        arrived += piece[:cut]
        if cut is not None:
            break
    expected = data if frames is None else HANDSHAKE + b"".join(framed[:frames])
    # The newline behind an object is no part of it.
    assert arrived.rstrip(b"\n") == expected.rstrip(b"\n")
    assert met == ["A", "B", "A"][: min(wanted, 3)]


def test_events_before_anybody_watches_do_not_count() -> None:
    watching = False
    met: list[str] = []

    def meet(name: str) -> bool:
        met.append(name)
        return True

    tap = EventTap(JsonStream(), skip=0, watched=lambda: watching, met=meet)
    assert tap.split(b'{"op":0,"event":"A"}\n{"op":0,"ev') is None
    watching = True
    rest = b'ent":"B"}\n{"op":0,"event":"C"}\n'
    cut = tap.split(rest)
    assert cut is not None
    assert rest[:cut] == b'ent":"B"}'
    assert met == ["B"]
