/* Pairs: A sends, B answers, each with a window of messages in flight. Both ways are routed.
 *
 * The same play serves mode request, where A's messages are requests and B's are replies.
 */
#include <stdlib.h>

#include "connection.h"
#include "failure.h"
#include "load.h"

/* Connections 2n and 2n+1 are A and B of pair n. */
static unsigned pair_of(const struct connection *connection) { return connection->index / 2; }
static bool is_answering(const struct connection *connection) { return connection->index % 2; }

struct slot {
    uint64_t sent_at;
    uint32_t turn;
    bool in_flight;
};

static struct slot *slots; /* `window` of them a pair */
static uint64_t in_flight_count;

static unsigned connections(const struct options *options) { return 2 * options->pairs; }

static void send_turn(struct connection *asking, struct slot *slot, unsigned place) {
    struct load *load = asking->load;
    slot->turn++;
    slot->sent_at = load->now;
    slot->in_flight = true;
    in_flight_count++;
    load->protocol->send(asking, sequence_make(pair_of(asking), place, slot->turn));
}

static void begin(struct load *load, enum kind question, enum kind answer) {
    unsigned window = load->options.window;
    slots = calloc((size_t)load->options.pairs * window, sizeof *slots);
    if (!slots) fail("out of memory");
    for (unsigned pair = 0; pair < load->options.pairs; pair++) {
        struct connection *asking = &load->connections[2 * pair];
        struct connection *answering = asking + 1;
        load->protocol->address(asking, question, answering);
        load->protocol->address(answering, answer, asking);
        for (unsigned place = 0; place < window; place++)
            send_turn(asking, &slots[(size_t)pair * window + place], place);
        connection_flush(asking);
    }
}

static void begin_pairs(struct load *load) { begin(load, EVENT, EVENT); }
static void begin_requests(struct load *load) { begin(load, REQUEST, REPLY); }

static void on_message(struct connection *connection, uint64_t sequence) {
    struct load *load = connection->load;
    unsigned pair = sequence_lane(sequence), place = sequence_slot(sequence);
    if (pair != pair_of(connection) || place >= load->options.window) {
        load->results.unexpected++;
        return;
    }
    struct slot *slot = &slots[(size_t)pair * load->options.window + place];
    if (!slot->in_flight || slot->turn != sequence_turn(sequence)) {
        load->results.unexpected++;
        return;
    }
    load_count_delivery(load);
    if (is_answering(connection)) {
        load->protocol->send(connection, sequence);
        return;
    }
    load_record_latency(load, slot->sent_at);
    slot->in_flight = false;
    in_flight_count--;
    if (load_is_sending(load)) send_turn(connection, slot, place);
}

static uint64_t in_flight(const struct load *load) {
    (void)load;
    return in_flight_count;
}

const struct scenario pairs_scenario = {
    .name = "pairs",
    .measures = true,
    .connections = connections,
    .begin = begin_pairs,
    .on_message = on_message,
    .in_flight = in_flight,
};

const struct scenario request_scenario = {
    .name = "request",
    .measures = true,
    .connections = connections,
    .begin = begin_requests,
    .on_message = on_message,
    .in_flight = in_flight,
};
