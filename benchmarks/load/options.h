/* What one run is asked to do, from the command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdint.h>

struct options {
    const char *protocol; /* nats, stream, websocket */
    const char *mode;     /* pairs, request, fanout, idle */
    const char *host;     /* IPv4, as digits */
    uint16_t port;
    const char *path;  /* of the WebSocket's URL */
    const char *token; /* for IDENTIFY */
    unsigned pairs;
    unsigned window; /* messages in flight: of each pair, or of the one sender of a fan-out */
    unsigned receivers;
    const char *target; /* of a fan-out: global, group */
    unsigned connections;
    unsigned payload; /* bytes of user data a message */
    unsigned request_timeout; /* ms, of mode request */
    double warm_up;
    double seconds;
    double setup_timeout;
    int server_pid; /* 0: the server's CPU time is not reported */
};

struct options options_parse(int count, char **words);

#endif
