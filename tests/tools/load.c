/*
 * Loads a path with datagrams and judges what arrives. Every datagram carries its flow, a sequence
 * number, the time it was sent and a pattern, so that lost, doubled, reordered, corrupt and
 * misdelivered ones are known. Both ends must run on one machine: they share its clock.
 *
 *   load send [OPTION]... HOST PORT   sends, and judges what comes back
 *   load sink [OPTION]... [HOST]      says "port N", receives until SIGTERM, and reports
 *   load echo [OPTION]... [HOST]      the same, and sends every datagram back
 *   load ack [OPTION]... [HOST]       the same, and answers each bulk datagram with a short one
 *   load source [OPTION]... [HOST]    the same, and sends to each flow it has heard of, as "send"
 *   load pingpong HOST PORT SIZE COUNT    asks and waits for the reply; "echo" answers
 *   load drive [OPTION]... HOST PORT  sends one datagram of each flow, says "ready", and then, for
 *                                     each line "RATE SECONDS" on standard input, sends that and
 *                                     says "sent COUNT"; its sockets stay the same
 *
 *   -f FLOWS    bulk flows (1; 0: none), each from a socket of its own
 *   -s SIZE     of a bulk datagram (1200)
 *   -r RATE     bulk datagrams per second, of all flows (0: as fast as it goes)
 *   -p PINGS    per second (0): a sparse flow, of 64 bytes each, from one more socket
 *   -a          bulk flows heed losses as TCP does; needs "ack" at the other end
 *   -t SECONDS  of sending (5)
 *   -d SECONDS  of silence, and it is over: after the sending, or after the signal (0.5)
 *   -w SECONDS  warm-up: leave out what was sent (latency) or arrived (rate) before that
 *   -e SECONDS  end: leave out what was sent or arrived after that
 *   -T          a line for every second, too
 *   -b HOST     an IPv4 address to send from
 *   -g          a flow's neighbouring bulk datagrams are sent in one call (UDP_SEGMENT)
 *
 * Seconds count from the first datagram that the other end sent. Reports are lines of key=value.
 * A second SIGTERM ends it without silence.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
	DATAGRAM_MAX = 65507,
	SLOT = 65536,
	BATCH = 64,
	FLOWS_MAX = 65535,
	SECONDS_MAX = 3600,
	PING_SIZE = 64,
	SOCKET_BUFFER = 16 * 1024 * 1024,
	PATTERNS = 1024,
	SEGMENTS_BYTES_MAX = 65000,
};

enum kind {
	BULK,
	SPARSE,
	ACK,
	CLASSES
};

enum mode {
	SEND,
	SINK,
	ECHO,
	ANSWER,
	SOURCE
};

#define SECOND INT64_C(1000000000)
static const char *const kinds[] = {"bulk", "sparse", "ack"};

/* In front of every datagram. check depends on all the rest. */
struct stamp {
	uint32_t check;
	uint16_t kind, flow;
	uint64_t sequence;
	int64_t start; /* when its sender began */
	int64_t sent;
};

/* What arrives of one flow. */
struct heard {
	uint64_t next; /* one more than the highest sequence number */
	uint64_t seen; /* bit i: that of next - 1 - i was there */
	uint64_t received, window_bytes;
};

/* What arrives of one kind. */
struct tally {
	uint64_t received, bytes, duplicated, reordered;
	uint64_t window_received, window_bytes;
	uint32_t *latencies; /* us, of those sent in the window */
	size_t count, capacity;
	int64_t first, last, first_second_max;
	struct second {
		uint32_t received;
		uint32_t latency_max; /* us, of those sent in this second */
		uint64_t bytes;
	} seconds[SECONDS_MAX];
};

/* What is sent of one flow, and its congestion control. */
struct flow {
	int fd; /* -1: not known yet */
	struct sockaddr_storage address;
	socklen_t address_length; /* 0: fd is connected */
	uint64_t next;
	uint64_t answered; /* below that, all are answered or lost */
	uint64_t recovery; /* a loss below that has been heeded */
	double window, threshold;
	int64_t round_trip, heard_at;
};

