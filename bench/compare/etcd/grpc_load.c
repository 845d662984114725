/* Keeps gRPC requests in flight to one server for some seconds and prints what it measured.
 *
 *   grpc_load HOST PORT CONNECTIONS STREAMS SECONDS PATH BODIES
 *
 * BODIES is a file of length-prefixed gRPC messages, one request each, which are sent in turn, again
 * from the first after the last. STREAMS requests are in flight, spread over CONNECTIONS. Each
 * stream that ends is followed by the next at once, until SECONDS are over; then the rest is
 * awaited. A request is good if its response has :status 200 and grpc-status 0.
 *
 * Output: one JSON object on one line. What leaves in one turn of the loop leaves in one write.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LENGTH_PREFIX_BYTES 5
#define STREAM_WINDOW_BYTES (16 << 20)
#define CONNECTION_WINDOW_BYTES (1 << 30)
#define READ_BYTES (256 << 10)
#define LAST_ANSWERS_S 10

struct body {
    const uint8_t *bytes;
    size_t length;
};

struct connection {
    int fd;
    nghttp2_session *session;
    uint8_t *unsent;
    size_t unsent_length, unsent_capacity;
};

/* One of the STREAMS requests in flight; reused for the next one. */
struct request {
    struct connection *connection;
    const struct body *body;
    size_t sent;
    uint64_t began_ns;
    int is_http_ok, is_grpc_ok;
};

static struct body *bodies;
static size_t body_count, next_body;
static const char *host_and_port, *path;
static uint64_t deadline_ns;
static size_t in_flight, failed;
static uint64_t response_bytes;
static uint32_t *latencies_us;
static size_t latency_count, latency_capacity;
static char first_problem[200];

static void fail(const char *what) {
    fprintf(stderr, "grpc_load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void *grown(void *old, size_t bytes) {
    void *grown = realloc(old, bytes);
    if (grown == NULL) fail("out of memory");
    return grown;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void remember_problem(const char *text, size_t length) {
    if (first_problem[0] != '\0') return;
    size_t kept = 0;
    for (size_t i = 0; i < length && kept + 1 < sizeof first_problem; i++)
        if (text[i] >= ' ' && text[i] != '"' && text[i] != '\\') first_problem[kept++] = text[i];
}

static void record_latency(uint64_t ns) {
    if (latency_count == latency_capacity) {
        latency_capacity = latency_capacity ? 2 * latency_capacity : 1 << 16;
        latencies_us = grown(latencies_us, latency_capacity * sizeof *latencies_us);
    }
    latencies_us[latency_count++] = (uint32_t)(ns / 1000);
}

/* -- requests --------------------------------------------------------------------------------- */

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *user_data) {
    (void)session, (void)stream, (void)user_data;
    struct request *request = source->ptr;
    size_t left = request->body->length - request->sent;
    size_t length = left < room ? left : room;
    memcpy(buffer, request->body->bytes + request->sent, length);
    request->sent += length;
    if (request->sent == request->body->length) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)length;
}

static nghttp2_nv header(const char *name, const char *value) {
    nghttp2_nv made = {(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
                       NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    return made;
}

static void submit(struct request *request) {
    nghttp2_nv headers[] = {
        header(":method", "POST"),       header(":scheme", "http"),
        header(":authority", host_and_port), header(":path", path),
        header("content-type", "application/grpc"), header("te", "trailers"),
    };
    nghttp2_data_provider data = {{.ptr = request}, read_body};
    request->body = &bodies[next_body];
    next_body = (next_body + 1) % body_count;
    request->sent = 0;
    request->is_http_ok = request->is_grpc_ok = 0;
    request->began_ns = now_ns();
    if (nghttp2_submit_request(request->connection->session, NULL, headers,
                               sizeof headers / sizeof *headers, &data, request) < 0)
        fail("cannot submit a request");
    in_flight++;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *user_data) {
    (void)flags, (void)user_data;
    struct request *request =
        nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (request == NULL) return 0;
    if (name_length == 7 && memcmp(name, ":status", 7) == 0)
        request->is_http_ok = value_length == 3 && memcmp(value, "200", 3) == 0;
    else if (name_length == 11 && memcmp(name, "grpc-status", 11) == 0)
        request->is_grpc_ok = value_length == 1 && *value == '0';
    else if (name_length == 12 && memcmp(name, "grpc-message", 12) == 0)
        remember_problem((const char *)value, value_length);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t length, void *user_data) {
    (void)session, (void)flags, (void)stream, (void)bytes, (void)user_data;
    response_bytes += length;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error,
                           void *user_data) {
    (void)user_data;
    struct request *request = nghttp2_session_get_stream_user_data(session, stream);
    uint64_t now = now_ns();
    if (error == 0 && request->is_http_ok && request->is_grpc_ok) {
        record_latency(now - request->began_ns);
    } else {
        failed++;
        const char *text = nghttp2_http2_strerror(error);
        remember_problem(text, strlen(text));
    }
    in_flight--;
    if (now < deadline_ns) submit(request);
    return 0;
}

/* -- connections ------------------------------------------------------------------------------ */

static void open_connection(struct connection *connection, const char *host, const char *port,
                            const nghttp2_session_callbacks *callbacks) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int on = 1;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail("HOST is not an IPv4 address");
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot connect");
    if (setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        fcntl(connection->fd, F_SETFL, O_NONBLOCK) != 0)
        fail("cannot set up a socket");
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
    };
    if (nghttp2_session_client_new(&connection->session, callbacks, NULL) != 0 ||
        nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
        nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                              CONNECTION_WINDOW_BYTES) != 0)
        fail("cannot begin an HTTP/2 session");
}

