/* Reads one HTTP/1.1 response as it comes, and hands on the lines of its body. */
#ifndef BENCH_RESPONSE_H
#define BENCH_RESPONSE_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum where { HEAD, LENGTH, TO_THE_END, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, COMPLETE };

struct response {
    enum where where;
    int status;
    bool close, events;  /* the server closes behind it; it is a stream of server-sent events */
    long long left;      /* bytes of the body, or of the chunk, still to come */
    size_t held;         /* bytes in text */
    char text[16384];    /* the head as far as it has come; then the line of the body that has not ended yet */
};

/* Called with each line of the body, without its end; a line longer than text comes cut. */
typedef void on_line(void *context, const char *line, size_t size);

static inline void response_begin(struct response *r)
{
    memset(r, 0, offsetof(struct response, text));
}

static inline const char *header_of(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    return at ? at + strlen(name) + strspn(at + strlen(name), " ") : NULL;
}

/* Understands the head in text, which ends in a zero. */
static inline void response_understand(struct response *r)
{
    const char *length = header_of(r->text, "\ncontent-length:");
    const char *coding = header_of(r->text, "\ntransfer-encoding:");
    const char *after = header_of(r->text, "\nconnection:");
    const char *type = header_of(r->text, "\ncontent-type:");
    r->status = atoi(r->text + strlen("HTTP/1.1 "));
    r->close = after && !strncasecmp(after, "close", 5);
    r->events = type && !strncasecmp(type, "text/event-stream", 17);
    r->left = length ? atoll(length) : 0;
    if (coding && !strncasecmp(coding, "chunked", 7))
        r->where = CHUNK_SIZE;
    else if (length)
        r->where = r->left ? LENGTH : COMPLETE;
    else
        r->where = TO_THE_END;
    r->left = r->where == CHUNK_SIZE ? 0 : r->left;
    r->held = 0;
}

/* Takes bytes of the head; gives back how many, or -1 where it is too long or no HTTP. */
static inline long response_head(struct response *r, const char *data, size_t n)
{
    size_t before = r->held, room = sizeof r->text - 1 - before, more = n < room ? n : room;
    memcpy(r->text + before, data, more);
    r->held += more;
    r->text[r->held] = 0;
    char *end = strstr(r->text, "\r\n\r\n");
    if (!end)
        return more < n ? -1 : (long)n;
    if (strncmp(r->text, "HTTP/1.", 7))
        return -1;
    size_t size = (size_t)(end + 4 - r->text);
    end[2] = 0;
    response_understand(r);
    return (long)(size - before);
}

static inline void response_body(struct response *r, const char *data, size_t n, on_line *line, void *context)
{
    while (n) {
        const char *end = memchr(data, '\n', n);
        size_t size = end ? (size_t)(end - data) : n, room = sizeof r->text - r->held;
        size_t kept = size < room ? size : room;
        memcpy(r->text + r->held, data, kept);
        r->held += kept;
        if (!end)
            return;
        line(context, r->text, r->held);
        r->held = 0;
        data += size + 1;
        n -= size + 1;
    }
}

/* Takes one byte of the framing between chunks. */
static inline void response_framing(struct response *r, char byte)
{
    switch (r->where) {
    case CHUNK_SIZE:
        if (byte == '\n')
            r->where = r->left ? CHUNK : TRAILER;
        else if (isxdigit((unsigned char)byte))
            r->left = r->left * 16 + (isdigit((unsigned char)byte) ? byte - '0' : (byte | 32) - 'a' + 10);
        break;
    case CHUNK_END:
        if (byte == '\n')
            r->where = CHUNK_SIZE;
        break;
    default: /* TRAILER: this bench sends none, so the next end of line is the end */
        if (byte == '\n')
            r->where = COMPLETE;
    }
}

/* Takes what was received. False: this is no HTTP response. Look at `where` to see whether it is complete. */
static inline bool response_feed(struct response *r, const char *data, size_t n, on_line *line, void *context)
{
    if (r->where == HEAD) {
        long took = response_head(r, data, n);
        if (took < 0)
            return false;
        data += took;
        n -= (size_t)took;
    }
    while (n && r->where != COMPLETE) {
        size_t take = 1;
        if (r->where == TO_THE_END) {
            take = n;
            response_body(r, data, take, line, context);
        } else if (r->where == LENGTH || r->where == CHUNK) {
            take = (long long)n < r->left ? n : (size_t)r->left;
            response_body(r, data, take, line, context);
            r->left -= (long long)take;
            if (!r->left)
                r->where = r->where == CHUNK ? CHUNK_END : COMPLETE;
        } else
            response_framing(r, *data);
        data += take;
        n -= take;
    }
    return n == 0; /* more than was asked for is no answer either */
}

#endif
