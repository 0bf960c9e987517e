/*
 * Feeds a program with hostile streams:
 *
 *   hostile FIRST COUNT uott-enc | uott-dec
 *
 * Each case, numbered from FIRST on, is a stream of frames with any tags and lengths, forged
 * control frames, and in half of the cases bytes that are changed, lost or repeated. The program
 * must end with status 0, or with 1 and a message; not by a signal, not after more than 10 s, and
 * not with much memory. Each datagram that it sends must have been the payload of a frame.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"

enum {
	STREAM_SIZE = 1 << 18,
	MEMORY_MAX_KB = 64 * 1024, /* of a program without sanitizers */
	HEADER = 8,
};

static uint8_t stream[2 * STREAM_SIZE];
static size_t size;
static uint64_t random_state;
static uint8_t payload[65536];

static struct child {
	pid_t pid;
	int input, output, errors;
	char said[1 << 16];
	size_t said_size, written;
} child;

static uint32_t below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)((random_state >> 33) % n);
}

/* --- the stream ----------------------------------------------------------------------------- */

static void put(const void *bytes, size_t count)
{
	if (size + count > STREAM_SIZE)
		return;
	memcpy(stream + size, bytes, count);
	size += count;
}

static void put_header(bool is_control, uint16_t tag_or_type, uint16_t length)
{
	uint8_t header[HEADER] = {'U', 'O', 'T', is_control ? 'C' : 'T',
		(uint8_t)(tag_or_type & 255), (uint8_t)(tag_or_type >> 8), (uint8_t)(length & 255),
		(uint8_t)(length >> 8)};

	put(header, HEADER);
}

static void put_random(size_t count)
{
	for (size_t i = 0; i < count; i++)
		put(&(uint8_t){(uint8_t)below(256)}, 1);
}

static void put_data(void)
{
	static const uint16_t tags[] = {65535, 65535, 65534, 64512, 0, 1};
	uint16_t tag = below(4) > 0 ? tags[below(6)] : (uint16_t)below(65536);
	uint16_t length = (uint16_t)below(below(20) > 0 ? 200 : 65536);

	put_header(false, tag, length);
	put_random(length);
}

/* Mostly with a body as it should be. */
static void put_control(uint16_t type)
{
	static const uint16_t lengths[] = {3, 2, 8, 2, 0, 8, 5};
	uint16_t length = below(10) > 0 ? lengths[type % 7] : (uint16_t)below(30);
	uint64_t value = type == 1      ? 1
			 : below(3) > 0 ? below(200)
					: (uint64_t)below(65536) << below(48);

	put_header(true, type, length);
	put(&value, length < 8 ? length : 8);
	put_random(length > 8 ? length - 8U : 0);
}

/* CLOSE or PING again and again, or all tags. */
static void put_storm(void)
{
	uint32_t kind = below(3), count = below(3000);

	for (uint32_t i = 0; i < count; i++)
		if (kind == 2)
			put_header(false, (uint16_t)(65535 - i), 0);
		else
			put_control(kind == 0 ? 3 : 4);
}

static void damage(void)
{
	for (uint32_t i = below(4); i > 0 && size > 0; i--) {
		uint32_t at = below((uint32_t)size), count = 1 + below(9);

		if (at + count > size)
			count = (uint32_t)size - at;
		switch (below(4)) {
		case 0:
			stream[at] ^= (uint8_t)(1 << below(8));
			break;
		case 1: /* lost */
			memmove(stream + at, stream + at + count, size - at - count);
			size -= count;
			break;
		case 2: /* repeated */
			memmove(stream + at + count, stream + at, size - at);
			size += count;
			break;
		default:
			size = at;
		}
	}
}

static void make_stream(void)
{
	size = 0;
	if (below(8) == 0)
		put_random(below(100)); /* noise */
	if (below(4) > 0)
		put_control(1);
	for (uint32_t i = below(60); i > 0; i--) {
		uint32_t kind = below(40);

		if (kind < 20)
			put_data();
		else if (kind < 39)
			put_control((uint16_t)(below(10) > 0 ? 1 + below(5) : below(65536)));
		else
			put_storm();
	}
	if (below(2) == 0)
		damage();
}

/* Whether some frame of the stream has this payload. */
static bool was_sent(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i + HEADER + length <= size; i++)
		if (memcmp(stream + i, "UOTT", 4) == 0 &&
			stream[i + 6] + 256U * stream[i + 7] == length &&
			memcmp(stream + i + HEADER, bytes, length) == 0)
			return true;
	return false;
}

/* --- the program ---------------------------------------------------------------------------- */

