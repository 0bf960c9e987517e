/*
 * Loads a path with datagrams, and has what arrives judged (judge.h).
 *
 *   load send [OPTION]... HOST PORT   sends, and judges what comes back
 *   load sink [OPTION]... [HOST]      says "port N", receives until SIGTERM, and reports
 *   load echo [OPTION]... [HOST]      the same, and sends every datagram back
 *   load ack [OPTION]... [HOST]       the same, but of each no more than its stamp
 *   load reply [OPTION]... [HOST]     as sink, and sends back what is of the sparse flow
 *   load source [OPTION]... [HOST]    as sink, and sends to each flow it has heard of, as "send"
 *   load drive [OPTION]... HOST PORT  sends one datagram of each flow, says "ready", and then, for
 *                                     each line "RATE SECONDS" on standard input, sends that and
 *                                     says "sent COUNT"; its sockets stay the same
 *
 *   -f FLOWS    bulk flows (1, or 0), each from a socket of its own
 *   -s SIZE     of a bulk datagram (1200)
 *   -r RATE     bulk datagrams per second, of all flows (0: as fast as it goes)
 *   -p PINGS    per second (0): a sparse flow, of 64 bytes each, from one more socket
 *   -k COUNT    so many of each bulk flow are in flight; needs "echo" or "ack" at the other end
 *   -a          as -k, but bulk flows heed losses as TCP does
 *   -t SECONDS  of sending (5)
 *   -d SECONDS  of silence, and it is over: after the sending, or after the signal (0.5)
 *   -w SECONDS  warm-up: the report's window starts then (0)
 *   -e SECONDS  end of that window (3600)
 *   -P PORTS    so many ports in a row are sent to (1), from PORT on, each by the next bulk flow
 *   -b HOST     an IPv4 address to send from
 *   -o          "send" first waits until the other end has sent a sparse datagram back
 *   -v          "send" says of each sparse datagram that comes back when it was sent, and how long
 *               it was under way, and in the end how many were sent
 *   -g          a flow's neighbouring bulk datagrams are sent in one call (UDP_SEGMENT)
 *
 * Reports are lines of key=value. A second SIGTERM ends it without silence.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "congestion.h"
#include "judge.h"
#include "tool.h"

enum {
	SLOT = 65536,
	BATCH = 64,
	PING_SIZE = 64,
	RECEIVE_BUFFER = 16 * 1024 * 1024,
	DUE_MAX = 10000,
	WINDOW_AT_FIRST = 10, /* of a flow that heeds losses */
	WINDOW_LEAST = 2,
	WINDOW_MOST = 1000 * 1000,
};

/* How long to wait at most while sending. */
#define IDLE (SECOND / 100)

/* Above 1 / PAUSE per second, waking for every datagram would cost more than the sending. */
#define PAUSE (SECOND / 5000)

static enum mode {
	SEND,
	DRIVE,
	SINK,
	ECHO,
	ACK,
	REPLY,
	SOURCE,
	MODES
} mode;

struct flow {
	int fd; /* 0: not known yet */
	uint32_t owner;
	struct sockaddr_storage address;
	socklen_t address_length; /* 0: fd is connected */
	uint64_t next;
	struct congestion congestion;
};

static struct {
	uint16_t flows, ports;
	size_t size;
	double seconds, drain, warm_up, end, window;
	bool heed, segments, wait, verbose;
	struct sockaddr_in source;
} options = {.flows = 1, .ports = 1, .size = 1200, .seconds = 5, .drain = 0.5, .end = SECONDS_MAX};

static int epoll_fd;
static struct flow listener;
static struct flow flows[KINDS][FLOWS_MAX + 1];
static uint32_t owners[UINT16_MAX + 1]; /* by the port of a client */
static struct pace {
	double rate; /* a second */
	uint64_t count;
} bulk, pings;
static uint64_t sent;
static int64_t began; /* our own sending */
static int64_t last_active;
static uint8_t slots[BATCH][SLOT];
static volatile sig_atomic_t stopped;

/* Sending */

