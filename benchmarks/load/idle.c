/* Idle: opens connections, says so, and holds them (answering heartbeats) until stdin closes. */
#include <stdio.h>

#include "load.h"

static unsigned connections(const struct options *options) { return options->connections; }

static void begin(struct load *load) {
    printf("{\"mode\":\"idle\",\"protocol\":\"%s\",\"identified\":%u,\"seconds\":%.3f}\n",
           load->protocol->name, load->ready, load->results.setup_seconds);
    fflush(stdout);
}

static void on_message(struct connection *connection, uint64_t sequence) {
    (void)sequence;
    connection->load->results.unexpected++;
}

const struct scenario idle_scenario = {
    .name = "idle",
    .measures = false,
    .connections = connections,
    .begin = begin,
    .on_message = on_message,
};
