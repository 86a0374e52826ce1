/* Latencies in nanoseconds, counted in log-linear buckets.
 *
 * Each power of two is split into 64 buckets, so a reported percentile is at most 1.6 % above the
 * true one, at a fixed size and a constant cost a sample.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SPLIT_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SPLIT_BITS + 1) << HISTOGRAM_SPLIT_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t maximum;
};

/* The upper edge of the bucket below which `share` (0 to 1) of the samples lie; 0 without samples. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);

static inline void histogram_record(struct histogram *histogram, uint64_t value) {
    unsigned bucket;
    if (value < (1u << HISTOGRAM_SPLIT_BITS)) {
        bucket = (unsigned)value;
    } else {
        /* `shift` drops all but the leading one and the SPLIT_BITS bits that follow it. */
        unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SPLIT_BITS;
        bucket = (shift << HISTOGRAM_SPLIT_BITS) + (unsigned)(value >> shift);
    }
    histogram->counts[bucket]++;
    histogram->total++;
    if (value > histogram->maximum) histogram->maximum = value;
}

#endif
