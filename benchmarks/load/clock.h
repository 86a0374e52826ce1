/* Time, and how much of it a process spent on a core. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

#define NANOSECONDS 1000000000ull

static inline uint64_t clock_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NANOSECONDS + (uint64_t)time.tv_nsec;
}

static inline uint64_t clock_span(double seconds) { return (uint64_t)(seconds * 1e9); }

/* Seconds of processor time, user and system, of this process so far. */
double clock_own_cpu(void);

/* The same for another process and all its threads, to a hundredth of a second; 0 when unknown. */
double clock_process_cpu(int pid);

/* The same for the whole machine: the time its cores were not idle. */
double clock_machine_cpu(void);

#endif