static struct {
	uint16_t flows;
	size_t size;
	double rate, pings, seconds, drain, warm_up, end;
	bool heed, table, segments;
	struct sockaddr_in source;
} options = {.flows = 1, .size = 1200, .seconds = 5, .drain = 0.5, .end = SECONDS_MAX};

static enum mode mode;
static int epoll_fd, listener = -1;
static struct heard heard[CLASSES][FLOWS_MAX + 1];
static struct tally tallies[CLASSES];
static struct flow flows[CLASSES][FLOWS_MAX + 1];
static uint32_t owners[FLOWS_MAX + 1]; /* of a client's port: kind and flow, plus one */
static uint64_t corrupt, misdelivered, sent_count[CLASSES], sent_in_window[CLASSES];
static int64_t began;       /* our own sending */
static int64_t their_start; /* that of the other end */
static int64_t last_active;
static uint8_t pattern[PATTERNS + DATAGRAM_MAX];
static uint8_t slots[BATCH][SLOT];
static volatile sig_atomic_t stopped;

_Noreturn static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "load: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	exit(EXIT_FAILURE);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t scramble(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint32_t check_of(const struct stamp *stamp)
{
	uint64_t name = (uint64_t)stamp->kind << 16 | stamp->flow;

	return (uint32_t)scramble(scramble(scramble(name + 1) ^ stamp->sequence) ^
				  (uint64_t)stamp->sent ^ (uint64_t)stamp->start << 1);
}

/* Neighbours in sequence and flow differ in every byte, so that a mixture of two is noticed. */
static const uint8_t *pattern_of(const struct stamp *stamp)
{
	return pattern + (stamp->sequence * 7 + stamp->flow * UINT64_C(13)) % PATTERNS;
}

static void write_datagram(uint8_t *slot, struct stamp stamp, size_t size)
{
	stamp.check = check_of(&stamp);
	memcpy(slot, &stamp, sizeof(stamp));
	memcpy(slot + sizeof(stamp), pattern_of(&stamp), size - sizeof(stamp));
}

static bool read_datagram(const uint8_t *slot, size_t size, struct stamp *stamp)
{
	if (size < sizeof(*stamp))
		return false;
	memcpy(stamp, slot, sizeof(*stamp));
	return stamp->check == check_of(stamp) && stamp->kind < CLASSES &&
	       memcmp(slot + sizeof(*stamp), pattern_of(stamp), size - sizeof(*stamp)) == 0;
}

/* Judging what arrives */

/* False: that one was there before. */
static bool is_new(struct heard *h, struct tally *tally, uint64_t sequence)
{
	uint64_t bit;

	if (sequence >= h->next) {
		uint64_t step = sequence - h->next + 1;

		h->seen = step < 64 ? h->seen << step | 1 : 1;
		h->next = sequence + 1;
		return true;
	}
	bit = h->next - 1 - sequence;
	if (bit < 64 && h->seen & UINT64_C(1) << bit) {
		tally->duplicated++;
		return false;
	}
	if (bit < 64)
		h->seen |= UINT64_C(1) << bit;
	tally->reordered++;
	return true;
}

static bool in_window(int64_t since_start)
{
	return (double)since_start >= options.warm_up * 1e9 &&
	       (double)since_start < options.end * 1e9;
}

static void note_latency(struct tally *tally, int64_t sent, int64_t latency)
{
	uint32_t us = (uint32_t)(latency / 1000);
	int64_t second = sent / SECOND;

	if (second == 0 && latency > tally->first_second_max)
		tally->first_second_max = latency;
	if (second < SECONDS_MAX && us > tally->seconds[second].latency_max)
		tally->seconds[second].latency_max = us;
	if (!in_window(sent))
		return;
	if (tally->count == tally->capacity) {
		tally->capacity = tally->capacity ? 2 * tally->capacity : 65536;
		tally->latencies = realloc(
			tally->latencies, tally->capacity * sizeof(*tally->latencies));
		if (!tally->latencies)
			die("no memory");
	}
	tally->latencies[tally->count++] = us;
}

