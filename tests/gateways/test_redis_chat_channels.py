"""The public channel, and private ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import trio

from services.chat.messages import Posted, PresenceChanged
from services.gateways.redis_chat.codes import ErrorCode
from services.gateways.redis_chat.gateway import RedisChatGateway
from tests.gateways.houses import Guest, RedisChatHouse

PUBLIC = ("", 0, "0", None)


def texts(messages: list[Any]) -> list[str]:
    return [message["message"] for message in messages]


async def read(guest: Guest, recipient: Any = "", **page: Any) -> Any:
    answer = await guest.ask("channelMessages", {"recipientUUID": recipient, **page})
    assert answer["type"] == "channelRead", answer
    return answer["channelMessages"]


async def refused(guest: Guest, kind: str, data: Any) -> ErrorCode:
    answer = await guest.ask(kind, data)
    assert answer["type"] == "error", answer
    return ErrorCode(answer["error"]["code"])


async def test_a_public_message_goes_to_all_who_have_joined(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    eve = await redis_chat.come_as("Eve")
    await ann.join()
    await ben.join()
    assert (await ann.hear())["sys"]["type"] == "channelJoin"
    sent = await ann.write("hello")
    heard = await ben.hear()
    assert heard == {"type": "channelMessage", "channelMessage": sent}
    # Eve has not joined; what she hears next is the answer to her own request.
    assert texts((await read(eve))["messages"]) == ["hello"]


@pytest.mark.parametrize("recipient", PUBLIC)
async def test_the_public_channel_by_all_its_names(
    redis_chat: RedisChatHouse, recipient: Any
) -> None:
    ann = await redis_chat.come_as("Ann")
    await ann.join(recipient)
    await ann.write("hello", recipient)
    assert texts((await read(ann, recipient))["messages"]) == ["hello"]
    without = await ann.ask("channelMessages", {})
    assert texts(without["channelMessages"]["messages"]) == ["hello"]


async def test_a_message_in_both_spellings(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    for recipient in ("", ben.uuid):
        sent = await ann.write("hello", recipient)
        for one, other in (
            ("senderUUID", "SenderUUID"),
            ("recipientUUID", "RecipientUUID"),
            ("message", "Message"),
            ("createdAt", "CreatedAt"),
            ("created_at", "CreatedAt"),
        ):
            assert sent[one] == sent[other]
        assert sent["SenderUUID"] == sent["Sender"]["UUID"] == ann.uuid
        assert sent["RecipientUUID"] == recipient
        assert sent["Sender"]["Username"] == "Ann"
        assert ("Recipient" in sent) == bool(recipient)
        assert datetime.fromisoformat(sent["CreatedAt"]).tzinfo is not None
        assert sent["CreatedAt"].endswith("Z")
        [again] = (await read(ann, recipient))["messages"]
        assert again == sent


async def test_users_in_both_spellings(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    expected = {"UUID": ann.uuid, "Username": "Ann", "username": "Ann", "OnLine": True}
    assert (await ann.join())["users"] == [expected]
    assert (await ann.ask("users"))["users"]["users"] == [expected]


async def test_a_private_message_goes_to_the_two_and_nobody_else(
    redis_chat: RedisChatHouse,
) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    eve = await redis_chat.come_as("Eve")
    await ann.join(ben.uuid)
    await ben.join(ann.uuid)
    told = await ann.hear()
    assert told["sys"] == {"type": "channelJoin", "channelJoin": {"recipientUUID": ann.uuid}}
    assert (told["userUUID"], told["user"]["Username"]) == (ben.uuid, "Ben")
    await eve.join(ann.uuid)
    await eve.join()
    sent = await ben.write("for Ann", ann.uuid)
    assert (await ann.hear())["channelMessage"] == sent
    assert sent["Recipient"]["Username"] == "Ann"
    assert texts((await read(ann, ben.uuid))["messages"]) == ["for Ann"]
    assert texts((await read(eve, ann.uuid))["messages"]) == []
    assert texts((await read(eve))["messages"]) == []


async def test_a_private_message_waits_for_who_has_not_joined(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ann.write("one", ben.uuid)
    await ann.write("two", ben.uuid)
    assert texts((await ben.join(ann.uuid))["messages"]) == ["one", "two"]


async def test_joining_gives_the_last_ten_oldest_first_and_what_follows_once(
    redis_chat: RedisChatHouse,
) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    for number in range(12):
        await ann.write(str(number))
    assert texts((await ben.join())["messages"]) == [str(number) for number in range(2, 12)]
    await ann.write("12")
    assert (await ben.hear())["channelMessage"]["message"] == "12"


@pytest.mark.parametrize("leaving", [True, False])
async def test_nothing_is_lost_or_doubled_around_joining(
    redis_chat: RedisChatHouse, *, leaving: bool
) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    for number in range(100):
        data = {"recipientUUID": ben.uuid, "message": str(number)}
        await ann.talker.say(ann.request("channelMessage", data))
    channel = {"recipientUUID": ann.uuid}
    last = -1
    while last < 99:
        await ben.talker.say(ben.request("channelJoin", channel))
        said: Any = {"type": ""}
        while said["type"] != "channelJoin":
            said = await ben.hear()
            if said["type"] == "channelMessage":
                assert int(said["channelMessage"]["message"]) == last + 1
                last += 1
        got = texts(said["channelJoin"]["messages"])
        if got:
            assert int(got[-1]) >= last
            last = int(got[-1])
        for _ in range(3):
            if last < 99:
                said = await ben.talker.hear_until(lambda said: said["type"] == "channelMessage")
                assert int(said["channelMessage"]["message"]) == last + 1
                last += 1
        if leaving:
            await ben.talker.say(ben.request("channelLeave", channel))
            said = await ben.hear()
            while said["type"] != "channelLeave":
                if said["type"] == "channelMessage":
                    assert int(said["channelMessage"]["message"]) == last + 1
                    last += 1
                said = await ben.hear()


@pytest.mark.parametrize("again", [True, False])
async def test_a_message_that_comes_in_the_middle_of_joining_comes_once(
    redis_chat: RedisChatHouse, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    gateway, chat = redis_chat.gateway, redis_chat.world.chat
    assert isinstance(gateway, RedisChatGateway)
    ann = await redis_chat.come_as("Ann")
    guest = await chat.claim_guest("somebody's session", "Guest")
    if again:
        await ann.join()
    read_newest, hear = gateway._newest, gateway.on_posted
    heard = trio.Event()

    def note(posted: Posted) -> None:
        hear(posted)
        heard.set()

    async def read_and_be_overtaken(*arguments: Any) -> Any:
        found = await read_newest(*arguments)
        await chat.post(1, guest.id, "in the middle")
        await heard.wait()
        return found

    monkeypatch.setattr(gateway, "on_posted", note)
    monkeypatch.setattr(gateway, "_newest", read_and_be_overtaken)
    await ann.talker.say(ann.request("channelJoin", {"recipientUUID": ""}))
    await ann.talker.say(ann.request("users"))
    said: list[Any] = [await ann.hear()]
    while said[-1]["type"] != "users":
        said.append(await ann.hear())
    await chat.post(1, guest.id, "the end")
    while said[-1].get("channelMessage", {}).get("message") != "the end":
        said.append(await ann.hear())
    messages = [one["channelMessage"] for one in said if one["type"] == "channelMessage"]
    assert texts(messages) == ["in the middle", "the end"]


async def test_the_sender_gets_each_message_once_and_in_order(redis_chat: RedisChatHouse) -> None:
    guests = [await redis_chat.come_as(f"user {number}") for number in range(4)]
    for guest in guests:
        await guest.join()
    for number in range(10):
        for guest in guests:
            data = {"recipientUUID": 0, "message": f"{guest.username}: {number}"}
            await guest.talker.say(guest.request("channelMessage", data))
    seen = []
    for guest in guests:
        heard: list[str] = []
        while len(heard) < 40:
            said = await guest.hear()
            if said["type"] == "channelMessage":
                heard.append(said["channelMessage"]["message"])
        seen.append(heard)
        # And nothing more.
        assert (await guest.ask("users"))["type"] == "users"
    assert len(set(seen[0])) == 40
    assert all(heard == seen[0] for heard in seen)


async def test_pages_are_newest_first(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    for number in range(105):
        await ann.write(str(number))
    newest = [str(number) for number in reversed(range(105))]
    pages: tuple[tuple[dict[str, int], list[str]], ...] = (
        ({}, newest[:10]),
        ({"limit": 0, "offset": 0}, newest[:10]),
        ({"limit": 99}, newest[:99]),
        ({"limit": 3, "offset": 2}, newest[2:5]),
        ({"offset": 100}, newest[100:]),
        ({"offset": 2**31 - 1}, []),
    )
    for page, expected in pages:
        got = await read(ann, **page)
        assert texts(got["messages"]) == expected
        assert (got["messagesTotal"], got["messagesReceived"]) == (105, len(expected))


async def test_pages_that_there_are_not(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    pages: tuple[dict[str, object], ...] = (
        {"limit": 100},
        {"limit": 10**30},
        {"limit": -1},
        {"offset": -1},
        {"offset": 2**31},
        {"offset": 10**30},
        {"limit": "10"},
        {"limit": 1.5},
        {"limit": True},
        {"offset": None},
        {"offset": []},
    )
    for page in pages:
        assert await refused(ann, "channelMessages", page) is ErrorCode.BAD_REQUEST


async def test_a_page_of_the_longest_messages_has_fewer_of_them(
    redis_chat: RedisChatHouse,
) -> None:
    ann = await redis_chat.come_as("Ann")
    for number in range(10):
        await ann.write(str(number) + "x" * 65_000)
    got = await read(ann, limit=10)
    assert got["messagesTotal"] == 10
    assert 0 < got["messagesReceived"] == len(got["messages"]) < 10
    assert got["messages"][0]["message"].startswith("9")
    rest = await read(ann, limit=10, offset=got["messagesReceived"])
    assert rest["messages"][0]["message"][0] == str(9 - got["messagesReceived"])


async def test_who_has_left_hears_no_more(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ben.join(ann.uuid)
    left = await ben.ask("channelLeave", {"recipientUUID": ann.uuid})
    assert left == {"type": "channelLeave", "channelLeave": {"recipientUUID": ann.uuid}}
    await ann.write("anybody there?", ben.uuid)
    assert (await ben.ask("users"))["type"] == "users"
    left_again = await refused(ben, "channelLeave", {"recipientUUID": ann.uuid})
    assert left_again is ErrorCode.NOT_IN_CHANNEL


@pytest.mark.parametrize("recipient", PUBLIC)
async def test_nobody_leaves_the_public_channel(redis_chat: RedisChatHouse, recipient: Any) -> None:
    ann = await redis_chat.come_as("Ann")
    await ann.join()
    answer = await refused(ann, "channelLeave", {"recipientUUID": recipient})
    assert answer is ErrorCode.PUBLIC_CHANNEL
    await ann.write("still here")


async def test_recipients_that_there_are_not(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    for recipient, expected in (
        ("00000000-0000-0000-0000-000000000000", ErrorCode.NO_USER),
        ("somebody", ErrorCode.NO_USER),
        ("' OR 1=1 --", ErrorCode.NO_USER),
        ("<b>", ErrorCode.NO_USER),
        ("\0", ErrorCode.NO_USER),
        ("00", ErrorCode.NO_USER),
        (ann.uuid, ErrorCode.NOT_ALLOWED),
        ("x" * 5000, ErrorCode.BAD_REQUEST),
        ("\ud800", ErrorCode.BAD_REQUEST),
        (1, ErrorCode.BAD_REQUEST),
        (0.0, ErrorCode.BAD_REQUEST),
        (False, ErrorCode.BAD_REQUEST),
        ([], ErrorCode.BAD_REQUEST),
        ({}, ErrorCode.BAD_REQUEST),
    ):
        data: Any = {"recipientUUID": recipient, "message": "hello"}
        for kind in ("channelJoin", "channelMessage", "channelMessages"):
            assert await refused(ann, kind, data) is expected, (kind, recipient)
        if expected is ErrorCode.BAD_REQUEST:
            assert await refused(ann, "channelLeave", data) is expected


async def test_nothing_is_kept_for_who_has_gone(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ann.join()
    await ben.join()
    assert redis_chat.followers() == 2
    await ann.talker.close()
    while redis_chat.server.connections > 1:
        await ben.ask("users")
    assert redis_chat.followers() == 1


async def test_ones_own_joining_is_told_once_however_late_the_chat_tells_it(
    redis_chat: RedisChatHouse,
) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ann.join()
    user = await redis_chat.world.chat.user(uuid=ann.uuid)
    other = await redis_chat.world.chat.user(uuid=ben.uuid)
    redis_chat.gateway.on_presence(PresenceChanged(1, (user,), joined=(user.id,)))
    redis_chat.gateway.on_presence(PresenceChanged(1, (user, other), joined=(other.id,)))
    told = await ann.hear()
    assert (told["type"], told["userUUID"]) == ("sys", ben.uuid)


async def test_a_uuid_may_be_in_capitals(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ann.join(ben.uuid.upper())
    assert (await ann.write("hello", ben.uuid))["RecipientUUID"] == ben.uuid


async def test_messages_from_elsewhere_come_too(redis_chat: RedisChatHouse) -> None:
    chat = redis_chat.world.chat
    ann = await redis_chat.come_as("Ann")
    guest = await chat.claim_guest("somebody's session", "Guest")
    room = await chat.room(name="public")
    await chat.post(room.id, guest.id, "from before")
    assert (await ann.join())["messages"][0]["Sender"]["Username"] == "Guest"
    await chat.post(room.id, guest.id, "from afar")
    heard = (await ann.hear())["channelMessage"]
    assert (heard["Message"], heard["SenderUUID"]) == ("from afar", guest.uuid)
    assert heard["Sender"]["Username"] == "Guest"


async def test_an_author_who_is_not_known_yet_is_looked_up(redis_chat: RedisChatHouse) -> None:
    # The anonymous user is as old as the store: no event has told of it.
    chat = redis_chat.world.chat
    ann = await redis_chat.come_as("Ann")
    await ann.join()
    anonymous = await chat.claim_guest("somebody's session", None)
    room = await chat.room(name="public")
    for number in range(3):
        await chat.post(room.id, anonymous.id, str(number))
    for number in range(3):
        heard = (await ann.hear())["channelMessage"]
        assert (heard["Message"], heard["SenderUUID"]) == (str(number), anonymous.uuid)
