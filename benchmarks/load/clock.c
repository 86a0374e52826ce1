#define _GNU_SOURCE
#include "clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

double clock_own_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double clock_machine_cpu(void) {
    FILE *file = fopen("/proc/stat", "r");
    if (!file) return 0;
    /* proc(5): user nice system idle iowait irq softirq steal */
    unsigned long long user, nice, system, irq, softirq, steal;
    int count = fscanf(file, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice, &system,
                       &irq, &softirq, &steal);
    fclose(file);
    if (count != 6) return 0;
    unsigned long long busy = user + nice + system + irq + softirq + steal;
    return (double)busy / (double)sysconf(_SC_CLK_TCK);
}

double clock_process_cpu(int pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    /* proc(5): utime and stime are fields 14 and 15. Field 2 is the name in parentheses, which may
     * hold spaces, so count from the last parenthesis. */
    const char *rest = strrchr(text, ')');
    unsigned long user, system;
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                        &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}