static void give_out(int fd, struct mmsghdr *messages, unsigned count)
{
	unsigned done = 0;

	while (done < count) {
		int n = sendmmsg(fd, messages + done, count - done, 0);

		/* A refusal belongs to an earlier one; a full queue loses this one, as UDP does. */
		if (n < 0 && errno != ECONNREFUSED && errno != EINTR && errno != ENOBUFS)
			err(1, "sendmmsg");
		done += n > 0 ? (unsigned)n : errno != EINTR;
	}
}

/* Tells the kernel that a message consists of datagrams of that size. */
static void set_segment_size(struct msghdr *message, void *control, size_t size)
{
	struct cmsghdr *header = control;

	header->cmsg_len = CMSG_LEN(sizeof(uint16_t)); /* some libcs have a field in between */
	header->cmsg_level = IPPROTO_UDP;
	header->cmsg_type = UDP_SEGMENT;
	memcpy(CMSG_DATA(header), &(uint16_t){(uint16_t)size}, sizeof(uint16_t));
	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
}

/* Sends count slots of one size in as few messages as may be. */
static void give_out_slots(struct flow *flow, unsigned count, size_t size)
{
	struct mmsghdr messages[BATCH] = {0};
	struct iovec vectors[BATCH];
	alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
	unsigned most = options.segments ? (unsigned)(DATAGRAM_MAX / size) : 1, used = 0;

	for (unsigned i = 0; i < count; i++) {
		struct msghdr *message = &messages[used].msg_hdr;

		vectors[i] = (struct iovec){slots[i], size};
		if (message->msg_iovlen++ == 0)
			message->msg_iov = &vectors[i];
		else
			set_segment_size(message, control, size);
		message->msg_name = flow->address_length ? &flow->address : NULL;
		message->msg_namelen = flow->address_length;
		used += message->msg_iovlen == most || i + 1 == count;
	}
	give_out(flow->fd, messages, used);
}

/* The next count datagrams of a flow. */
static void transmit(enum kind kind, uint16_t number, unsigned count)
{
	struct flow *flow = &flows[kind][number];
	size_t size = kind == BULK ? options.size : PING_SIZE;
	struct stamp stamp = {.kind = (uint16_t)kind, .flow = number, .start = began};

	for (unsigned i = 0; i < count; i++) {
		stamp.sent = now_ns();
		stamp.sequence = flow->next++;
		judge_write(slots[i], stamp, size);
	}
	give_out_slots(flow, count, size);
	sent += count;
}

/* Spreads count datagrams over the flows, in turns; a flow's share of them is sent at once. */
static void transmit_bulk(unsigned count)
{
	static uint16_t turn;
	unsigned share = count / options.flows ? count / options.flows : 1;

	if (share > BATCH)
		share = BATCH;
	for (unsigned n; count > 0; count -= n) {
		n = count < share ? count : share;
		turn = (uint16_t)((turn + 1) % options.flows);
		if (flows[BULK][turn].fd != 0)
			transmit(BULK, turn, n);
	}
}

/* How many are due. They count as sent. */
static unsigned take_due(struct pace *pace, int64_t elapsed)
{
	double due = pace->rate * (double)elapsed / (double)SECOND + 1 - (double)pace->count;
	unsigned count = due < 0 ? 0 : due < DUE_MAX ? (unsigned)due : DUE_MAX;

	pace->count += count;
	return count;
}

/* The time until the next one is due. */
static int64_t until_next(const struct pace *pace, int64_t elapsed)
{
	int64_t left = (int64_t)((double)pace->count / pace->rate * (double)SECOND) - elapsed;

	return left < 0 ? 0 : left < IDLE ? left : IDLE;
}

/* These send what is due or allowed, and return the time until the next one. */

static int64_t send_pings(int64_t elapsed)
{
	unsigned count;

	if (pings.rate == 0)
		return IDLE;
	count = take_due(&pings, elapsed);
	if (count > 0 && flows[SPARSE][0].fd != 0)
		transmit(SPARSE, 0, count < BATCH ? count : BATCH);
	return until_next(&pings, elapsed);
}

static int64_t send_at_rate(int64_t elapsed)
{
	int64_t left;

	transmit_bulk(take_due(&bulk, elapsed));
	left = until_next(&bulk, elapsed);
	return left < PAUSE && bulk.rate * (double)PAUSE > (double)SECOND ? PAUSE : left;
}

