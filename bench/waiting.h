/* Waiting for sockets: asleep, or, where BENCH_AWAKE is set, by looking again and again.
 *
 * A process that sleeps is woken by whoever writes to its socket. On one machine that is the proxy, which pays for it
 * (an interrupt for the other core; some 7 us in a virtual machine), the slower it is the more often: in front of a fast
 * one load and upstream have no time to sleep. Over a network it is the network card that wakes them. */
#ifndef BENCH_WAITING_H
#define BENCH_WAITING_H

#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>

static inline int wait_for(int epoll, struct epoll_event *got, int most, int milliseconds)
{
    static int awake = -1;
    if (awake < 0)
        awake = getenv("BENCH_AWAKE") != NULL;
    int n = epoll_wait(epoll, got, most, awake ? 0 : milliseconds);
    if (awake && n == 0)
        sched_yield(); /* load and upstream share a core */
    return n;
}

#endif
