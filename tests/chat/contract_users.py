"""What stores promise about users, names and tokens."""

from __future__ import annotations

import pytest

from services.chat.messages import ANONYMOUS_NAME
from services.chat.model import User, UserKind
from services.chat.store import Claim, Holder, NameTakenError, NoRecordError, Store
from tests.chat.database import Database, Promises, account, at_once, hold

USERS = Promises()

ONE, OTHER = Holder("gateway", "one"), Holder("gateway", "other")


async def claim(store: Store, holder: Holder, name: str, *, exclusive: bool = False) -> Claim:
    return await store.claim_guest(holder, name, 1, exclusive=exclusive)


@USERS.add
async def an_account_is_found_by_id_uuid_and_name(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store, "Bob", now=1_700_000_000_000)
        assert (bob.username, bob.kind, bob.online) == ("Bob", UserKind.ACCOUNT, False)
        assert bob.created == 1_700_000_000_000
        assert await store.user(id=bob.id) == bob
        assert await store.user(uuid=bob.uuid) == bob
        assert await store.user(username="Bob") == bob
        assert await store.password_hash("Bob") == (bob, "a hash")


@USERS.add
async def an_unknown_user_is_none(database: Database) -> None:
    async with database.open() as store:
        for id in (0, -1, 77, 2**31, 2**63 - 1, 2**63, 10**30):
            assert await store.user(id=id) is None
        for text in ("", "nobody", "a\0b", "'; DROP TABLE users; --", "x" * 100_000):
            assert await store.user(uuid=text) is None
            assert await store.user(username=text) is None
            assert await store.password_hash(text) is None


@USERS.add
async def names_that_look_alike_are_one_account(database: Database) -> None:
    async with database.open() as store:
        await account(store, "Straße")
        # Case, full case folding, full-width letters, and a character that cannot be seen.
        alike = ("straße", "STRASSE", "\uff33trasse", "Stra\u200bße", "\u202dStraße")
        for name in alike:
            with pytest.raises(NameTakenError):
                await account(store, name)
            found = await store.password_hash(name)
            assert found is not None
            assert found[0].username == "Straße"
        await account(store, "Strabe")


@USERS.add
async def one_of_many_gets_an_account_name(database: Database) -> None:
    made: list[User] = []
    refused: list[NameTakenError] = []

    async def register(store: Store) -> None:
        try:
            made.append(await account(store))
        except NameTakenError as error:
            refused.append(error)

    async with database.open() as one, database.open() as other:
        await at_once(*(lambda store=store: register(store) for store in [one, other] * 5))
    assert (len(made), len(refused)) == (1, 9)


@USERS.add
async def a_guest_keeps_the_row_of_an_earlier_time(database: Database) -> None:
    async with database.open() as store:
        first = await claim(store, ONE, "eve")
        assert first.created
        assert (first.user.kind, first.user.online) == (UserKind.GUEST, True)
        await store.close_session(ONE)
        assert await store.user(id=first.user.id) is not None
        again = await claim(store, OTHER, "EVE")
        assert not again.created
        assert (again.user.id, again.user.username) == (first.user.id, "eve")


@USERS.add
async def a_guest_cannot_take_the_name_of_an_account(database: Database) -> None:
    async with database.open() as store:
        await account(store, "bob")
        for exclusive in (False, True):
            with pytest.raises(NameTakenError):
                await claim(store, ONE, "BOB", exclusive=exclusive)


@USERS.add
async def an_account_cannot_take_the_name_of_a_guest_who_is_there(database: Database) -> None:
    async with database.open() as store:
        eve = (await claim(store, ONE, "eve")).user
        with pytest.raises(NameTakenError):
            await account(store, "Eve")
        await store.close_session(ONE)
        registered = await account(store, "Eve")
        assert registered.id != eve.id
        # By name, the account comes first.
        assert await store.user(username="eve") == registered


@USERS.add
async def a_shared_name_may_be_several_sessions(database: Database) -> None:
    async with database.open() as store:
        one, other = await claim(store, ONE, "eve"), await claim(store, OTHER, "eve")
        assert one.user.id == other.user.id
        # Again, by the same session.
        await claim(store, ONE, "eve")


@USERS.add
async def a_name_of_ones_own_is_refused_to_others(database: Database) -> None:
    async with database.open() as store:
        await claim(store, ONE, "eve", exclusive=True)
        for exclusive in (False, True):
            with pytest.raises(NameTakenError):
                await claim(store, OTHER, "eve", exclusive=exclusive)
        await claim(store, ONE, "Eve", exclusive=True)
        # With another name, or the end of the session, it is free.
        await claim(store, ONE, "mallory", exclusive=True)
        await claim(store, OTHER, "eve", exclusive=True)
        await store.close_session(OTHER)
        await claim(store, ONE, "eve", exclusive=True)


