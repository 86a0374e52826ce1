"""The demo's programs, ended by force: with a real broker for all of them."""

from __future__ import annotations

from pathlib import Path

import anyio

from services.demo.fleet import Fleet, Member
from services.demo.programs import BROKER
from tests.gateways.world import on_asyncio


class Notes:
    """Notes how programs end, and keeps what waits for it waiting until then."""

    def __init__(self) -> None:
        self.endings: list[str] = []
        self.more = anyio.Event()

    def ready(self, member: Member, seconds: float) -> None:
        assert member.addresses

    def ended(self, member: Member, how: str, pause: float) -> None:
        self.endings.append(how)
        self.more.set()

    def back(self, member: Member) -> None:
        raise AssertionError("nobody is waited for so long")


@on_asyncio
async def test_by_force_all_end_without_being_asked(tmp_path: Path) -> None:
    notes = Notes()
    fleet = Fleet(notes, tmp_path, {"SWITCHBOARD_TOKEN": "a-token-for-tests"})
    async with fleet.sail([[BROKER]], {"broker": 0}):
        fleet.kill()
        await notes.more.wait()
    assert notes.endings == ["killed by SIGKILL"]
