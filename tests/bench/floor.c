/*
 * The floor: about the least that a pair like uott can cost. It checks nothing, drops nothing and
 * blocks when it writes. It has one flow, and what comes back goes to whoever sent last. No tunnel.
 *
 *   floor [-s] enc HOST PORT   UDP to HOST and PORT -> frames on standard output, and back
 *   floor [-s] dec HOST PORT   frames on standard input -> UDP to HOST and PORT, and back
 *
 *   -s  sockets: one for each port that datagrams came from, and a call for each; no way back
 */
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../tools/tool.h"

enum {
	BATCH = 64,
	HEADER = 8, /* as large as uott's; only port and length in it matter */
	PAYLOAD_MAX = 65535,
	SLOT = HEADER + PAYLOAD_MAX + 193, /* the odd rest spreads slots over cache sets */
	SEGMENTS_BYTES_MAX = 65000,
	BUFFER = 1024 * 1024,
};

static int udp, sockets[UINT16_MAX + 1];
static bool has_sockets, is_enc;
static struct sockaddr_in client;
static char **target; /* HOST PORT */
static uint8_t slots[BATCH][SLOT];
static uint8_t buffer[BUFFER];
static size_t filled;

static void write_all(struct iovec *pieces, int count)
{
	while (count > 0) {
		ssize_t written = writev(STDOUT_FILENO, pieces, count);

		if (written < 0)
			err(1, "write");
		for (; count > 0 && (size_t)written >= pieces->iov_len; pieces++, count--)
			written -= (ssize_t)pieces->iov_len;
		if (count > 0) {
			pieces->iov_base = (uint8_t *)pieces->iov_base + written;
			pieces->iov_len -= (size_t)written;
		}
	}
}

/* One batch of datagrams: one write. */
static void datagrams_to_frames(void)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec room[BATCH];
	static struct sockaddr_in from[BATCH];
	struct iovec frames[BATCH];
	int count;

	for (int i = 0; i < BATCH; i++) {
		room[i] = (struct iovec){slots[i] + HEADER, PAYLOAD_MAX};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &room[i],
			.msg_iovlen = 1,
			.msg_name = &from[i],
			.msg_namelen = sizeof(from[i])};
	}
	count = recvmmsg(udp, messages, BATCH, MSG_DONTWAIT, NULL);
	if (count > 0)
		client = from[count - 1];
	for (int i = 0; i < count; i++) {
		uint16_t length = (uint16_t)messages[i].msg_len;

		memcpy(slots[i] + 4, &from[i].sin_port, sizeof(from[i].sin_port));
		memcpy(slots[i] + 6, &length, sizeof(length));
		frames[i] = (struct iovec){slots[i], HEADER + (size_t)length};
	}
	write_all(frames, count);
}

static void send_segments(struct iovec *payloads, size_t count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(uint16_t))];
		struct cmsghdr header;
	} control = {.header = {CMSG_LEN(sizeof(uint16_t)), IPPROTO_UDP, UDP_SEGMENT}};
	struct msghdr message = {
		.msg_iov = payloads,
		.msg_iovlen = count,
		.msg_control = count > 1 ? &control : NULL,
		.msg_controllen = count > 1 ? sizeof(control) : 0,
		.msg_name = is_enc ? &client : NULL,
		.msg_namelen = is_enc ? sizeof(client) : 0,
	};
	uint16_t size = (uint16_t)payloads->iov_len;

	memcpy(CMSG_DATA(&control.header), &size, sizeof(size));
	(void)sendmsg(udp, &message, 0);
}

static void send_from_own_socket(const uint8_t *frame, size_t length)
{
	uint16_t port;

	memcpy(&port, frame + 4, sizeof(port));
	if (sockets[port] == 0)
		sockets[port] = connect_to(target[0], target[1]);
	(void)send(sockets[port], frame + HEADER, length, 0);
}

/* Whether one more of that length may be sent together with those gathered. */
static bool fits(const struct iovec *payloads, size_t count, size_t length)
{
	return count == 0 || (count < BATCH && length == payloads->iov_len && length > 0 &&
				     (count + 1) * length <= SEGMENTS_BYTES_MAX);
}

/* One read: runs of datagrams, straight from there. */
static void frames_to_datagrams(void)
{
	ssize_t got = read(STDIN_FILENO, buffer + filled, BUFFER - filled);
	struct iovec payloads[BATCH];
	size_t count = 0, at = 0;

	if (got <= 0)
		exit(0);
	filled += (size_t)got;
	while (filled - at >= HEADER) {
		uint16_t length;

		memcpy(&length, buffer + at + 6, sizeof(length));
		if (filled - at < HEADER + (size_t)length)
			break;
		if (has_sockets) {
			send_from_own_socket(buffer + at, length);
			at += HEADER + (size_t)length;
			continue;
		}
		if (!fits(payloads, count, length)) {
			send_segments(payloads, count);
			count = 0;
		}
		payloads[count++] = (struct iovec){buffer + at + HEADER, length};
		at += HEADER + (size_t)length;
	}
	if (count > 0)
		send_segments(payloads, count);
	filled -= at;
	memmove(buffer, buffer + at, filled);
}

int main(int argc, char **argv)
{
	has_sockets = argc > 1 && strcmp(argv[1], "-s") == 0;
	argv += 1 + has_sockets;
	argc -= 1 + has_sockets;
	if (argc != 3)
		errx(2, "floor [-s] enc | dec HOST PORT");
	is_enc = strcmp(argv[0], "enc") == 0;
	target = argv + 1;
	udp = is_enc ? bind_to(argv[1], argv[2]) : connect_to(argv[1], argv[2]);
	for (;;) {
		struct pollfd ready[] = {
			{.fd = udp, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

		poll(ready, 2, -1);
		if (ready[0].revents)
			datagrams_to_frames();
		if (ready[1].revents)
			frames_to_datagrams();
	}
}
