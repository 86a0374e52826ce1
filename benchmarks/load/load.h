/* The parts of a run and how they meet.
 *
 * A connection (connection.c) moves bytes. A protocol (nats.c, switchboard.c) turns them into
 * messages and back. A scenario (pairs.c, fanout.c, idle.c) decides who sends what to whom. main.c
 * leads them through the phases. One thread, one epoll.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "histogram.h"
#include "message.h"
#include "options.h"

struct load;

enum connection_state {
    CONNECTING,
    UPGRADING,   /* the WebSocket's opening handshake */
    IDENTIFYING, /* the greeting is sent, its answer not yet here */
    READY,
    CLOSED,
};

#define ID_MAXIMUM 64 /* the longest connection id of the Switchboard protocol */

struct connection {
    struct load *load;
    unsigned index;
    int descriptor;
    enum connection_state state;
    bool awaits_writable;
    struct buffer inbox; /* the start of a message whose rest has not arrived */
    struct buffer outbox;
    char id[ID_MAXIMUM + 1]; /* Switchboard: as the broker gave it */
    struct template outgoing;
};

/* What a connection's messages are, and to whom they go. */
enum kind {
    EVENT,     /* to the connection `peer` */
    REQUEST,   /* the same, and an answer is expected */
    REPLY,     /* the answer to `peer` */
    BROADCAST, /* to all receivers of a fan-out */
};

struct protocol {
    const char *name;
    /* The first bytes of a new connection. */
    void (*greet)(struct connection *);
    /* Takes the whole messages at the start of `bytes`; returns how many bytes that were. */
    size_t (*consume)(struct connection *, char *bytes, size_t length);
    /* Builds `outgoing`, once all connections are ready. */
    void (*address)(struct connection *, enum kind, const struct connection *peer);
    /* Adds one message to the outbox. */
    void (*send)(struct connection *, uint64_t sequence);
};

extern const struct protocol nats_protocol, stream_protocol, websocket_protocol;

struct scenario {
    const char *name;
    bool measures;        /* false: holds connections until stdin closes */
    bool keeps_listeners; /* a receiver subscribes to the broadcast, not to itself (NATS) */
    unsigned (*connections)(const struct options *);
    /* All connections are ready. */
    void (*begin)(struct load *);
    void (*on_message)(struct connection *, uint64_t sequence);
    /* After each epoll round; may be NULL. */
    void (*on_round_end)(struct load *);
    /* Messages that are under way; may be NULL. */
    uint64_t (*in_flight)(const struct load *);
};

extern const struct scenario pairs_scenario, request_scenario, fanout_scenario, idle_scenario;

enum phase { SETTING_UP, WARMING_UP, MEASURING, DRAINING };

struct results {
    uint64_t routed; /* deliveries by the broker, while measuring */
    struct histogram latency;
    uint64_t errors;     /* error replies; from here on also outside the measurement */
    uint64_t unexpected; /* deliveries of what was not in flight: duplicates, strays */
    uint64_t lost;       /* never delivered, even in the drain after the measurement */
    uint64_t closed;     /* connections that the server ended */
    char first_error[200];
    double seconds;
    double client_cpu; /* cores' worth */
    double server_cpu;
    double machine_cpu;
    double setup_seconds; /* from the first connect until all were identified */
};

struct load {
    struct options options;
    const struct protocol *protocol;
    const struct scenario *scenario;
    int epoll;
    enum phase phase;
    uint64_t now; /* ns; read once for each connection that has something to read */
    struct connection *connections;
    unsigned count;
    unsigned opened;
    unsigned ready;
    char *payload;
    struct results results;
};

/* One delivery of a message sent at `sent_at`, or of its answer. */
static inline void load_count_delivery(struct load *load) {
    if (load->phase == MEASURING) load->results.routed++;
}
static inline void load_record_latency(struct load *load, uint64_t sent_at) {
    if (load->phase == MEASURING) histogram_record(&load->results.latency, load->now - sent_at);
}
static inline bool load_is_sending(const struct load *load) { return load->phase != DRAINING; }

void load_count_error(struct load *load, const char *text, size_t length);

/* The connection's greeting was answered. */
void load_connection_ready(struct connection *connection);

#endif
