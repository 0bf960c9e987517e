/*
 * A UDP peer for the tests. Says where it listens ("port N" on standard output) before it does
 * anything else, so that nobody has to guess or to sleep.
 *
 *   peer echo [HOST]                  sends every datagram back
 *   peer name [HOST]                  answers every datagram with its own port
 *   peer hold [HOST]                  keeps a datagram until another says "release"; then answers
 *   peer collect COUNT FILE [HOST]    writes the payloads of COUNT datagrams to FILE, then ends
 *   peer send HOST PORT               standard input as one datagram; the reply to standard output
 *   peer twice HOST PORT              asks, and from the same port once more after a SIGUSR1
 *   peer run SIZE HOST PORT           standard input as datagrams of SIZE bytes in one call
 *                                     (UDP_SEGMENT), the last with what is left; replies one a line
 *   peer post HOST PORT               standard input as one datagram; waits for no reply
 *   peer blast COUNT SIZE HOST PORT   datagrams that begin with their number, as fast as it goes
 *   peer clients COUNT HOST PORT      that many sockets ask; each must get its own reply
 *   peer pace SECONDS SIZE HOST PORT  how fast replies come, one by one and many at once
 *   peer twins HOST1 HOST2 PORT       one address and port asks both; each reply must be its own
 *   peer locals PORT                  asks from one socket through more local addresses than there
 *                                     are tags. Only the first reply may be missing, and each comes
 *                                     from the address that was asked. Waits for a SIGUSR1 after
 *                                     the first one, and half-way.
 *   peer late MS [HOST]               sends every datagram back, but that much later
 *   peer crowd COUNT PORT             asks as "locals" does, that many times, without waiting for
 *                                     replies; says how many came, all of them the asker's own
 *   peer free-port                    prints a TCP and UDP port that nobody uses
 */
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

enum {
	DATAGRAM_MAX = 65535,
	REPLY_TIMEOUT_MS = 20000,
	CLIENTS_MAX = 60000,
	CLIENTS_IN_FLIGHT = 1000,
	PACE_QUESTIONS = 2000,
	PACE_IN_FLIGHT = 64, /* so few that none is lost in full socket buffers */
	TAGS = 65536,
	LOCALS = TAGS + 64,
	LOCALS_IN_FLIGHT = 32,
	CROWD_ROW = 4, /* questions a millisecond, about */
	CROWD_SILENCE_MS = 500,
	LATE_TEXT_MAX = 64,
	PORT_FIRST = 10000,
	PORT_END = 32768, /* the first one that Linux gives away */
};

/* The last datagram received, and its sender. */
static uint8_t buffer[DATAGRAM_MAX + 1];
static struct sockaddr_storage sender;
static socklen_t sender_length;
static sigset_t wake_up;

static size_t receive(int fd)
{
	ssize_t length;

	sender_length = sizeof(sender);
	length = recvfrom(fd, buffer, DATAGRAM_MAX, 0, (struct sockaddr *)&sender, &sender_length);
	if (length < 0)
		err(1, "recvfrom");
	buffer[length] = '\0';
	return (size_t)length;
}

static size_t receive_reply(int fd)
{
	if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, REPLY_TIMEOUT_MS) != 1)
		errx(1, "no reply");
	return receive(fd);
}

static void expect(int fd, const char *text)
{
	if (receive_reply(fd) != strlen(text) || memcmp(buffer, text, strlen(text)) != 0)
		errx(1, "'%s' got '%s'", text, (char *)buffer);
}

static void transmit(int fd, const void *data, size_t length)
{
	if (send(fd, data, length, 0) != (ssize_t)length)
		err(1, "send of %zu bytes", length);
}

