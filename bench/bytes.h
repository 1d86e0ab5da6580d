/* The clock, and a growable buffer of bytes: what both ends of the bench are made of. */
#ifndef BENCH_BYTES_H
#define BENCH_BYTES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* CLOCK_MONOTONIC is one clock for all processes of a machine: the difference of two readings is a one-way delay. */
static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Ends the program: a bench without memory or sockets has nothing to measure. */
static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

struct bytes {
    char *data;
    size_t size, start, end; /* what it holds is data[start..end) */
};

static inline size_t bytes_held(const struct bytes *b)
{
    return b->end - b->start;
}

/* Makes room for n more bytes behind the end, moving what is held to the front first. */
static inline char *bytes_room(struct bytes *b, size_t n)
{
    if (b->size - b->end >= n)
        return b->data + b->end;
    if (b->start) {
        memmove(b->data, b->data + b->start, bytes_held(b));
        b->end -= b->start;
        b->start = 0;
    }
    if (b->size - b->end < n) {
        b->size = (b->end + n) * 2;
        b->data = realloc(b->data, b->size);
        if (!b->data)
            die("realloc");
    }
    return b->data + b->end;
}

static inline void bytes_add(struct bytes *b, const char *data, size_t n)
{
    memcpy(bytes_room(b, n), data, n);
    b->end += n;
}

static inline void bytes_take(struct bytes *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        b->start = b->end = 0;
}

#endif
