"""How fast a principal may send: exact for each message, and shared by its connections."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.access_settings import PermissionSettings
from broker.core.authentication import hash_token
from broker.core.principal import Principal
from broker.core.rates import Bucket, Rates
from broker.core.settings import LimitSettings, Settings, TokenSettings
from broker.protocol.codec import Envelope, EnvelopeIntent, Message, Refusal, encode
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh
from tests.core.peers import make_peer

EVERYONE = EnvelopeIntent("GLOBAL")


def event(id: str = "1") -> Envelope:
    return Envelope(op=0, id=id, event="E", intent=EVERYONE)


def no_answer(_peer: object, _envelope: Envelope) -> bool:
    return False


def limit(bucket: Bucket, messages: list[Message], now: float) -> list[bool]:
    """Return which of the messages get through."""
    limited = bucket.limit(make_peer("a"), messages, now, no_answer)
    assert len(limited) == len(messages)
    for before, after in zip(messages, limited, strict=True):
        assert after is before or (isinstance(after, Refusal) and after.code == "RATE_LIMITED")
    return [after is before for before, after in zip(messages, limited, strict=True)]


def wait_of(bucket: Bucket, now: float, message: Envelope | None = None) -> int:
    (refusal,) = bucket.limit(make_peer("a"), [message or event()], now, no_answer)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after is not None
    return refusal.retry_after


def test_a_batch_is_cut_off_at_the_very_message() -> None:
    bucket = Bucket(10, None, 0.0)
    assert limit(bucket, [event()] * 12, 0.0) == [True] * 10 + [False] * 2
    assert limit(bucket, [event()], 0.05) == [False]
    assert limit(bucket, [event()] * 2, 0.1) == [True, False]
    # It holds no more than a second's worth, however long nothing is sent.
    assert limit(bucket, [event()] * 12, 1000.0) == [True] * 10 + [False] * 2


def test_who_comes_back_when_told_to_gets_through() -> None:
    bucket = Bucket(3, None, 0.0)
    limit(bucket, [event()] * 3, 0.0)
    wait = wait_of(bucket, 0.0)
    assert wait == 334
    assert limit(bucket, [event()], (wait - 2) / 1000) == [False]
    assert limit(bucket, [event()], wait / 1000) == [True]


def test_bytes_count_as_the_broker_writes_them() -> None:
    size = len(encode(event()))
    bucket = Bucket(None, 4 * size + 1, 0.0)
    assert limit(bucket, [event()] * 5, 0.0) == [True] * 4 + [False]


def test_both_bounds_hold_at_a_time() -> None:
    size = len(encode(event()))
    bucket = Bucket(3, 2 * size, 0.0)
    assert limit(bucket, [event()] * 4, 0.0) == [True, True, False, False]
    bucket = Bucket(2, 3 * size, 0.0)
    assert limit(bucket, [event()] * 4, 0.0) == [True, True, False, False]


def test_what_is_larger_than_the_bucket_gets_through_when_it_is_full_and_is_waited_for() -> None:
    large = Envelope(op=0, id="x" * 64, event="E" * 128, intent=EVERYONE)
    size = len(encode(large))
    bucket = Bucket(None, 100, 0.0)
    assert limit(bucket, [large, event()], 0.0) == [True, False]
    assert size > 200
    assert wait_of(bucket, 0.0, large) == size * 10
    assert limit(bucket, [large], size / 100) == [True]


@pytest.mark.parametrize(
    "message",
    [
        Envelope(op=3),
        Envelope(op=4),
        Envelope(op=2),
        Envelope(op=0, id="1", event="$cancel"),
        Refusal("INVALID_FRAME", "no"),  # type: ignore[arg-type]
    ],
)
def test_some_frames_always_get_through_and_count(message: Message) -> None:
    bucket = Bucket(2, None, 0.0)
    assert limit(bucket, [message] * 3 + [event()], 0.0) == [True] * 3 + [False]
    assert wait_of(bucket, 0.0) == 1000, "for the one too many, and for this one"


def test_a_flood_that_gets_through_is_not_paid_for_for_ever() -> None:
    bucket = Bucket(2, None, 0.0)
    assert all(limit(bucket, [Envelope(op=3)] * 10_000, 0.0))
    assert wait_of(bucket, 0.0) <= 2000


@given(
    rate=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 2000)), max_size=20),
)
def test_never_more_than_the_rate_and_never_much_less(
    rate: int, steps: list[tuple[float, int]]
) -> None:
    bucket = Bucket(rate, None, 0.0)
    now, level = 0.0, float(rate)
    for delay, count in steps:
        now += delay
        level = min(rate, level + delay * rate)
        passed = sum(limit(bucket, [event()] * count, now))
        assert abs(passed - min(count, int(level))) <= 1, "but for rounding"
        level -= passed


# -- Whose bucket it is ----------------------------------------------------------------------------


def principal(name: str = "billing", **own: Any) -> Principal:
    return Principal(name, permissions=PermissionSettings(**own), proof=name)


def test_without_any_rate_there_is_no_bucket() -> None:
    rates, peer = Rates(LimitSettings()), make_peer("a")
    rates.join(peer, principal(), 0.0)
    assert peer.bucket is None
    assert len(rates) == 0


def test_connections_of_one_principal_share_and_others_do_not() -> None:
    rates = Rates(LimitSettings(messages_per_second=10))
    first, second, other = make_peer("a"), make_peer("a"), make_peer("a")
    rates.join(first, principal(), 0.0)
    rates.join(second, principal(), 0.0)
    rates.join(other, principal("orders"), 0.0)
    assert first.bucket is second.bucket is not None
    assert other.bucket is not first.bucket


def test_what_a_principal_has_of_its_own_comes_before_the_limit_of_all() -> None:
    rates, peer = Rates(LimitSettings(messages_per_second=10)), make_peer("a")
    rates.join(peer, principal(messages_per_second=2), 0.0)
    assert peer.bucket is not None
    assert limit(peer.bucket, [event()] * 3, 0.0) == [True, True, False]


def test_coming_back_is_no_way_to_a_full_bucket() -> None:
    rates, peer = Rates(LimitSettings(messages_per_second=10)), make_peer("a")
    rates.join(peer, principal(), 0.0)
    assert peer.bucket is not None
    limit(peer.bucket, [event()] * 10, 0.0)
    rates.leave(peer)
    rates.leave(peer)
    assert peer.bucket is None
    again = make_peer("a")
    rates.join(again, principal(), 0.0)
    assert again.bucket is not None
    assert limit(again.bucket, [event()], 0.0) == [False]


def test_principals_that_have_left_are_forgotten_when_their_buckets_are_full() -> None:
    rates = Rates(LimitSettings(messages_per_second=10))
    staying = make_peer("a")
    rates.join(staying, principal("stays"), 0.0)
    for number in range(10_000):
        peer = make_peer("a")
        rates.join(peer, principal(str(number)), number / 100)
        assert peer.bucket is not None
        limit(peer.bucket, [event()], number / 100)
        rates.leave(peer)
    assert len(rates) < 3000
    again = make_peer("a")
    rates.join(again, principal("stays"), 100.0)
    assert again.bucket is staying.bucket


# -- In the broker ---------------------------------------------------------------------------------


def mesh_of(**limits: Any) -> MemoryMesh:
    return MemoryMesh(Settings(tokens=TOKENS, limits=LimitSettings(**limits)))


def direct(client: Client) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client.id}


def test_a_frame_too_many_is_refused_with_its_id_and_when_to_come_again() -> None:
    mesh = mesh_of(messages_per_second=2)
    client = mesh.join("demo")
    for number in range(3):
        client.send(op=0, id=str(number), event="E", intent=direct(client))
    first, second, refused = client.take()
    assert (first["id"], second["id"]) == ("0", "1")
    assert (refused["op"], refused["id"], refused["event"]) == (5, "2", "E")
    assert refused["error"]["code"] == "RATE_LIMITED"
    assert refused["error"]["retry_after"] == 500
    assert not client.gone
    assert mesh.dispatcher.statistics().refused == {"RATE_LIMITED": 1}
    mesh.pass_time(0.5)
    client.send(op=0, id="3", event="E", intent=direct(client))
    assert [frame["id"] for frame in client.take()] == ["3"]


def test_a_request_too_many_ends_at_once() -> None:
    mesh = mesh_of(messages_per_second=1)
    asker, worker = mesh.join("askers"), mesh.join("workers")
    asker.send(op=0, id="1", event="E", intent=direct(worker), timeout=1000)
    asker.send(op=0, id="2", event="E", intent=direct(worker), timeout=1000)
    assert [frame["error"]["code"] for frame in asker.take()] == ["RATE_LIMITED"]
    assert [frame["id"] for frame in worker.take()] == ["1"]
    assert mesh.dispatcher.statistics().requests == 1


def test_an_error_has_its_place_among_the_others() -> None:
    mesh = mesh_of(messages_per_second=2)
    client = mesh.join("demo")
    client.send_bytes(
        b'{"op":0,"id":"1","event":"E"}\n{"op":0,"id":"2","event":"E"}\n'
        b'{"op":0,"id":"3","event":"E"}\n{"op":3,"id":"4"}\n{"op":0,"id":"5"}\n'
    )
    assert [frame["id"] for frame in client.take()] == ["1", "2", "3", "4", "5"]


def test_answers_to_requests_always_get_through_and_other_replies_do_not() -> None:
    limits = LimitSettings(messages_per_second=1)
    other_token = TokenSettings(hash_token("asker"), "asker")
    own = attrs.evolve(other_token, permissions=PermissionSettings(messages_per_second=1000))
    mesh = MemoryMesh(Settings(tokens=(*TOKENS, own), limits=limits))
    asker = mesh.connect()
    asker.send(op=1, data={"token": "asker", "group": "askers"})
    asker.take()
    worker = mesh.join("workers")
    for number in range(5):
        asker.send(op=0, id=str(number), event="E", intent=direct(worker), timeout=1000)
    worker.take()
    for number in (*range(5), 0):
        worker.send(op=5, id=str(number), intent=direct(asker))
    assert [frame["id"] for frame in asker.take()] == ["0", "1", "2", "3", "4"]
    assert worker.take() == [], "the one that came too late is no fault worth an error"
    for intent in (direct(asker), {"target": "GLOBAL"}):
        worker.send(op=5, id="x", intent=intent)
        (refused,) = worker.take()
        assert refused["error"]["code"] == "RATE_LIMITED"
    assert asker.take() == []


def test_connections_share_the_rate_in_the_broker_too() -> None:
    mesh = mesh_of(messages_per_second=2)
    clients = [mesh.join("demo") for _ in range(3)]
    for client in clients:
        client.send(op=0, id="1", event="E", intent=direct(client))
    assert [client.take()[0]["op"] for client in clients] == [0, 0, 5]
    mesh.join("demo")


def test_a_reload_changes_the_rates_of_who_is_there() -> None:
    mesh = mesh_of()
    client = mesh.join("demo")
    assert client.peer.bucket is None
    limits = LimitSettings(messages_per_second=1)
    mesh.dispatcher.reload(Settings(tokens=TOKENS, limits=limits), mesh.now)
    for _ in range(2):
        client.send(op=0, id="1", event="E", intent=direct(client))
    assert [frame["op"] for frame in client.take()] == [0, 5]
    mesh.dispatcher.reload(Settings(tokens=TOKENS), mesh.now)
    assert client.peer.bucket is None


def test_nothing_stays_behind_of_a_peer_that_leaves() -> None:
    mesh = mesh_of(messages_per_second=1)
    client = mesh.join("demo")
    bucket = client.peer.bucket
    assert bucket is not None
    assert bucket.connections == 1
    client.leave()
    assert bucket.connections == 0
