/* A run's figures, as one line of JSON on stdout. */
#ifndef REPORT_H
#define REPORT_H

#include "load.h"

void report(const struct load *load);

#endif
