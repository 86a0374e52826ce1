/* Switchboard over a raw stream: one JSON object a line. */
#include <string.h>

#include "switchboard.h"

static void append_line(struct connection *connection, const char *text, size_t length) {
    buffer_append(&connection->outbox, text, length);
    buffer_append(&connection->outbox, "\n", 1);
}

static void greet(struct connection *connection) {
    switchboard_identify(connection, append_line);
}

static size_t consume(struct connection *connection, char *bytes, size_t length) {
    size_t used = 0;
    const char *newline;
    while (used < length && (newline = memchr(bytes + used, '\n', length - used)) != NULL) {
        size_t line_length = (size_t)(newline - (bytes + used));
        if (line_length > 0)
            switchboard_on_text(connection, bytes + used, line_length, append_line);
        used += line_length + 1;
    }
    return used;
}

static void address(struct connection *connection, enum kind kind, const struct connection *peer) {
    switchboard_address(connection, kind, peer, "\n");
}

static void send_message(struct connection *connection, uint64_t sequence) {
    const struct template *message = &connection->outgoing;
    template_fill(message, buffer_reserve(&connection->outbox, message->length), sequence);
    buffer_commit(&connection->outbox, message->length);
}

const struct protocol stream_protocol = {
    .name = "stream",
    .greet = greet,
    .consume = consume,
    .address = address,
    .send = send_message,
};
