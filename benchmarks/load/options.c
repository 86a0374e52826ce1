#include "options.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "message.h"

static const char usage[] =
    "usage: load --port PORT [options]\n"
    "  --protocol nats|stream|websocket      default nats\n"
    "  --mode pairs|request|fanout|idle      default pairs\n"
    "  --host ADDRESS                        IPv4, default 127.0.0.1\n"
    "  --path PATH                           of the WebSocket's URL, default /\n"
    "  --token TOKEN                         for IDENTIFY\n"
    "  --pairs N --window N                  of pairs and request; default 1 and 1\n"
    "  --receivers N --target global|group   of fanout; default 100 and global\n"
    "  --connections N                       of idle; default 1000\n"
    "  --payload BYTES                       of user data a message, default 128\n"
    "  --request-timeout MS                  of request, default 5000\n"
    "  --warm-up SECONDS --seconds SECONDS   default 0.5 and 3\n"
    "  --setup-timeout SECONDS               until all are identified, default 60\n"
    "  --server-pid PID                      report this process's CPU share as well\n";

static double number(const char *name, const char *word, double lowest, double highest) {
    char *end;
    double value = strtod(word, &end);
    /* Written so that a NaN fails as well. */
    if (*word == '\0' || *end != '\0' || !(value >= lowest && value <= highest))
        fail("--%s: %s is not a number from %g to %g", name, word, lowest, highest);
    return value;
}

static unsigned whole(const char *name, const char *word, double lowest, double highest) {
    double value = number(name, word, lowest, highest);
    if (value != floor(value)) fail("--%s: %s is not a whole number", name, word);
    return (unsigned)value;
}

static const struct option long_options[] = {
    {"protocol", required_argument, NULL, 'P'},
    {"mode", required_argument, NULL, 'm'},
    {"host", required_argument, NULL, 'h'},
    {"port", required_argument, NULL, 'p'},
    {"path", required_argument, NULL, 'u'},
    {"token", required_argument, NULL, 't'},
    {"pairs", required_argument, NULL, 'n'},
    {"window", required_argument, NULL, 'w'},
    {"receivers", required_argument, NULL, 'r'},
    {"target", required_argument, NULL, 'g'},
    {"connections", required_argument, NULL, 'c'},
    {"payload", required_argument, NULL, 'b'},
    {"request-timeout", required_argument, NULL, 'q'},
    {"warm-up", required_argument, NULL, 'W'},
    {"seconds", required_argument, NULL, 's'},
    {"setup-timeout", required_argument, NULL, 'S'},
    {"server-pid", required_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'H'},
    {NULL, 0, NULL, 0},
};

struct options options_parse(int count, char **words) {
    struct options options = {
        .protocol = "nats",
        .mode = "pairs",
        .host = "127.0.0.1",
        .path = "/",
        .token = "",
        .pairs = 1,
        .window = 1,
        .receivers = 100,
        .target = "global",
        .connections = 1000,
        .payload = 128,
        .request_timeout = 5000,
        .warm_up = 0.5,
        .seconds = 3,
        .setup_timeout = 60,
    };
    int choice, position = 0;
    while ((choice = getopt_long(count, words, "", long_options, &position)) != -1) {
        const char *name = long_options[position].name;
        switch (choice) {
            case 'P': options.protocol = optarg; break;
            case 'm': options.mode = optarg; break;
            case 'h': options.host = optarg; break;
            case 'p': options.port = (uint16_t)whole(name, optarg, 1, 65535); break;
            case 'u': options.path = optarg; break;
            case 't': options.token = optarg; break;
            case 'n': options.pairs = whole(name, optarg, 1, SEQUENCE_LANES / 2); break;
            case 'w': options.window = whole(name, optarg, 1, SEQUENCE_SLOTS); break;
            case 'r': options.receivers = whole(name, optarg, 1, 60000); break;
            case 'g': options.target = optarg; break;
            case 'c': options.connections = whole(name, optarg, 1, 60000); break;
            case 'b': options.payload = whole(name, optarg, PAYLOAD_MINIMUM, 65536); break;
            case 'q': options.request_timeout = whole(name, optarg, 1, 3600000); break;
            case 'W': options.warm_up = number(name, optarg, 0, 3600); break;
            case 's': options.seconds = number(name, optarg, 0.01, 3600); break;
            case 'S': options.setup_timeout = number(name, optarg, 0.1, 3600); break;
            case 'k': options.server_pid = (int)whole(name, optarg, 1, 4194304); break;
            case 'H': fputs(usage, stdout); exit(0);
            default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < count) fail("unexpected argument %s", words[optind]);
    if (options.port == 0) fail("--port is required");
    if (strcmp(options.target, "global") != 0 && strcmp(options.target, "group") != 0)
        fail("--target is global or group, not %s", options.target);
    return options;
}
