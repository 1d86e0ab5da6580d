/* The bench's upstream: answers at once, in the dialect of the path, from one thread on epoll.
 *
 *   upstream [PORT]            listens on 127.0.0.1 (0, the default: any free port) and prints "listening PORT"
 *
 *   POST /api/chat             Ollama (streams unless "stream" is false)
 *   POST /v1/messages          Anthropic
 *   POST anything else         OpenAI chat completions
 *   POST /api/show, GET …      model details, model lists
 *
 * A stream has "max_tokens" events ("num_predict" for Ollama, 64 without), one each "seed" milliseconds. Without a
 * pace all running streams get one event per turn of the loop: as servers do it, and no stream overtakes another.
 * Each event carries the monotonic time at which it was sent (see dialects.h). */
#define _GNU_SOURCE
#include "bytes.h"
#include "dialects.h"
#include "waiting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* One event as it goes out: an HTTP chunk, and where its stamp's digits stand. */
struct chunk {
    char data[1024];
    size_t size, stamp;
};

/* A dialect, ready to send. */
struct voice {
    const struct dialect *dialect;
    char whole[4096], head[2048]; /* head: of a stream, with its opening */
    size_t whole_size, head_size;
    struct chunk event;
};

struct conn {
    int fd;
    bool blocked;            /* the socket takes no more for now: epoll watches for room */
    bool last;               /* the client asked to close after this answer */
    struct bytes in, out;    /* not yet understood; not yet sent */
    const struct voice *stream; /* the stream under way, or NULL */
    int events, sent;        /* of that stream: how many it will have, how many are out */
    int64_t pace, due;       /* ns between events (0: none), when the next is due */
    int place;               /* where it stands in `ready` or `timers`, or -1 */
};

/* Connections in a growing array: `ready` in no order, `timers` as a binary heap by `due`. */
struct conns {
    struct conn **at;
    int count, size;
};

static int epoll;
static struct conns ready, timers;
static struct voice openai, openai_with_usage, ollama, anthropic;

static void conns_put(struct conns *list, int place, struct conn *c)
{
    list->at[place] = c;
    c->place = place;
}

static void conns_append(struct conns *list, struct conn *c)
{
    if (list->count == list->size) {
        list->size = list->size ? list->size * 2 : 256;
        list->at = realloc(list->at, (size_t)list->size * sizeof *list->at);
        if (!list->at)
            die("realloc");
    }
    conns_put(list, list->count++, c);
}

static void ready_add(struct conn *c)
{
    if (c->place < 0)
        conns_append(&ready, c);
}

static void ready_remove(struct conn *c)
{
    if (c->place >= 0)
        conns_put(&ready, c->place, ready.at[--ready.count]);
    c->place = -1;
}

/* Moves a timer to where it belongs in the heap, up or down. */
static void timer_settle(struct conn *c)
{
    int i = c->place;
    for (; i > 0 && timers.at[(i - 1) / 2]->due > c->due; i = (i - 1) / 2)
        conns_put(&timers, i, timers.at[(i - 1) / 2]);
    for (int child; (child = 2 * i + 1) < timers.count; i = child) {
        if (child + 1 < timers.count && timers.at[child + 1]->due < timers.at[child]->due)
            child++;
        if (timers.at[child]->due >= c->due)
            break;
        conns_put(&timers, i, timers.at[child]);
    }
    conns_put(&timers, i, c);
}

static void timer_add(struct conn *c)
{
    conns_append(&timers, c);
    timer_settle(c);
}

static void timer_remove(struct conn *c)
{
    struct conn *moved = timers.at[--timers.count];
    if (moved != c) {
        conns_put(&timers, c->place, moved);
        timer_settle(moved);
    }
    c->place = -1;
}

static void unschedule(struct conn *c)
{
    if (c->place >= 0 && c->pace)
        timer_remove(c);
    else
        ready_remove(c);
}

static void watch(struct conn *c, bool blocked)
{
    struct epoll_event want = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c};
    c->blocked = blocked;
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &want);
}

/* Sends what the socket takes. False: the client is gone. */
static bool flush(struct conn *c)
{
    while (bytes_held(&c->out)) {
        ssize_t n = send(c->fd, c->out.data + c->out.start, bytes_held(&c->out), MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN)
                return false;
            if (!c->blocked)
                watch(c, true);
            return true;
        }
        bytes_take(&c->out, (size_t)n);
    }
    if (c->blocked)
        watch(c, false);
    if (c->last && !c->stream)
        shutdown(c->fd, SHUT_WR);
    return true;
}