static void note_arrival(struct tally *tally, struct heard *h, int64_t arrived, size_t size)
{
	int64_t second = arrived / SECOND;

	if (tally->received++ == 0)
		tally->first = arrived;
	tally->last = arrived;
	tally->bytes += size;
	h->received++;
	if (second < SECONDS_MAX) {
		tally->seconds[second].received++;
		tally->seconds[second].bytes += size;
	}
	if (in_window(arrived)) {
		tally->window_received++;
		tally->window_bytes += size;
		h->window_bytes += size;
	}
}

static void judge(const struct stamp *stamp, size_t size, int64_t now)
{
	struct tally *tally = &tallies[stamp->kind];
	struct heard *h = &heard[stamp->kind][stamp->flow];

	if (their_start == 0)
		their_start = stamp->start;
	if (!is_new(h, tally, stamp->sequence))
		return;
	note_arrival(tally, h, now - their_start, size);
	note_latency(tally, stamp->sent - their_start, now - stamp->sent);
}

/* Sending */

static void give_out(struct flow *flow, struct mmsghdr *messages, unsigned count)
{
	unsigned done = 0;

	while (done < count) {
		int n = sendmmsg(flow->fd, messages + done, count - done, 0);

		/* A refusal belongs to an earlier one; a full queue loses this one, as UDP does. */
		if (n < 0 && errno != ECONNREFUSED && errno != EINTR && errno != ENOBUFS)
			die("sendmmsg: %s", strerror(errno));
		done += n > 0 ? (unsigned)n : errno != EINTR;
	}
}

