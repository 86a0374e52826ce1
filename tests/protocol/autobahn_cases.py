"""The case families 1 to 7 and 10 of the Autobahn test suite, in short.

Every message is a frame of the broker's, since what reads them here is the broker's own codec.
Binary messages, which this endpoint does not take, stand in for their families with one case.
"""

from __future__ import annotations

from tests.protocol.websocket_bytes import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    close,
    event,
    frame,
    header,
)

__all__ = ["AUTOBAHN", "DONE", "OK"]


def fragments(*payloads: bytes, between: bytes = b"") -> bytes:
    last = len(payloads) - 1
    return between.join(
        frame(CONTINUATION if i else TEXT, payload, final=i == last)
        for i, payload in enumerate(payloads)
    )


HELLO = event("Hello, world!")
PARTS = (HELLO[:5], HELLO[5:11], HELLO[11:])
UTF8 = event("κόσμε \U0010ffff")
LONG = event("0123456789abcdef" * 4096)
OK, DONE = None, 0

AUTOBAHN: dict[str, tuple[bytes, list[bytes], int | None, list[bytes]]] = {
    # case: (bytes, what they say, failure (OK: none; DONE: closed in good order), pongs)
    **{
        f"1.1 text of {n}": (frame(TEXT, event("x" * n)), [event("x" * n)], OK, [])
        for n in (0, 109, 110, 111, 112, 65519, 65520)
    },
    "1.2 binary": (frame(BINARY, b"\xfe" * 125), [], 1003, []),
    "2.1 ping": (frame(PING), [], OK, [b""]),
    "2.2 ping with text": (frame(PING, b"Hello"), [], OK, [b"Hello"]),
    "2.3 ping with bytes": (frame(PING, b"\x00\xff\xfe"), [], OK, [b"\x00\xff\xfe"]),
    "2.4 ping of 125": (frame(PING, b"\xfe" * 125), [], OK, [b"\xfe" * 125]),
    "2.5 ping of 126": (frame(PING, b"\xfe" * 126), [], 1002, []),
    "2.7 pong": (frame(PONG), [], OK, []),
    "2.8 pong with text": (frame(PONG, b"x"), [], OK, []),
    "2.9 pong, ping": (frame(PONG, b"x") + frame(PING, b"y"), [], OK, [b"y"]),
    "2.10 ten pings": (
        b"".join(frame(PING, b"%d" % i) for i in range(10)),
        [],
        OK,
        [b"%d" % i for i in range(10)],
    ),
    "3.1 reserved bits 1": (header(TEXT, 0, reserved=1) + KEY, [], 1002, []),
    "3.2 reserved bits 2 after text": (
        frame(TEXT, HELLO) + header(TEXT, 0, reserved=2) + KEY + frame(PING),
        [HELLO],
        1002,
        [],
    ),
    "3.5 reserved bits 5 on binary": (header(BINARY, 0, reserved=5) + KEY, [], 1002, []),
    "3.6 reserved bits 6 on ping": (header(PING, 0, reserved=6) + KEY, [], 1002, []),
    "3.7 reserved bits 7 on close": (header(CLOSE, 0, reserved=7) + KEY, [], 1002, []),
    **{f"4.1 opcode {n}": (frame(n), [], 1002, []) for n in range(3, 8)},
    **{
        f"4.2 opcode {n}": (frame(TEXT, HELLO) + frame(n), [HELLO], 1002, []) for n in range(11, 16)
    },
    "5.1 fragmented ping": (frame(PING, final=False) + frame(CONTINUATION), [], 1002, []),
    "5.2 fragmented pong": (frame(PONG, final=False) + frame(CONTINUATION), [], 1002, []),
    "5.3 two fragments": (fragments(*PARTS[:1], b"".join(PARTS[1:])), [HELLO], OK, []),
    "5.6 ping between fragments": (
        fragments(*PARTS, between=frame(PING, b"p")),
        [HELLO],
        OK,
        [b"p", b"p"],
    ),
    "5.9 continuation of nothing": (frame(CONTINUATION, b"x") + frame(TEXT, HELLO), [], 1002, []),
    "5.12 open continuation of nothing": (
        frame(CONTINUATION, b"x", final=False) + frame(TEXT, HELLO),
        [],
        1002,
        [],
    ),
    "5.15 continuation after the end": (
        fragments(*PARTS) + frame(CONTINUATION, b"x", final=False),
        [HELLO],
        1002,
        [],
    ),
    "5.18 text instead of continuation": (
        frame(TEXT, PARTS[0], final=False) + frame(TEXT, PARTS[1]),
        [],
        1002,
        [],
    ),
    "5.19 five fragments, pings": (
        fragments(*PARTS, b" ", b" ", between=frame(PING, b"p")),
        [HELLO + b"  "],
        OK,
        [b"p"] * 4,
    ),
    "6.1 empty fragments": (fragments(b"", HELLO, b"", b""), [HELLO], OK, []),
    "6.2 valid UTF-8": (frame(TEXT, UTF8), [UTF8], OK, []),
    "6.2 valid UTF-8 in single bytes": (
        fragments(*(UTF8[i : i + 1] for i in range(len(UTF8)))),
        [UTF8],
        OK,
        [],
    ),
    **{
        f"6.3 to 6.21 invalid UTF-8 {text.hex()}": (
            frame(TEXT, b'{"op":0,"data":"' + text + b'"}'),
            [],
            1007,
            [],
        )
        for text in (
            b"\xce\xba\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf8\x88\x80\x80\x80",
            b"\x80",
            b"\xc0\xaf",
            b"\xe0\x80\x80",
            b"\xed\xbf\xbf",
            b"\xce",
            b"\xff",
        )
    },
    "6.4 invalid UTF-8 in a fragment": (
        fragments(b'{"op":0,"data":"\xf4', b"\x90", b'\x80\x80"}'),
        [],
        1007,
        [],
    ),
    "7.1.1 text, close": (frame(TEXT, HELLO) + close(1000), [HELLO], DONE, []),
    "7.1.2 two closes": (close(1000) + close(1000), [], DONE, []),
    "7.1.3 ping after close": (close(1000) + frame(PING), [], DONE, []),
    "7.1.4 text after close": (close(1000) + frame(TEXT, HELLO), [], DONE, []),
    "7.1.5 close inside a message": (
        frame(TEXT, PARTS[0], final=False) + close(1000) + frame(CONTINUATION, PARTS[1]),
        [],
        DONE,
        [],
    ),
    "7.3.1 empty close": (close(), [], DONE, []),
    "7.3.2 close of 1": (frame(CLOSE, b"a"), [], 1002, []),
    "7.3.4 close with a reason": (close(1000, b"Hello"), [], DONE, []),
    "7.3.5 close with the longest reason": (close(1000, b"*" * 123), [], DONE, []),
    "7.3.6 close with a reason too long": (close(1000, b"*" * 124), [], 1002, []),
    "7.5.1 close with invalid UTF-8": (close(1000, b"\xce\xba\xed\xa0\x80"), [], 1007, []),
    **{
        f"7.7 close {code}": (close(code), [], DONE, [])
        for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
    },
    **{
        f"7.9, 7.13 close {code}": (close(code), [], 1002, [])
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "7.1.6 a long text, close, ping": (
        frame(TEXT, LONG) + close(1000) + frame(PING),
        [LONG],
        DONE,
        [],
    ),
    "10.1 a long text in fragments of 1300": (
        fragments(*(LONG[start : start + 1300] for start in range(0, len(LONG), 1300))),
        [LONG],
        OK,
        [],
    ),
}
