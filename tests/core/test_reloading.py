"""Other settings while connections are there: what changes at once, and what stays."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from broker.core.access_settings import CertificateSettings, PermissionSettings, TokenSettings
from broker.core.authentication import hash_token
from broker.core.settings import LimitSettings, Settings, TimingSettings
from tests.core.memory_mesh import TOKEN, TOKENS, Client, MemoryMesh

OTHER = TokenSettings(hash_token("other"), "other")
TO_BROKER = {"target": "DIRECT", "identifier": "$broker"}


def other_may(*groups: str, **permissions: Any) -> Settings:
    allowed = attrs.evolve(OTHER, groups=groups, permissions=PermissionSettings(**permissions))
    return Settings(tokens=(*TOKENS, allowed))


def end_of(client: Client) -> tuple[str, str]:
    *_, end = client.take()
    assert end["op"] == 2
    return end["data"], end["error"]["message"]


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh(Settings(tokens=(*TOKENS, OTHER)))


def reload(mesh: MemoryMesh, settings: Settings) -> None:
    mesh.dispatcher.reload(settings, mesh.now)


# -- who stays -------------------------------------------------------------------------------------


def test_who_has_a_token_that_is_gone_is_disconnected_and_nobody_else(mesh: MemoryMesh) -> None:
    gone, stays = mesh.join("web", token="other"), mesh.join("web")
    reload(mesh, Settings(tokens=TOKENS))

    assert end_of(gone) == (
        "UNAUTHORIZED",
        "what you identified yourself with is not accepted any more",
    )
    assert not stays.gone
    assert mesh.dispatcher.statistics().closed == {"UNAUTHORIZED": 1}


def test_a_certificate_that_is_gone() -> None:
    certificates = (CertificateSettings("a"), CertificateSettings("b"))
    mesh = MemoryMesh(Settings(certificates=certificates))
    clients = []
    for name in "ab":
        client = mesh.connect(certificate_names=(name,))
        client.send(op=1, data={"group": "g"})
        clients.append(client)
    reload(mesh, Settings(certificates=certificates[1:]))

    assert [client.gone for client in clients] == [True, False]


def test_who_may_not_be_in_its_group_any_more_is_disconnected(mesh: MemoryMesh) -> None:
    web, billing = mesh.join("web", token="other"), mesh.join("billing", token="other")
    reload(mesh, other_may("billing"))

    assert end_of(web) == ("UNAUTHORIZED", "you may not be in group 'web' any more")
    assert not billing.gone


def test_the_requests_of_those_who_go_end_as_they_always_do(mesh: MemoryMesh) -> None:
    gone, stays = mesh.join("web", token="other"), mesh.join("work")
    to_gone = {"target": "DIRECT", "identifier": gone.id}
    stays.send(op=0, id="1", event="E", intent=to_gone, timeout=1000)
    reload(mesh, Settings(tokens=TOKENS))

    (end,) = stays.take()
    assert (end["id"], end["error"]["code"]) == ("1", "PEER_GONE")


def test_new_tokens_let_in_and_old_ones_do_not(mesh: MemoryMesh) -> None:
    reload(mesh, Settings(tokens=(TokenSettings(hash_token("new")),)))
    mesh.join("web", token="new")
    old = mesh.connect()
    old.identify("web")

    assert end_of(old)[0] == "IDENTIFY_FAILED"


def test_who_has_yet_to_identify_itself_does_so_by_the_new_settings(mesh: MemoryMesh) -> None:
    client = mesh.connect()
    reload(mesh, Settings(tokens=(OTHER,)))
    client.identify("web")

    assert end_of(client)[0] == "IDENTIFY_FAILED"


# -- what they may do ------------------------------------------------------------------------------


def test_permissions_change_at_once_both_ways(mesh: MemoryMesh) -> None:
    client = mesh.join("web", token="other")
    codes = []
    for settings in (other_may(send_global=False), other_may(), other_may(send_events=("F",))):
        reload(mesh, settings)
        client.send(op=0, event="E", intent={"target": "GLOBAL"})
        (answer,) = client.take()
        codes.append(answer.get("error", {}).get("code"))

    assert codes == ["FORBIDDEN", None, "FORBIDDEN"]
    assert mesh.dispatcher.statistics().denied == 2


def test_who_may_not_watch_any_more_is_told_of_nobody(mesh: MemoryMesh) -> None:
    watcher, other = mesh.join("web", token="other"), mesh.join("web")
    for client in (watcher, other):
        client.send(op=0, event="WATCH", intent=TO_BROKER)
        client.take()
    gone = mesh.join("web", token="other")
    watcher.take()
    reload(mesh, attrs.evolve(other_may("web", watch=False)))
    mesh.join("new")
    gone.leave()

    assert watcher.take() == []
    assert {frame["event"] for frame in other.take()} == {"$up", "$down"}


def test_who_has_lost_the_right_to_watch_does_not_see_who_is_sent_away(mesh: MemoryMesh) -> None:
    third = TokenSettings(hash_token("third"))
    reload(mesh, Settings(tokens=(*TOKENS, OTHER, third)))
    watcher = mesh.join("web", token="other")
    watcher.send(op=0, event="WATCH", intent=TO_BROKER)
    watcher.take()
    sent_away = mesh.join("web", token="third")
    watcher.take()
    reload(mesh, other_may(services=False))

    assert sent_away.gone
    assert watcher.take() == []


def test_what_others_see_of_a_service_does_not_change(mesh: MemoryMesh) -> None:
    client = mesh.join("web", token="other", name="web-1", meta={"a": 1})
    reload(mesh, other_may(stats=True))
    client.send(op=0, event="WHOAMI", intent=TO_BROKER)
    (answer,) = client.take()

    assert (answer["data"]["name"], answer["data"]["meta"]) == ("web-1", {"a": 1})
    assert answer["data"]["since"] == "1970-01-01T00:16:40.000Z"


# -- limits ----------------------------------------------------------------------------------------


def limited(**limits: Any) -> Settings:
    return Settings(tokens=(*TOKENS, OTHER), limits=LimitSettings(**limits))


def ask(client: Client, number: int) -> None:
    """Ask oneself, and have no answer yet."""
    intent = {"target": "DIRECT", "identifier": client.id}
    client.send(op=0, id=str(number), event="E", intent=intent, timeout=60_000)


def refusals(client: Client) -> list[str]:
    return [frame["error"]["code"] for frame in client.take() if "error" in frame]


@pytest.mark.parametrize("limit", ["requests", "requests_per_connection"])
def test_fewer_requests_or_more(mesh: MemoryMesh, limit: str) -> None:
    client = mesh.join("web")
    for number in range(4):
        ask(client, number)
    reload(mesh, limited(**{limit: 2}))
    ask(client, 4)
    assert refusals(client) == ["OVERLOADED"]
    assert mesh.dispatcher.statistics().requests_in_flight == 4
    # Those that are in flight end as ever, and make room.
    for number in range(3):
        client.send(op=0, id=str(number), event="$cancel")
    ask(client, 5)
    ask(client, 6)
    assert refusals(client) == ["OVERLOADED"]
    assert mesh.dispatcher.statistics().requests_in_flight == 2
    reload(mesh, limited(**{limit: 3}))
    ask(client, 7)
    ask(client, 8)
    assert refusals(client) == ["OVERLOADED"]
    assert mesh.dispatcher.statistics().requests_in_flight == 3


def test_how_many_requests_wait(mesh: MemoryMesh) -> None:
    worker, client = mesh.join("work", concurrency=1), mesh.join("web")
    reload(mesh, limited(waiting_per_group=1))
    intent = {"target": "GROUP", "identifier": "work", "pick": "ONE"}
    for number in range(3):
        client.send(op=0, id=str(number), event="E", intent=intent, timeout=60_000)

    assert refusals(client) == ["OVERLOADED"]
    assert len(worker.take()) == 1


def test_when_a_receiver_is_slow(mesh: MemoryMesh) -> None:
    slow, client = mesh.join("slow"), mesh.join("web")
    reload(mesh, limited(message_bytes=3000, outbox_high_bytes=1024, outbox_bytes=4096))
    intent = {"target": "GROUP", "identifier": "slow"}
    client.send(op=0, event="E", data="x" * 2000, intent=intent)
    assert client.peer.stalls == 1
    client.send(op=0, event="E", data="x" * 2500, intent=intent)
    assert slow.peer.farewell is not None
    assert slow.peer.farewell.reason == "SLOW_CONSUMER"


def test_how_long_a_receiver_may_be_slow(mesh: MemoryMesh) -> None:
    timing = TimingSettings(stall_ms=1000)
    limits = LimitSettings(outbox_high_bytes=1024)
    reload(mesh, Settings(tokens=TOKENS, limits=limits, timing=timing))
    slow, client = mesh.join("slow"), mesh.join("web")
    intent = {"target": "GROUP", "identifier": "slow"}
    client.send(op=0, event="E", data="x" * 2000, intent=intent)
    mesh.pass_time(1.1)

    assert slow.gone


def test_failures_by_address(mesh: MemoryMesh) -> None:
    def knock() -> str:
        client = mesh.connect("192.0.2.1:1")
        client.identify("web", token="wrong")
        return end_of(client)[0]

    reload(mesh, limited(failures_per_address=1))
    assert [knock(), knock()] == ["IDENTIFY_FAILED", "TRY_AGAIN_LATER"]
    reload(mesh, limited(failures_per_address=0))
    assert knock() == "IDENTIFY_FAILED"


def test_the_ping_time_stays_as_everybody_was_told(mesh: MemoryMesh) -> None:
    timing = TimingSettings(ping_ms=1000)
    before = mesh.join("web")
    reload(mesh, Settings(tokens=TOKENS, timing=timing))
    after = mesh.connect()
    after.identify("web", token=TOKEN)
    (welcome,) = after.take()
    mesh.pass_time(3)

    assert welcome["data"]["ping"] == 30_000
    assert before.take() == []
