"""The requests about users, and how they are answered."""

from __future__ import annotations

from typing import Final

from services.chat.messages import (
    MAX_PAGE,
    MAX_PASSWORD_LENGTH,
    ChatError,
    ChatRequest,
    ClaimGuest,
    FindUser,
    ListUsers,
    LoggedIn,
    LogIn,
    RegisterUser,
    TokenHolder,
    Users,
)
from services.chat.model import User
from services.chat.passwords import hash_token, make_token
from services.chat.requests import Requests
from services.chat.rules import bounded, check_password, check_username, refuse
from services.chat.store import Claim, Holder, NameTakenError
from services.sdk import Event, Mesh
from services.sdk.handlers import HandlerFunction

__all__ = ["UserRequests"]

# Long enough not to be asked again in a month; whoever signs out ends it at once.
_TOKEN_LIFE_MS: Final = 30 * 24 * 60 * 60 * 1000


class UserRequests(Requests):
    """Answers what is asked about users."""

    def handlers(self) -> dict[ChatRequest, HandlerFunction]:
        """The handler of each request."""
        return {
            ChatRequest.USER_REGISTER: self._register,
            ChatRequest.USER_LOGIN: self._log_in,
            ChatRequest.USER_AUTHENTICATE: self._authenticate,
            ChatRequest.USER_LOGOUT: self._log_out,
            ChatRequest.USER_GET: self._find,
            ChatRequest.USER_LIST: self._list,
            ChatRequest.GUEST_CLAIM: self._claim_guest,
        }

    async def _register(self, data: RegisterUser, mesh: Mesh) -> LoggedIn:
        check_username(data.username)
        check_password(data.password)
        hashed = await self._passwords.hash(data.password)
        try:
            user = await self._store.add_account(data.username, hashed, self._clock())
        except NameTakenError:
            raise refuse(ChatError.NAME_TAKEN, f"the name {data.username!r} is taken") from None
        await self._announcer.user_created(mesh, user)
        return await self._give_token(user)

    async def _log_in(self, data: LogIn) -> LoggedIn:
        found = await self._store.password_hash(data.username)
        stored = None if found is None else found[1]
        # Nothing that long has been set, and hashing it would only be work.
        password = data.password if len(data.password) <= MAX_PASSWORD_LENGTH else ""
        right = await self._passwords.verify(stored, password)
        if found is None or not right:
            raise refuse(ChatError.WRONG_PASSWORD, "there is no such user, or the password is not")
        return await self._give_token(found[0])

    async def _give_token(self, user: User) -> LoggedIn:
        token, now = make_token(), self._clock()
        expires = now + _TOKEN_LIFE_MS
        await self._store.add_token(hash_token(token), user.id, expires, now)
        return LoggedIn(user, token, expires)

    async def _authenticate(self, data: TokenHolder) -> User:
        user = await self._store.token_user(hash_token(data.token), self._clock())
        if user is None:
            raise refuse(ChatError.BAD_TOKEN, "the token is unknown, or has expired: sign in")
        return user

    async def _log_out(self, data: TokenHolder) -> None:
        if not await self._store.remove_token(hash_token(data.token)):
            raise refuse(ChatError.BAD_TOKEN, "the token is unknown, or has expired")

    async def _find(self, data: FindUser) -> User:
        user = await self._store.user(id=data.id, uuid=data.uuid, username=data.username)
        if user is None:
            raise refuse(ChatError.NO_USER, "there is no such user")
        return user

    async def _list(self, data: ListUsers) -> Users:
        limit = min(bounded(data.limit), MAX_PAGE)
        users, total = await self._store.users(
            bounded(data.offset), limit, accounts_only=data.accounts_only
        )
        return Users(users, total)

    async def _claim_guest(self, data: ClaimGuest, event: Event, mesh: Mesh) -> User:
        holder = Holder(event.source.id, data.session)
        if data.username is None:
            claim = await self._store.claim_anonymous(holder)
        else:
            claim = await self._claim_name(holder, data.username, exclusive=data.exclusive)
        if claim.created:
            await self._announcer.user_created(mesh, claim.user)
        await self._announcer.departed(mesh, claim.departures)
        await self._announcer.arrived(mesh, claim.entries)
        return claim.user

    async def _claim_name(self, holder: Holder, username: str, *, exclusive: bool) -> Claim:
        check_username(username)
        try:
            return await self._store.claim_guest(
                holder, username, self._clock(), exclusive=exclusive
            )
        except NameTakenError:
            raise refuse(ChatError.NAME_TAKEN, f"the name {username!r} is taken") from None
