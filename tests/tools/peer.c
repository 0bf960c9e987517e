/*
 * A UDP peer for the tests. Says where it listens ("port N" on standard output) before it does
 * anything else, so that nobody has to guess or to sleep.
 *
 *   peer echo [HOST]                  sends every datagram back
 *   peer hold [HOST]                  keeps a datagram until another says "release"; then answers
 *   peer collect COUNT FILE [HOST]    the payloads of COUNT datagrams to FILE, then ends
 *   peer send HOST PORT               standard input as one datagram; the reply to standard output
 *   peer twice HOST PORT              asks, and from the same port once more after a SIGUSR1
 *   peer run SIZE HOST PORT           standard input as datagrams of SIZE bytes, the last of what
 *                                     is left, in one call (UDP_SEGMENT); replies, one a line
 *   peer post HOST PORT               standard input as one datagram, and no reply awaited
 *   peer blast COUNT SIZE HOST PORT   datagrams that begin with their number, as fast as it goes
 *   peer clients COUNT HOST PORT      that many sockets ask at once; each must get its own reply
 *   peer pace SECONDS SIZE HOST PORT  asks and waits for the reply, then many at once; how fast
 *   peer twins HOST1 HOST2 PORT       one address and port asks both; the replies must differ
 *   peer locals PORT                  asks from one socket through more local addresses than there
 *                                     are tags; no reply but to the first may fail to come, or come
 *                                     to another; waits for a SIGUSR1 after the first, and half-way
 *   peer free-port                    prints a TCP and UDP port that nobody uses
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
	DATAGRAM_MAX = 65535,
	BUFFER_SIZE = 4 * 1024 * 1024,
	REPLY_TIMEOUT_MS = 20000,
	CLIENTS_MAX = 60000,
};

static uint8_t buffer[DATAGRAM_MAX + 1];

static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "peer: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	exit(EXIT_FAILURE);
}

static struct addrinfo *look_up(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	int error = getaddrinfo(host, port, &hints, &found);

	if (error != 0)
		die("%s %s: %s", host, port, gai_strerror(error));
	return found;
}

static void set_option(int fd, int option, int value)
{
	if (setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)) != 0)
		die("setsockopt: %s", strerror(errno));
}

static int open_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		die("getsockname: %s", strerror(errno));
	return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
						   : ((struct sockaddr_in *)&address)->sin_port);
}

static int listen_on(const char *host)
{
	struct addrinfo *where = look_up(host ? host : "127.0.0.1", "0");
	int fd = open_socket(where->ai_family);

	set_option(fd, SO_RCVBUF, BUFFER_SIZE);
#ifdef SO_RCVBUFFORCE
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){BUFFER_SIZE}, sizeof(int));
#endif
	if (bind(fd, where->ai_addr, where->ai_addrlen) != 0)
		die("bind: %s", strerror(errno));
	printf("port %u\n", port_of(fd));
	fflush(stdout);
	freeaddrinfo(where);
	return fd;
}

static int connect_to(const char *host, const char *port)
{
	struct addrinfo *where = look_up(host, port);
	int fd = open_socket(where->ai_family);

	if (connect(fd, where->ai_addr, where->ai_addrlen) != 0)
		die("connect: %s", strerror(errno));
	freeaddrinfo(where);
	return fd;
}

static size_t receive(int fd, struct sockaddr_storage *from, socklen_t *from_length)
{
	ssize_t length;

	*from_length = sizeof(*from);
	length = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)from, from_length);
	if (length < 0)
		die("recvfrom: %s", strerror(errno));
	return (size_t)length;
}

static size_t receive_reply(int fd)
{
	struct sockaddr_storage from;
	socklen_t from_length;

	if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, REPLY_TIMEOUT_MS) != 1)
		die("no reply");
	return receive(fd, &from, &from_length);
}

static void transmit(int fd, const void *data, size_t length)
{
	if (send(fd, data, length, 0) != (ssize_t)length)
		die("send of %zu bytes: %s", length, strerror(errno));
}

static void echo(const char *host)
{
	int fd = listen_on(host);
	struct sockaddr_storage from;
	socklen_t from_length;

	for (;;) {
		size_t length = receive(fd, &from, &from_length);

		sendto(fd, buffer, length, 0, (struct sockaddr *)&from, from_length);
	}
}

static void hold(const char *host)
{
	int fd = listen_on(host);
	struct sockaddr_storage held_from, from;
	socklen_t held_from_length, from_length;
	static uint8_t held[DATAGRAM_MAX];
	size_t held_length = receive(fd, &held_from, &held_from_length);

	memcpy(held, buffer, held_length);
	printf("held\n");
	fflush(stdout);
	while (receive(fd, &from, &from_length) != 7 || memcmp(buffer, "release", 7) != 0)
		;
	sendto(fd, held, held_length, 0, (struct sockaddr *)&held_from, held_from_length);
}

static void collect(size_t count, const char *path, const char *host)
{
	FILE *file = fopen(path, "wb");
	int fd = listen_on(host);
	struct sockaddr_storage from;
	socklen_t from_length;

	if (!file)
		die("%s: %s", path, strerror(errno));
	for (size_t i = 0; i < count; i++) {
		size_t length = receive(fd, &from, &from_length);

		fwrite(buffer, 1, length, file);
		fflush(file);
	}
	if (fclose(file) != 0)
		die("%s: %s", path, strerror(errno));
}

static size_t read_standard_input(void)
{
	size_t length = fread(buffer, 1, sizeof(buffer), stdin);

	if (length > DATAGRAM_MAX)
		die("standard input is larger than a datagram");
	return length;
}

static void ask(const char *host, const char *port)
{
	int fd = connect_to(host, port);

	transmit(fd, buffer, read_standard_input());
	fwrite(buffer, 1, receive_reply(fd), stdout);
}

static void ask_in_one_call(int size, const char *host, const char *port)
{
	int fd = connect_to(host, port);
	size_t left = read_standard_input();

	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) != 0)
		die("UDP_SEGMENT: %s", strerror(errno));
	transmit(fd, buffer, left);
	while (left > 0) {
		size_t length = receive_reply(fd);

		fwrite(buffer, 1, length, stdout);
		putchar('\n');
		left -= length;
	}
}

static void wake_up(int signal_number)
{
	(void)signal_number;
}

static void twice(const char *host, const char *port)
{
	int fd = connect_to(host, port);
	sigset_t blocked, none;

	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGUSR1, wake_up);
	for (int i = 0; i < 2; i++) {
		transmit(fd, "hello", 5);
		if (receive_reply(fd) != 5)
			die("another reply than expected");
		printf("reply\n");
		fflush(stdout);
		if (i == 0)
			sigsuspend(&none);
	}
}

static void blast(size_t count, size_t size, const char *host, const char *port)
{
	int fd = connect_to(host, port);

	for (size_t i = 0; i < count; i++) {
		memset(buffer, 'x', size);
		snprintf((char *)buffer, sizeof(buffer), "%zu ", i);
		buffer[strlen((char *)buffer)] = 'x';
		transmit(fd, buffer, size);
	}
}

/* All ask before the first one listens; what comes back must be what was asked. */
static void clients(size_t count, const char *host, const char *port)
{
	static int fds[CLIENTS_MAX];
	struct rlimit limit;
	char question[32];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (size_t i = 0; i < count; i++) {
		fds[i] = connect_to(host, port);
		transmit(fds[i], question, (size_t)sprintf(question, "client %zu", i));
	}
	for (size_t i = 0; i < count; i++) {
		size_t expected = (size_t)sprintf(question, "client %zu", i);
		size_t length = receive_reply(fds[i]);

		if (length != expected || memcmp(buffer, question, length) != 0)
			die("'%s' got '%.*s'", question, (int)length, (char *)buffer);
		if (recv(fds[i], buffer, sizeof(buffer), MSG_DONTWAIT) >= 0)
			die("'%s' got more than one reply", question);
	}
	printf("%zu clients got their own replies\n", count);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void ask_one_by_one(int fd, size_t size)
{
	enum {
		QUESTIONS = 2000
	};
	static double times[QUESTIONS];

	for (size_t i = 0; i < QUESTIONS; i++) {
		double start = now();

		transmit(fd, buffer, size);
		receive_reply(fd);
		times[i] = now() - start;
	}
	qsort(times, QUESTIONS, sizeof(times[0]), compare);
	printf("Question and answer, one at a time: half of them within %.0f microseconds.\n",
		times[QUESTIONS / 2] * 1e6);
}

/* Keeps a few datagrams on their way, so that nothing is lost in full socket buffers. */
static void ask_many(int fd, size_t size, double seconds)
{
	enum {
		ON_THEIR_WAY = 64
	};
	double start = now(), end = start + seconds;
	size_t replies = 0;

	for (size_t i = 0; i < ON_THEIR_WAY; i++)
		transmit(fd, buffer, size);
	for (; now() < end; replies++) {
		receive_reply(fd);
		transmit(fd, buffer, size);
	}
	for (size_t i = 0; i < ON_THEIR_WAY; i++, replies++)
		receive_reply(fd);
	printf("Many at once: %.0f datagrams of %zu bytes a second each way, none lost.\n",
		(double)replies / (now() - start), size);
}

static void pace(double seconds, size_t size, const char *host, const char *port)
{
	int fd = connect_to(host, port);

	memset(buffer, 'x', size);
	ask_one_by_one(fd, size);
	ask_many(fd, size, seconds);
}

static int twin(const char *host, const char *port, uint16_t own_port)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(own_port)};
	struct addrinfo *where = look_up(host, port);
	int fd = open_socket(AF_INET);

	own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	set_option(fd, SO_REUSEADDR, 1);
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)) != 0)
		die("bind: %s", strerror(errno));
	if (connect(fd, where->ai_addr, where->ai_addrlen) != 0)
		die("connect: %s", strerror(errno));
	freeaddrinfo(where);
	return fd;
}

