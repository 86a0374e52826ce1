/* One message of traffic: a template that is filled in with a sequence number and sent.
 *
 * Every message carries the same amount of user data, which opens with a mark and the sequence
 * number in hexadecimal: `#00000000000000a1xxxx...`. All that differs between two messages of one
 * sender are those digits, so that building one costs a copy, and recognising one a memchr().
 *
 * A sequence number names the lane it belongs to (a pair, or a fan-out's sender), the slot of that
 * lane's window, and a turn that grows with each use of the slot. So it is unique in a run, and
 * finding its slot takes no search and no division.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SEQUENCE_DIGITS 16
#define SEQUENCE_MARK '#' /* occurs in no connection id, name or key of the protocols spoken */
#define PAYLOAD_MINIMUM (1 + SEQUENCE_DIGITS)

#define SEQUENCE_SLOTS 65536
#define SEQUENCE_LANES 65536

static inline uint64_t sequence_make(unsigned lane, unsigned slot, uint32_t turn) {
    return (uint64_t)lane << 48 | (uint64_t)turn << 16 | slot;
}
static inline unsigned sequence_lane(uint64_t sequence) { return (unsigned)(sequence >> 48); }
static inline unsigned sequence_slot(uint64_t sequence) { return (unsigned)(sequence & 0xffff); }
static inline uint32_t sequence_turn(uint64_t sequence) { return (uint32_t)(sequence >> 16); }

/* Stands for the sequence number in a template's text. */
#define SEQUENCE_PLACEHOLDER "@@@@@@@@@@@@@@@@"

#define TEMPLATE_PLACES 2

struct template {
    char *text;
    size_t length;
    size_t places[TEMPLATE_PLACES]; /* where the digits go */
    unsigned place_count;
};

/* Takes a formatted text with the sequence's placeholder once or twice in it. */
void template_set(struct template *template, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* User data of `length` bytes, placeholder included; the caller frees it. */
char *payload_make(size_t length);

void sequence_write(char *digits, uint64_t sequence);
bool sequence_decode(const char *digits, uint64_t *sequence);

/* Writes the message's `template->length` bytes. */
static inline void template_fill(const struct template *template, char *target, uint64_t sequence) {
    char digits[SEQUENCE_DIGITS];
    sequence_write(digits, sequence);
    memcpy(target, template->text, template->length);
    for (unsigned place = 0; place < template->place_count; place++)
        memcpy(target + template->places[place], digits, SEQUENCE_DIGITS);
}

/* Finds the mark in a message's bytes and reads the number behind it. */
static inline bool sequence_find(const char *bytes, size_t length, uint64_t *sequence) {
    const char *mark = memchr(bytes, SEQUENCE_MARK, length);
    if (!mark || length - (size_t)(mark - bytes) < PAYLOAD_MINIMUM) return false;
    return sequence_decode(mark + 1, sequence);
}

#endif
