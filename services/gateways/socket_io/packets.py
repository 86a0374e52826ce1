"""Socket.IO packets, as strict as a server on the open network has to be.

What a client sends goes to the handlers of the gateway whatever it is, so that they can say what is
wrong with it: under the name `MALFORMED` or `TOO_LARGE` where it is no event at all.
"""

from __future__ import annotations

from typing import Any, Final

from socketio import packet  # type: ignore[import-untyped]

__all__ = ["MALFORMED", "MAX_EVENT_LENGTH", "RESERVED", "TOO_LARGE", "StrictPacket"]

# The longest message of the chat, though JSON may take six characters for a byte of it, and what
# stands around it.
MAX_EVENT_LENGTH: Final = 512 * 1024

# Neither protocol sends bytes. A few are read, so that it can be said that they are wrong.
_MAX_ATTACHMENTS: Final = 8

MALFORMED: Final = "(malformed)"
TOO_LARGE: Final = "(too large)"

# Names that mean something to the library, which would take a client's event for its own.
_LIBRARY_NAMES: Final = frozenset({"connect", "disconnect", "*"})
RESERVED: Final = "(reserved)"


class StrictPacket(packet.Packet):  # type: ignore[misc]
    """A packet that is an event with a name, or something that the library knows what to do with.

    What it raises, Engine.IO ignores, and the connection goes on.
    """

    data: Any

    def decode(self, encoded_packet: str) -> int:
        """Read a packet; return how many binary attachments follow.

        Raises:
            ValueError: it is none, and no event either.
        """
        if not isinstance(encoded_packet, str):
            raise ValueError("an attachment of no packet")  # noqa: TRY004 - as the library does
        is_event = encoded_packet[:1] in {str(packet.EVENT), str(packet.BINARY_EVENT)}
        if encoded_packet[:1] == str(packet.BINARY_ACK):
            raise ValueError("the answer to what has not been asked")
        if len(encoded_packet) > MAX_EVENT_LENGTH:
            return self._take_for(TOO_LARGE, is_event=is_event)
        try:
            attachments = int(super().decode(encoded_packet) or 0)
        except (ValueError, RecursionError):
            return self._take_for(MALFORMED, is_event=is_event)
        if is_event:
            least = 1 if self.packet_type == packet.BINARY_EVENT else 0
            if not least <= attachments <= _MAX_ATTACHMENTS or not _is_event(self.data):
                return self._take_for(MALFORMED, is_event=is_event)
            if self.data[0] in _LIBRARY_NAMES:
                self.data = [RESERVED]
        return attachments

    def add_attachment(self, attachment: bytes) -> bool:
        """Take in a binary attachment; return whether it was the last one."""
        try:
            return bool(super().add_attachment(attachment))
        except (LookupError, TypeError, ValueError, RecursionError):
            self.data = [MALFORMED]
            return True

    def _take_for(self, what: str, *, is_event: bool) -> int:
        if not is_event:
            raise ValueError("no packet of Socket.IO")
        self.packet_type = packet.EVENT
        self.namespace = None
        self.id = None
        self.data = [what]
        return 0


def _is_event(data: Any) -> bool:  # noqa: ANN401 - anything that JSON can hold
    return isinstance(data, list) and bool(data) and isinstance(data[0], str)
