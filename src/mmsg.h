/*
 * recvmmsg(2), sendmmsg(2), UDP_SEGMENT and UDP_GRO where the system has them, as Linux does: many
 * datagrams a call. Elsewhere a call takes one datagram. Callers go on until nothing is left, so
 * only speed is lost.
 */
#ifndef MMSG_H
#define MMSG_H

#include <sys/socket.h>

#if defined(__linux__) && !defined(UOTT_PORTABLE)

#include <netinet/udp.h>

#if defined(UDP_SEGMENT) && defined(UDP_GRO)
#define SEGMENTS_MAX 64           /* datagrams sent in one message; newer kernels allow more */
#define SEGMENTS_RECEIVED_MAX 512 /* far more than any kernel puts into one */
#endif

typedef struct mmsghdr message_header;
#define receive_messages(fd, messages, count, flags) recvmmsg(fd, messages, count, flags, NULL)

static inline int send_messages(int fd, message_header *messages, unsigned int count, int flags)
{
	const struct msghdr *first = &messages->msg_hdr;

	/* One by itself costs less this way. */
	if (count == 1 && first->msg_iovlen == 1 && !first->msg_control)
		return sendto(fd, first->msg_iov->iov_base, first->msg_iov->iov_len, flags,
			       first->msg_name, first->msg_namelen) < 0
			       ? -1
			       : 1;
	return sendmmsg(fd, messages, count, flags);
}

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
#define SEGMENTS_RECEIVED_MAX 1
#endif

#endif
