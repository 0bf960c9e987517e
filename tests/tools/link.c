/*
 * A packet link between two Ethernet devices of its network namespace. What one of them receives
 * goes through
 *
 *   a buffer    BUFFER bytes wait here; a packet that does not fit is dropped
 *   a link      packets leave one after the other at RATE; after a pause, BURST bytes at once
 *   a distance  DELAY ms and a jitter; LOSS percent do not arrive, OVERTAKEN percent arrive behind
 *               the next one
 *
 * and leaves through the other one.
 *
 *   link [OPTION]... DEVICE [OPTION]... DEVICE
 *
 *   -r RATE[:SECONDS]  bits per second; then comes the next -r, and after the last one the first
 *   -b BUFFER  -B BURST  -d DELAY  -j JITTER (0 to JITTER ms, anew every JITTER ms)  -l LOSS
 *   -o OVERTAKEN
 *
 * The options in front of a device are for what comes from it. Losses and jitter are the same in
 * every run. A device is one end of a veth pair, whose other end must not make segments larger than
 * a packet (ip link set ... gso_max_segs 1). Says "ready". On SIGTERM it ends, and says what
 * passed.
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

enum {
	STEPS_MAX = 8,
	PACKET_MAX = 2048,                                  /* bytes */
	HEADERS = sizeof(struct virtio_net_hdr) + ETH_HLEN, /* in front of a packet: not counted */
	PACKETS = 8192,
	RECEIVE_BUFFER = 16 * 1024 * 1024,
	READS_MAX = 64, /* in a turn: what is due does not wait for more */
};

#define IDLE (SECOND / 10) /* the longest wait: a signal may come just before it */

struct packet {
	int64_t leaves, arrives;
	size_t length;
	bool lost, overtaken;
	uint8_t bytes[HEADERS + PACKET_MAX];
};

struct lane {
	int in, out;
	double buffer, burst, delay, jitter, loss, overtaken;
	double rates[STEPS_MAX + 1], seconds[STEPS_MAX + 1];
	size_t steps;

	/* From first to gone they are on the distance, from gone to end in the buffer. */
	struct packet packets[PACKETS];
	uint64_t first, gone, end;
	struct packet *held; /* until the next one has arrived; NULL: none */
	size_t waiting;      /* bytes in the buffer */
	int64_t link_free, last_arrives, jitter_now, jitter_until;
	unsigned short random[3];
	unsigned long long passed[2], dropped[2]; /* packets, bytes */
};

static int64_t started;
static volatile sig_atomic_t stopped;

static struct packet *packet_at(struct lane *lane, uint64_t position)
{
	return &lane->packets[position % PACKETS];
}

