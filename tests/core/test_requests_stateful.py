"""No request ever hangs: random lives of a mesh against a model of what its members may see."""

from __future__ import annotations

import os
from typing import Any

import attrs
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from broker.core.balancer import is_full
from broker.core.settings import LimitSettings, Settings, TimingSettings
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh

GROUPS = st.sampled_from(["a", "b"])
# Heartbeats are not the subject: nobody is pinged within any of these lives.
SETTINGS = Settings(
    tokens=TOKENS,
    timing=TimingSettings(ping_ms=10**9),
    limits=LimitSettings(waiting_per_group=3, requests_per_connection=6),
)


@attrs.define(eq=False)
class Asked:
    """What the model knows of a request that has not ended."""

    requester: Client = attrs.field(repr=lambda client: client.id)
    id: str
    deadline: float
    intent: dict[str, str]
    callees: set[str] = attrs.field(factory=set)
    missing: set[str] | None = None

    @property
    def gather(self) -> bool:
        return self.intent["target"] != "DIRECT" and self.intent.get("pick") != "ONE"

    @property
    def waits(self) -> bool:
        return not self.callees and not self.gather


class Life(RuleBasedStateMachine):
    """Members come, ask, answer, give up and go; after each step, all that arrived is looked at."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.mesh = MemoryMesh(SETTINGS)
        self.alive: dict[str, Client] = {}
        self.requests: dict[tuple[str, str], Asked] = {}
        self.ended: list[tuple[str, str, str]] = []  # requester, id, someone who was asked
        self.given_up: set[tuple[str, str]] = set()
        self.late = 0
        self.counter = 0

    # What may happen.

    @initialize(target=clients)
    def begin(self) -> MultipleResults[Client]:
        """Some are there from the start, so that requests soon have to wait."""
        members = [self.mesh.join(group, concurrency=1) for group in "aab"]
        self.alive.update((client.id, client) for client in members)
        return multiple(*members)

    @rule(
        target=clients,
        group=GROUPS,
        concurrency=st.sampled_from([1, 1, 2, None]),
        echo=st.booleans(),
    )
    def join(self, group: str, concurrency: int | None, echo: bool) -> Client:
        client = self.mesh.connect()
        client.identify(group, concurrency=concurrency, echo=echo)
        self.alive[client.id] = client
        self.look()
        return client

    @rule(
        requester=clients,
        intent=st.one_of(
            GROUPS.map(lambda group: {"target": "GROUP", "identifier": group, "pick": "ONE"}),
            st.tuples(GROUPS, st.sampled_from("xyz")).map(
                lambda pair: {
                    "target": "GROUP",
                    "identifier": pair[0],
                    "pick": "ONE",
                    "key": pair[1],
                }
            ),
            GROUPS.map(lambda group: {"target": "GROUP", "identifier": group}),
            st.just({"target": "GLOBAL"}),
        ),
        timeout=st.integers(1, 3_000),
    )
    def ask(self, requester: Client, intent: dict[str, str], timeout: int) -> None:
        self.send_request(requester, intent, timeout)

    @rule(requester=clients, callee=clients, timeout=st.integers(1, 3_000))
    def ask_directly(self, requester: Client, callee: Client, timeout: int) -> None:
        self.send_request(requester, {"target": "DIRECT", "identifier": callee.id}, timeout)

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Whoever is asked answers, in any order."""
        open_ones = [(asked, id) for asked in self.requests.values() for id in asked.callees]
        if open_ones:
            asked, callee = data.draw(st.sampled_from(open_ones))
            self.reply(self.alive[callee], asked.requester.id, asked.id)
            if asked.gather:
                asked.callees.discard(callee)
            self.look(answered=(asked, callee))

    @rule(data=st.data())
    def answer_again_or_late(self, data: st.DataObject) -> None:
        """An answer to what has ended reaches nobody."""
        late = [entry for entry in self.ended if {entry[0], entry[2]} <= self.alive.keys()]
        if late:
            requester, id, callee = data.draw(st.sampled_from(late))
            self.reply(self.alive[callee], requester, id)
            self.late += 1
            self.look()

    @rule(stranger=clients, data=st.data())
    def answer_uninvited(self, stranger: Client, data: st.DataObject) -> None:
        """Only a callee can answer."""
        others = [
            asked
            for asked in self.requests.values()
            if stranger.id not in asked.callees | (asked.missing or set())
            and (asked.requester.id, asked.id, stranger.id) not in self.ended
        ]
        if others and not stranger.gone:
            asked = data.draw(st.sampled_from(others))
            self.reply(stranger, asked.requester.id, asked.id)
            self.look(refused=(stranger, "FORBIDDEN"))

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.requests:
            asked = data.draw(st.sampled_from(list(self.requests.values())))
            self.cancel(asked)
            asked.requester.send(op=0, event="$cancel", id=asked.id)
            self.look()

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        if client.gone:
            return
        for asked in [a for a in self.requests.values() if a.requester is client]:
            self.cancel(asked)
        del self.alive[client.id]
        client.leave()
        self.look(left=client)
        # Everyone who waited for it has been told, within this very step.
        for asked in self.requests.values():
            assert client.id not in asked.callees | (asked.missing or set())

    @rule(seconds=st.floats(0, 1.5))
    def pass_time(self, seconds: float) -> None:
        self.mesh.pass_time(seconds)
        self.look()
        for asked in self.requests.values():
            assert asked.deadline > self.mesh.now - 0.02, "expired, and nobody was told"

    @rule()
    def start_to_drain(self) -> None:
        """Rarely: nothing new can be asked from there on."""
        if self.counter > 40:
            self.mesh.dispatcher.drain()

    # What must hold.

    @invariant()
    def books_agree(self) -> None:
        ledger = self.mesh.dispatcher.requests.ledger
        assert len(ledger) == len(self.requests)
        assert {(call.requester.id, call.id) for call in ledger} == self.requests.keys()
        for client in self.alive.values():
            mine = [id for requester, id in self.requests if requester == client.id]
            assert sorted(client.peer.asked) == sorted(mine)
            work = [a for a in self.requests.values() if client.id in a.callees]
            assert len(client.peer.working) == len(work)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """While a request waits, its group has members, and not one of them is free."""
        for asked in self.requests.values():
            if asked.waits:
                peers = [client.peer for client in self.alive.values()]
                members = [
                    peer
                    for peer in peers
                    if peer.source.group == asked.intent["identifier"]
                    and (peer.echo or peer is not asked.requester.peer)
                ]
                free = [peer for peer in members if not is_full(peer)]
                assert members
                assert not free or "key" in asked.intent

    def teardown(self) -> None:
        self.mesh.pass_time(10)
        self.look()
        assert not self.requests
        assert not list(self.mesh.dispatcher.requests.ledger)
        assert self.mesh.dispatcher.statistics().late_replies == self.late
        assert self.mesh.dispatcher.requests.waiting_bytes == 0
        for client in list(self.alive.values()):
            assert not client.peer.asked
            assert not client.peer.working
            client.leave()
        assert not self.mesh.dispatcher.statistics().connections

    # The model's hands.

    def send_request(self, requester: Client, intent: dict[str, str], timeout: int) -> None:
        if requester.gone:
            return
        self.counter += 1
        id = str(self.counter)
        deadline = self.mesh.now + timeout / 1000
        self.requests[requester.id, id] = Asked(requester, id, deadline, intent)
        requester.send(op=0, id=id, event="ASK", data=[id], intent=intent, timeout=timeout)
        self.look()

    def reply(self, callee: Client, requester: str, id: str) -> None:
        intent = {"target": "DIRECT", "identifier": requester}
        callee.send(op=5, id=id, data={"from": callee.id}, intent=intent)

    def cancel(self, asked: Asked) -> None:
        del self.requests[asked.requester.id, asked.id]
        for callee in asked.callees:
            self.given_up.add((callee, asked.id))
            self.ended.append((asked.requester.id, asked.id, callee))

    def end(self, asked: Asked, callee: str | None) -> None:
        del self.requests[asked.requester.id, asked.id]
        if callee is not None:
            self.ended.append((asked.requester.id, asked.id, callee))

    def look(
        self,
        *,
        answered: tuple[Asked, str] | None = None,
        refused: tuple[Client, str] | None = None,
        left: Client | None = None,
    ) -> None:
        """Look at every frame that has arrived anywhere, and hold it against the model."""
        arrived = [(client, frame) for client in self.alive.values() for frame in client.take()]
        # A request that waited may be handed out, and only then be known to the model: first see
        # who is asked, then what was answered.
        for client, frame in arrived:
            if frame["op"] == 0:
                self.see_event(client, frame)
        for client, frame in arrived:
            if frame["op"] == 5:
                if refused is not None and client is refused[0] and "error" in frame:
                    assert frame["error"]["code"] == refused[1]
                    refused = None
                else:
                    self.see_reply(client, frame, answered)
                    if answered is not None and frame.get("data") == {"from": answered[1]}:
                        answered = None
        assert refused is None, "the answer of a stranger was let through"
        assert answered is None, "an answer did not arrive"
        assert not self.given_up & {
            (callee, id) for callee, id in self.given_up if callee in self.alive
        }, "a callee was not told that its answer is not wanted any more"
        del left

    def see_event(self, client: Client, frame: dict[str, Any]) -> None:
        key = frame["source"]["id"], frame["id"]
        if frame["event"] == "$cancel":
            self.given_up.remove((client.id, frame["id"]))
            return
        asked = self.requests[key]
        assert asked.deadline > self.mesh.now - 0.02
        assert frame["timeout"] <= 3_000
        if asked.gather:
            assert client.id not in asked.callees
        else:
            assert not asked.callees, "two members were asked"
            concurrency = client.peer.concurrency
            one = frame["intent"].get("pick") == "ONE"
            if one and concurrency is not None:
                assert len(client.peer.working) <= concurrency
        asked.callees.add(client.id)

    def see_reply(
        self, client: Client, frame: dict[str, Any], answered: tuple[Asked, str] | None
    ) -> None:
        asked = self.requests.get((client.id, frame["id"]))
        assert asked is not None, f"a second ending, or one of nothing: {frame}"
        error = frame.get("error")
        if frame.get("event") == "$expect":
            assert asked.missing is None
            asked.missing = {member["id"] for member in frame["data"]["members"]}
            return
        if error is None:
            member = frame["source"]["id"]
            assert answered == (asked, member), "an answer from nowhere"
        else:
            member = error.get("member")
            self.see_error(asked, error)
        if not asked.gather or asked.missing is None:
            self.end(asked, member)
            return
        asked.missing.remove(member)
        asked.callees.discard(member)
        if not asked.missing:
            self.end(asked, member)
        elif member is not None:
            self.ended.append((client.id, asked.id, member))

    def see_error(self, asked: Asked, error: dict[str, Any]) -> None:
        code = error["code"]
        if code == "EXPIRED":
            assert asked.deadline <= self.mesh.now
        elif code == "PEER_GONE":
            assert error["member"] not in self.alive
        elif code == "DRAINING":
            assert self.mesh.dispatcher.requests.ledger.draining
        else:
            assert code in {"NO_ROUTE", "OVERLOADED"}


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=int(os.environ.get("LIVES", "4000"))
    if os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
    else 300,
    stateful_step_count=60,
    phases=(Phase.explicit, Phase.generate),
)
