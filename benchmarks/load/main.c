/* The load generator: set up, warm up, measure, drain, report. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "connection.h"
#include "failure.h"
#include "load.h"
#include "report.h"

/* Connections that are opening at a time: below the listen backlog of any server here, as a
 * dropped SYN costs a second. */
#define OPENING_MAXIMUM 64

#define EVENTS_MAXIMUM 1024

/* How long to wait, after the measurement, for what is still under way. */
#define DRAIN_SECONDS 2.0

void load_count_error(struct load *load, const char *text, size_t length) {
    load->results.errors++;
    if (load->results.first_error[0] == '\0')
        snprintf(load->results.first_error, sizeof load->results.first_error, "%.*s", (int)length,
                 text);
}

static void open_more(struct load *load) {
    while (load->opened < load->count && load->opened - load->ready < OPENING_MAXIMUM) {
        struct connection *connection = &load->connections[load->opened];
        connection->index = load->opened++;
        connection_open(load, connection);
    }
}

void load_connection_ready(struct connection *connection) {
    connection->state = READY;
    connection->load->ready++;
    open_more(connection->load);
}

static void raise_descriptor_limit(unsigned connections) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    rlim_t needed = (rlim_t)connections + 16;
    if (limit.rlim_cur < needed)
        fail("%u connections need %lu open files, the limit is %lu", connections,
             (unsigned long)needed, (unsigned long)limit.rlim_cur);
}

/* stdin is watched under this pointer, which is no connection's. */
static char standard_input;

static bool input_is_closed(void) {
    char bytes[64];
    return read(STDIN_FILENO, bytes, sizeof bytes) <= 0;
}

/* One epoll round; false when stdin has closed. */
static bool run_round(struct load *load, uint64_t deadline) {
    static struct epoll_event events[EVENTS_MAXIMUM];
    uint64_t now = clock_now();
    /* Rounded up, so that the wait before a deadline doesn't become a spin. */
    int timeout = deadline <= now ? 0 : (int)((deadline - now + 999999) / 1000000);
    int count = epoll_wait(load->epoll, events, EVENTS_MAXIMUM, timeout);
    if (count < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    load->now = clock_now();
    for (int event = 0; event < count; event++) {
        if (events[event].data.ptr == &standard_input) {
            if (input_is_closed()) return false;
        } else {
            connection_handle(events[event].data.ptr, events[event].events);
        }
    }
    if (load->scenario->on_round_end) load->scenario->on_round_end(load);
    return true;
}

static void run_until(struct load *load, uint64_t deadline) {
    while (load->now < deadline) run_round(load, deadline);
}

static void set_up(struct load *load) {
    load->phase = SETTING_UP;
    uint64_t start = clock_now();
    uint64_t deadline = start + clock_span(load->options.setup_timeout);
    open_more(load);
    while (load->ready < load->count) {
        run_round(load, deadline);
        if (load->now >= deadline)
            fail("%u of %u connections were identified in time", load->ready, load->count);
    }
    load->results.setup_seconds = (double)(clock_now() - start) / 1e9;
}

static void measure(struct load *load) {
    load->phase = WARMING_UP;
    load->now = clock_now();
    load->scenario->begin(load);
    run_until(load, load->now + clock_span(load->options.warm_up));

    load->phase = MEASURING;
    double own_cpu = clock_own_cpu();
    double server_cpu = clock_process_cpu(load->options.server_pid);
    double machine_cpu = clock_machine_cpu();
    uint64_t start = clock_now();
    run_until(load, start + clock_span(load->options.seconds));
    load->phase = DRAINING;
    load->results.seconds = (double)(clock_now() - start) / 1e9;
    load->results.client_cpu = (clock_own_cpu() - own_cpu) / load->results.seconds;
    load->results.machine_cpu = (clock_machine_cpu() - machine_cpu) / load->results.seconds;
    if (load->options.server_pid)
        load->results.server_cpu =
            (clock_process_cpu(load->options.server_pid) - server_cpu) / load->results.seconds;

    uint64_t deadline = clock_now() + clock_span(DRAIN_SECONDS);
    while (load->scenario->in_flight(load) > 0 && load->now < deadline) run_round(load, deadline);
    load->results.lost = load->scenario->in_flight(load);
}

static void hold(struct load *load) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &standard_input};
    /* A file or /dev/null can't be watched, and stands at its end anyway. */
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        fail("stdin has to be a pipe or a terminal: %s", strerror(errno));
    load->phase = MEASURING;
    load->scenario->begin(load);
    while (run_round(load, clock_now() + 1000 * NANOSECONDS)) continue;
}

static const struct protocol *find_protocol(const char *name) {
    static const struct protocol *const all[] = {&nats_protocol, &stream_protocol,
                                                 &websocket_protocol};
    for (size_t place = 0; place < sizeof all / sizeof *all; place++)
        if (strcmp(all[place]->name, name) == 0) return all[place];
    fail("--protocol: %s is not known", name);
}

static const struct scenario *find_scenario(const char *name) {
    static const struct scenario *const all[] = {&pairs_scenario, &request_scenario,
                                                 &fanout_scenario, &idle_scenario};
    for (size_t place = 0; place < sizeof all / sizeof *all; place++)
        if (strcmp(all[place]->name, name) == 0) return all[place];
    fail("--mode: %s is not known", name);
}

int main(int count, char **words) {
    static struct load load;
    load.options = options_parse(count, words);
    load.protocol = find_protocol(load.options.protocol);
    load.scenario = find_scenario(load.options.mode);
    load.count = load.scenario->connections(&load.options);
    load.payload = payload_make(load.options.payload);
    load.connections = calloc(load.count, sizeof *load.connections);
    if (!load.connections) fail("out of memory");
    raise_descriptor_limit(load.count);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load.epoll < 0) fail("epoll_create1: %s", strerror(errno));

    set_up(&load);
    if (load.scenario->measures)
        measure(&load);
    else
        hold(&load);
    report(&load);
    return 0;
}
