#define _GNU_SOURCE
#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "failure.h"

/* One read takes up to this much. A window of 512 messages of 128 B fits, so that a whole burst is
 * taken, answered and written in one round. */
#define READ_SIZE ((size_t)256 * 1024)

/* An incomplete message is put in front of what is read next, so the piece a protocol sees may be
 * this much longer than one read. */
#define LEFTOVER_MAXIMUM READ_SIZE

static char scratch[LEFTOVER_MAXIMUM + READ_SIZE];

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(connection->load->epoll, operation, connection->descriptor, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

void connection_open(struct load *load, struct connection *connection) {
    connection->load = load;
    connection->state = CONNECTING;
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0) fail("socket: %s", strerror(errno));
    int on = 1;
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(load->options.port)};
    if (inet_pton(AF_INET, load->options.host, &address.sin_addr) != 1)
        fail("--host: %s is not an IPv4 address", load->options.host);
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) < 0 &&
        errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    connection->awaits_writable = true;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void on_connected(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail("connect: %s", strerror(error));
    connection->state = IDENTIFYING;
    connection->load->protocol->greet(connection);
}

static void on_closed(struct connection *connection, const char *why) {
    struct load *load = connection->load;
    /* A measurement that lost a connection means nothing; held connections are only counted. */
    if (load->scenario->measures || load->phase == SETTING_UP)
        fail("the server ended connection %u: %s%s%s", connection->index, why,
             load->results.first_error[0] ? "; it said: " : "", load->results.first_error);
    load->results.closed++;
    connection->state = CLOSED;
    close(connection->descriptor);
    buffer_release(&connection->inbox);
    buffer_release(&connection->outbox);
}

static void on_readable(struct connection *connection) {
    struct load *load = connection->load;
    size_t leftover = buffer_length(&connection->inbox);
    if (leftover > 0) {
        memcpy(scratch, connection->inbox.bytes + connection->inbox.start, leftover);
        buffer_consume(&connection->inbox, leftover);
    }
    ssize_t got = recv(connection->descriptor, scratch + leftover, READ_SIZE, 0);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            on_closed(connection, strerror(errno));
            return;
        }
        got = 0;
    } else if (got == 0) {
        on_closed(connection, "end of stream");
        return;
    }
    load->now = clock_now();
    size_t length = leftover + (size_t)got;
    size_t used = load->protocol->consume(connection, scratch, length);
    if (length - used > LEFTOVER_MAXIMUM) fail("a message of more than %zu bytes", LEFTOVER_MAXIMUM);
    buffer_append(&connection->inbox, scratch + used, length - used);
}

void connection_flush(struct connection *connection) {
    struct buffer *outbox = &connection->outbox;
    if (connection->state == CLOSED || connection->state == CONNECTING) return;
    while (buffer_length(outbox) > 0) {
        ssize_t sent = send(connection->descriptor, outbox->bytes + outbox->start,
                            buffer_length(outbox), MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) break;
            /* What the server said last may still wait to be read: let the reading side end it. */
            buffer_consume(outbox, buffer_length(outbox));
            break;
        }
        buffer_consume(outbox, (size_t)sent);
    }
    bool awaits_writable = buffer_length(outbox) > 0;
    if (awaits_writable != connection->awaits_writable) {
        connection->awaits_writable = awaits_writable;
        watch(connection, EPOLL_CTL_MOD, awaits_writable ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

void connection_handle(struct connection *connection, uint32_t events) {
    if (connection->state == CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        on_connected(connection);
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) on_readable(connection);
    connection_flush(connection);
}
