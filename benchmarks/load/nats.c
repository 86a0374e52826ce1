/* The NATS client protocol: lines of control, payloads counted in bytes. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "load.h"

static void add(struct connection *connection, const char *text) {
    buffer_append(&connection->outbox, text, strlen(text));
}

static void greet(struct connection *connection) {
    const struct load *load = connection->load;
    char subscriptions[128];
    if (load->scenario->keeps_listeners && connection->index > 0)
        snprintf(subscriptions, sizeof subscriptions, "SUB bench.all 1\r\n");
    else
        /* The inbox is how a NATS client gets the answers to its requests. */
        snprintf(subscriptions, sizeof subscriptions,
                 "SUB bench.%u 1\r\nSUB _INBOX.%u.* 2\r\n", connection->index, connection->index);
    add(connection, "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,"
                    "\"lang\":\"c\",\"version\":\"1\",\"protocol\":1}\r\n");
    add(connection, subscriptions);
    /* The server works in order: its PONG says that the subscriptions are in place. */
    add(connection, "PING\r\n");
}

static void on_control(struct connection *connection, const char *line, size_t length) {
    if (length >= 4 && memcmp(line, "PING", 4) == 0) {
        add(connection, "PONG\r\n");
    } else if (length >= 4 && memcmp(line, "PONG", 4) == 0) {
        if (connection->state == IDENTIFYING) load_connection_ready(connection);
    } else if (line[0] == '-') {
        load_count_error(connection->load, line, length);
    } else if (line[0] != '+' && !(length >= 4 && memcmp(line, "INFO", 4) == 0)) {
        fail("not understood: %.*s", (int)length, line);
    }
}

static size_t consume(struct connection *connection, char *bytes, size_t length) {
    const struct scenario *scenario = connection->load->scenario;
    size_t used = 0;
    while (used < length) {
        const char *line = bytes + used;
        const char *newline = memchr(line, '\n', length - used);
        if (!newline) break;
        size_t line_length = (size_t)(newline - line);
        size_t after = used + line_length + 1;
        if (line_length < 4 || memcmp(line, "MSG ", 4) != 0) {
            on_control(connection, line, line_length);
            used = after;
            continue;
        }
        /* MSG <subject> <sid> [reply-to] <size>\r\n<payload>\r\n: the size is the last word. */
        size_t size = 0, scale = 1;
        for (const char *digit = newline - 2; isdigit((unsigned char)*digit); digit--, scale *= 10)
            size += (size_t)(*digit - '0') * scale;
        if (length - after < size + 2) break;
        uint64_t sequence;
        if (size >= PAYLOAD_MINIMUM && bytes[after] == SEQUENCE_MARK &&
            sequence_decode(bytes + after + 1, &sequence))
            scenario->on_message(connection, sequence);
        else
            connection->load->results.unexpected++;
        used = after + size + 2;
    }
    return used;
}

static void address(struct connection *connection, enum kind kind, const struct connection *peer) {
    struct template *message = &connection->outgoing;
    unsigned size = connection->load->options.payload;
    const char *payload = connection->load->payload;
    switch (kind) {
        case EVENT:
            template_set(message, "PUB bench.%u %u\r\n%s\r\n", peer->index, size, payload);
            break;
        case REQUEST:
            template_set(message, "PUB bench.%u _INBOX.%u." SEQUENCE_PLACEHOLDER " %u\r\n%s\r\n",
                         peer->index, connection->index, size, payload);
            break;
        case REPLY:
            template_set(message, "PUB _INBOX.%u." SEQUENCE_PLACEHOLDER " %u\r\n%s\r\n",
                         peer->index, size, payload);
            break;
        case BROADCAST:
            template_set(message, "PUB bench.all %u\r\n%s\r\n", size, payload);
            break;
    }
}

static void send_message(struct connection *connection, uint64_t sequence) {
    const struct template *message = &connection->outgoing;
    template_fill(message, buffer_reserve(&connection->outbox, message->length), sequence);
    buffer_commit(&connection->outbox, message->length);
}

const struct protocol nats_protocol = {
    .name = "nats",
    .greet = greet,
    .consume = consume,
    .address = address,
    .send = send_message,
};
