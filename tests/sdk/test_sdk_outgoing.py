from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.codec import Envelope, EnvelopeIntent, EnvelopeSource, decode_frame
from broker.protocol.frames import Error, Intent, OpCode, Target
from services.sdk import BadRequest, PayloadError
from services.sdk.outgoing import describe, encode_reply, make_intent, to_milliseconds
from services.sdk.payloads import dump
from tests.sdk.scripted import PEER


@pytest.mark.parametrize(
    ("arguments", "intent", "text"),
    [
        ((None, None, None, None), EnvelopeIntent("GLOBAL"), "everyone"),
        (("a", None, None, None), EnvelopeIntent("GROUP", "a"), "group a"),
        (("a", None, "ONE", None), EnvelopeIntent("GROUP", "a", "ONE"), "group a"),
        (("a", None, None, "k"), EnvelopeIntent("GROUP", "a", "ONE", "k"), "group a"),
        ((None, "b", None, None), EnvelopeIntent("DIRECT", "b"), "connection b"),
    ],
)
def test_intents(arguments: tuple[Any, Any, Any, Any], intent: EnvelopeIntent, text: str) -> None:
    made = make_intent(*arguments)
    assert made == intent
    assert describe(made) == text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a", "b", None, None), "to= names one connection"),
        ((None, "b", "ONE", None), "to= names one connection"),
        ((None, None, "ONE", None), "give group="),
        ((None, None, None, "k"), "give group="),
        (("a", None, "ALL", "k"), "key= keeps to one member"),
        (("a", None, "SOME", None), "SOME"),
        (("", None, None, None), "group: a name has 1 to 128 characters, not 0"),
        ((None, "b" * 129, None, None), "to: a name has 1 to 128 characters, not 129"),
        (("a", None, None, ""), "key: a name"),
    ],
)
def test_contradictions(arguments: tuple[Any, Any, Any, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_intent(*arguments)


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(2, 2000), (0.0001, 1), (0.0015, 2), (86400, 86_400_000)]
)
def test_timeouts(seconds: float, milliseconds: int) -> None:
    assert to_milliseconds(seconds) == milliseconds


@pytest.mark.parametrize("seconds", [0, -1, 86401, float("nan"), float("inf")])
def test_timeouts_out_of_bounds(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        to_milliseconds(seconds)


def event() -> Envelope:
    return Envelope(0, "7", "SUM", dump([1]), source=EnvelopeSource(PEER.id, PEER.group))


def test_a_reply_goes_to_the_source_under_the_same_id() -> None:
    frame = decode_frame(encode_reply(event(), {"sum": 1}))
    assert (frame.op, frame.id, frame.event, frame.data) == (OpCode.REPLY, "7", "SUM", {"sum": 1})
    assert frame.intent == Intent(Target.DIRECT, PEER.id)
    assert frame.error is None


def test_an_error_reply() -> None:
    frame = decode_frame(encode_reply(event(), error=BadRequest("no", details={"at": "$.x"})))
    assert frame.error == Error("BAD_REQUEST", "no", {"at": "$.x"})
    assert frame.data is None


def test_an_event_without_a_source() -> None:
    with pytest.raises(ValueError, match="without a source"):
        encode_reply(Envelope(0, "7", "SUM"))


def test_data_without_a_form() -> None:
    with pytest.raises(PayloadError, match="JSON"):
        encode_reply(event(), object())