static bool say(struct conn *c, const char *data, size_t n)
{
    bytes_add(&c->out, data, n);
    return c->blocked || flush(c);
}

static bool say_json(struct conn *c, const char *status, const char *body)
{
    char text[2048];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     status, strlen(body), body);
    return say(c, text, (size_t)n);
}

static bool say_event(struct conn *c, int64_t now)
{
    struct chunk event = {.size = c->stream->event.size};
    memcpy(event.data, c->stream->event.data, event.size);
    for (int i = STAMP_DIGITS - 1; i >= 0; i--, now /= 10)
        event.data[c->stream->event.stamp + (size_t)i] = (char)('0' + now % 10);
    c->sent++;
    return say(c, event.data, event.size);
}

static bool say_closing(struct conn *c)
{
    char body[2048], text[2560];
    int n = snprintf(body, sizeof body, c->stream->dialect->closing, c->events, c->events + 200);
    n = snprintf(text, sizeof text, "%x\r\n%s\r\n0\r\n\r\n", n, body);
    c->stream = NULL;
    return say(c, text, (size_t)n);
}

/* The value behind "key" in a JSON body, as far as this bench writes bodies; NULL without. */
static const char *value_of(const char *body, size_t n, const char *key)
{
    const char *at = memmem(body, n, key, strlen(key));
    if (!at)
        return NULL;
    at += strlen(key);
    return at + strspn(at, " :");
}

static int number_of(const char *body, size_t n, const char *key, int otherwise)
{
    const char *value = value_of(body, n, key);
    return value ? atoi(value) : otherwise;
}

static bool begin_stream(struct conn *c, const struct voice *voice, const char *body, size_t n)
{
    c->stream = voice;
    c->sent = 0;
    c->events = number_of(body, n, voice == &ollama ? "\"num_predict\"" : "\"max_tokens\"", 64);
    c->pace = (int64_t)number_of(body, n, "\"seed\"", 0) * 1000000;
    if (!say(c, voice->head, voice->head_size))
        return false;
    if (c->pace) {
        c->due = now_ns() + c->pace;
        timer_add(c);
    } else if (!c->blocked)
        ready_add(c);
    return true;
}

static bool starts(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool answer_get(struct conn *c, const char *head)
{
    if (starts(head, "GET /api/tags"))
        return say_json(c, "200 OK", OLLAMA_TAGS);
    return say_json(c, "200 OK", strcasestr(head, "\nanthropic-version:") ? ANTHROPIC_MODELS : OPENAI_MODELS);
}

static bool answer_post(struct conn *c, const char *head, const char *body, size_t n)
{
    if (starts(head, "POST /api/show"))
        return say_json(c, "200 OK", OLLAMA_SHOW);
    const struct voice *voice = &openai;
    if (starts(head, "POST /api/chat"))
        voice = &ollama;
    else if (starts(head, "POST /v1/messages"))
        voice = &anthropic;
    const char *stream = value_of(body, n, "\"stream\"");
    if (stream ? *stream != 't' : voice != &ollama)
        return say(c, voice->whole, voice->whole_size);
    const char *usage = voice == &openai ? value_of(body, n, "\"include_usage\"") : NULL;
    return begin_stream(c, usage && *usage == 't' ? &openai_with_usage : voice, body, n);
}

/* Answers every request that has come in whole, one after the other. False: close the connection. */
static bool answer(struct conn *c)
{
    while (!c->stream && bytes_held(&c->in)) {
        char *head = c->in.data + c->in.start;
        char *end = memmem(head, bytes_held(&c->in), "\r\n\r\n", 4);
        if (!end)
            return true;
        end[2] = 0; /* the head as a string; put back below, as the body may not be here yet */
        const char *length = strcasestr(head, "\ncontent-length:");
        bool chunked = strcasestr(head, "\ntransfer-encoding:") != NULL;
        size_t body = length ? strtoul(length + strlen("\ncontent-length:"), NULL, 10) : 0;
        size_t whole = (size_t)(end + 4 - head) + body;
        if (chunked) {
            say_json(c, "411 Length Required", "{\"error\":{\"message\":\"The bench reads Content-Length only.\"}}");
            return false;
        }
        if (bytes_held(&c->in) < whole) {
            end[2] = '\r';
            return true;
        }
        c->last = strcasestr(head, "\nconnection: close") != NULL;
        char behind = head[whole]; /* there is a byte of room for it, see hear */
        head[whole] = 0;
        bool going = *head == 'P' ? answer_post(c, head, end + 4, body) : answer_get(c, head);
        head[whole] = behind;
        bytes_take(&c->in, whole);
        if (!going)
            return false;
    }
    return true;
}

/* Reads what has come. False: the client is gone. */
static bool hear(struct conn *c)
{
    for (;;) {
        char *room = bytes_room(&c->in, 65537); /* one byte more than is read, for the zero behind a body */
        ssize_t n = recv(c->fd, room, 65536, 0);
        if (n == 0)
            return false;
        if (n < 0)
            return errno == EAGAIN;
        c->in.end += (size_t)n;
        if (n < 65536)
            return true;
    }
}

static void hang_up(struct conn *c)
{
    unschedule(c);
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

static void welcome(int listener)
{
    static const int on = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        c->place = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &want);
    }
}

