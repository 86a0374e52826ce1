"""Bytes to frames and back, against the json module and a plain description of the rules."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from broker.protocol.codec import (
    REFUSED,
    Envelope,
    EnvelopeIntent,
    EnvelopeSource,
    Refusal,
    decode,
    decode_frame,
    decode_lines,
    disconnect_message,
    encode,
    encode_frame,
    encode_lines,
    parse_data,
    to_error,
    to_frame,
)
from broker.protocol.errors import ErrorCode, Reason, RemoteProtocolError
from broker.protocol.frames import Error, Frame, Intent, OpCode, Pick, Source, Target

# -- Values ----------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def names(longest: int) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=["Cs"])
    return st.one_of(
        st.text(characters, min_size=1, max_size=6),
        st.sampled_from(["x" * longest, "\U0001f600" * longest, '"', "\\", "\n", "\0", "$"]),
    )


intents = st.builds(
    Intent,
    st.sampled_from(Target),
    names(128),
    pick=st.one_of(st.none(), st.sampled_from(Pick)),
    key=st.one_of(st.none(), names(128)),
) | st.just(Intent(Target.GLOBAL))
errors = st.builds(
    Error,
    st.one_of(st.sampled_from(ErrorCode).map(str), texts),
    texts,
    st.dictionaries(texts.filter(lambda name: name not in ("code", "message")), values, max_size=3),
)
frames = st.builds(
    Frame,
    op=st.sampled_from(OpCode),
    id=st.none() | names(64),
    event=st.none() | names(128),
    data=values,
    intent=st.none() | intents,
    source=st.none() | st.builds(Source, texts, texts),
    timeout=st.none() | st.sampled_from([1, 2, 1000, 86_400_000]),
    error=st.none() | errors,
    trace=st.none() | names(128),
)


# -- Round trips -----------------------------------------------------------------------------------


@given(frames)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(frames)
def test_the_json_module_reads_the_same(frame: Frame) -> None:
    """Compact, each property once, absent ones left out."""
    message = encode_frame(frame)
    pairs = json.loads(message, object_pairs_hook=lambda pairs: pairs)
    order = ["op", "id", "event", "data", "intent", "source", "timeout", "error", "trace"]
    names = [name for name, _ in pairs]
    assert names == [name for name in order if name in names]

    written = json.loads(message)
    assert written.pop("op") == frame.op
    assert written.pop("data", None) == frame.data
    intent = frame.intent
    if intent is not None:
        parts = {
            "target": intent.target.value,
            "identifier": intent.identifier,
            "pick": intent.pick and intent.pick.value,
            "key": intent.key,
        }
        assert written.pop("intent") == {
            name: part for name, part in parts.items() if part is not None
        }
    if frame.source is not None:
        assert written.pop("source") == {"id": frame.source.id, "group": frame.source.group}
    if frame.error is not None:
        error = written.pop("error")
        assert (error.pop("code"), error.pop("message")) == (frame.error.code, frame.error.message)
        assert error == frame.error.details
    plain = {"id": frame.id, "event": frame.event, "timeout": frame.timeout, "trace": frame.trace}
    assert written == {name: value for name, value in plain.items() if value is not None}


@given(values, st.sampled_from([None, 0, 3]), st.booleans())
def test_data_keeps_its_bytes(value: Any, indent: int | None, ascii_only: bool) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    message = b'{"data" :\t%b ,"op": 0}' % data
    envelope = decode(message)

    assert isinstance(envelope, Envelope)
    assert encode(envelope) == b'{"op":0,"data":%b}' % data
    assert to_frame(envelope).data == value


@given(st.lists(st.tuples(frames, st.sampled_from([b"", b"\n", b" \r\n"])), max_size=5))
def test_a_block_is_as_many_times_one(block: list[tuple[Frame, bytes]]) -> None:
    messages = [encode_frame(frame) for frame, _ in block]
    data = b"".join(
        message + between for message, (_, between) in zip(messages, block, strict=True)
    )
    envelopes = decode_lines(data)

    assert [encode(envelope) for envelope in envelopes] == messages
    assert encode_lines(envelopes) == [message + b"\n" for message in messages]


# -- Whatever comes in -----------------------------------------------------------------------------

MISSING = object()


def is_name(value: object, longest: int, shortest: int = 1) -> bool:
    return value is None or (isinstance(value, str) and shortest <= len(value) <= longest)


def is_intent(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.get("target") in ("GLOBAL", "GROUP", "DIRECT")
        and is_name(value.get("identifier"), 128, shortest=0)
        and value.get("pick") in (None, "ALL", "ONE")
        and is_name(value.get("key"), 128)
    )


def is_source(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and isinstance(value.get("group"), str)
    )


def is_timeout(value: object) -> bool:
    return value is None or (
        isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 86_400_000
    )


RULES: dict[str, Callable[[object], bool]] = {
    "id": lambda value: is_name(value, 64),
    "event": lambda value: is_name(value, 128),
    "intent": is_intent,
    "source": is_source,
    "timeout": is_timeout,
    "trace": lambda value: is_name(value, 128),
}


def judge(pairs: list[tuple[str, Any]]) -> str:
    """What must come of an object, by a plain reading of the rules; the last of doubled keys."""
    properties = dict(pairs)
    op = properties.get("op", MISSING)
    if op is MISSING or not isinstance(op, int) or isinstance(op, bool):
        return Reason.INVALID_PAYLOAD
    if not 0 <= op <= 5:
        return Reason.UNKNOWN_OP
    wrong = [
        name for name, rule in RULES.items() if name in properties and not rule(properties[name])
    ]
    if not wrong:
        return "accepted"
    # Where several are wrong, it is the first in the order of the frame's properties.
    return ErrorCode.INVALID_INTENT if wrong[0] == "intent" else ErrorCode.INVALID_FRAME


anything = st.one_of(
    values,
    st.sampled_from(["", "x" * 64, "x" * 65, "x" * 128, "x" * 129, "GLOBAL", 0, 1, 5, 6, -1]),
    st.sampled_from([86_400_000, 86_400_001, 2**63, 2**64, 1.0, True, None, [], {}]),
)
any_intents = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"target": st.sampled_from(["GLOBAL", "GROUP", "DIRECT", "group", "", None, 1])},
        optional={
            "identifier": st.one_of(st.just("a"), anything),
            "pick": st.sampled_from(["ALL", "ONE", "one", None, True]),
            "key": st.one_of(st.just("a"), anything),
            "unknown": values,
        },
    ),
)
pairs = st.lists(
    st.one_of(
        st.tuples(st.just("op"), st.integers(-1, 6)),
        st.tuples(st.just("op"), anything),
        st.tuples(st.sampled_from(["id", "event", "timeout", "trace", "source"]), anything),
        st.tuples(st.just("id"), st.just("my id")),
        st.tuples(st.just("intent"), any_intents),
        st.tuples(st.just("source"), st.just({"id": "a", "group": "b"})),
        st.tuples(st.sampled_from(["data", "error", "unknown", "Op"]), values),
    ),
    max_size=8,
)


def write_object(pairs: list[tuple[str, Any]], escaped: bool) -> bytes:
    """Write an object with doubled keys; with `escaped`, keys in an unusual but equal form."""

    def key(name: str) -> str:
        if escaped:
            return '"' + "".join(f"\\u{ord(character):04x}" for character in name) + '"'
        return json.dumps(name)

    return (
        "{" + ", ".join(f"{key(name)}: {json.dumps(value)}" for name, value in pairs) + "}"
    ).encode()


@given(pairs, st.booleans())
@example([("op", 0), ("id", 7), ("id", "my id")], False)
@example([("op", "0"), ("op", 3)], True)
@example([("op", 0), ("intent", {}), ("intent", None)], True)
def test_every_object_is_judged_by_the_rules(pairs: list[tuple[str, Any]], escaped: bool) -> None:
    wanted = judge(pairs)
    last = dict(pairs)
    if wanted in list(Reason):
        with pytest.raises(RemoteProtocolError, match=r".") as caught:
            decode(write_object(pairs, escaped))
        assert caught.value.reason == wanted
        return
    message = decode(write_object(pairs, escaped))
    if isinstance(message, Refusal):
        assert message.op == REFUSED
        assert message.code == wanted
        # Its id and event are said back where they can be.
        assert message.id == (last.get("id") if RULES["id"](last.get("id")) else None)
        assert message.event == (last.get("event") if RULES["event"](last.get("event")) else None)
    else:
        assert wanted == "accepted"
        assert (message.op, message.id) == (last["op"], last.get("id"))
        data = last.get("data", MISSING)
        assert data is MISSING if message.data is UNSET else parse_data(message.data) == data


@given(pairs, st.booleans())
def test_a_block_of_one_is_judged_no_milder(pairs: list[tuple[str, Any]], escaped: bool) -> None:
    """The fast way lets nothing through that the slow way does not."""
    message = write_object(pairs, escaped)
    try:
        (envelope,) = decode_lines(message)
    except (ValueError, RecursionError):
        return
    assert judge(pairs) == "accepted"
    assert encode(envelope) == encode(decode(message))


# RFC 8259, all of it: what is inserted could make it another thing, or nothing.
mutations = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.integers(0, 2),
        st.sampled_from(
            [
                b"",
                *(
                    bytes([byte])
                    for byte in b'{}[]",:\\/0123456789eE+-.truefalsn \t\n\r\0\x0c\xc3\xa9u'
                ),
            ]
        ),
    ),
    min_size=1,
    max_size=3,
)
SEED = (
    '{"op":0,"data":{"a":[1,-2.5e+10,true,false,null,"\\u00e9\\n\u00e9"],"b":{}},"x":"\U0001f600"}'
).encode()


def refuse_constant(text: str) -> None:
    raise ValueError(text)


@given(mutations)
def test_what_is_json_is_what_the_json_module_says(
    changes: list[tuple[int, int, bytes]],
) -> None:
    text = bytearray(SEED)
    for place, length, replacement in changes:
        at = place % (len(text) + 1)
        text[at : at + length] = replacement
    try:
        value = json.loads(text.decode(), parse_constant=refuse_constant)
        is_json = True
    except ValueError:
        is_json = False
    # Halves of surrogate pairs have no UTF-8: the json module lets them through, we do not.
    assume(b"\\ud" not in bytes(text).lower())
    try:
        decode(bytes(text))
        problem = ""
    except RemoteProtocolError as error:
        problem = str(error)
    refused_as_json = problem.startswith(("not JSON", "not valid UTF-8"))
    not_an_object = problem.startswith("a frame is a JSON object: ")
    if is_json:
        assert not refused_as_json, problem
        assert not_an_object == (not isinstance(value, dict))
    else:
        # What does not even begin like an object need not be read to its end.
        assert refused_as_json or not_an_object


# -- Words -----------------------------------------------------------------------------------------

NO_FRAME = (Reason.INVALID_PAYLOAD, 4002)
NO_UTF8 = (Reason.INVALID_PAYLOAD, 1007)
NO_OP = (Reason.UNKNOWN_OP, 4001)
NESTED = b'{"op":0,"data":' + b"[" * 5000 + b"]" * 5000 + b"}"
ENDS = "not JSON: it ends too early, or a string holds half a surrogate pair"
MALFORMED = "not JSON: JSON is malformed: "

FATAL = [
    (b"", NO_FRAME, ENDS),
    (b'{"op":0', NO_FRAME, ENDS),
    (b"hello", NO_FRAME, MALFORMED + "invalid character (byte 0)"),
    (b'{"op":0,}', NO_FRAME, MALFORMED + "trailing comma in object (byte 8)"),
    (b'{"op":0}{"op":0}', NO_FRAME, MALFORMED + "trailing characters (byte 9)"),
    (b"[0]", NO_FRAME, "a frame is a JSON object: expected object, got array"),
    (b"null", NO_FRAME, "a frame is a JSON object: expected object, got null"),
    (b"{}", NO_FRAME, "a frame needs the property op"),
    (b'{"op":"0"}', NO_FRAME, "op: expected int, got str"),
    (b'{"op":1.5}', NO_FRAME, "op: expected int, got float"),
    (b'{"op":6}', NO_OP, "op: 6 is none of 0 to 5"),
    (b'{"op":999999999}', NO_OP, "op: 999999999 is none of 0 to 5"),
    (b'{"op":1000000000}', NO_OP, "op: that number is none of 0 to 5"),
    (b'{"op":0,"a":"\xff"}', NO_UTF8, "not valid UTF-8: invalid start byte (byte 13)"),
    (b'{"op":0,"a":"\xc3"}', NO_UTF8, "not valid UTF-8: invalid continuation byte (byte 13)"),
    (NESTED, NO_FRAME, "nested too deeply"),
    (NESTED.replace(b"{", b'{"id":7,'), NO_FRAME, "nested too deeply"),
]


@pytest.mark.parametrize(("message", "end", "text"), FATAL)
def test_what_is_no_frame(message: bytes, end: tuple[Reason, int], text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(message)
    error = caught.value
    assert (error.reason, error.close_code, str(error)) == (*end, text)
    with pytest.raises((ValueError, RecursionError)):
        decode_lines(message + b" x" if not message else message.replace(b"}{", b"}x{"))


INVALID = ErrorCode.INVALID_FRAME
INTENT = ErrorCode.INVALID_INTENT

REFUSALS = [
    ('"id":7', INVALID, "id: expected str | null, got int"),
    ('"id":""', INVALID, "id: expected str of length >= 1"),
    ('"id":"%s"' % ("x" * 65), INVALID, "id: expected str of length <= 64"),
    ('"event":[]', INVALID, "event: expected str | null, got array"),
    ('"event":""', INVALID, "event: expected str of length >= 1"),
    ('"event":"%s"' % ("x" * 129), INVALID, "event: expected str of length <= 128"),
    ('"intent":7', INTENT, "intent: expected object | null, got int"),
    ('"intent":{}', INTENT, "intent: object missing required field target"),
    ('"intent":{"target":"x"}', INTENT, "intent.target: 'x' is none of GLOBAL, GROUP, DIRECT"),
    ('"intent":{"target":7}', INTENT, "intent.target: expected str, got int"),
    ('"intent":{"target":null}', INTENT, "intent.target: expected str, got null"),
    (
        '"intent":{"target":"GROUP","identifier":7}',
        INTENT,
        "intent.identifier: expected str | null, got int",
    ),
    (
        '"intent":{"target":"GROUP","pick":"x"}',
        INTENT,
        "intent.pick: 'x' is none of ALL, ONE",
    ),
    (
        '"intent":{"target":"GROUP","key":""}',
        INTENT,
        "intent.key: expected str of length >= 1",
    ),
    ('"source":7', INVALID, "source: expected object | null, got int"),
    ('"source":{"id":"a"}', INVALID, "source: object missing required field group"),
    ('"source":{"id":7,"group":"b"}', INVALID, "source.id: expected str, got int"),
    ('"timeout":0', INVALID, "timeout: expected int >= 1"),
    ('"timeout":86400001', INVALID, "timeout: expected int <= 86400000"),
    ('"timeout":1.5', INVALID, "timeout: expected int | null, got float"),
    ('"timeout":"1"', INVALID, "timeout: expected int | null, got str"),
    ('"timeout":1%s' % ("0" * 30), INVALID, "timeout: expected int <= 86400000"),
    ('"trace":7', INVALID, "trace: expected str | null, got int"),
    ('"trace":"%s"' % ("x" * 129), INVALID, "trace: expected str of length <= 128"),
    # The first in the frame's own order, wherever they stand.
    ('"trace":7,"intent":7,"event":7', INVALID, "event: expected str | null, got int"),
    ('"timeout":7.5,"intent":7', INTENT, "intent: expected object | null, got int"),
]


@pytest.mark.parametrize(("property_", "code", "text"), REFUSALS)
def test_what_is_wrong_in_meaning(property_: str, code: ErrorCode, text: str) -> None:
    for message in (f'{{"op":0,{property_}}}', f'{{{property_},"op":5}}'):
        refusal = decode(message.encode())
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.message) == (code, text)
        with pytest.raises(ValueError, match=r"."):
            decode_lines(message.encode())
        with pytest.raises(RemoteProtocolError, match=r".") as caught:
            decode_frame(message.encode())
        assert (caught.value.reason, str(caught.value)) == (Reason.INVALID_PAYLOAD, text)


# -- Doubled keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "intent",
    [
        '{"target":"GLOBAL","target":"GROUP","identifier":"a"}',
        '{"target":"nobody","target":"GROUP","identifier":"a"}',
        '{"target":7,"identifier":"a","target":"GROUP"}',
        '{"target":"GROUP","identifier":"b","identifier":"a"}',
        '{"target":"GROUP","identifier":7,"identifier":"a"}',
        '{"target":"GROUP","identifier":"b","\\u0069dentifier":"a"}',
        '{"t\\u0061rget":"GLOBAL","target":"GROUP","identifier":"a"}',
        '{"target":"GROUP","identifier":"a","x":"target","x":{"target":"GLOBAL"}}',
        '{"target":"GROUP","pick":"ONE","pick":null,"identifier":"a"}',
        '{"target":"GROUP","pick":7,"pick":null,"identifier":"a"}',
    ],
)
def test_of_doubled_keys_in_an_intent_the_last_counts(intent: str) -> None:
    for message in (
        f'{{"op":0,"intent":{intent}}}',
        f'{{"op":0,"intent":7,"intent":{intent}}}',
        f'{{"op":0,"intent":{{"target":"DIRECT"}},"\\u0069ntent":{intent}}}',
    ):
        envelope = decode(message.encode())
        assert isinstance(envelope, Envelope), message
        assert envelope.intent == EnvelopeIntent("GROUP", "a")
        assert encode(envelope) == b'{"op":0,"intent":{"target":"GROUP","identifier":"a"}}'


def test_of_doubled_data_one_goes_out() -> None:
    envelope = decode(b'{"op":0,"data":1,"\\u0064ata":[2 ],"x":3}')
    assert isinstance(envelope, Envelope)
    assert encode(envelope) == b'{"op":0,"data":[2 ]}'


# -- The rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_a_disconnect_says_its_reason_as_a_bare_string(reason: Reason) -> None:
    assert disconnect_message(reason) == b'{"op":2,"data":"%b"}' % reason.encode()
    frame = decode_frame(disconnect_message(reason, 'what "was" wrong'))
    assert frame == Frame(
        op=OpCode.DISCONNECT, data=reason.value, error=Error(reason.value, 'what "was" wrong')
    )


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, None),
        ({"code": "EXPIRED", "message": "late"}, Error("EXPIRED", "late")),
        ({"code": "X", "message": "m", "retry_after": 5}, Error("X", "m", {"retry_after": 5})),
        ({}, Error("UNKNOWN", "")),
        ({"code": 7, "message": None}, Error("7", "None")),
        ("went wrong", Error("UNKNOWN", "went wrong")),
        (["a"], Error("UNKNOWN", "['a']")),
        (0, Error("UNKNOWN", "0")),
    ],
)
def test_errors_of_services_are_read_leniently(value: object, error: Error | None) -> None:
    assert to_error(value) == error
    message = b'{"op":5,"error":%b}' % json.dumps(value).encode()
    assert decode_frame(message).error == error


@pytest.mark.parametrize("intent", ['{"target":"GROUP"}', '{"target":"DIRECT","identifier":""}'])
def test_for_people_an_intent_is_complete(intent: str) -> None:
    """On the hot path it is the router that says so."""
    message = b'{"op":0,"intent":%b}' % intent.encode()
    assert isinstance(decode(message), Envelope)
    with pytest.raises(RemoteProtocolError, match="needs an identifier") as caught:
        decode_frame(message)
    assert caught.value.reason is Reason.INVALID_PAYLOAD


def test_a_global_intent_may_have_an_empty_identifier() -> None:
    """The original's page writes it so."""
    frame = decode_frame(b'{"op":0,"intent":{"target":"GLOBAL","identifier":""}}')
    assert frame.intent == Intent(Target.GLOBAL)


