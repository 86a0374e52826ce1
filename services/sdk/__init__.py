"""The SDK: a client of the mesh, and services on it, on trio and asyncio alike.

Example:
    >>> async with connect("ws://127.0.0.1:8420", group="web", token="...") as mesh:
    ...     invoice = await mesh.request("INVOICE_CREATE", order, group="billing", timeout=2)
"""

from broker.protocol.frames import Error, Frame, Intent, OpCode, Pick, Source, Target
from services.sdk.entry import connect
from services.sdk.errors import (
    BackplaneDown,
    BadRequest,
    Call,
    CannotConnect,
    ConnectionLost,
    Disconnected,
    Draining,
    Expired,
    Forbidden,
    HandlerError,
    IdentifyFailed,
    InvalidFrame,
    InvalidIntent,
    InvalidReply,
    ListenerOverflow,
    MeshClosed,
    MeshError,
    MessageTooBig,
    NoRoute,
    Overloaded,
    PeerGone,
    RateLimited,
    RequestError,
    ServiceError,
    UnknownEvent,
)
from services.sdk.events import Event
from services.sdk.listeners import Listener
from services.sdk.mesh import Mesh
from services.sdk.payloads import PayloadError
from services.sdk.running import run_until_signal
from services.sdk.service import Service
from services.sdk.statistics import MeshStatistics

__all__ = [
    "BackplaneDown",
    "BadRequest",
    "Call",
    "CannotConnect",
    "ConnectionLost",
    "Disconnected",
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
    "NoRoute",
    "OpCode",
    "Overloaded",
    "PayloadError",
    "PeerGone",
    "Pick",
    "RateLimited",
    "RequestError",
    "Service",
    "ServiceError",
    "Source",
    "Target",
    "UnknownEvent",
    "connect",
    "run_until_signal",
]
