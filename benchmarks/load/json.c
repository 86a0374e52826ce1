#include "json.h"

#include <string.h>

static const char *skip_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')) at++;
    return at;
}

/* From an opening quote to one past the closing one. */
static const char *skip_string(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\') at++;
    return at < end ? at + 1 : end;
}

static const char *skip_value(const char *at, const char *end) {
    size_t depth = 0;
    while (at < end) {
        char byte = *at;
        if (byte == '"') {
            at = skip_string(at, end);
            if (depth == 0) return at;
            continue;
        }
        if (byte == '{' || byte == '[') {
            depth++;
        } else if (byte == '}' || byte == ']') {
            if (depth == 0) return at; /* the end of the object around a bare number or word */
            if (--depth == 0) return at + 1;
        } else if (byte == ',' && depth == 0) {
            return at;
        }
        at++;
    }
    return end;
}

bool json_member(struct slice object, const char *key, struct slice *value) {
    const char *end = object.start + object.length;
    const char *at = skip_space(object.start, end);
    size_t key_length = strlen(key);
    if (at == end || *at != '{') return false;
    at++;
    for (;;) {
        at = skip_space(at, end);
        if (at == end || *at != '"') return false;
        const char *name = at + 1;
        at = skip_string(at, end);
        const char *name_end = at - 1;
        at = skip_space(at, end);
        if (at == end || *at != ':') return false;
        const char *start = skip_space(at + 1, end);
        at = skip_value(start, end);
        if ((size_t)(name_end - name) == key_length && memcmp(name, key, key_length) == 0) {
            *value = (struct slice){start, (size_t)(at - start)};
            return true;
        }
        at = skip_space(at, end);
        if (at == end || *at != ',') return false;
        at++;
    }
}

bool json_string(struct slice value, struct slice *inside) {
    if (value.length < 2 || value.start[0] != '"') return false;
    *inside = (struct slice){value.start + 1, value.length - 2};
    return true;
}