/* What the socket had to say: room to write, bytes to read, or the end. */
static void serve(struct conn *c, uint32_t events)
{
    if (events & EPOLLOUT) {
        if (!flush(c)) {
            hang_up(c);
            return;
        }
        if (!c->blocked && c->stream && !c->pace)
            ready_add(c);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !(hear(c) && answer(c)))
        hang_up(c);
}

/* The next step of a stream: an event or, behind the last, the end and whatever the client asked meanwhile. */
static void step(struct conn *c, int64_t now)
{
    bool going = say_event(c, now);
    if (going && c->sent >= c->events) {
        unschedule(c);
        going = say_closing(c) && answer(c);
    } else if (c->pace) {
        c->due = c->due + c->pace < now ? now : c->due + c->pace; /* late: no burst to catch up */
        timer_settle(c);
    } else if (c->blocked)
        ready_remove(c);
    if (!going)
        hang_up(c);
}

static int milliseconds_to_wait(void)
{
    if (ready.count)
        return 0;
    if (!timers.count)
        return -1;
    int64_t wait = timers.at[0]->due - now_ns();
    return wait <= 0 ? 0 : (int)((wait + 999999) / 1000000);
}

static void prepare(struct voice *voice, const struct dialect *dialect)
{
    voice->dialect = dialect;
    voice->whole_size = (size_t)snprintf(voice->whole, sizeof voice->whole,
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: %s\r\nx-request-id: req_bench\r\nContent-Length: %zu\r\n\r\n%s",
        dialect->whole_type, strlen(dialect->whole), dialect->whole);
    voice->head_size = (size_t)snprintf(voice->head, sizeof voice->head,
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: %s\r\nCache-Control: no-cache\r\n"
        "x-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n", dialect->stream_type);
    if (*dialect->opening)
        voice->head_size += (size_t)snprintf(voice->head + voice->head_size, sizeof voice->head - voice->head_size,
            "%zx\r\n%s\r\n", strlen(dialect->opening), dialect->opening);
    voice->event.size = (size_t)snprintf(voice->event.data, sizeof voice->event.data,
        "%zx\r\n%s\r\n", strlen(dialect->event), dialect->event);
    voice->event.stamp = (size_t)(strstr(voice->event.data, STAMP) - voice->event.data) + strlen("t=");
}

static int listen_on(int port)
{
    static const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof here;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, size) || listen(fd, 4096))
        die("listen");
    getsockname(fd, (struct sockaddr *)&here, &size);
    printf("listening %d\n", ntohs(here.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    prepare(&openai, &OPENAI);
    prepare(&openai_with_usage, &OPENAI_WITH_USAGE);
    prepare(&ollama, &OLLAMA);
    prepare(&anthropic, &ANTHROPIC);
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    epoll = epoll_create1(0);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL}, got[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &want);
    for (;;) {
        int n = wait_for(epoll, got, 512, milliseconds_to_wait());
        for (int i = 0; i < n; i++) {
            if (got[i].data.ptr)
                serve(got[i].data.ptr, got[i].events);
            else
                welcome(listener);
        }
        for (int i = ready.count - 1; i >= 0; i--) /* backwards: a step may remove the connection from the list */
            step(ready.at[i], now_ns());
        for (int64_t now; timers.count && timers.at[0]->due <= (now = now_ns());)
            step(timers.at[0], now);
    }
}