static void start(const char *program, const char *address)
{
	int in[2], out[2], errors[2];

	if (pipe(in) != 0 || pipe(out) != 0 || pipe(errors) != 0)
		err(1, "pipe");
	memset(&child, 0, sizeof(child));
	child.pid = fork();
	if (child.pid < 0)
		err(1, "fork");
	if (child.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(errors[1], 2);
		for (int fd = 3; fd <= errors[1]; fd++)
			close(fd);
		execl(program, program, "-t", "0", address, (char *)NULL);
		err(127, "%s", program);
	}
	close(in[0]);
	close(out[1]);
	close(errors[1]);
	child.input = in[1];
	child.output = out[0];
	child.errors = errors[0];
	fcntl(child.input, F_SETFL, O_NONBLOCK);
}

static void wrong(uint64_t number, const char *what)
{
	kill(child.pid, SIGKILL);
	errx(1, "case %llu: %s; it said: %s", (unsigned long long)number, what, child.said);
}

static void take_datagrams(uint64_t number, int udp)
{
	ssize_t length;

	while ((length = recv(udp, payload, sizeof(payload), MSG_DONTWAIT)) >= 0)
		if (!was_sent(payload, (size_t)length))
			wrong(number, "a datagram that was in no frame");
}

/* Returns whether the descriptor is still open. */
static bool take(int *fd, char *to, size_t room, size_t *used)
{
	ssize_t length = read(*fd, to, room);

	if (length > 0)
		*used += (size_t)length;
	if (length > 0 || (length < 0 && errno == EAGAIN))
		return true;
	close(*fd);
	*fd = -1;
	return false;
}

/* Writes the stream and reads all that comes, until the program has closed its outputs. */
static void talk(uint64_t number, int udp)
{
	static char sink[1 << 16];
	size_t sunk = 0;

	while (child.output >= 0 || child.errors >= 0) {
		struct pollfd polls[] = {{child.output, POLLIN, 0}, {child.errors, POLLIN, 0},
			{udp, POLLIN, 0}, {child.input, POLLOUT, 0}};

		if (poll(polls, 4, 10000) == 0)
			wrong(number, "it hangs");
		take_datagrams(number, udp);
		if (polls[0].revents)
			take(&child.output, sink, sizeof(sink), &sunk);
		if (polls[1].revents)
			take(&child.errors, child.said + child.said_size,
				sizeof(child.said) - 1 - child.said_size, &child.said_size);
		if (polls[3].revents) {
			ssize_t done = write(
				child.input, stream + child.written, size - child.written);

			child.written += done > 0 ? (size_t)done : 0;
			if (child.written == size || (done < 0 && errno != EAGAIN)) {
				close(child.input);
				child.input = -1;
			}
		}
	}
	take_datagrams(number, udp);
}

static void judge(uint64_t number)
{
	struct rusage usage;
	int status;

	if (child.input >= 0)
		close(child.input);
	if (wait4(child.pid, &status, 0, &usage) != child.pid)
		err(1, "wait4");
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
		wrong(number, "it did not end with status 0 or 1");
	if (WEXITSTATUS(status) == 1 && child.said_size == 0)
		wrong(number, "it failed without a message");
	if (usage.ru_maxrss > MEMORY_MAX_KB && !getenv("ASAN_OPTIONS"))
		wrong(number, "it took much memory");
}

/* enc: sends a datagram to where it listens, so that it has a flow. Returns the client's socket. */
static int begin_flow(uint64_t number)
{
	char byte[64], *port;
	int udp;

	while (!strchr(child.said, '\n'))
		if (!take(&child.errors, child.said + child.said_size,
			    sizeof(child.said) - 1 - child.said_size, &child.said_size))
			wrong(number, "it does not listen");
	port = strrchr(child.said, ':') + 1;
	*strchr(port, '\n') = '\0';
	udp = connect_to("127.0.0.1", port);
	child.said_size = 0;
	memset(child.said, 0, sizeof(child.said));
	if (send(udp, "hello", 5, 0) != 5 || read(child.output, byte, sizeof(byte)) <= 0)
		wrong(number, "it does not listen");
	return udp;
}

int main(int argc, char **argv)
{
	uint64_t first, count;
	bool is_enc;
	char address[32] = "127.0.0.1:0";
	int udp = -1;

	if (argc != 4)
		errx(2, "usage: hostile FIRST COUNT uott-enc | uott-dec");
	first = (uint64_t)number(argv[1], 0, 1e15);
	count = (uint64_t)number(argv[2], 1, 1e9);
	is_enc = strstr(argv[3], "uott-enc") != NULL;
	signal(SIGPIPE, SIG_IGN);
	if (!is_enc) {
		udp = bind_to("127.0.0.1", "0");
		snprintf(address, sizeof(address), "127.0.0.1:%u", port_of(udp));
	}
	for (uint64_t i = first; i < first + count; i++) {
		random_state = i * UINT64_C(0x9e3779b97f4a7c15);
		make_stream();
		start(argv[3], address);
		if (is_enc)
			udp = begin_flow(i);
		talk(i, udp);
		judge(i);
		if (is_enc)
			close(udp);
	}
	printf("%llu cases\n", (unsigned long long)count);
	return EXIT_SUCCESS;
}
