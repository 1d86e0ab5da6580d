/* The bench's load: asks one thing over many connections, from one thread on epoll, and prints what came of it as JSON.
 *
 *   load -p PORT -b FILE [-u PATH] [-c CONNECTIONS] [-d SECONDS] [-w WARMUP] [-s STAGGER] [-r RATE] [-k KEY]
 *
 *   -b  the request's body                          -w  seconds before counting begins (then -d seconds are counted)
 *   -u  /v1/chat/completions                        -s  seconds over which the connections start, one after the other
 *   -k  client key, sent as a bearer token          -r  requests per second, whatever comes back; without it each
 *                                                       connection asks again as soon as it has its answer
 *
 * What is counted lies within the window; what is still running at its end may finish, for up to three seconds.
 * Times are in milliseconds: `latency` to the end of an answer, `first_event` to the first event with text (both from
 * when the request was due), `event_delay` from the upstream's stamp in an event to its arrival here.
 * `all_requests`, `all_events` count outside the window too: what the CPU time of a proxy is to be divided by. */
#define _GNU_SOURCE
#include "bytes.h"
#include "response.h"
#include "samples.h"
#include "waiting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define RETRY (SECOND / 10)     /* a connection that failed waits so long */
#define DRAIN (3 * SECOND)

struct conn {
    int fd;                     /* -1: not connected */
    bool busy, wants_room, done, failed; /* done: [DONE] was seen; failed: an error event was */
    size_t sent;                /* bytes of the request */
    int64_t due, first, again;  /* when the request was due, when its first event came, when to try again */
    struct response response;
};

struct options {
    const char *path, *key, *body;
    int port, conns;
    double seconds, warmup, stagger, rate;
};

static struct options options = {.path = "/v1/chat/completions", .conns = 1, .seconds = 3};
static struct bytes request;
static struct conn *conns;
static int epoll;
static int64_t begin, window, end; /* when the load begins, when counting does, when both end */
static struct samples latency, first_event, event_delay;
static struct {
    long requests, events, all_requests, all_events, failed, broken, error_events, missed, connects, running;
    long statuses[600];
} count;

static void watch(struct conn *c, int how, bool wants_room)
{
    struct epoll_event want = {.events = EPOLLIN | (wants_room ? EPOLLOUT : 0), .data.ptr = c};
    c->wants_room = wants_room;
    epoll_ctl(epoll, how, c->fd, &want);
}

static void dial(struct conn *c)
{
    static const int on = 1;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)
        die("connect");
    count.connects++;
    watch(c, EPOLL_CTL_ADD, true);
}

static void hang_up(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
}

