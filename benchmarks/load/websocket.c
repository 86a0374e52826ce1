/* Switchboard over WebSocket (RFC 6455), client role: one JSON object a text frame. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "failure.h"
#include "switchboard.h"

enum opcode { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

#define FINAL 0x80
#define MASKED 0x80
#define HEADER_MAXIMUM 14 /* 2 bytes, 8 of extended length, 4 of mask */

static uint64_t random_state;

/* xorshift64: masks must differ from frame to frame, not resist an attacker here. */
static uint32_t random_mask(void) {
    while (random_state == 0)
        if (getrandom(&random_state, sizeof random_state, 0) < 0) fail("no random numbers");
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static void apply_mask(char *bytes, size_t length, uint32_t mask) {
    uint64_t wide = (uint64_t)mask << 32 | mask;
    size_t at = 0;
    for (; at + sizeof wide <= length; at += sizeof wide) {
        uint64_t chunk;
        memcpy(&chunk, bytes + at, sizeof chunk);
        chunk ^= wide;
        memcpy(bytes + at, &chunk, sizeof chunk);
    }
    const char *mask_bytes = (const char *)&mask;
    for (; at < length; at++) bytes[at] ^= mask_bytes[at % sizeof mask];
}

/* Section 5.2: a client's frame is masked. Returns the header's length. */
static size_t write_header(char *header, enum opcode opcode, size_t length, uint32_t mask) {
    size_t used = 2;
    header[0] = (char)(FINAL | opcode);
    if (length < 126) {
        header[1] = (char)(MASKED | length);
    } else {
        unsigned extended = length < 65536 ? 2 : 8;
        header[1] = (char)(MASKED | (extended == 2 ? 126 : 127));
        for (unsigned byte = 0; byte < extended; byte++)
            header[used++] = (char)((uint64_t)length >> (8 * (extended - 1 - byte)));
    }
    memcpy(header + used, &mask, sizeof mask);
    return used + sizeof mask;
}

static void append_frame(struct connection *connection, enum opcode opcode, const char *payload,
                         size_t length) {
    char *frame = buffer_reserve(&connection->outbox, HEADER_MAXIMUM + length);
    uint32_t mask = random_mask();
    size_t header = write_header(frame, opcode, length, mask);
    memcpy(frame + header, payload, length);
    apply_mask(frame + header, length, mask);
    buffer_commit(&connection->outbox, header + length);
}

static void append_text_frame(struct connection *connection, const char *text, size_t length) {
    append_frame(connection, TEXT, text, length);
}

static void send_message(struct connection *connection, uint64_t sequence) {
    const struct template *message = &connection->outgoing;
    char *frame = buffer_reserve(&connection->outbox, HEADER_MAXIMUM + message->length);
    uint32_t mask = random_mask();
    size_t header = write_header(frame, TEXT, message->length, mask);
    template_fill(message, frame + header, sequence);
    apply_mask(frame + header, message->length, mask);
    buffer_commit(&connection->outbox, header + message->length);
}

/* Section 4.1: the key is 16 random bytes in base64. Sec-WebSocket-Accept is not verified: it
 * guards against caches and servers that don't speak WebSocket, and what follows would show that. */
static void greet(struct connection *connection) {
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[25];
    for (unsigned place = 0; place < 21; place++) key[place] = alphabet[random_mask() % 64];
    key[21] = alphabet[random_mask() % 4 * 16]; /* 16 bytes end two bits into this digit */
    memcpy(key + 22, "==", 3);
    char request[1024];
    const struct options *options = &connection->load->options;
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\n"
                          "Host: %s:%u\r\n"
                          "Upgrade: websocket\r\n"
                          "Connection: Upgrade\r\n"
                          "Sec-WebSocket-Key: %s\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          options->path, options->host, (unsigned)options->port, key);
    if (length < 0 || (size_t)length >= sizeof request) fail("--path is too long");
    buffer_append(&connection->outbox, request, (size_t)length);
    connection->state = UPGRADING;
}

static size_t consume_response(struct connection *connection, const char *bytes, size_t length) {
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end) return 0;
    static const char switching[] = "HTTP/1.1 101";
    if (length < sizeof switching || memcmp(bytes, switching, sizeof switching - 1) != 0)
        fail("the upgrade was refused: %.*s", (int)(end - bytes), bytes);
    connection->state = IDENTIFYING;
    switchboard_identify(connection, append_text_frame);
    return (size_t)(end - bytes) + 4;
}

static void on_frame(struct connection *connection, unsigned opcode, const char *payload,
                     size_t length) {
    switch (opcode) {
        case TEXT: switchboard_on_text(connection, payload, length, append_text_frame); break;
        case PING: append_frame(connection, PONG, payload, length); break;
        case PONG: break;
        case CLOSE: /* Section 5.5.1: a code of two bytes and the reason, both optional */
            if (length >= 2) load_count_error(connection->load, payload + 2, length - 2);
            break;
        default: fail("a WebSocket frame of opcode %u", opcode);
    }
}

static size_t consume(struct connection *connection, char *bytes, size_t length) {
    size_t used = 0;
    if (connection->state == UPGRADING) {
        used = consume_response(connection, bytes, length);
        if (used == 0) return 0;
    }
    while (length - used >= 2) {
        const unsigned char *header = (const unsigned char *)bytes + used;
        size_t header_length = 2;
        uint64_t size = header[1] & 0x7f;
        if (size > 125) {
            header_length = size == 126 ? 4 : 10;
            if (length - used < header_length) break;
            size = 0;
            for (size_t byte = 2; byte < header_length; byte++) size = size << 8 | header[byte];
        }
        if (length - used - header_length < size) break;
        /* Section 5.1: a server never masks. Fragments are legal, but no broker here sends them. */
        if (!(header[0] & FINAL)) fail("a fragmented WebSocket message");
        if (header[1] & MASKED) fail("a masked WebSocket frame from the server");
        on_frame(connection, header[0] & 0x0f, bytes + used + header_length, (size_t)size);
        used += header_length + (size_t)size;
    }
    return used;
}

static void address(struct connection *connection, enum kind kind, const struct connection *peer) {
    switchboard_address(connection, kind, peer, "");
}

const struct protocol websocket_protocol = {
    .name = "websocket",
    .greet = greet,
    .consume = consume,
    .address = address,
    .send = send_message,
};
