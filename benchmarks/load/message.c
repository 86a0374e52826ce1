#define _GNU_SOURCE
#include "message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "failure.h"

void template_set(struct template *template, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    free(template->text);
    int length = vasprintf(&template->text, format, arguments);
    va_end(arguments);
    if (length < 0) fail("out of memory");
    template->length = (size_t)length;
    template->place_count = 0;
    const char *at = template->text;
    while ((at = strstr(at, SEQUENCE_PLACEHOLDER)) != NULL) {
        if (template->place_count == TEMPLATE_PLACES) fail("too many places in a template");
        template->places[template->place_count++] = (size_t)(at - template->text);
        at += SEQUENCE_DIGITS;
    }
}

char *payload_make(size_t length) {
    char *payload = malloc(length + 1);
    if (!payload) fail("out of memory");
    memset(payload, 'x', length);
    payload[0] = SEQUENCE_MARK;
    memcpy(payload + 1, SEQUENCE_PLACEHOLDER, SEQUENCE_DIGITS);
    payload[length] = '\0';
    return payload;
}

void sequence_write(char *digits, uint64_t sequence) {
    for (int place = SEQUENCE_DIGITS - 1; place >= 0; place--, sequence >>= 4)
        digits[place] = "0123456789abcdef"[sequence & 0xf];
}

bool sequence_decode(const char *digits, uint64_t *sequence) {
    uint64_t value = 0;
    for (unsigned place = 0; place < SEQUENCE_DIGITS; place++) {
        unsigned char byte = (unsigned char)digits[place];
        unsigned digit;
        if (byte >= '0' && byte <= '9')
            digit = byte - '0';
        else if (byte >= 'a' && byte <= 'f')
            digit = byte - 'a' + 10u;
        else
            return false;
        value = value << 4 | digit;
    }
    *sequence = value;
    return true;
}
