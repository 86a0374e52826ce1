"""The SDK: a client of the mesh, and services on it, on trio and asyncio alike.

Example:
    >>> async with connect("ws://127.0.0.1:8420", group="web", token="...") as mesh:
    ...     invoice = await mesh.request("INVOICE_CREATE", order, group="billing", timeout=2)
"""

from broker.protocol.frames import Error, Frame, Intent, OpCode, Pick, Source, Target
from services.sdk.backoff import Backoff
from services.sdk.blocking import SyncMesh, connect_sync
from services.sdk.blocking_feeds import SyncFeed, SyncReplies
from services.sdk.collecting import Missing, Reply
from services.sdk.entry import connect
from services.sdk.errors import (
    CannotConnect,
    CertificateInvalid,
    ConnectionLost,
    Disconnected,
    IdentifyFailed,
    InvalidReply,
    ListenerOverflow,
    MeshClosed,
    MeshError,
    MessageTooBig,
    TlsFailed,
    UnsentEvents,
)
from services.sdk.events import Event
from services.sdk.gathering import Replies
from services.sdk.listeners import Listener
from services.sdk.mesh import Mesh
from services.sdk.payloads import PayloadError
from services.sdk.registry import Change, Down, ServiceInfo, Snapshot, Up
from services.sdk.request_errors import (
    BackplaneDown,
    BadRequest,
    Call,
    Draining,
    Expired,
    Forbidden,
    HandlerError,
    InvalidFrame,
    InvalidIntent,
    NoRoute,
    Overloaded,
    PeerGone,
    RateLimited,
    RequestError,
    ServiceError,
    UnknownEvent,
)
from services.sdk.running import run_until_signal
from services.sdk.service import Service
from services.sdk.states import State, StateChange, StatesFeed
from services.sdk.statistics import MeshStatistics
from services.sdk.tls import Tls
from services.sdk.watching import Watch

__all__ = [
    "Backoff",
    "BackplaneDown",
    "BadRequest",
    "Call",
    "CannotConnect",
    "CertificateInvalid",
    "Change",
    "ConnectionLost",
    "Disconnected",
    "Down",
    "Draining",
    "Error",
    "Event",
    "Expired",
    "Forbidden",
    "Frame",
    "HandlerError",
    "IdentifyFailed",
    "Intent",
    "InvalidFrame",
    "InvalidIntent",
    "InvalidReply",
    "Listener",
    "ListenerOverflow",
    "Mesh",
    "MeshClosed",
    "MeshError",
    "MeshStatistics",
    "MessageTooBig",
    "Missing",
    "NoRoute",
    "OpCode",
    "Overloaded",
    "PayloadError",
    "PeerGone",
    "Pick",
    "RateLimited",
    "Replies",
    "Reply",
    "RequestError",
    "Service",
    "ServiceError",
    "ServiceInfo",
    "Snapshot",
    "Source",
    "State",
    "StateChange",
    "StatesFeed",
    "SyncFeed",
    "SyncMesh",
    "SyncReplies",
    "Target",
    "Tls",
    "TlsFailed",
    "UnknownEvent",
    "UnsentEvents",
    "Up",
    "Watch",
    "connect",
    "connect_sync",
    "run_until_signal",
]