static int64_t send_what_is_allowed(int64_t now)
{
	for (uint16_t i = 0; i < options.flows; i++)
		while (congestion_allows(&flows[BULK][i].congestion, flows[BULK][i].next, now))
			transmit(BULK, i, 1);
	return IDLE;
}

static int64_t send_bulk(int64_t now)
{
	if (options.flows == 0)
		return IDLE;
	if (options.window > 0)
		return send_what_is_allowed(now);
	if (bulk.rate > 0)
		return send_at_rate(now - began);
	transmit_bulk(BATCH);
	return 0;
}

/* Receiving */

/* A flow that is heard of for the first time is sent to from now on. */
static void learn(const struct stamp *stamp, const struct msghdr *header)
{
	struct flow *flow = &flows[stamp->kind][stamp->flow];

	if (flow->fd != 0)
		return;
	flow->fd = listener.fd;
	memcpy(&flow->address, header->msg_name, header->msg_namelen);
	flow->address_length = header->msg_namelen;
	if (began == 0)
		began = now_ns();
}

static void take_one(struct flow *at, const struct msghdr *header, size_t size, int64_t now)
{
	uint32_t *owner = at == &listener ? &owners[port_in(header->msg_name)] : &at->owner;
	struct stamp stamp;

	if (!judge_arrival(header->msg_iov->iov_base, size, owner, now, &stamp))
		return;
	if (mode == ECHO || mode == ACK || (mode == REPLY && stamp.kind == SPARSE))
		(void)sendto(at->fd, header->msg_iov->iov_base, mode == ACK ? sizeof(stamp) : size,
			0, header->msg_name, header->msg_namelen);
	else if (mode == SOURCE)
		learn(&stamp, header);
	else if (mode == SEND && stamp.kind == BULK)
		congestion_answer(&at->congestion, stamp.sequence, at->next, stamp.sent, now);
	else if (mode == SEND && options.verbose && stamp.start != 0)
		printf("back sent_s=%.3f ms=%.3f\n", milliseconds(stamp.sent - stamp.start) / 1e3,
			milliseconds(now - stamp.sent));
}

/* One batch; false: there was none. */
static bool receive(struct flow *at)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec vectors[BATCH];
	static struct sockaddr_storage from[BATCH];
	int64_t now;
	int count;

	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){slots[i], SLOT};
		messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
			.msg_namelen = sizeof(from[i]),
			.msg_iov = &vectors[i],
			.msg_iovlen = 1};
	}
	count = recvmmsg(at->fd, messages, BATCH, MSG_DONTWAIT, NULL);
	now = now_ns();
	if (count > 0)
		last_active = now;
	for (int i = 0; i < count; i++)
		take_one(at, &messages[i].msg_hdr, messages[i].msg_len, now);
	return count > 0;
}

static void receive_what_is_there(void)
{
	struct epoll_event events[BATCH];
	int count = epoll_wait(epoll_fd, events, BATCH, 0);

	/* A bounded number, so that sending goes on. */
	for (int i = 0; i < count; i++)
		for (int n = 0; n < 16 && receive(events[i].data.ptr); n++)
			;
}

static void watch(struct flow *flow)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};

	set_receive_buffer(flow->fd, RECEIVE_BUFFER);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, flow->fd, &event) != 0)
		err(1, "epoll_ctl");
}

static void open_flow(enum kind kind, uint16_t number, char **where)
{
	struct flow *flow = &flows[kind][number];
	char port[16];

	snprintf(port, sizeof(port), "%d", atoi(where[1]) + number % options.ports);
	flow->fd = connect_from(options.source.sin_family ? &options.source : NULL, where[0], port);
	flow->owner = judge_name(kind, number);
	if (options.heed)
		congestion_start(&flow->congestion, 10, 2, 1e9);
	else
		congestion_start(&flow->congestion, options.window, options.window, options.window);
	watch(flow);
}

/* Modes */

static void stop(int number)
{
	(void)number;
	stopped++;
}

/* epoll has no timeouts in ns everywhere, ppoll has. */
static void wait_for(int64_t ns)
{
	ppoll(&(struct pollfd){.fd = epoll_fd, .events = POLLIN}, 1,
		&(struct timespec){ns / SECOND, ns % SECOND}, NULL);
}

/* Sends until the time is up; receives until then, or until a signal, and until silence after that.
 * A wait is at most 0.1 s, so that a signal just before it is noticed, too. */