static void send_more(struct conn *c)
{
    while (c->sent < request.end) {
        ssize_t n = send(c->fd, request.data + c->sent, request.end - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            break; /* no room yet; a connection that is gone shows when it is read */
        c->sent += (size_t)n;
    }
    if (c->wants_room != (c->sent < request.end))
        watch(c, EPOLL_CTL_MOD, c->sent < request.end);
}

static void ask(struct conn *c, int64_t due)
{
    response_begin(&c->response);
    c->busy = true;
    c->done = c->failed = false;
    c->sent = 0;
    c->first = 0;
    c->due = due;
    count.running++;
    if (c->fd < 0)
        dial(c); /* sends as soon as it is connected */
    else
        send_more(c);
}

/* The answer is complete, or will never be. */
static void settle(struct conn *c, bool whole)
{
    struct response *r = &c->response;
    int64_t now = now_ns();
    bool counts = now >= window && now < end;
    bool good = whole && r->status == 200 && (!r->events || c->done) && !c->failed;
    c->busy = false;
    c->again = whole ? now : now + RETRY;
    count.running--;
    count.all_requests++;
    count.broken += !whole || (r->events && !c->done);
    count.failed += !good;
    count.statuses[whole && r->status > 0 && r->status < 600 ? r->status : 0]++;
    if (counts && good) {
        count.requests++;
        samples_add(&latency, now - c->due);
        if (c->first)
            samples_add(&first_event, c->first - c->due);
    }
    if (!whole || r->close)
        hang_up(c);
    if (!options.rate && whole && now < end)
        ask(c, now);
}

static void take_line(void *context, const char *line, size_t size)
{
    struct conn *c = context;
    if (size < 6 || memcmp(line, "data:", 5))
        return;
    const char *stamp = memmem(line, size, " t=0", 4);
    if (stamp) {
        int64_t now = now_ns();
        if (!c->first)
            c->first = now;
        count.all_events++;
        if (now >= window && now < end) {
            count.events++;
            samples_add(&event_delay, now - strtoll(stamp + 3, NULL, 10));
        }
    } else if (size >= 12 && !memcmp(line, "data: [DONE]", 12))
        c->done = true;
    else if (memmem(line, size, "\"error\":", 8)) {
        c->failed = true;
        count.error_events++;
    }
}

static void hear(struct conn *c)
{
    static char data[262144];
    ssize_t n = recv(c->fd, data, sizeof data, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (!c->busy) /* closed while idle, or talking unasked */
        hang_up(c);
    else if (n <= 0)
        settle(c, n == 0 && c->response.where == TO_THE_END);
    else if (!response_feed(&c->response, data, (size_t)n, take_line, c))
        settle(c, false);
    else if (c->response.where == COMPLETE)
        settle(c, true);
}

/* Closed loop: connections begin over the stagger, and those that failed begin again. Gives back ms to sleep. */
static int keep_busy(int64_t now)
{
    static int begun;
    for (; begun < options.conns && now - begin >= (int64_t)(options.stagger * SECOND) * begun / options.conns; begun++)
        ask(&conns[begun], now);
    if (count.failed)
        for (int i = 0; i < begun; i++)
            if (!conns[i].busy && conns[i].again <= now)
                ask(&conns[i], now);
    return begun < options.conns ? 1 : 20;
}

/* Open loop: asks when it is due, on whatever connection is free, and counts what found none. */
static int keep_pace(int64_t now)
{
    static long asked;
    static int next;
    for (int64_t due; (due = begin + (int64_t)((double)asked * SECOND / options.rate)) <= now; asked++) {
        int tried = 0;
        while (tried < options.conns && conns[next].busy) {
            next = (next + 1) % options.conns;
            tried++;
        }
        if (tried == options.conns)
            count.missed++;
        else
            ask(&conns[next], due);
        next = (next + 1) % options.conns;
    }
    return 1;
}

static void run(void)
{
    struct epoll_event got[1024];
    for (int64_t now; (now = now_ns()) < end || (count.running && now < end + DRAIN);) {
        int wait = now >= end ? 20 : options.rate ? keep_pace(now) : keep_busy(now);
        int n = wait_for(epoll, got, 1024, wait);
        for (int i = 0; i < n; i++) {
            struct conn *c = got[i].data.ptr;
            if (got[i].events & EPOLLOUT && c->busy)
                send_more(c);
            if (got[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                hear(c);
        }
    }
}

static void report(void)
{
    printf("{\"connections\": %d, \"seconds\": %.3f, \"requests\": %ld, \"requests_per_second\": %.1f, \"events\": %ld, "
           "\"events_per_second\": %.1f",
           options.conns, options.seconds, count.requests, (double)count.requests / options.seconds, count.events,
           (double)count.events / options.seconds);
    printf(", \"all_requests\": %ld, \"all_events\": %ld, \"failed\": %ld, \"broken\": %ld, \"error_events\": %ld, "
           "\"missed\": %ld, \"unfinished\": %ld, \"connects\": %ld",
           count.all_requests, count.all_events, count.failed, count.broken, count.error_events, count.missed,
           count.running, count.connects);
    printf(", \"statuses\": {");
    for (int status = 0, some = 0; status < 600; status++)
        if (count.statuses[status])
            printf("%s\"%d\": %ld", some++ ? ", " : "", status, count.statuses[status]);
    printf("}");
    samples_print(&latency, "latency");
    samples_print(&first_event, "first_event");
    samples_print(&event_delay, "event_delay");
    printf("}\n");
}

static void read_options(int argc, char **argv)
{
    for (int letter; (letter = getopt(argc, argv, "p:b:u:c:d:w:s:r:k:")) != -1;) {
        switch (letter) {
        case 'p': options.port = atoi(optarg); break;
        case 'b': options.body = optarg; break;
        case 'u': options.path = optarg; break;
        case 'c': options.conns = atoi(optarg); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 's': options.stagger = atof(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'k': options.key = optarg; break;
        default: exit(2);
        }
    }
    if (!options.port || !options.body || options.conns < 1 || options.seconds <= 0) {
        fprintf(stderr, "load: -p PORT and -b FILE are needed; see the top of load.c\n");
        exit(2);
    }
}

static void write_request(void)
{
    struct bytes body = {0};
    FILE *file = fopen(options.body, "rb");
    if (!file)
        die(options.body);
    for (size_t n; (n = fread(bytes_room(&body, 65536), 1, 65536, file));)
        body.end += n;
    fclose(file);
    char head[1024];
    int n = snprintf(head, sizeof head,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: sluice-bench\r\nAccept: */*\r\n"
                     "%s%s%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     options.path, options.port, options.key ? "Authorization: Bearer " : "",
                     options.key ? options.key : "", options.key ? "\r\n" : "", bytes_held(&body));
    bytes_add(&request, head, (size_t)n);
    bytes_add(&request, body.data, bytes_held(&body));
    free(body.data);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    write_request();
    epoll = epoll_create1(0);
    conns = calloc((size_t)options.conns, sizeof *conns);
    if (!conns)
        die("calloc");
    for (int i = 0; i < options.conns; i++)
        conns[i].fd = -1;
    begin = now_ns();
    window = begin + (int64_t)(options.warmup * SECOND);
    end = window + (int64_t)(options.seconds * SECOND);
    run();
    report();
    return 0;
}