static void expect(int fd, const char *text)
{
	size_t length = receive_reply(fd);

	if (length != strlen(text) || memcmp(buffer, text, length) != 0)
		die("'%s' got '%.*s'", text, (int)length, (char *)buffer);
}

static void twins(const char *host1, const char *host2, const char *port)
{
	int first = twin(host1, port, 0);
	int second = twin(host2, port, port_of(first));

	for (int round = 0; round < 3; round++) {
		transmit(first, host1, strlen(host1));
		transmit(second, host2, strlen(host2));
		expect(first, host1);
		expect(second, host2);
	}
	printf("both twins got their own replies\n");
}

enum {
	LOCALS = 65536 + 64,
	LOCALS_AT_ONCE = 32,
};

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
	size_t length = (size_t)sprintf(question, "local %zu", number);

	if (sendto(fd, question, length, 0, (struct sockaddr *)&to, sizeof(to)) != (ssize_t)length)
		die("sendto: %s", strerror(errno));
}

/* A reply comes from the address that was asked, and says what was asked there. */
static void expect_local_reply(int fd, const char *port)
{
	struct sockaddr_in from, asked;
	socklen_t from_length = sizeof(from);
	size_t number;
	ssize_t length;

	if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, REPLY_TIMEOUT_MS) != 1)
		die("no reply");
	length = recvfrom(
		fd, buffer, sizeof(buffer) - 1, 0, (struct sockaddr *)&from, &from_length);
	buffer[length < 0 ? 0 : length] = '\0';
	if (sscanf((char *)buffer, "local %zu", &number) != 1)
		die("got '%s'", (char *)buffer);
	asked = local_number(number, port);
	if (from.sin_addr.s_addr != asked.sin_addr.s_addr)
		die("a reply to '%s' came to another", (char *)buffer);
}