static void run(void)
{
	int64_t seconds = (int64_t)(options.seconds * (double)SECOND);
	int64_t drain = (int64_t)(options.drain * (double)SECOND);

	while (stopped < 2) {
		int64_t now = now_ns(), next = SECOND / 10;
		bool active = began != 0 && now - began < seconds && !stopped;

		if (active) {
			int64_t next_bulk = send_bulk(now), next_ping = send_pings(now - began);

			next = next_ping < next_bulk ? next_ping : next_bulk;
		}
		if (active || (mode > DRIVE && !stopped))
			last_active = now;
		else if (now - last_active >= drain)
			break;
		wait_for(next);
		receive_what_is_there();
	}
}

static void serve(const char *host)
{
	listener.fd = listen_on(host);
	watch(&listener);
	run();
}

/* One a second, until one comes back. They are no part of the load: nobody counts them. */
static void wait_for_an_answer(void)
{
	while (last_active == 0 && !stopped) {
		transmit(SPARSE, 0, 1);
		wait_for(SECOND);
		receive_what_is_there();
	}
	flows[SPARSE][0].next = 0;
}

static void send_load(char **where)
{
	if (pings.rate > 0)
		open_flow(SPARSE, 0, where);
	for (uint16_t i = 0; i < options.flows; i++)
		open_flow(BULK, i, where);
	if (options.wait)
		wait_for_an_answer();
	began = now_ns();
	run();
	if (options.verbose)
		printf("sent sparse=%llu\n", (unsigned long long)flows[SPARSE][0].next);
}

static void drive(char **where)
{
	for (uint16_t i = 0; i < options.flows; i++) {
		open_flow(BULK, i, where);
		transmit(BULK, i, 1);
		if (i % BATCH == 0)
			wait_for(SECOND / 500);
	}
	printf("ready\n");
	fflush(stdout);
	options.drain = 0;
	while (scanf("%lf %lf", &bulk.rate, &options.seconds) == 2) {
		sent = bulk.count = 0;
		began = now_ns();
		run();
		printf("sent %llu\n", (unsigned long long)sent);
		fflush(stdout);
	}
}

static void read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "f:s:r:p:P:k:t:d:w:e:b:agov")) != -1) {
		if (option == 'f')
			options.flows = (uint16_t)number(optarg, 0, FLOWS_MAX);
		else if (option == 's')
			options.size = (size_t)number(optarg, sizeof(struct stamp), DATAGRAM_MAX);
		else if (option == 'r')
			bulk.rate = number(optarg, 0, 1e9);
		else if (option == 'p')
			pings.rate = number(optarg, 0, 1e5);
		else if (option == 'P')
			options.ports = (uint16_t)number(optarg, 1, UINT16_MAX);
		else if (option == 'k')
			options.window = number(optarg, 1, WINDOW_MOST);
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
		else if (option == 'o')
			options.wait = true;
		else if (option == 'v')
			options.verbose = true;
		else if (option == 'b')
			options.source = (struct sockaddr_in){
				.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(optarg)};
		else if (option == 'g')
			options.segments = true;
		else
			exit(2);
	}
	if (options.heed)
		options.window = WINDOW_AT_FIRST;
}

int main(int argc, char **argv)
{
	static const char *const modes[MODES] = {
		"send", "drive", "sink", "echo", "ack", "reply", "source"};

	while (mode < MODES && argc > 1 && strcmp(argv[1], modes[mode]) != 0)
		mode++;
	if (mode == MODES || argc < 2)
		errx(1, "which mode?");
	argc--;
	argv++;
	read_options(argc, argv);
	if (mode <= DRIVE && argc - optind != 2)
		errx(1, "where? HOST PORT");
	judge_start(options.warm_up, options.end);
	epoll_fd = epoll_create1(0);
	if (epoll_fd < 0)
		err(1, "epoll_create1");
	prctl(PR_SET_TIMERSLACK, 1UL);
	raise_descriptors();
	if (mode != DRIVE) {
		signal(SIGTERM, stop);
		signal(SIGINT, stop);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mode == SEND)
		send_load(argv + optind);
	else if (mode == DRIVE)
		drive(argv + optind);
	else
		serve(argv[optind]);
	judge_report();
	return EXIT_SUCCESS;
}
