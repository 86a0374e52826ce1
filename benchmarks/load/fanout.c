/* Fan-out: one sender broadcasts, N receivers only listen. Every delivery is a routed message.
 *
 * The window counts broadcasts that have not reached all receivers yet.
 */
#include <stdlib.h>

#include "connection.h"
#include "failure.h"
#include "load.h"

struct slot {
    uint64_t sent_at;
    uint32_t turn;
    unsigned missing; /* receivers that have not got it yet */
};

static struct slot *slots;
/* The turn that each receiver saw last of each slot: everyone has to get every broadcast once. */
static uint32_t *seen;
static uint64_t missing_count;

static unsigned connections(const struct options *options) { return 1 + options->receivers; }

static void send_turn(struct load *load, unsigned place) {
    struct slot *slot = &slots[place];
    slot->turn++;
    slot->sent_at = load->now;
    slot->missing = load->options.receivers;
    missing_count += slot->missing;
    load->protocol->send(&load->connections[0], sequence_make(0, place, slot->turn));
}

static void begin(struct load *load) {
    slots = calloc(load->options.window, sizeof *slots);
    seen = calloc((size_t)load->count * load->options.window, sizeof *seen);
    if (!slots || !seen) fail("out of memory");
    load->protocol->address(&load->connections[0], BROADCAST, NULL);
    for (unsigned place = 0; place < load->options.window; place++) send_turn(load, place);
    connection_flush(&load->connections[0]);
}

static void on_message(struct connection *connection, uint64_t sequence) {
    struct load *load = connection->load;
    unsigned place = sequence_slot(sequence);
    uint32_t turn = sequence_turn(sequence);
    if (sequence_lane(sequence) != 0 || place >= load->options.window ||
        slots[place].turn != turn || connection->index == 0) {
        load->results.unexpected++;
        return;
    }
    struct slot *slot = &slots[place];
    uint32_t *last = &seen[(size_t)connection->index * load->options.window + place];
    if (*last == turn) {
        load->results.unexpected++;
        return;
    }
    *last = turn;
    load_count_delivery(load);
    load_record_latency(load, slot->sent_at);
    missing_count--;
    if (--slot->missing == 0 && load_is_sending(load)) send_turn(load, place);
}

/* The sender's outbox grows while receivers are read, so it is written once a round. */
static void on_round_end(struct load *load) { connection_flush(&load->connections[0]); }

static uint64_t in_flight(const struct load *load) {
    (void)load;
    return missing_count;
}

const struct scenario fanout_scenario = {
    .name = "fanout",
    .measures = true,
    .keeps_listeners = true,
    .connections = connections,
    .begin = begin,
    .on_message = on_message,
    .on_round_end = on_round_end,
    .in_flight = in_flight,
};
