#include "switchboard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "json.h"

/* The groups that the generator's connections join. */
#define SENDERS "bench-senders"
#define RECEIVERS "bench-receivers"

void switchboard_identify(struct connection *connection, append_text *append) {
    const struct load *load = connection->load;
    bool receives = load->scenario->keeps_listeners ? connection->index > 0 : true;
    char text[1024];
    int length = snprintf(text, sizeof text,
                          "{\"op\":1,\"data\":{\"token\":\"%s\",\"group\":\"%s\",\"echo\":false}}",
                          load->options.token, receives ? RECEIVERS : SENDERS);
    if (length < 0 || (size_t)length >= sizeof text) fail("--token is too long");
    append(connection, text, (size_t)length);
}

static void on_identified(struct connection *connection, struct slice message) {
    struct slice data, id;
    if (!json_member(message, "data", &data) || !json_member(data, "id", &id) ||
        !json_string(id, &id) || id.length == 0 || id.length > ID_MAXIMUM)
        fail("no connection id in %.*s", (int)message.length, message.start);
    memcpy(connection->id, id.start, id.length);
    connection->id[id.length] = '\0';
    load_connection_ready(connection);
}

/* Everything that is not traffic: rare, so thoroughly parsed. */
static void on_other(struct connection *connection, struct slice message, append_text *append) {
    static const char pong[] = "{\"op\":4}";
    struct slice op, error;
    if (!json_member(message, "op", &op) || op.length != 1)
        fail("not understood: %.*s", (int)message.length, message.start);
    switch (op.start[0]) {
        case '1':
            if (connection->state == IDENTIFYING) {
                on_identified(connection, message);
                return;
            }
            break;
        case '2': /* DISCONNECT: says why the end of the stream that follows */
            load_count_error(connection->load, message.start, message.length);
            return;
        case '3': append(connection, pong, sizeof pong - 1); return;
        case '4': return;
        case '5':
            if (json_member(message, "error", &error)) {
                load_count_error(connection->load, error.start, error.length);
                return;
            }
            break;
    }
    connection->load->results.unexpected++;
}

void switchboard_on_text(struct connection *connection, const char *text, size_t length,
                         append_text *append) {
    uint64_t sequence;
    if (sequence_find(text, length, &sequence))
        connection->load->scenario->on_message(connection, sequence);
    else
        on_other(connection, (struct slice){text, length}, append);
}

void switchboard_address(struct connection *connection, enum kind kind,
                         const struct connection *peer, const char *terminator) {
    struct template *message = &connection->outgoing;
    const struct options *options = &connection->load->options;
    const char *payload = connection->load->payload;
    char intent[128] = "\"target\":\"GLOBAL\"";
    if (peer)
        snprintf(intent, sizeof intent, "\"target\":\"DIRECT\",\"identifier\":\"%s\"", peer->id);
    else if (strcmp(options->target, "group") == 0)
        snprintf(intent, sizeof intent, "\"target\":\"GROUP\",\"identifier\":\"" RECEIVERS "\"");
    char timeout[32] = "";
    if (kind == REQUEST)
        snprintf(timeout, sizeof timeout, "\"timeout\":%u,", options->request_timeout);
    if (kind == REPLY)
        template_set(message,
                     "{\"op\":5,\"id\":\"" SEQUENCE_PLACEHOLDER
                     "\",\"data\":\"%s\",\"intent\":{%s}}%s",
                     payload, intent, terminator);
    else
        template_set(message,
                     "{\"op\":0,\"id\":\"" SEQUENCE_PLACEHOLDER
                     "\",\"event\":\"BENCH\",\"data\":\"%s\",%s\"intent\":{%s}}%s",
                     payload, timeout, intent, terminator);
}