static void locals(const char *port)
{
	int fd = open_socket(AF_INET);
	size_t asked = 1, answered = 1;
	sigset_t blocked, none;

	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGUSR1, wake_up);
	ask_local(fd, 0, port);
	printf("asked once\n");
	fflush(stdout);
	sigsuspend(&none);
	while (answered < LOCALS) {
		if (asked < LOCALS && asked - answered < LOCALS_AT_ONCE) {
			ask_local(fd, asked++, port);
			continue;
		}
		expect_local_reply(fd, port);
		if (++answered != 65536 / 2)
			continue;
		while (answered < asked) {
			expect_local_reply(fd, port);
			answered++;
		}
		printf("half of all tags are used\n");
		fflush(stdout);
		sigsuspend(&none);
	}
	printf("everybody got their own reply\n");
}

static void free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	int udp = open_socket(AF_INET);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(tcp, (struct sockaddr *)&address, sizeof(address)) != 0)
		die("bind: %s", strerror(errno));
	address.sin_port = htons(port_of(tcp));
	if (bind(udp, (struct sockaddr *)&address, sizeof(address)) != 0)
		die("bind: %s", strerror(errno));
	printf("%u\n", port_of(tcp));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	char **a = argv + 2;
	int count = argc - 2;

	if (strcmp(mode, "echo") == 0)
		echo(a[0]);
	else if (strcmp(mode, "hold") == 0)
		hold(a[0]);
	else if (strcmp(mode, "collect") == 0 && count >= 2)
		collect(strtoul(a[0], NULL, 10), a[1], a[2]);
	else if (strcmp(mode, "send") == 0 && count == 2)
		ask(a[0], a[1]);
	else if (strcmp(mode, "twice") == 0 && count == 2)
		twice(a[0], a[1]);
	else if (strcmp(mode, "run") == 0 && count == 3)
		ask_in_one_call(atoi(a[0]), a[1], a[2]);
	else if (strcmp(mode, "post") == 0 && count == 2)
		transmit(connect_to(a[0], a[1]), buffer, read_standard_input());
	else if (strcmp(mode, "blast") == 0 && count == 4)
		blast(strtoul(a[0], NULL, 10), strtoul(a[1], NULL, 10), a[2], a[3]);
	else if (strcmp(mode, "clients") == 0 && count == 3)
		clients(strtoul(a[0], NULL, 10), a[1], a[2]);
	else if (strcmp(mode, "pace") == 0 && count == 4)
		pace(atof(a[0]), strtoul(a[1], NULL, 10), a[2], a[3]);
	else if (strcmp(mode, "locals") == 0 && count == 1)
		locals(a[0]);
	else if (strcmp(mode, "twins") == 0 && count == 3)
		twins(a[0], a[1], a[2]);
	else if (strcmp(mode, "free-port") == 0)
		free_port();
	else
		die("unknown mode, or wrong number of arguments: '%s'", mode);
	return EXIT_SUCCESS;
}
