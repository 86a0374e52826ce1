/* Switchboard's messages, as both framings (stream.c, websocket.c) carry them. */
#ifndef SWITCHBOARD_H
#define SWITCHBOARD_H

#include "load.h"

/* What a framing adds to the protocol: how one JSON text becomes bytes. */
typedef void append_text(struct connection *connection, const char *text, size_t length);

void switchboard_identify(struct connection *connection, append_text *append);
void switchboard_on_text(struct connection *connection, const char *text, size_t length,
                         append_text *append);
/* Builds `outgoing` as JSON, followed by `terminator`. */
void switchboard_address(struct connection *connection, enum kind kind,
                         const struct connection *peer, const char *terminator);

#endif
