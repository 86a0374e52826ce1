#include "report.h"

#include <stdio.h>

static void print_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else if (byte < 0x20 || byte > 0x7e) /* not ours to decode: one escape a byte */
            printf("\\u%04x", byte);
        else
            putchar(byte);
    }
    putchar('"');
}

static double percentile(const struct histogram *latency, double share) {
    return (double)histogram_percentile(latency, share) / 1000;
}

static void report_figures(const struct load *load) {
    const struct results *results = &load->results;
    const struct histogram *latency = &results->latency;
    printf("\"seconds\":%.3f,\"routed\":%llu,\"rate\":%.1f,", results->seconds,
           (unsigned long long)results->routed, (double)results->routed / results->seconds);
    printf("\"latency\":{\"count\":%llu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f},",
           (unsigned long long)latency->total, percentile(latency, 0.5), percentile(latency, 0.9),
           percentile(latency, 0.99), (double)latency->maximum / 1000);
    printf("\"client_cpu\":%.3f,\"server_cpu\":%.3f,\"machine_cpu\":%.3f,", results->client_cpu,
           results->server_cpu, results->machine_cpu);
}

void report(const struct load *load) {
    const struct results *results = &load->results;
    printf("{\"mode\":\"%s\",\"protocol\":\"%s\",\"connections\":%u,", load->scenario->name,
           load->protocol->name, load->count);
    if (load->scenario->measures) report_figures(load);
    printf("\"errors\":%llu,\"unexpected\":%llu,\"lost\":%llu,\"closed\":%llu,\"first_error\":",
           (unsigned long long)results->errors, (unsigned long long)results->unexpected,
           (unsigned long long)results->lost, (unsigned long long)results->closed);
    print_string(results->first_error);
    printf("}\n");
    fflush(stdout);
}