static void ask(int fd, const char *text)
{
	transmit(fd, text, strlen(text));
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

static size_t as_number(const char *text)
{
	return strtoul(text, NULL, 10);
}

static size_t read_standard_input(void)
{
	size_t length = fread(buffer, 1, sizeof(buffer), stdin);

	if (length > DATAGRAM_MAX)
		errx(1, "standard input is larger than a datagram");
	return length;
}

/* SIGUSR1, which is blocked from the start, so that none comes too early. */
static void wait_for_signal(void)
{
	int got;

	sigwait(&wake_up, &got);
}

/* The modes. Each gets its arguments. */

static void answer_with_name(char **a)
{
	int fd = listen_on(a[0]);
	char name[16];
	int length = sprintf(name, "%u", port_of(fd));

	for (;;) {
		receive(fd);
		sendto(fd, name, (size_t)length, 0, (struct sockaddr *)&sender, sender_length);
	}
}

static void echo(char **a)
{
	int fd = listen_on(a[0]);

	for (;;) {
		size_t length = receive(fd);

		sendto(fd, buffer, length, 0, (struct sockaddr *)&sender, sender_length);
	}
}

static void hold(char **a)
{
	int fd = listen_on(a[0]);
	size_t held_length = receive(fd);
	struct sockaddr_storage held_sender = sender;
	static uint8_t held[DATAGRAM_MAX];

	memcpy(held, buffer, held_length);
	say("held");
	while (receive(fd) != strlen("release") || strcmp((char *)buffer, "release") != 0)
		;
	sendto(fd, held, held_length, 0, (struct sockaddr *)&held_sender, sender_length);
}

static void collect(char **a)
{
	FILE *file = fopen(a[1], "wb");
	int fd = listen_on(a[2]);

	if (!file)
		err(1, "%s", a[1]);
	for (size_t i = 0; i < as_number(a[0]); i++) {
		size_t length = receive(fd);

		fwrite(buffer, 1, length, file);
		fflush(file);
	}
	if (fclose(file) != 0)
		err(1, "%s", a[1]);
}

static void post(char **a)
{
	transmit(connect_to(a[0], a[1]), buffer, read_standard_input());
}

static void send_and_wait(char **a)
{
	int fd = connect_to(a[0], a[1]);

	transmit(fd, buffer, read_standard_input());
	fwrite(buffer, 1, receive_reply(fd), stdout);
}

static void twice(char **a)
{
	int fd = connect_to(a[0], a[1]);

	for (int i = 0; i < 2; i++) {
		if (i > 0)
			wait_for_signal();
		ask(fd, "hello");
		expect(fd, "hello");
		say("reply");
	}
}

static void run(char **a)
{
	int fd = connect_to(a[1], a[2]), size = atoi(a[0]);
	size_t left = read_standard_input();

	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) != 0)
		err(1, "UDP_SEGMENT");
	transmit(fd, buffer, left);
	while (left > 0) {
		left -= receive_reply(fd);
		puts((char *)buffer);
	}
}

static void blast(char **a)
{
	int fd = connect_to(a[2], a[3]);
	size_t size = as_number(a[1]);

	for (size_t i = 0; i < as_number(a[0]); i++) {
		memset(buffer, 'x', size);
		buffer[sprintf((char *)buffer, "%zu ", i)] = 'x';
		transmit(fd, buffer, size);
	}
}

/* Many ask before the first one listens. */
static void clients(char **a)
{
	static int fds[CLIENTS_MAX];
	size_t count = as_number(a[0]);
	char question[32];

	raise_descriptors();
	for (size_t asked = 0, answered = 0; answered < count;) {
		if (asked < count && asked - answered < CLIENTS_IN_FLIGHT) {
			sprintf(question, "client %zu", asked);
			fds[asked] = connect_to(a[1], a[2]);
			ask(fds[asked++], question);
			continue;
		}
		sprintf(question, "client %zu", answered);
		expect(fds[answered], question);
		if (recv(fds[answered++], buffer, sizeof(buffer), MSG_DONTWAIT) >= 0)
			errx(1, "'%s' got more than one reply", question);
	}
	printf("%zu clients got their own replies\n", count);
}

static void pace_one_by_one(int fd, size_t size)
{
	static int64_t times[PACE_QUESTIONS];

	for (size_t i = 0; i < PACE_QUESTIONS; i++) {
		int64_t start = now_ns();

		transmit(fd, buffer, size);
		receive_reply(fd);
		times[i] = now_ns() - start;
	}
	qsort(times, PACE_QUESTIONS, sizeof(times[0]), compare_times);
	printf("Question and answer, one at a time: half of them within %.0f microseconds.\n",
		1e3 * milliseconds(times[PACE_QUESTIONS / 2]));
}

static void pace_many(int fd, size_t size, double seconds)
{
	int64_t start = now_ns(), end = start + (int64_t)(seconds * (double)SECOND);
	size_t asked = 0, replies = 0;

	while (replies < asked || now_ns() < end) {
		if (now_ns() < end && asked - replies < PACE_IN_FLIGHT) {
			transmit(fd, buffer, size);
			asked++;
		} else {
			receive_reply(fd);
			replies++;
		}
	}
	printf("Many at once: %.0f datagrams of %zu bytes a second each way, none lost.\n",
		(double)replies * (double)SECOND / (double)(now_ns() - start), size);
}

static void pace(char **a)
{
	int fd = connect_to(a[2], a[3]);
	size_t size = as_number(a[1]);

	memset(buffer, 'x', size);
	pace_one_by_one(fd, size);
	pace_many(fd, size, atof(a[0]));
}

static void twins(char **a)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int first = connect_from(&own, a[0], a[2]), second;

	(void)setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	own.sin_port = htons(port_of(first));
	second = connect_from(&own, a[1], a[2]);
	for (int round = 0; round < 3; round++) {
		ask(first, a[0]);
		ask(second, a[1]);
		expect(first, a[0]);
		expect(second, a[1]);
	}
	printf("both twins got their own replies\n");
}

static struct sockaddr_in local_number(size_t number, const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};

	address.sin_port = htons((uint16_t)atoi(port));
	address.sin_addr.s_addr = htonl((uint32_t)(0x7f010001 + number));
	return address;
}

static void ask_local(int fd, size_t number, const char *port)
{
	struct sockaddr_in to = local_number(number, port);
	char question[32];
	int length = sprintf(question, "local %zu", number);

	if (sendto(fd, question, (size_t)length, 0, (struct sockaddr *)&to, sizeof(to)) != length)
		err(1, "sendto");
}

