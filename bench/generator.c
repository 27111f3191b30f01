/* The load generator: sends the requests of a file over keep-alive connections.
 *
 * RATE 0 is the closed loop: a connection sends its next request after a response. Any other rate is
 * the open loop: each connection has a schedule. A late response delays the next request, but not the
 * time at which that request is due, and latency counts from that time. So a server that stalls cannot
 * hide the requests that it delayed (G. Tene, "How NOT to Measure Latency"; wrk2 does the same).
 * Packaged load generators cannot send the requests of a file in order at the rates needed here.
 *
 * generator PORT CONNECTIONS SECONDS WARM_SECONDS RATE OFFSET FILE    (see load.py and traffic.py)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD 4096
#define BUFFER 65536
#define GRACE_NS 1000000000ull /* for responses that are due at the end */

typedef struct { char *data; size_t size; } Request;

typedef struct {
    int fd, busy, writing;
    uint64_t due;
    const Request *request;
    size_t sent, have;
    long left; /* bytes of the body to come; -1 while reading the head */
    int status;
    char head[HEAD + 1];
} Connection;

static Request *requests;
static size_t request_count, next_request;
static uint32_t *latencies; /* in tenths of a microsecond */
static size_t latency_count, latency_room, total;
static long statuses[600];
static uint64_t measure_from, end_at;
static int epoll;

static void fail(const char *what) { fprintf(stderr, "generator: %s: %s\n", what, strerror(errno)); exit(1); }

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size, room = 0;
    if (!file) fail(path);
    while (fscanf(file, "%zu", &size) == 1) {
        fgetc(file);
        if (request_count == room) requests = realloc(requests, (room = room ? 2 * room : 1024) * sizeof *requests);
        Request *r = &requests[request_count++];
        r->data = malloc(r->size = size);
        if (fread(r->data, 1, size, file) != size) fail("the request file is truncated");
    }
    fclose(file);
    if (!request_count) fail("the request file is empty");
}

static void record(uint64_t from, uint64_t at) {
    if (latency_count == latency_room)
        latencies = realloc(latencies, (latency_room = latency_room ? 2 * latency_room : 1 << 16) * sizeof *latencies);
    latencies[latency_count++] = (uint32_t)((at - from) / 100);
}

static void watch_fd(Connection *c, int writing) {
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e)) fail("epoll_ctl");
    c->writing = writing;
}

static void send_rest(Connection *c) {
    ssize_t n = send(c->fd, c->request->data + c->sent, c->request->size - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) fail("send");
    if (n > 0) c->sent += n;
    int more = c->sent < c->request->size;
    if (more != c->writing) watch_fd(c, more);
}

static void start_request(Connection *c) {
    c->request = &requests[next_request];
    next_request = (next_request + 1) % request_count;
    c->sent = c->have = 0;
    c->left = -1;
    c->busy = 1;
    send_rest(c);
}

/* Returns 1 when the response is complete. */
static int receive(Connection *c, const char *data, size_t size) {
    if (c->left < 0) {
        size_t fits = HEAD - c->have < size ? HEAD - c->have : size;
        memcpy(c->head + c->have, data, fits);
        c->have += fits;
        c->head[c->have] = 0;
        char *body = strstr(c->head, "\r\n\r\n");
        if (!body) {
            if (c->have == HEAD) fail("the head of a response is too long");
            return 0;
        }
        size_t in_head = body + 4 - c->head, before = c->have - fits;
        c->status = atoi(c->head + 9);
        char *length = strcasestr(c->head, "\r\ncontent-length:");
        if (!length || length > body) fail("a response without Content-Length");
        c->left = atol(length + 17) - (long)(size - (in_head - before));
    } else {
        c->left -= size;
    }
    return c->left <= 0;
}

static void finish(Connection *c, uint64_t at, uint64_t interval) {
    c->busy = 0;
    total++;
    if (at >= measure_from && (interval ? c->due >= measure_from : at < end_at)) {
        record(c->due, at);
        statuses[c->status < 600 && c->status > 0 ? c->status : 0]++;
    }
    c->due = interval ? c->due + interval : at;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) {
    if (!latency_count) return 0;
    size_t i = (size_t)(share * latency_count);
    return latencies[i < latency_count ? i : latency_count - 1] / 10.0;
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "usage: generator PORT CONNECTIONS SECONDS WARM RATE OFFSET FILE\n"); return 2; }
    int count = atoi(argv[2]);
    double seconds = atof(argv[3]), warm = atof(argv[4]), rate = atof(argv[5]);
    load(argv[7]);
    next_request = strtoull(argv[6], 0, 10) % request_count;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Connection *all = calloc(count, sizeof *all);
    struct epoll_event events[256];
    static char buffer[BUFFER];
    prctl(PR_SET_TIMERSLACK, 1);
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        int one = 1;
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e)) fail("epoll_ctl");
    }
    uint64_t interval = rate > 0 ? (uint64_t)(1e9 * count / rate) : 0, start = now();
    clock_t cpu_before = clock();
    measure_from = start + (uint64_t)(warm * 1e9);
    end_at = measure_from + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < count; i++) all[i].due = start + interval * i / count;
    for (;;) {
        uint64_t at = now(), next = end_at;
        int waiting = 0; /* for a response */
        if (at < end_at) {
            for (int i = 0; i < count; i++) {
                if (all[i].busy) continue;
                if (all[i].due <= at) start_request(&all[i]);
                else if (all[i].due < next) next = all[i].due;
            }
            at = now();
        } else {
            for (int i = 0; i < count; i++) waiting += all[i].busy;
            next = end_at + GRACE_NS;
            if (!waiting || at >= next) break;
        }
        int n = epoll_wait(epoll, events, 256, 0);
        if (n == 0 && next > at) {
            struct timespec pause = {(next - at) / 1000000000ull, (next - at) % 1000000000ull};
            struct pollfd ready = {.fd = epoll, .events = POLLIN};
            if (ppoll(&ready, 1, &pause, 0) > 0) n = epoll_wait(epoll, events, 256, 0);
        }
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (c->writing && events[i].events & EPOLLOUT) send_rest(c);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            ssize_t size = recv(c->fd, buffer, BUFFER, MSG_DONTWAIT);
            if (size < 0 && errno == EAGAIN) continue;
            if (size <= 0) fail("the server closed a connection");
            if (!c->busy) fail("a response without a request");
            if (receive(c, buffer, size)) finish(c, now(), interval);
        }
    }
    double cpu = (double)(clock() - cpu_before) / CLOCKS_PER_SEC, ran = (now() - start) / 1e9;
    /* A request that was due and has no response has waited at least until now. */
    long unanswered = 0;
    for (int i = 0; interval && i < count; i++)
        for (uint64_t due = all[i].due; due < end_at; due += interval)
            if (due >= measure_from) record(due, now()), unanswered++;
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    printf("{\"rate\": %.1f, \"total\": %zu, \"unanswered\": %ld, \"client_cpu\": %.4f, \"us\": {\"p50\": %.1f, "
           "\"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}, \"statuses\": {",
           seconds > 0 ? (latency_count - unanswered) / seconds : 0, total, unanswered, cpu / ran,
           percentile(0.5), percentile(0.99), percentile(0.999), percentile(1));
    const char *comma = "";
    for (int i = 0; i < 600; i++)
        if (statuses[i]) printf("%s\"%d\": %ld", comma, i, statuses[i]), comma = ", ";
    puts("}}");
    return 0;
}