@USERS.add
async def a_name_that_is_in_use_cannot_be_had_alone(database: Database) -> None:
    async with database.open() as store:
        await claim(store, ONE, "eve")
        with pytest.raises(NameTakenError):
            await claim(store, OTHER, "eve", exclusive=True)
        # It may be by who has it, and be shared again.
        await claim(store, ONE, "eve", exclusive=True)
        await claim(store, ONE, "eve")
        await claim(store, OTHER, "eve")


@USERS.add
async def a_refused_claim_leaves_the_former_name(database: Database) -> None:
    async with database.open() as store:
        await account(store, "bob")
        eve = (await claim(store, ONE, "eve", exclusive=True)).user
        with pytest.raises(NameTakenError):
            await claim(store, ONE, "bob")
        found = await store.user(id=eve.id)
        assert found is not None
        assert found.online
        with pytest.raises(NameTakenError):
            await claim(store, OTHER, "eve")


@USERS.add
async def one_of_many_gets_a_name_alone(database: Database) -> None:
    got: list[Claim] = []
    refused: list[NameTakenError] = []

    async def take(store: Store, number: int) -> None:
        try:
            got.append(await claim(store, Holder("g", f"s{number}"), "eve", exclusive=True))
        except NameTakenError as error:
            refused.append(error)

    async with database.open() as one, database.open() as other:
        await at_once(
            *(lambda store=store, n=n: take(store, n) for n, store in enumerate([one, other] * 5))
        )
    assert (len(got), len(refused)) == (1, 9)


@USERS.add
async def many_who_share_a_new_name_are_one_user(database: Database) -> None:
    claims: list[Claim] = []

    async def take(store: Store, number: int) -> None:
        claims.append(await claim(store, Holder("g", f"s{number}"), "eve"))

    async with database.open() as one, database.open() as other:
        await at_once(
            *(lambda store=store, n=n: take(store, n) for n, store in enumerate([one, other] * 5))
        )
        assert len({found.user.id for found in claims}) == 1
        assert [found.created for found in claims].count(True) == 1
        assert (await one.users(0, 10, accounts_only=False))[1] == 1


@USERS.add
async def all_may_be_anonymous(database: Database) -> None:
    async with database.open() as store:
        one, other = await store.claim_anonymous(ONE), await store.claim_anonymous(OTHER)
        assert one.user == other.user
        assert (one.user.username, one.user.kind) == (ANONYMOUS_NAME, UserKind.ANONYMOUS)
        assert not one.created


@USERS.add
async def users_are_listed_by_pages(database: Database) -> None:
    async with database.open() as store:
        await store.claim_anonymous(ONE)
        accounts = [await account(store, f"user {number}") for number in range(5)]
        guest = (await claim(store, OTHER, "guest")).user
        listed, total = await store.users(0, 100, accounts_only=False)
        assert listed == (*accounts, guest)
        assert total == 6
        assert await store.users(1, 2, accounts_only=True) == (tuple(accounts[1:3]), 5)
        assert await store.users(0, 0, accounts_only=True) == ((), 5)
        assert await store.users(99, 5, accounts_only=True) == ((), 5)
        assert await store.users(2**31 - 1, 5, accounts_only=True) == ((), 5)


@USERS.add
async def a_user_is_online_by_sessions(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        one = await hold(store, bob, "one")
        other = await hold(store, bob, "other", gateway="another")

        async def online() -> bool:
            found = await store.user(id=bob.id)
            assert found is not None
            return found.online

        assert await online()
        await store.close_session(one)
        assert await online()
        await store.close_session(other)
        assert not await online()
        await store.close_session(other)


@USERS.add
async def a_token_is_good_until_it_expires(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        now = 1_700_000_000_000
        await store.add_token("one", bob.id, now + 1000, now)
        await store.add_token("other", bob.id, now + 2000, now)
        assert await store.token_user("one", now + 999) == bob
        assert await store.token_user("one", now + 1000) is None
        assert await store.token_user("other", now + 1000) == bob
        assert await store.token_user("unknown", now) is None
        # Those that have expired go with the next one.
        await store.add_token("third", bob.id, now + 9000, now + 1500)
        assert await store.token_user("one", now) is None
        assert await store.token_user("other", now) == bob


@USERS.add
async def a_token_ends_when_it_is_removed(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        await store.add_token("one", bob.id, 2000, 1)
        await store.add_token("other", bob.id, 2000, 1)
        assert await store.remove_token("one")
        assert not await store.remove_token("one")
        assert await store.token_user("one", 1) is None
        assert await store.token_user("other", 1) == bob


@USERS.add
async def a_token_is_somebodys(database: Database) -> None:
    async with database.open() as store:
        with pytest.raises(NoRecordError):
            await store.add_token("one", 77, 2000, 1)