/* The same, for slots of one size: as few calls as can be. */
static void give_out_segments(struct flow *flow, struct iovec *vectors, unsigned count, size_t size)
{
	unsigned most = size < SEGMENTS_BYTES_MAX ? (unsigned)(SEGMENTS_BYTES_MAX / size) : 1;

	for (unsigned done = 0, n; done < count; done += n) {
		alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
		struct msghdr message = {.msg_iov = vectors + done, .msg_control = control};
		struct cmsghdr *header = (struct cmsghdr *)control;

		n = count - done < most ? count - done : most;
		message.msg_iovlen = n;
		message.msg_name = flow->address_length ? &flow->address : NULL;
		message.msg_namelen = flow->address_length;
		message.msg_controllen = n > 1 ? sizeof(control) : 0;
		*header = (struct cmsghdr){CMSG_LEN(sizeof(uint16_t)), IPPROTO_UDP, UDP_SEGMENT};
		memcpy(CMSG_DATA(header), &(uint16_t){(uint16_t)size}, sizeof(uint16_t));
		if (sendmsg(flow->fd, &message, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
			die("sendmsg: %s", strerror(errno));
	}
}

/* The next count datagrams of a flow. */
static void transmit(enum kind kind, uint16_t number, unsigned count)
{
	struct flow *flow = &flows[kind][number];
	size_t size = kind == BULK ? options.size : PING_SIZE;
	struct mmsghdr messages[BATCH] = {0};
	struct iovec vectors[BATCH];
	struct stamp stamp = {.kind = (uint16_t)kind, .flow = number, .start = began};

	for (unsigned i = 0; i < count; i++) {
		stamp.sent = now_ns();
		stamp.sequence = flow->next++;
		write_datagram(slots[i], stamp, size);
		vectors[i] = (struct iovec){.iov_base = slots[i], .iov_len = size};
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = flow->address_length ? &flow->address : NULL;
		messages[i].msg_hdr.msg_namelen = flow->address_length;
		sent_count[kind]++;
		sent_in_window[kind] += in_window(stamp.sent - began);
	}
	if (options.segments && count > 1)
		give_out_segments(flow, vectors, count, size);
	else
		give_out(flow, messages, count);
}

/* Spreads count datagrams over the flows, in turns; what is said at once goes to one flow at once.
 */
static void transmit_bulk(unsigned count)
{
	static uint16_t turn;
	unsigned share = count / options.flows ? count / options.flows : 1;

	if (share > BATCH)
		share = BATCH;
	for (unsigned skipped = 0; count > 0 && skipped < options.flows;) {
		unsigned n = count < share ? count : share;

		turn = (uint16_t)((turn + 1) % options.flows);
		if (flows[BULK][turn].fd < 0) {
			skipped++;
			continue;
		}
		transmit(BULK, turn, n);
		count -= n;
		skipped = 0;
	}
}

/*
 * Congestion control in the manner of TCP: slow start, then one more each round trip; half on a
 * loss, once for all the losses of one window. The path keeps the order, so a gap is a loss.
 */
static void take_answer(struct flow *flow, const struct stamp *stamp, int64_t now)
{
	if (stamp->sequence < flow->answered || stamp->sequence >= flow->next)
		return;
	flow->round_trip = now - stamp->sent;
	flow->heard_at = now;
	if (stamp->sequence > flow->answered && flow->answered >= flow->recovery) {
		flow->threshold = flow->window / 2 > 2 ? flow->window / 2 : 2;
		flow->window = flow->threshold;
		flow->recovery = flow->next;
	} else if (stamp->sequence >= flow->recovery) {
		flow->window += flow->window < flow->threshold ? 1 : 1 / flow->window;
	}
	flow->answered = stamp->sequence + 1;
}

static void start_windows(int64_t now)
{
	for (size_t i = 0; i < options.flows; i++) {
		flows[BULK][i].window = 10;
		flows[BULK][i].threshold = 1e9;
		flows[BULK][i].heard_at = now;
	}
}

/* Sends what the windows allow; one from which nothing has been heard for long starts anew. */
static void send_what_is_allowed(int64_t now)
{
	for (uint16_t i = 0; i < options.flows; i++) {
		struct flow *flow = &flows[BULK][i];
		int64_t patience = 3 * flow->round_trip > SECOND ? 3 * flow->round_trip : SECOND;

		if (flow->next > flow->answered && now - flow->heard_at > patience) {
			flow->threshold = flow->window / 2 > 2 ? flow->window / 2 : 2;
			flow->window = 2;
			flow->answered = flow->recovery = flow->next;
			flow->heard_at = now;
		}
		if (flow->next == flow->answered)
			flow->heard_at = now;
		while (flow->next - flow->answered < (uint64_t)flow->window)
			transmit(BULK, i, 1);
	}
}

/* How many of RATE a second are due and have not been sent. */
static unsigned due(double rate, uint64_t sent, int64_t elapsed)
{
	double missing = rate * (double)elapsed / 1e9 + 1 - (double)sent;

	if (missing < 1)
		return 0;
	return missing < 10000 ? (unsigned)missing : 10000;
}

/* Sends what is due; returns the ns to the next one. */
static int64_t send_what_is_due(int64_t now)
{
	static uint64_t pings, bulk;
	int64_t elapsed = now - began;
	double next_bulk = 1e7, next_ping = 1e7;

	if (options.pings > 0) {
		unsigned count = due(options.pings, pings, elapsed);

		if (count > 0 && flows[SPARSE][0].fd >= 0)
			transmit(SPARSE, 0, count < BATCH ? count : BATCH);
		pings += count;
		next_ping = (double)pings / options.pings * 1e9 - (double)elapsed;
	}
	if (options.heed) {
		send_what_is_allowed(now);
	} else if (options.rate > 0 && options.flows > 0) {
		unsigned count = due(options.rate, bulk, elapsed);

		transmit_bulk(count);
		bulk += count;
		next_bulk = (double)bulk / options.rate * 1e9 - (double)elapsed;
		/* Waking for every one at high rates would cost more than the sending. */
		if (next_bulk < 200e3 && options.rate > 5000)
			next_bulk = 200e3;
	} else if (options.flows > 0) {
		transmit_bulk(BATCH);
		next_bulk = 0;
	}
	if (next_ping < next_bulk)
		next_bulk = next_ping;
	return next_bulk > 0 ? (int64_t)next_bulk : 0;
}

/* Receiving */

/* Whether it came where its flow belongs; a server learns that from the first one of a port. */
static bool belongs(const struct stamp *stamp, uint32_t socket, const struct sockaddr_storage *from)
{
	uint32_t name = ((uint32_t)stamp->kind << 16 | stamp->flow) + 1;
	uint16_t port;

	if (mode == SEND) {
		if (stamp->kind == ACK)
			name = stamp->flow + 1u;
		return name == socket;
	}
	port = from->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)from)->sin6_port
					   : ((const struct sockaddr_in *)from)->sin_port;
	if (owners[port] == 0)
		owners[port] = name;
	return owners[port] == name;
}