@pytest.mark.parametrize("data", [object(), {(1, 2): 3}, {object(): 1}, 1j])
def test_data_that_json_has_no_form_for(data: object) -> None:
    with pytest.raises(TypeError):
        encode_frame(Frame(op=OpCode.EVENT, data=data))


def test_data_that_is_nested_too_deeply() -> None:
    data: list[Any] = []
    for _ in range(100_000):
        data = [data]
    with pytest.raises(RecursionError):
        encode_frame(Frame(op=OpCode.EVENT, data=data))


@pytest.mark.parametrize("data", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have(data: float) -> None:
    assert encode_frame(Frame(op=OpCode.EVENT, data=[data])) == b'{"op":0,"data":[null]}'


def test_an_envelope_is_written_in_the_order_of_its_properties() -> None:
    envelope = Envelope(
        op=5,
        id="1",
        event="E",
        data=Raw(b"[ ]"),
        intent=EnvelopeIntent("GROUP", "g", "ONE", "k"),
        source=EnvelopeSource("a", "b"),
        timeout=7,
        error=Raw(b"{}"),
        trace="t",
    )
    assert encode(envelope) == (
        b'{"op":5,"id":"1","event":"E","data":[ ],"intent":{"target":"GROUP","identifier":"g",'
        b'"pick":"ONE","key":"k"},"source":{"id":"a","group":"b"},"timeout":7,"error":{},'
        b'"trace":"t"}'
    )
    decoded = decode(encode(envelope))
    assert isinstance(decoded, Envelope)
    assert encode(decoded) == encode(envelope)
