/* A growable queue of bytes: written at its end, read at its start. */
#ifndef BUFFER_H
#define BUFFER_H

#include <stddef.h>

struct buffer {
    char *bytes;
    size_t start;    /* first byte that is still to be read */
    size_t end;      /* one past the last byte written */
    size_t capacity;
};

/* Room for `length` bytes at the end, valid until the next call; buffer_commit() keeps them. */
char *buffer_reserve(struct buffer *buffer, size_t length);
void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
void buffer_release(struct buffer *buffer);

static inline size_t buffer_length(const struct buffer *buffer) {
    return buffer->end - buffer->start;
}

static inline void buffer_commit(struct buffer *buffer, size_t length) { buffer->end += length; }

static inline void buffer_consume(struct buffer *buffer, size_t length) {
    buffer->start += length;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

#endif
