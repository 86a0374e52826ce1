/* Sockets: opening, reading in big pieces, writing what has gathered. Never blocks. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdint.h>

#include "load.h"

void connection_open(struct load *load, struct connection *connection);
void connection_handle(struct connection *connection, uint32_t events);
/* Writes the outbox as far as the socket takes it; the rest goes when it is writable again. */
void connection_flush(struct connection *connection);

#endif
