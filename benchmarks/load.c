/* The load that the relay benchmark puts on a proxy: both ends of it, in one thread.
 *
 * It is an upstream that streams and the clients that read, so one clock times a frame on
 * its way out and on its way in, and what the generator itself costs is small beside what
 * it measures.  Every frame is one write with the time of that write inside it, and TCP
 * sends it at once.
 *
 * It prints the port of its upstream, then obeys commands on stdin, one a line, and
 * answers each with one line of JSON:
 *
 *   open PORT N        connect N clients, send their requests, wait for all heads
 *   run RATE SECONDS   send RATE frames a second on every stream, at even distances and
 *                      phases of its own, and time them
 *   full SECONDS       keep one frame of every stream under way: the next one leaves when
 *                      the client has the one before it
 *   bulk BYTES         send so many bytes on every stream, in large writes
 *   close              end the streams in order
 *
 * A frame is 170 bytes of an agent's text; two in fifty are a tool call and its result.
 * Requests to /v1/traces, /v1/metrics and /v1/logs are answered at once, so that it is a
 * collector as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 170, BUFFER = 8192, MAX_STREAMS = 20000 };

typedef struct {
  int fd, is_client, is_answered, number;
  long sequence;       /* frames sent */
  size_t length;       /* bytes in buffer */
  char buffer[BUFFER]; /* a head, or the end of a read that cuts a frame */
} Connection;

static int poller, listener, timer;
static Connection *streams[MAX_STREAMS]; /* the upstream's side, by number */
static double phases[MAX_STREAMS];
static int opened, heads, is_echoing;
static uint32_t *samples; /* of latencies, in nanoseconds; the largest is 4.2 s */
static size_t sample_count, sample_room;
static long sent, bulk_bytes;
static uint64_t ends_ns;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(Connection *connection, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = connection};
  int one = 1;
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event)) fail("epoll_ctl");
}

static Connection *connection_of(int fd, int is_client) {
  Connection *connection = calloc(1, sizeof *connection);
  connection->fd = fd;
  connection->is_client = is_client;
  connection->number = -1;
  return connection;
}

static void write_all(int fd, const char *data, size_t length) {
  while (length) {
    ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) return; /* the proxy left: the counts will show it */
    data += n;
    length -= (size_t)n;
  }
}

/* One frame as one chunk.  Its text differs from stream to stream and frame to frame. */
static void send_frame(Connection *stream) {
  char data[FRAME + 64], chunk[FRAME + 96];
  long n = stream->sequence++, place = n % 50;
  int size;
  if (place == 10)
    size = snprintf(data, sizeof data,
        "event: tool_call\ndata: {\"type\":\"tool_call\",\"tool_id\":\"c%ld\",\"tool_name\":"
        "\"search\",\"arguments\":{\"query\":\"flights\"},\"t\":%lu}\n\n",
        n, now_ns());
  else if (place == 20)
    size = snprintf(data, sizeof data,
        "event: tool_result\ndata: {\"type\":\"tool_result\",\"tool_id\":\"c%ld\",\"result\":"
        "{\"found\":3,\"unit\":\"flights\"},\"t\":%lu}\n\n",
        n - 10, now_ns());
  else
    size = snprintf(data, sizeof data,
        "event: partial_response\ndata: {\"type\":\"partial_response\",\"data\":"
        "{\"message\":\"word %08ld of stream %06d and some more text\"},\"t\":%lu}\n\n",
        n, stream->number, now_ns());
  size = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", (unsigned)size, data);
  write_all(stream->fd, chunk, (size_t)size);
  sent++;
}

static void keep_sample(uint64_t nanoseconds) {
  if (sample_count == sample_room) {
    sample_room = sample_room ? 2 * sample_room : 1 << 16;
    samples = realloc(samples, sample_room * sizeof *samples);
    if (!samples) fail("realloc");
  }
  samples[sample_count++] = nanoseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)nanoseconds;
}