static void learn(const struct stamp *stamp, const struct msghdr *header)
{
	struct flow *flow = &flows[stamp->kind][stamp->flow];

	if (flow->fd >= 0 || stamp->kind == ACK)
		return;
	flow->fd = listener;
	memcpy(&flow->address, header->msg_name, header->msg_namelen);
	flow->address_length = header->msg_namelen;
	if (began == 0)
		began = now_ns();
}

/* Returns the length of the reply, which takes the place of what was received. */
static size_t take_one(
	uint8_t *slot, size_t size, uint32_t socket, const struct msghdr *header, int64_t now)
{
	struct stamp stamp;

	if (!read_datagram(slot, size, &stamp)) {
		corrupt++;
		return 0;
	}
	if (!belongs(&stamp, socket, header->msg_name)) {
		misdelivered++;
		return 0;
	}
	judge(&stamp, size, now);
	if (mode == SOURCE)
		learn(&stamp, header);
	if (mode == SEND && stamp.kind == ACK)
		take_answer(&flows[BULK][stamp.flow], &stamp, now);
	if (mode == ECHO)
		return size;
	if (mode != ANSWER || stamp.kind != BULK)
		return 0;
	stamp.kind = ACK;
	write_datagram(slot, stamp, sizeof(stamp));
	return sizeof(stamp);
}

/* One batch; false: there was none. */
static bool receive(int fd, uint32_t socket)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec vectors[BATCH];
	static struct sockaddr_storage from[BATCH];
	unsigned replies = 0;
	int64_t now;
	int count;

	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){.iov_base = slots[i], .iov_len = SLOT};
		messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
			.msg_namelen = sizeof(from[i]),
			.msg_iov = &vectors[i],
			.msg_iovlen = 1};
	}
	count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
	now = now_ns();
	if (count > 0)
		last_active = now;
	for (int i = 0; i < count; i++) {
		struct mmsghdr message = messages[i];
		size_t length = take_one(message.msg_hdr.msg_iov->iov_base, message.msg_len, socket,
			&message.msg_hdr, now);

		if (length > 0) {
			message.msg_hdr.msg_iov->iov_len = length;
			messages[replies++] = message;
		}
	}
	if (replies > 0)
		give_out(&(struct flow){.fd = fd}, messages, replies);
	return count > 0;
}

static void receive_what_is_there(void)
{
	struct epoll_event events[BATCH];
	int count = epoll_wait(epoll_fd, events, BATCH, 0);

	for (int i = 0; i < count; i++) {
		uint32_t socket = (uint32_t)events[i].data.u64;
		int fd = (int)(events[i].data.u64 >> 32);

		/* A bounded number, so that sending goes on. */
		for (int n = 0; n < 16 && receive(fd, socket); n++)
			;
	}
}

static void watch(int fd, uint32_t socket)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)fd << 32 | socket};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* Sockets */

