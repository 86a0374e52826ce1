"""Who gets in, by numbers alone: no sockets, no clock."""

from __future__ import annotations

import random
from functools import partial

import attrs
import pytest

from broker.core.settings import LimitSettings
from broker.core.statistics import Counters
from broker.transport.admission import Admission, Ticket


@attrs.define
class House:
    """An admission whose evictions are noted.

    Attributes:
        evicted: who was ended, in order.
    """

    admission: Admission
    counters: Counters
    evicted: list[Ticket] = attrs.field(factory=list)

    def enter(self, now: float, host: str | None = "192.0.2.1") -> Ticket:
        ticket = self.admission.enter(host, now)
        ticket.evict = partial(self.evicted.append, ticket)
        return ticket

    def member(self, now: float, host: str | None = "192.0.2.1") -> Ticket:
        ticket = self.enter(now, host)
        assert ticket.refusal is None
        ticket.identified()
        return ticket


def house(**limits: int) -> House:
    counters = Counters()
    return House(Admission(LimitSettings(**limits), counters), counters)


# -- In all ----------------------------------------------------------------------------------------


def test_a_house_that_is_full_of_members_takes_nobody() -> None:
    here = house(connections=2)
    first, second = here.member(0), here.member(0)
    third = here.enter(100)
    assert third.refusal == "the broker has as many connections as it may; try again later"
    assert not here.evicted
    assert len(here.admission) == 2
    assert here.counters.turned_away == {"connections": 1}

    second.leave()
    assert here.enter(100).refusal is None
    assert not first.evicted


def test_whoever_was_refused_takes_no_place_and_leaves_none() -> None:
    here = house(connections=1)
    first = here.member(0)
    refused = here.enter(0)
    assert len(here.admission) == 1
    refused.leave()
    refused.leave()
    assert len(here.admission) == 1
    first.leave()
    assert len(here.admission) == 0


def test_whoever_has_not_identified_himself_makes_room_in_a_full_house() -> None:
    here = house(connections=2)
    here.member(0)
    silent = here.enter(0)
    newcomer = here.enter(1.5)
    assert newcomer.refusal is None
    assert here.evicted == [silent]
    assert silent.evicted
    assert len(here.admission) == 2
    assert here.counters.turned_away == {"evicted": 1}


# -- Unidentified ----------------------------------------------------------------------------------


def test_the_oldest_makes_room_first() -> None:
    here = house(unidentified_connections=3)
    silent = [here.enter(number / 10) for number in range(3)]
    for number in range(3):
        assert here.enter(2).refusal is None
        assert here.evicted == silent[: number + 1]
    assert here.admission.unidentified == 3


def test_members_are_no_strangers() -> None:
    here = house(unidentified_connections=1)
    for _ in range(10):
        here.member(0)
    assert not here.evicted
    assert (len(here.admission), here.admission.unidentified) == (10, 0)


def test_nobody_makes_room_before_having_had_a_second() -> None:
    """Else the newcomers of a storm would push each other out, and nobody would get in."""
    here = house(unidentified_connections=1)
    first = here.enter(10)
    assert here.enter(10.9).refusal is not None
    assert here.counters.turned_away == {"unidentified_connections": 1}
    assert not here.evicted
    assert here.enter(11).refusal is None
    assert here.evicted == [first]


def test_an_evicted_one_that_leaves_takes_nothing_with_it() -> None:
    here = house(unidentified_connections=1)
    first = here.enter(0)
    second = here.enter(2)
    first.leave()
    assert (len(here.admission), here.admission.unidentified) == (1, 1)
    second.leave()
    assert (len(here.admission), here.admission.unidentified) == (0, 0)


# -- Of an address ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:2:3:4:5", "2001:db8:0:2::1"),
    ],
)
def test_an_address_has_so_many(host: str, same: str, other: str) -> None:
    here = house(connections_per_address=2)
    first, second = here.member(0, host), here.enter(0, same)
    third = here.enter(0, same)
    assert third.refusal == (
        "the broker has as many connections from your address as it may; try again later"
    )
    assert here.counters.turned_away == {"connections_per_address": 1}
    assert here.enter(0, other).refusal is None
    assert here.admission.of_network(host) == 2

    second.leave()
    assert here.enter(0, host).refusal is None
    first.leave()
    assert here.enter(0, host).refusal is None


def test_unix_sockets_have_no_address() -> None:
    here = house(connections_per_address=1)
    assert [here.enter(0, None).refusal for _ in range(5)] == [None] * 5


def test_an_address_that_nobody_comes_from_is_forgotten() -> None:
    here = house()
    for number in range(1000):
        here.enter(0, f"192.0.{number // 256}.{number % 256}").leave()
    assert not here.admission._of_network


def test_a_full_address_pushes_nobody_out() -> None:
    """Or else one address could end the connections of others by going on to knock."""
    here = house(connections_per_address=1, unidentified_connections=2)
    here.enter(0, "192.0.2.2")
    here.enter(0, "192.0.2.1")
    for _ in range(10):
        assert here.enter(100, "192.0.2.1").refusal is not None
    assert not here.evicted


# -- The refused -----------------------------------------------------------------------------------


def test_only_so_many_are_taken_leave_of_at_a_time() -> None:
    here = house(connections=1)
    here.member(0)
    refused = [here.enter(0) for _ in range(300)]
    assert here.evicted == refused[: 300 - 256]
    assert not refused[0].evicted, "it has been told why already"


# -- Room where the system has none ----------------------------------------------------------------


def test_room_is_made_at_the_cost_of_the_refused_first_and_of_members_never() -> None:
    here = house(connections=2)
    here.member(0)
    silent = here.enter(0)
    refused = here.enter(0.5)
    assert refused.refusal is not None
    assert here.admission.make_room(0.5)
    assert here.evicted == [refused]
    assert not here.admission.make_room(0.5), "the silent one has had half a second"
    assert here.admission.make_room(1.5)
    assert here.evicted == [refused, silent]
    assert not here.admission.make_room(1000)


# -- A reload --------------------------------------------------------------------------------------


def test_other_limits_hold_for_whoever_comes_from_then_on() -> None:
    here = house(connections=1)
    here.member(0)
    assert here.enter(0).refusal is not None
    here.admission.limits = LimitSettings(connections=3)
    second = here.member(0)
    here.admission.limits = LimitSettings(connections=1)
    assert not here.evicted
    assert here.enter(0).refusal is not None
    second.leave()
    assert here.enter(0).refusal is not None


# -- All together ----------------------------------------------------------------------------------


def test_the_books_are_right_whatever_happens() -> None:
    dice = random.Random(7)
    here = house(connections=40, connections_per_address=9, unidentified_connections=15)
    inside: list[Ticket] = []
    members: set[Ticket] = set()
    for step in range(20_000):
        deed = dice.randrange(4)
        if deed < 2:
            ticket = here.enter(step / 10, dice.choice(["192.0.2.1", "192.0.2.2", "::1", None]))
            if ticket.refusal is None:
                inside.append(ticket)
        elif inside:
            ticket = dice.choice(inside)
            if deed == 2:
                ticket.identified()
                members.add(ticket)
            else:
                ticket.leave()
                inside.remove(ticket)
        inside = [ticket for ticket in inside if not ticket.evicted]
        assert not members.intersection(here.evicted)
        assert len(here.admission) == len(inside) <= 40
        assert here.admission.unidentified == len(set(inside) - members) <= 15
        of_first = sum(ticket.network == "192.0.2.1" for ticket in inside)
        assert here.admission.of_network("192.0.2.1") == of_first <= 9
    assert here.counters.turned_away["evicted"]