/* A request is complete: stream, or thank for telemetry. */
static void answer(Connection *connection) {
  static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                             "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
  static const char thanks[] = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
                               "Content-Length: 0\r\n\r\n";
  char *end = memmem(connection->buffer, connection->length, "\r\n\r\n", 4);
  if (!end) return;
  if (memmem(connection->buffer, connection->length, "POST /v1/", 9)) {
    char *field = strcasestr(connection->buffer, "content-length:");
    size_t body = field ? strtoul(field + 15, NULL, 10) : 0;
    size_t here = connection->length - (size_t)(end + 4 - connection->buffer);
    char waste[65536];
    while (here < body) { /* the collector may wait: spans come in a few large batches */
      ssize_t n = recv(connection->fd, waste, sizeof waste, 0);
      if (n > 0) here += (size_t)n;
      else if (n == 0 || errno != EAGAIN) break;
    }
    connection->length = 0;
    write_all(connection->fd, thanks, sizeof thanks - 1);
    return;
  }
  connection->length = 0;
  connection->is_answered = 1;
  connection->number = opened;
  streams[opened++] = connection;
  write_all(connection->fd, head, sizeof head - 1);
}

/* Note when each frame of a read was written and when it is here. */
static void take_frames(Connection *client, uint64_t here_ns) {
  char *from = client->buffer, *end = client->buffer + client->length, *found;
  while ((found = memmem(from, (size_t)(end - from), "\"t\":", 4))) {
    char *stop = memchr(found, '}', (size_t)(end - found));
    if (!stop) break;
    keep_sample(here_ns - strtoull(found + 4, NULL, 10));
    from = stop + 1;
    if (is_echoing && here_ns < ends_ns) send_frame(streams[client->number]);
  }
  size_t rest = (size_t)(end - from);
  if (!found && rest > 64) { /* nothing but a beginning of the mark may be left */
    from = end - 64;
    rest = 64;
  }
  memmove(client->buffer, from, rest);
  client->length = rest;
}

static void take_head(Connection *client) {
  char *end = memmem(client->buffer, client->length, "\r\n\r\n", 4);
  if (!end) return;
  client->is_answered = 1;
  client->length = 0;
  heads++;
}

static void readable(Connection *connection) {
  if (connection->is_client && connection->is_answered && bulk_bytes) {
    static char waste[1 << 20];
    ssize_t n = recv(connection->fd, waste, sizeof waste, 0);
    if (n > 0) bulk_bytes -= n;
    return;
  }
  size_t room = BUFFER - connection->length;
  ssize_t n = recv(connection->fd, connection->buffer + connection->length, room - 1, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    if (connection->number >= 0 && !connection->is_client) streams[connection->number] = NULL;
    close(connection->fd);
    free(connection);
    return;
  }
  connection->length += (size_t)n;
  connection->buffer[connection->length] = 0;
  if (connection->is_client && connection->is_answered) take_frames(connection, now_ns());
  else if (connection->is_client) take_head(connection);
  else if (!connection->is_answered) answer(connection);
  else connection->length = 0;
}

static void turn(int timeout_ms) {
  struct epoll_event events[256];
  int count = epoll_wait(poller, events, 256, timeout_ms);
  for (int i = 0; i < count; i++) {
    Connection *connection = events[i].data.ptr;
    if (connection == NULL) {
      for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;)
        watch(connection_of(fd, 0), EPOLLIN);
    } else if (connection != (void *)&timer) {
      readable(connection);
    } else {
      uint64_t expired;
      if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN) fail("timer");
    }
  }
}

