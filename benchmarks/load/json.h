/* Finding a member of a JSON object without parsing the rest.
 *
 * For the few messages of a run that are not traffic (IDENTIFY's answer, errors, heartbeats). It
 * trusts the broker to write valid JSON and never reads past the slice it was given.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

struct slice {
    const char *start;
    size_t length;
};

/* Finds the member `key` of an object at its top level, whatever the order and nesting around it;
 * `value` becomes its text as written, quotes included. */
bool json_member(struct slice object, const char *key, struct slice *value);

/* The inside of a string value, escapes as written; false when the value is no string. */
bool json_string(struct slice value, struct slice *inside);

#endif
