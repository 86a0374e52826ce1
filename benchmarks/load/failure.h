/* The one way out when a run can't give figures: a line on stderr and exit status 1. */
#ifndef FAILURE_H
#define FAILURE_H

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