static int open_socket(const char *host, const char *port, bool listening)
{
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *where;
	int error = getaddrinfo(host ? host : "127.0.0.1", port, &hints, &where);
	int fd;

	if (error != 0)
		die("%s %s: %s", host, port, gai_strerror(error));
	fd = socket(where->ai_family, SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){SOCKET_BUFFER}, sizeof(int));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){SOCKET_BUFFER}, sizeof(int));
	options.source.sin_family = AF_INET;
	if (!listening && options.source.sin_addr.s_addr != 0 &&
		bind(fd, (struct sockaddr *)&options.source, sizeof(options.source)) != 0)
		die("bind: %s", strerror(errno));
	error = listening ? bind(fd, where->ai_addr, where->ai_addrlen)
			  : connect(fd, where->ai_addr, where->ai_addrlen);
	if (error != 0)
		die("%s: %s", listening ? "bind" : "connect", strerror(errno));
	freeaddrinfo(where);
	return fd;
}

static void say_port(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		die("getsockname: %s", strerror(errno));
	printf("port %u\n",
		ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
						    : ((struct sockaddr_in *)&address)->sin_port));
	fflush(stdout);
}

static void open_flow(enum kind kind, uint16_t number, const char *host, const char *port)
{
	flows[kind][number].fd = open_socket(host, port, false);
	watch(flows[kind][number].fd, ((uint32_t)kind << 16 | number) + 1);
}

/* Reports */

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile(const struct tally *tally, double share)
{
	if (tally->count == 0)
		return 0;
	return tally->latencies[(size_t)(share * (double)(tally->count - 1))] / 1e3;
}

static uint64_t lost(enum kind kind)
{
	uint64_t count = 0;

	for (size_t i = 0; i <= FLOWS_MAX; i++)
		if (heard[kind][i].next > heard[kind][i].received)
			count += heard[kind][i].next - heard[kind][i].received;
	return count;
}

/* Jain's index: 1 where all flows got the same, 1/n where one got all. */
static double fairness(void)
{
	double sum = 0, squares = 0, count = 0;

	for (size_t i = 0; i <= FLOWS_MAX; i++) {
		double share = (double)heard[BULK][i].window_bytes;

		sum += share;
		squares += share * share;
		count += heard[BULK][i].next > 0;
	}
	return squares > 0 ? sum * sum / (count * squares) : 0;
}

static void report_seconds(enum kind kind)
{
	const struct tally *tally = &tallies[kind];

	for (int64_t i = 0; i <= tally->last / SECOND && i < SECONDS_MAX; i++)
		printf("second=%d class=%s received=%u bytes=%llu max_ms=%.3f\n", (int)i,
			kinds[kind], tally->seconds[i].received,
			(unsigned long long)tally->seconds[i].bytes,
			tally->seconds[i].latency_max / 1e3);
}

static void report_heard(enum kind kind)
{
	struct tally *tally = &tallies[kind];
	double until = (double)tally->last / 1e9 < options.end ? (double)tally->last / 1e9
							       : options.end;
	double span = until - options.warm_up;

	if (tally->received == 0)
		return;
	if (options.end < SECONDS_MAX)
		span = options.end - options.warm_up;
	qsort(tally->latencies, tally->count, sizeof(*tally->latencies), compare);
	printf("got class=%s received=%llu bytes=%llu lost=%llu duplicated=%llu reordered=%llu "
	       "first_s=%.6f last_s=%.6f window_received=%llu window_bytes=%llu rate=%.1f "
	       "p50_ms=%.3f p99_ms=%.3f max_ms=%.3f first_second_max_ms=%.3f",
		kinds[kind], (unsigned long long)tally->received, (unsigned long long)tally->bytes,
		(unsigned long long)lost(kind), (unsigned long long)tally->duplicated,
		(unsigned long long)tally->reordered, (double)tally->first / 1e9,
		(double)tally->last / 1e9, (unsigned long long)tally->window_received,
		(unsigned long long)tally->window_bytes,
		span > 0 ? (double)tally->window_received / span : 0, percentile(tally, 0.5),
		percentile(tally, 0.99), percentile(tally, 1),
		(double)tally->first_second_max / 1e6);
	if (kind == BULK)
		printf(" fairness=%.4f", fairness());
	printf("\n");
	if (options.table)
		report_seconds(kind);
}

