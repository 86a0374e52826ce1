"""Sizes that belong to the language itself, each with its rationale.

Operators set their own (smaller or larger) message size; the sizes of names are part of the
protocol, so that a client can rely on them everywhere.
"""

from __future__ import annotations

from typing import Final

# An id is a UUID in text (36) or something as long that a client finds handy.
MAX_ID_LENGTH: Final = 64

# Names of events, groups, and connection ids are looked up, logged and shown in tables. A name
# longer than a line is data in the wrong place.
MAX_NAME_LENGTH: Final = 128

# A W3C traceparent has 55 characters in version 00; later versions may append to it.
MAX_TRACE_LENGTH: Final = 128

# A request that is still of use after a day is a job, and belongs in a queue that survives a
# restart. The bound also keeps every deadline a small integer.
MAX_TIMEOUT_MS: Final = 24 * 60 * 60 * 1000

# What NATS and most proxies use: large enough for documents, small enough that one message cannot
# hold up the others for long.
MAX_MESSAGE_SIZE: Final = 1024 * 1024

# What a frame can become longer by on its way through the broker: `source`, an `id`, escapes.
MAX_GROWTH: Final = 1024

# No document that people thought of is nested a tenth as deep; parsers in use give up from 64 on.
# Every level costs the parser of each receiver a piece of its stack, and those that have no bound
# of their own can be crashed. Past some 900, the broker's own parser could not promise to follow on
# every interpreter, whatever else is on the stack.
MAX_NESTING: Final = 500

# Before a connection has identified itself, all that it has to say is an IDENTIFY: a token (a JWT
# with some claims is 1 to 2 KiB), a group, a little metadata.
MAX_UNIDENTIFIED_SIZE: Final = 4096

# Opening handshake: browsers with cookies for localhost send 1 to 2 KiB of header.
MAX_HANDSHAKE_SIZE: Final = 8192

# Metadata is shown in the registry to everyone who may list it, and sent to every watcher.
MAX_META_SIZE: Final = 1024
