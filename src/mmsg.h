/*
 * recvmmsg(2), sendmmsg(2) and UDP_SEGMENT, as far as the system has them (Linux does): many
 * datagrams a call. Elsewhere one a call; who calls goes on until nothing is left, so only speed is
 * lost.
 */
#ifndef MMSG_H
#define MMSG_H

#include <sys/socket.h>

#if defined(__linux__) && !defined(UOTT_PORTABLE)

#include <netinet/udp.h>

#ifdef UDP_SEGMENT
#define SEGMENTS_MAX 64 /* datagrams in one message; the kernel's limit */
#endif

typedef struct mmsghdr message_header;
#define receive_messages(fd, messages, count, flags) recvmmsg(fd, messages, count, flags, NULL)
#define send_messages sendmmsg

#else

typedef struct {
	struct msghdr msg_hdr;
	unsigned int msg_len;
} message_header;

static inline int receive_messages(int fd, message_header *messages, unsigned int count, int flags)
{
	unsigned int done;

	for (done = 0; done < count; done++) {
		ssize_t length = recvmsg(fd, &messages[done].msg_hdr, flags);

		if (length < 0)
			return done > 0 ? (int)done : -1;
		messages[done].msg_len = (unsigned int)length;
	}
	return (int)done;
}

static inline int send_messages(int fd, message_header *messages, unsigned int count, int flags)
{
	(void)count;
	return sendmsg(fd, &messages->msg_hdr, flags) < 0 ? -1 : 1;
}

#endif

#ifndef SEGMENTS_MAX
#define SEGMENTS_MAX 1
#endif

#endif