static void report(void)
{
	for (enum kind kind = BULK; kind < ACK; kind++)
		if (sent_count[kind] > 0)
			printf("sent class=%s count=%llu window_count=%llu\n", kinds[kind],
				(unsigned long long)sent_count[kind],
				(unsigned long long)sent_in_window[kind]);
	for (enum kind kind = BULK; kind < CLASSES; kind++)
		report_heard(kind);
	printf("all corrupt=%llu misdelivered=%llu\n", (unsigned long long)corrupt,
		(unsigned long long)misdelivered);
}

/* Modes */

static void stop(int number)
{
	(void)number;
	stopped++;
}

/* Whoever waits does so for 0.1 s at most, so a signal just before that is noticed, too. */
static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = stop};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

/* epoll has no timeouts in ns everywhere, ppoll has. */
static void wait_for(int64_t ns)
{
	struct timespec timeout = {.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};

	ppoll(&(struct pollfd){.fd = epoll_fd, .events = POLLIN}, 1, &timeout, NULL);
}

/* Sends until the time is up; receives until then, or until a signal, and until silence after that.
 */
static void run(void)
{
	int64_t sending = (int64_t)(options.seconds * 1e9), drain = (int64_t)(options.drain * 1e9);
	bool sends = mode == SEND || mode == SOURCE;

	catch_signals();
	if (mode == SEND)
		began = now_ns();
	start_windows(began);
	while (stopped < 2) {
		int64_t now = now_ns(), next = SECOND / 10;
		bool active = sends && began != 0 && now - began < sending && !stopped;

		if (active)
			next = send_what_is_due(now);
		if (active || (mode != SEND && !stopped))
			last_active = now;
		else if (now - last_active >= drain)
			break;
		wait_for(next);
		receive_what_is_there();
	}
}

static void serve(const char *host)
{
	for (size_t kind = 0; kind < CLASSES; kind++)
		for (size_t i = 0; i <= FLOWS_MAX; i++)
			flows[kind][i].fd = -1;
	listener = open_socket(host, "0", true);
	watch(listener, 0);
	say_port(listener);
	run();
	report();
}

static void raise_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void send_load(const char *host, const char *port)
{
	raise_descriptors();
	if (options.pings > 0)
		open_flow(SPARSE, 0, host, port);
	for (uint16_t i = 0; i < options.flows; i++)
		open_flow(BULK, i, host, port);
	run();
	report();
}

/* Sends for that long. Returns how many. */
static uint64_t send_at_rate(double rate, double seconds)
{
	uint64_t before = sent_count[BULK], count = 0;
	int64_t elapsed;

	began = now_ns();
	while ((elapsed = now_ns() - began) < (int64_t)(seconds * 1e9)) {
		unsigned n = rate > 0 ? due(rate, count, elapsed) : BATCH;

		transmit_bulk(n);
		count += n;
		if (rate > 0)
			wait_for(200 * 1000);
	}
	return sent_count[BULK] - before;
}

static void drive(const char *host, const char *port)
{
	double rate, seconds;

	raise_descriptors();
	for (uint16_t i = 0; i < options.flows; i++) {
		open_flow(BULK, i, host, port);
		transmit(BULK, i, 1);
		if (i % BATCH == 0)
			wait_for(2 * 1000 * 1000);
	}
	printf("ready\n");
	fflush(stdout);
	while (scanf("%lf %lf", &rate, &seconds) == 2) {
		printf("sent %llu\n", (unsigned long long)send_at_rate(rate, seconds));
		fflush(stdout);
	}
}

