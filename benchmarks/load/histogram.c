#include "histogram.h"

static uint64_t bucket_edge(unsigned bucket) {
    const unsigned split = 1u << HISTOGRAM_SPLIT_BITS;
    if (bucket < 2 * split) return bucket;
    unsigned shift = (bucket >> HISTOGRAM_SPLIT_BITS) - 1;
    uint64_t lowest = (uint64_t)(bucket - (shift << HISTOGRAM_SPLIT_BITS)) << shift;
    return lowest + ((uint64_t)1 << shift) - 1;
}

uint64_t histogram_percentile(const struct histogram *histogram, double share) {
    if (histogram->total == 0) return 0;
    uint64_t wanted = (uint64_t)(share * (double)histogram->total);
    if (wanted < 1) wanted = 1;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= wanted) {
            uint64_t edge = bucket_edge(bucket);
            return edge < histogram->maximum ? edge : histogram->maximum;
        }
    }
    return histogram->maximum;
}