/* It says what was asked, and comes from the address that was asked. */
static void expect_local_reply(int fd, const char *port)
{
	const struct sockaddr_in *from = (struct sockaddr_in *)&sender;
	size_t number;

	receive_reply(fd);
	if (sscanf((char *)buffer, "local %zu", &number) != 1)
		errx(1, "got '%s'", (char *)buffer);
	if (from->sin_addr.s_addr != local_number(number, port).sin_addr.s_addr)
		errx(1, "a reply to '%s' came from another address", (char *)buffer);
}

/* Asks local addresses from the first number to the last but one. All must answer. */
static void ask_locals(int fd, size_t first, size_t end, const char *port)
{
	for (size_t asked = first, answered = first; answered < end;) {
		if (asked < end && asked - answered < LOCALS_IN_FLIGHT) {
			ask_local(fd, asked++, port);
		} else {
			expect_local_reply(fd, port);
			answered++;
		}
	}
}

static void locals(char **a)
{
	int fd = udp_socket(AF_INET);

	ask_local(fd, 0, a[0]);
	say("asked once");
	wait_for_signal();
	ask_locals(fd, 1, TAGS / 2, a[0]);
	say("half of all tags are used");
	wait_for_signal();
	ask_locals(fd, TAGS / 2, LOCALS, a[0]);
	say("everybody got their own reply");
}

static bool has_reply(int fd, int wait_ms)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, wait_ms) == 1;
}

static void crowd(char **a)
{
	size_t count = as_number(a[0]), asked = 0, answered = 0;
	int fd = udp_socket(AF_INET);

	while (asked < count || has_reply(fd, CROWD_SILENCE_MS)) {
		for (int i = 0; i < CROWD_ROW && asked < count; i++)
			ask_local(fd, asked++, a[1]);
		for (; has_reply(fd, 1); answered++)
			expect_local_reply(fd, a[1]);
	}
	printf("%zu of %zu answered\n", answered, count);
}

static void late(char **a)
{
	static struct held {
		struct sockaddr_storage to;
		socklen_t to_length;
		size_t length;
		char text[LATE_TEXT_MAX];
		int64_t due;
	} held[TAGS];
	int64_t delay = (int64_t)as_number(a[0]) * SECOND / 1000;
	int fd = listen_on(a[1]);

	for (size_t first = 0, end = 0;; first++) {
		struct held *next = &held[first % TAGS];

		while (first == end || now_ns() < next->due) {
			struct held *last = &held[end % TAGS];

			if (!has_reply(fd, first == end ? -1 : 1))
				continue;
			last->length = receive(fd);
			last->to = sender;
			last->to_length = sender_length;
			memcpy(last->text, buffer, last->length % LATE_TEXT_MAX);
			last->due = now_ns() + delay;
			end++;
		}
		sendto(fd, next->text, next->length, 0, (struct sockaddr *)&next->to,
			next->to_length);
	}
}

static bool can_bind(int type, uint16_t port)
{
	struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, type, 0);
	bool can = bind(fd, (struct sockaddr *)&where, sizeof(where)) == 0;

	close(fd);
	return can;
}

/* Below those that the kernel gives away: the next program that wants any port does not get this
 * one. */
static void free_port(char **a)
{
	uint16_t port;

	(void)a;
	for (int tries = 0; tries < 100; tries++) {
		if (getentropy(&port, sizeof(port)) != 0)
			err(1, "getentropy");
		port = PORT_FIRST + port % (PORT_END - PORT_FIRST);
		if (can_bind(SOCK_STREAM, port) && can_bind(SOCK_DGRAM, port)) {
			printf("%u\n", port);
			return;
		}
	}
	errx(1, "no port is free for TCP and UDP");
}

static const struct mode {
	const char *name;
	int arguments; /* at least */
	void (*run)(char **arguments);
} modes[] = {
	{"echo", 0, echo},
	{"name", 0, answer_with_name},
	{"hold", 0, hold},
	{"collect", 2, collect},
	{"send", 2, send_and_wait},
	{"twice", 2, twice},
	{"run", 3, run},
	{"post", 2, post},
	{"blast", 4, blast},
	{"clients", 3, clients},
	{"pace", 4, pace},
	{"twins", 3, twins},
	{"locals", 1, locals},
	{"late", 1, late},
	{"crowd", 2, crowd},
	{"free-port", 0, free_port},
	{NULL, 0, NULL},
};

int main(int argc, char **argv)
{
	const struct mode *mode = modes;

	while (argc > 1 && mode->name && strcmp(mode->name, argv[1]) != 0)
		mode++;
	if (!mode->name || argc - 2 < mode->arguments)
		errx(1, "unknown mode, or too few arguments");
	sigemptyset(&wake_up);
	sigaddset(&wake_up, SIGUSR1);
	sigprocmask(SIG_BLOCK, &wake_up, NULL);
	mode->run(argv + 2);
	return EXIT_SUCCESS;
}