static void send_what_can_be_sent(struct connection *connection) {
    const uint8_t *bytes;
    ssize_t length;
    while ((length = nghttp2_session_mem_send(connection->session, &bytes)) > 0) {
        size_t needed = connection->unsent_length + (size_t)length;
        if (needed > connection->unsent_capacity) {
            connection->unsent_capacity = 2 * needed;
            connection->unsent = grown(connection->unsent, connection->unsent_capacity);
        }
        memcpy(connection->unsent + connection->unsent_length, bytes, (size_t)length);
        connection->unsent_length = needed;
    }
    if (length < 0) fail(nghttp2_strerror((int)length));
    if (connection->unsent_length == 0) return;
    ssize_t written = write(connection->fd, connection->unsent, connection->unsent_length);
    if (written < 0 && errno != EAGAIN) fail("the server closed the connection");
    if (written > 0) {
        connection->unsent_length -= (size_t)written;
        memmove(connection->unsent, connection->unsent + written, connection->unsent_length);
    }
}

static void receive(struct connection *connection) {
    static uint8_t buffer[READ_BYTES];
    ssize_t length = read(connection->fd, buffer, sizeof buffer);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) fail("the server closed the connection");
    ssize_t taken = nghttp2_session_mem_recv(connection->session, buffer, (size_t)length);
    if (taken < 0) fail(nghttp2_strerror((int)taken));
}

/* -- the run ---------------------------------------------------------------------------------- */

static void read_bodies(const char *file) {
    FILE *stream = fopen(file, "rb");
    if (stream == NULL || fseek(stream, 0, SEEK_END) != 0) fail(file);
    size_t size = (size_t)ftell(stream);
    rewind(stream);
    uint8_t *bytes = grown(NULL, size + 1);
    if (fread(bytes, 1, size, stream) != size) fail(file);
    fclose(stream);
    for (size_t at = 0; at + LENGTH_PREFIX_BYTES <= size;) {
        const uint8_t *prefix = bytes + at;
        size_t length = LENGTH_PREFIX_BYTES + ((size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 |
                                               (size_t)prefix[3] << 8 | (size_t)prefix[4]);
        bodies = grown(bodies, (body_count + 1) * sizeof *bodies);
        bodies[body_count++] = (struct body){prefix, length};
        at += length;
        if (at > size) fail("BODIES ends within a message");
    }
    if (body_count == 0) fail("BODIES is empty");
}

static void run(struct connection *connections, size_t count) {
    struct pollfd *polled = grown(NULL, count * sizeof *polled);
    uint64_t give_up_ns = deadline_ns + LAST_ANSWERS_S * 1000000000ull;
    while (in_flight > 0) {
        for (size_t i = 0; i < count; i++) {
            send_what_can_be_sent(&connections[i]);
            short events = connections[i].unsent_length ? POLLIN | POLLOUT : POLLIN;
            polled[i] = (struct pollfd){.fd = connections[i].fd, .events = events};
        }
        if (poll(polled, count, 1000) < 0 && errno != EINTR) fail("poll");
        for (size_t i = 0; i < count; i++)
            if (polled[i].revents & ~POLLOUT) receive(&connections[i]);
        if (now_ns() > give_up_ns) {
            errno = 0;
            fail("requests were not answered");
        }
    }
    free(polled);
}

static int by_size(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static uint32_t percentile_us(double share) {
    if (latency_count == 0) return 0;
    size_t position = (size_t)(share * (double)latency_count);
    return latencies_us[position < latency_count ? position : latency_count - 1];
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

int main(int argc, char **argv) {
    if (argc != 8) fail("usage: HOST PORT CONNECTIONS STREAMS SECONDS PATH BODIES");
    size_t connection_count = (size_t)atoi(argv[3]), streams = (size_t)atoi(argv[4]);
    if (connection_count < 1 || streams < connection_count)
        fail("there must be at least one stream for each connection");
    char authority[64];
    snprintf(authority, sizeof authority, "%s:%s", argv[1], argv[2]);
    host_and_port = authority;
    path = argv[6];
    read_bodies(argv[7]);

    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    struct connection *connections = calloc(connection_count, sizeof *connections);
    struct request *requests = calloc(streams, sizeof *requests);
    if (connections == NULL || requests == NULL) fail("out of memory");
    for (size_t i = 0; i < connection_count; i++)
        open_connection(&connections[i], argv[1], argv[2], callbacks);

    double cpu_before = cpu_seconds();
    uint64_t began_ns = now_ns();
    deadline_ns = began_ns + (uint64_t)(atof(argv[5]) * 1e9);
    for (size_t i = 0; i < streams; i++) {
        requests[i].connection = &connections[i % connection_count];
        submit(&requests[i]);
    }
    run(connections, connection_count);
    double seconds = 1e-9 * (double)(now_ns() - began_ns);
    double cpu_s = cpu_seconds() - cpu_before;

    qsort(latencies_us, latency_count, sizeof *latencies_us, by_size);
    printf("{\"requests\":%zu,\"failed\":%zu,\"seconds\":%.6f,\"p50_us\":%u,\"p99_us\":%u,"
           "\"p999_us\":%u,\"max_us\":%u,\"response_bytes\":%llu,\"cpu_s\":%.6f,"
           "\"problem\":\"%s\"}\n",
           latency_count, failed, seconds, percentile_us(0.5), percentile_us(0.99),
           percentile_us(0.999), percentile_us(1.0), (unsigned long long)response_bytes, cpu_s,
           first_problem);
    return 0;
}