static void count(unsigned long long counts[2], size_t length)
{
	counts[0]++;
	counts[1] += length;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static double rate_at(const struct lane *lane, int64_t when)
{
	double left = (double)(when - started) / (double)SECOND;

	for (size_t i = 0;; i = (i + 1) % lane->steps) {
		left -= lane->seconds[i];
		if (left < 0)
			return lane->rates[i];
	}
}

/* If each packet had its own, all would come as late as the latest: a longer way, and no jitter. */
static int64_t jitter_at(struct lane *lane, int64_t when)
{
	if (when >= lane->jitter_until) {
		lane->jitter_now = (int64_t)(erand48(lane->random) * lane->jitter * 1e6);
		lane->jitter_until = when + (int64_t)(lane->jitter * 1e6);
	}
	return lane->jitter_now;
}

/* As none overtakes another, the times of a packet are known when it comes. */
static void put_in_buffer(struct lane *lane, struct packet *packet, int64_t now)
{
	double ns_per_byte = 8e9 / rate_at(lane, later(now, lane->link_free));
	int64_t start = now - (int64_t)(lane->burst * ns_per_byte);

	lane->link_free = later(start, lane->link_free) +
			  (int64_t)((double)packet->length * ns_per_byte);
	packet->leaves = later(now, lane->link_free);
	packet->arrives = packet->leaves + (int64_t)(lane->delay * 1e6) +
			  jitter_at(lane, packet->leaves);
	packet->arrives = lane->last_arrives = later(packet->arrives, lane->last_arrives);
	packet->lost = erand48(lane->random) * 100 < lane->loss;
	packet->overtaken = lane->overtaken > 0 && erand48(lane->random) * 100 < lane->overtaken;
	lane->waiting += packet->length;
	lane->end++;
}

static void take(struct lane *lane)
{
	int64_t now = now_ns();

	for (; lane->gone < lane->end && packet_at(lane, lane->gone)->leaves <= now; lane->gone++)
		lane->waiting -= packet_at(lane, lane->gone)->length;
	for (int i = 0; i < READS_MAX; i++) {
		struct packet *packet = packet_at(lane, lane->end);
		ssize_t length = read(lane->in, packet->bytes, sizeof(packet->bytes));

		if (length < HEADERS)
			return;
		packet->length = (size_t)length - HEADERS;
		if ((double)(lane->waiting + packet->length) > lane->buffer ||
			lane->end - lane->first == PACKETS - 2) /* and the one that is held */
			count(lane->dropped, packet->length);
		else
			put_in_buffer(lane, packet, now);
	}
}

static void hand_over(struct lane *lane, struct packet *packet)
{
	packet->lost |= !packet->lost &&
			write(lane->out, packet->bytes, HEADERS + packet->length) < 0;
	count(packet->lost ? lane->dropped : lane->passed, packet->length);
}

static void arrive(struct lane *lane, struct packet *packet)
{
	struct packet *held = lane->held;

	lane->held = packet->overtaken && !held ? packet : NULL;
	if (!lane->held)
		hand_over(lane, packet);
	if (held)
		hand_over(lane, held);
}

/* Returns how long it takes until the next one arrives. */
static int64_t deliver(struct lane *lane, int64_t now)
{
	for (; lane->first < lane->end; lane->first++) {
		struct packet *packet = packet_at(lane, lane->first);

		if (packet->arrives > now)
			return packet->arrives - now;
		arrive(lane, packet);
	}
	return IDLE;
}

/* The header of each packet tells what the sending host has left to the device: the checksum. */
static int open_device(const char *name)
{
	struct sockaddr_ll device = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0 || device.sll_ifindex == 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) != 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) != 0 ||
		bind(fd, (struct sockaddr *)&device, sizeof(device)) != 0)
		err(1, "%s", name);
	set_receive_buffer(fd, RECEIVE_BUFFER);
	return fd;
}

static void read_lane(struct lane *lane, int argc, char **argv)
{
	double *values[] = {&lane->buffer, &lane->burst, &lane->delay, &lane->jitter, &lane->loss,
		&lane->overtaken};
	static const char letters[] = "bBdjlo";
	int option;

	while ((option = getopt(argc, argv, "+r:b:B:d:j:l:o:")) != -1) {
		size_t i = lane->steps;

		if (option == '?' || (option == 'r' && lane->steps++ == STEPS_MAX))
			exit(2);
		lane->seconds[i] = 1;
		if (option != 'r')
			*values[strchr(letters, option) - letters] = number(optarg, 0, 1e12);
		else if (sscanf(optarg, "%lf:%lf", &lane->rates[i], &lane->seconds[i]) < 1 ||
			 lane->rates[i] <= 0 || lane->seconds[i] <= 0)
			errx(2, "'%s': expected RATE:SECONDS", optarg);
	}
	if (optind == argc || lane->steps == 0)
		errx(2, "expected -r RATE and DEVICE");
	lane->in = open_device(argv[optind++]);
}

static void stop(int number)
{
	stopped = number;
}

static void report(const char *name, const struct lane *lane)
{
	printf("%s packets=%llu bytes=%llu dropped_packets=%llu dropped_bytes=%llu\n", name,
		lane->passed[0], lane->passed[1], lane->dropped[0], lane->dropped[1]);
}

int main(int argc, char **argv)
{
	static struct lane lanes[2];
	struct lane *a = &lanes[0], *b = &lanes[1];

	read_lane(a, argc, argv);
	read_lane(b, argc, argv);
	a->out = b->in;
	b->out = a->in;
	b->random[2] = 1;
	signal(SIGTERM, stop);
	sched_setscheduler(
		0, SCHED_FIFO, &(struct sched_param){1}); /* not late on a busy machine */
	started = now_ns();
	printf("ready\n");
	fflush(stdout);
	while (!stopped) {
		struct pollfd fds[2] = {{a->in, POLLIN, 0}, {b->in, POLLIN, 0}};
		int64_t now = now_ns(), wait = deliver(a, now), other = deliver(b, now);

		wait = later((wait < other ? wait : other) - (now_ns() - now), 0);
		ppoll(fds, 2, &(struct timespec){0, wait < IDLE ? wait : IDLE}, NULL);
		take(a);
		take(b);
	}
	report("there", a);
	report("back", b);
	return EXIT_SUCCESS;
}