static void pingpong(const char *host, const char *port, size_t size, size_t count)
{
	struct tally *tally = &tallies[SPARSE];
	int fd = open_socket(host, port, false);
	size_t lost_count = 0;

	for (size_t i = 0; i < count; i++) {
		struct stamp stamp = {.kind = SPARSE, .sequence = i, .sent = now_ns()};
		struct stamp reply = {0};

		write_datagram(slots[0], stamp, size);
		if (send(fd, slots[0], size, 0) < 0)
			die("send: %s", strerror(errno));
		/* An answer to an earlier one, given up, is not that to this one. */
		do {
			ssize_t length = -1;

			if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1000) == 1)
				length = recv(fd, slots[1], SLOT, 0);
			if (length < 0)
				break;
			if (!read_datagram(slots[1], (size_t)length, &reply))
				corrupt++;
		} while (reply.sequence != i || reply.sent != stamp.sent);
		if (reply.sent == stamp.sent)
			note_latency(tally, 0, now_ns() - stamp.sent);
		else
			lost_count++;
	}
	qsort(tally->latencies, tally->count, sizeof(*tally->latencies), compare);
	printf("pingpong size=%zu count=%zu lost=%zu corrupt=%llu p50_us=%.0f p99_us=%.0f "
	       "max_us=%.0f\n",
		size, tally->count, lost_count, (unsigned long long)corrupt,
		1e3 * percentile(tally, 0.5), 1e3 * percentile(tally, 0.99),
		1e3 * percentile(tally, 1));
}

static double number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		die("'%s': expected a number from %.0f to %.0f", text, least, most);
	return value;
}

static void read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "f:s:r:p:t:d:w:e:b:aTg")) != -1) {
		if (option == 'f')
			options.flows = (uint16_t)number(optarg, 0, FLOWS_MAX);
		else if (option == 's')
			options.size = (size_t)number(optarg, sizeof(struct stamp), DATAGRAM_MAX);
		else if (option == 'r')
			options.rate = number(optarg, 0, 1e9);
		else if (option == 'p')
			options.pings = number(optarg, 0, 1e5);
		else if (option == 't')
			options.seconds = number(optarg, 0, SECONDS_MAX);
		else if (option == 'd')
			options.drain = number(optarg, 0, SECONDS_MAX);
		else if (option == 'w')
			options.warm_up = number(optarg, 0, SECONDS_MAX);
		else if (option == 'e')
			options.end = number(optarg, 0, SECONDS_MAX);
		else if (option == 'a')
			options.heed = true;
		else if (option == 'T')
			options.table = true;
		else if (option == 'b')
			options.source.sin_addr.s_addr = inet_addr(optarg);
		else if (option == 'g')
			options.segments = true;
		else
			exit(2);
	}
}

static void prepare(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)scramble(i + 1);
	epoll_fd = epoll_create1(0);
	if (epoll_fd < 0)
		die("epoll_create1: %s", strerror(errno));
	prctl(PR_SET_TIMERSLACK, 1UL);
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {[SEND] = "send",
		[SINK] = "sink",
		[ECHO] = "echo",
		[ANSWER] = "ack",
		[SOURCE] = "source"};
	const char *word = argc > 1 ? argv[1] : "";
	char **a;

	prepare();
	if (strcmp(word, "pingpong") == 0 && argc == 6) {
		pingpong(argv[2], argv[3],
			(size_t)number(argv[4], sizeof(struct stamp), DATAGRAM_MAX),
			(size_t)number(argv[5], 1, 1e9));
		return EXIT_SUCCESS;
	}
	if (strcmp(word, "drive") == 0) {
		read_options(argc - 1, argv + 1);
		if (argc - 1 - optind != 2)
			die("drive what? HOST PORT");
		drive(argv[1 + optind], argv[2 + optind]);
		return EXIT_SUCCESS;
	}
	while (mode <= SOURCE && strcmp(word, modes[mode]) != 0)
		mode++;
	if (mode > SOURCE)
		die("unknown mode, or wrong number of arguments: '%s'", word);
	read_options(argc - 1, argv + 1);
	a = argv + 1 + optind;
	if (mode != SEND)
		serve(a[0]);
	else if (argc - 1 - optind == 2)
		send_load(a[0], a[1]);
	else
		die("send where? HOST PORT");
	return EXIT_SUCCESS;
}
