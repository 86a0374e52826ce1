#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"

char *buffer_reserve(struct buffer *buffer, size_t length) {
    if (buffer->capacity - buffer->end >= length) return buffer->bytes + buffer->end;

    size_t kept = buffer_length(buffer);
    if (buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, kept);
        buffer->start = 0;
        buffer->end = kept;
    }
    if (buffer->capacity - kept < length) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity - kept < length) capacity *= 2;
        buffer->bytes = realloc(buffer->bytes, capacity);
        if (!buffer->bytes) fail("out of memory");
        buffer->capacity = capacity;
    }
    return buffer->bytes + buffer->end;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length) {
    if (length == 0) return;
    memcpy(buffer_reserve(buffer, length), bytes, length);
    buffer_commit(buffer, length);
}

void buffer_release(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
