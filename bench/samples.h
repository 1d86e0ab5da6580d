/* Durations, and the percentiles of them. */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct samples {
    uint32_t *at; /* microseconds */
    size_t count, size;
};

static inline void samples_add(struct samples *s, int64_t ns)
{
    if (s->count == s->size) {
        s->size = s->size ? s->size * 2 : 65536;
        s->at = realloc(s->at, s->size * sizeof *s->at);
        if (!s->at)
            die("realloc");
    }
    int64_t us = ns / 1000;
    s->at[s->count++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static inline int samples_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The smallest sample that at least the share `of` of all samples does not pass, in milliseconds (nearest rank). */
static inline double samples_rank(const struct samples *s, double of)
{
    size_t rank = (size_t)(of * (double)s->count);
    if ((double)rank < of * (double)s->count)
        rank++;
    return s->at[rank ? rank - 1 : 0] / 1000.0;
}

/* As a JSON member: "name": {"p50": …} in milliseconds, null without any sample. */
static inline void samples_print(struct samples *s, const char *name)
{
    if (!s->count) {
        printf(", \"%s\": null", name);
        return;
    }
    qsort(s->at, s->count, sizeof *s->at, samples_compare);
    printf(", \"%s\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f}", name, samples_rank(s, 0.5),
           samples_rank(s, 0.9), samples_rank(s, 0.99), samples_rank(s, 1));
}

#endif
