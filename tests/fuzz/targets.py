"""What is fuzzed, and what each of it is made of, for both engines.

An input is bytes. `tokens` are the words of its language: libFuzzer gets them as a dictionary,
Hypothesis puts inputs together from them. `seeds` are whole inputs that mean something; those that
once failed, and those that a long run has found to be worth keeping, stand in `corpus/`.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
from hypothesis import strategies as st

from tests.fuzz.decoding import fuzz_codec
from tests.fuzz.framing import fuzz_client_frames, fuzz_json_stream, fuzz_server_frames
from tests.fuzz.handshaking import fuzz_client_handshake, fuzz_server_handshake
from tests.fuzz.mesh_steps import STEPS, fuzz_mesh

__all__ = ["CORPUS", "TARGETS", "Target", "make_input", "read_corpus"]

CORPUS: Final = Path(__file__).with_name("corpus")

_MOST_WORDS: Final = 40


@attrs.frozen
class Target:
    """One thing that is fuzzed.

    Attributes:
        name: for the command line.
        run: takes an input; raises where something is wrong.
        tokens: the words of its inputs.
        seeds: inputs to begin with.
        longest: of the inputs, in bytes.
        share: of the time, as a multiple of what the others get.
    """

    name: str
    run: Callable[[bytes], None]
    tokens: tuple[bytes, ...]
    seeds: tuple[bytes, ...]
    longest: int = 2000
    share: int = 1

    def inputs(self) -> st.SearchStrategy[bytes]:
        """How Hypothesis makes inputs: words, a few bytes, and pieces of the seeds."""
        word = st.one_of(
            st.sampled_from(self.tokens), st.sampled_from(self.seeds), st.binary(max_size=4)
        )
        words = st.lists(word, max_size=_MOST_WORDS).map(b"".join)
        return st.builds(bytes.__add__, st.binary(max_size=6), words)


_FRAMES: Final = (
    b'{"op":1,"data":{"token":"t","group":"a","name":"n","meta":{"k":[1]},"echo":false}}',
    b'{"op":0,"id":"1","event":"E","data":[{"a":"\\u00e9"}],"intent":{"target":"GLOBAL"}}',
    b'{"op":0,"id":"2","timeout":100,"intent":{"target":"GROUP","identifier":"a","pick":"ONE"}}',
    b'{"op":0,"intent":{"target":"GROUP","identifier":"a","key":"k"},"trace":"00-0"}',
    b'{"op":5,"id":"2","data":null,"intent":{"target":"DIRECT","identifier":"id-1"}}',
    b'{"op":5,"id":"2","error":{"code":"X","message":"m"},"source":{"id":"x","group":"y"}}',
    b'{"op":0,"op":3}',
    b'{ "op" : 2 ,\n"data" : "\xc3\xa9" }',
)

_JSON_WORDS: Final = (
    *(b'"' + word + b'"' for word in b"op id event data intent source timeout error".split()),
    *(b'"' + word + b'"' for word in b"trace target identifier pick key GLOBAL GROUP".split()),
    *(b"DIRECT ONE ALL true false null NaN -1 0 1 2 3 4 5 6 1e9 0.5 86400001".split()),
    *(b'{ } [ ] , : " \\ \n \r \t'.split(b" ")),
    *(b"[[[[[[[[", b"]]]]]]]]", b'{"":{"":{"":{"":', b"}}}}", b'{"op":0,"data":', b"}\n{"),
    *(b"\\ud800", b"\\udc00", b"\\u0000", b"\\u00", b"\xc3\xa9", b"\xc3", b"\xff", b"\xef\xbb\xbf"),
    b'{"op":3}',
    b'{"op":3}\n{"op":4}\n',
    b"x" * 70,
)


def _client_frame(first: int, payload: bytes) -> bytes:
    """A masked frame whose mask changes nothing, so that a fuzzer can see through it."""
    return _server_frame(first, payload, 0x80, b"\0\0\0\0")


def _server_frame(first: int, payload: bytes, bit: int = 0, mask: bytes = b"") -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([first, bit | size]) + mask + payload
    return bytes([first, bit | 126]) + size.to_bytes(2, "big") + mask + payload


# Payloads by the first byte of their frame: FIN, reserved bits, opcode.
_FRAME_WORDS: Final = {
    0x81: (b'{"op":3}', b'{"op":9}', b"\xff", *_FRAMES),
    0x01: (b'{"op":',),
    0x00: (b"", b"3"),
    0x80: (b"}",),
    0x89: (b"ping", b"p" * 125),
    0x8A: (b"pong",),
    0x88: (b"", b"\x03\xe8bye", b"\x03\xed", b"\x03"),
    0x82: (b"binary",),
    0xC1: (b'{"op":3}',),
    0x09: (b"",),
}
_LENGTHS: Final = (
    b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x05",
    b"\x81\xfe\x00\x05",
)


def _frame_words(build: Callable[[int, bytes], bytes]) -> tuple[bytes, ...]:
    words = (build(first, payload) for first in _FRAME_WORDS for payload in _FRAME_WORDS[first])
    return (*words, *_LENGTHS)


_HEADER = b"\x00\x00\x00\x05\x20\x01"
_FRAME_HEADER = b"\x02\x00\x00\x00\x05\x20\x01"

_REQUEST: Final = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_REQUEST_WORDS: Final = (
    *(_REQUEST.splitlines(keepends=True)),
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"Origin: https://example.org\r\n",
    b"Origin: https://evil.example\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    b"Upgrade: h2c, websocket\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Sec-WebSocket-Key: short\r\n",
    b"Sec-WebSocket-Version: 8\r\n",
    b"Expect: 100-continue\r\n",
    b" folded\r\n",
    b"X: \xff\r\n",
    b"X: 1\r\n" * 40,
    b"POST / HTTP/1.1\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"GET / HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET ",
    b"HTTP/1.1",
    b"x" * 100,
)
_RESPONSE: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
)
_RESPONSE_WORDS: Final = (
    *(_RESPONSE.splitlines(keepends=True)),
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
    b"Sec-WebSocket-Protocol: x\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 403 Forbidden\r\n",
    b"HTTP/1.0 403 x\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 999 x\r\n",
    b"HTTP/9.9 200 x\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"\r\n",
    b"\xff",
    b"x" * 100,
)

# Steps of the mesh with what they choose behind them.
_JOINS: Final = tuple(
    bytes([0, websocket, group, token, echo, concurrency])
    for websocket, group, token, echo, concurrency in (
        (0, 0, 0, 1, 0),
        (1, 0, 0, 1, 1),
        (0, 1, 0, 0, 2),
        (1, 2, 2, 1, 0),
    )
)
_ASK_ONE: Final = bytes([1, 0, 1, 0, 0, 1, 2, 1, 0])
_ASK_ALL: Final = bytes([1, 1, 1, 0, 1, 3, 2, 0])
_ASK_ONE_DIRECTLY: Final = bytes([1, 0, 3, 3, 2, 2, 2])
_FLOOD: Final = bytes([1, 0, 0, 2, 4, 2])
_ANSWERS: Final = bytes([4, 3, 0, 1, 0, 4, 3, 1, 1, 1, 4, 3, 2, 2, 0])
_STALL: Final = bytes([5, 1, 2])
_UNSTALL: Final = bytes([5, 1, 6])
_TIME: Final = bytes([6, 3])
_GARBAGE: Final = bytes([7, 1, 8]) + b'{"op":9}\n'
_LEAVES: Final = (bytes([10, 1, 0]), bytes([10, 1, 1]), bytes([10, 1, 2]))
_RELOADS: Final = (bytes([12, 1]), bytes([12, 0]))
_WORLD: Final = b"".join(_JOINS)
_MESH_WORDS: Final = (
    *(bytes([number]) for number in range(len(STEPS))),
    *(bytes([number | 0x80]) for number in range(len(STEPS))),
    *_JOINS,
    _ASK_ONE,
    _ASK_ALL,
    _ASK_ONE_DIRECTLY,
    _FLOOD,
    _ANSWERS,
    _STALL,
    _UNSTALL,
    _TIME,
    _GARBAGE,
    *_LEAVES,
    *_RELOADS,
    # WATCH, SERVICES, and a broadcast that nobody asked for.
    bytes([2, 0, 0, 3, 0, 7, 1]),
    bytes([2, 0, 0, 3, 0, 4, 1]),
    bytes([2, 1, 0, 0, 0, 3, 4]),
)
_MESH_SEEDS: Final = (
    _WORLD + _ASK_ONE + _ASK_ALL + _ANSWERS * 2 + _TIME,
    _WORLD + _ASK_ONE * 4 + _ANSWERS + _LEAVES[0] + _TIME + _ANSWERS,
    _WORLD + _STALL + _FLOOD * 6 + _TIME + _UNSTALL,
    _WORLD + _STALL + _FLOOD * 6 + _TIME * 3,
    _WORLD + _ASK_ALL + _LEAVES[1] + _LEAVES[2] + _TIME,
    _WORLD + _RELOADS[0] + _ASK_ONE * 3 + _RELOADS[1] + _ANSWERS,
    _WORLD + _ASK_ONE_DIRECTLY + bytes([9, 0]) + _ANSWERS + _GARBAGE + _TIME,
)

TARGETS: Final = {
    target.name: target
    for target in (
        Target(
            "json-stream",
            fuzz_json_stream,
            (*_JSON_WORDS, *_FRAMES),
            tuple(_HEADER + frame for frame in (*_FRAMES, b"".join(_FRAMES), b"\n".join(_FRAMES))),
        ),
        Target(
            "websocket-server",
            fuzz_server_frames,
            _frame_words(_client_frame),
            tuple(_FRAME_HEADER + word for word in _frame_words(_client_frame)),
        ),
        Target(
            "websocket-client",
            fuzz_client_frames,
            _frame_words(_server_frame),
            tuple(_FRAME_HEADER + word for word in _frame_words(_server_frame)),
        ),
        Target(
            "handshake-server",
            fuzz_server_handshake,
            _REQUEST_WORDS,
            (
                b"\x01\x05\x20\x01" + _REQUEST + b"\r\n",
                b"\x02\x05\x20\x01" + _REQUEST + b"\r\nrest",
            ),
        ),
        Target(
            "handshake-client",
            fuzz_client_handshake,
            _RESPONSE_WORDS,
            tuple(
                b"\x01\x05\x20\x01" + response
                for response in (
                    _RESPONSE + b"\r\n",
                    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello",
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                )
            ),
        ),
        Target(
            "codec",
            fuzz_codec,
            (*_JSON_WORDS, *_FRAMES),
            tuple(b"\x00" + frame for frame in _FRAMES),
        ),
        Target("mesh", fuzz_mesh, _MESH_WORDS, _MESH_SEEDS, longest=600, share=4),
    )
}


def make_input(target: Target, dice: random.Random) -> bytes:
    """Put words together, and spoil some of it."""
    words = [dice.choice(target.seeds)] if dice.random() < 0.7 else []
    words += dice.choices(target.tokens, k=dice.randrange(20))
    data = bytearray(b"".join(words))
    for _ in range(dice.choice([0, 0, 1, 3, 10])):
        place = dice.randrange(len(data) + 1)
        data[place : place + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
    return bytes(data)


def read_corpus(name: str) -> list[bytes]:
    """Return the inputs that are kept for a target: one a line, as Python writes bytes."""
    path = CORPUS / f"{name}.txt"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]