static void wake_at(uint64_t at_ns) {
  struct itimerspec when = {{0, 0}, {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Connect the clients one after the other, so that numbers mean the same on both sides. */
static void open_streams(int port, int count) {
  static const char request[] =
      "POST /v2/sessions/bench/chat/stream HTTP/1.1\r\nHost: bench\r\n"
      "Content-Type: application/json\r\nContent-Length: 24\r\n"
      "Authorization: Bearer sk-bench-0123456789abcdefghij\r\n\r\n"
      "{\"user_message\":\"hello\"}\n";
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  opened = heads = 0;
  for (int i = 0; i < count; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    Connection *client = connection_of(fd, 1);
    client->number = i;
    watch(client, EPOLLIN);
    write_all(fd, request, sizeof request - 2);
    uint64_t patience_ns = now_ns() + 10000000000u;
    while (heads <= i && now_ns() < patience_ns) turn(100);
    if (heads <= i) break;
  }
  printf("{\"open\": %d}\n", heads);
}

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static int by_phase(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double quantile(double q) {
  if (!sample_count) return 0;
  return samples[(size_t)(q * (double)(sample_count - 1))] / 1e3;
}

static void begin(void) {
  sent = 0;
  sample_count = 0;
}

static void report(uint64_t began_ns) {
  double seconds = (double)(now_ns() - began_ns) / 1e9;
  uint64_t patience_ns = now_ns() + 2000000000u;
  while (sample_count < (size_t)sent && now_ns() < patience_ns) turn(50);
  qsort(samples, sample_count, sizeof *samples, by_value);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  printf("{\"sent\": %ld, \"received\": %zu, \"seconds\": %.3f, \"p50_us\": %.1f, "
         "\"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"load_cpu_s\": %.3f}\n",
         sent, sample_count, seconds, quantile(.5), quantile(.9), quantile(.99), quantile(1), cpu);
}

static void run(double rate, double seconds) {
  double period_ns = 1e9 / rate;
  long total = (long)(rate * seconds) * opened;
  for (int i = 0; i < opened; i++) phases[i] = (double)rand() / RAND_MAX * period_ns;
  qsort(phases, (size_t)opened, sizeof *phases, by_phase);
  begin();
  uint64_t began_ns = now_ns() + 50000000u;
  for (long k = 0; k < total; k++) {
    double due = (double)began_ns + phases[k % opened] + (double)(k / opened) * period_ns;
    while (now_ns() < (uint64_t)due) {
      wake_at((uint64_t)due);
      turn(-1);
    }
    if (streams[k % opened]) send_frame(streams[k % opened]);
    if (k % 64 == 63) turn(0); /* frames that are late must not keep the readers waiting */
  }
  report(began_ns);
}

static void run_full(double seconds) {
  begin();
  uint64_t began_ns = now_ns();
  ends_ns = began_ns + (uint64_t)(seconds * 1e9);
  is_echoing = 1;
  for (int i = 0; i < opened; i++) send_frame(streams[i]);
  while (now_ns() < ends_ns) turn(100);
  is_echoing = 0;
  report(began_ns);
}

/* Events of 64 KiB, as many as it takes. */
static void run_bulk(long bytes) {
  enum { TEXT = 65536 };
  static char chunk[TEXT + 64];
  int head = snprintf(chunk, sizeof chunk, "%x\r\ndata: ", TEXT);
  memset(chunk + head, 'x', TEXT - 8);
  memcpy(chunk + head + TEXT - 8, "\n\n\r\n", 4);
  size_t size = (size_t)head + TEXT - 8 + 4, done = 0;
  long payload = TEXT;
  bulk_bytes = bytes / payload * payload * opened;
  uint64_t began_ns = now_ns();
  for (long at = 0; at + payload <= bytes; at += payload)
    for (int i = 0; i < opened; i++)
      for (done = 0; done < size && streams[i];) {
        ssize_t n = send(streams[i]->fd, chunk + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) done += (size_t)n;
        else if (errno != EAGAIN) break;
        turn(n > 0 ? 0 : 1);
      }
  uint64_t patience_ns = now_ns() + 20000000000u;
  while (bulk_bytes > 0 && now_ns() < patience_ns) turn(50);
  printf("{\"seconds\": %.3f, \"missing\": %ld}\n", (double)(now_ns() - began_ns) / 1e9, bulk_bytes);
  bulk_bytes = 0;
}

static void close_streams(void) {
  for (int i = 0; i < opened; i++)
    if (streams[i]) write_all(streams[i]->fd, "0\r\n\r\n", 5);
  uint64_t patience_ns = now_ns() + 1000000000u;
  while (now_ns() < patience_ns) turn(50);
  printf("{\"closed\": %d}\n", opened);
  opened = 0;
}

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t length = sizeof address;
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  poller = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) fail("bind");
  getsockname(listener, (struct sockaddr *)&address, &length);
  struct epoll_event accepting = {.events = EPOLLIN, .data.ptr = NULL};
  struct epoll_event ticking = {.events = EPOLLIN, .data.ptr = &timer};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &accepting);
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &ticking);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("{\"port\": %d}\n", ntohs(address.sin_port));
  char line[128];
  double a, b;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "open %lf %lf", &a, &b) == 2) open_streams((int)a, (int)b);
    else if (sscanf(line, "run %lf %lf", &a, &b) == 2) run(a, b);
    else if (sscanf(line, "full %lf", &a) == 1) run_full(a);
    else if (sscanf(line, "bulk %lf", &a) == 1) run_bulk((long)a);
    else if (!strncmp(line, "close", 5)) close_streams();
    else fprintf(stderr, "not a command: %s", line);
  }
  return 0;
}
