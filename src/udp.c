#include "udp.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util.h"

enum {
	RECEIVE_BUFFER_SIZE = 4 * 1024 * 1024,
	BATCH_BYTES = 256 * 1024,   /* more than one message brings: the limit is never 0 */
	SEGMENTS_BYTES_MAX = 65000, /* in one message: a little less than the largest datagram */
	DESCRIPTORS_RESERVED = 16,  /* for the pipe, the loop, and the start of COMMAND */
};

static void set_option(int fd, int level, int option, int value)
{
	/* What these options improve works without them too, so a refusal is not an error. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

/*
 * How many datagrams the socket has had no room for. A call now and then costs less than
 * SO_RXQ_OVFL, which tells with every datagram and is for kernels before 4.12.
 */
static bool ask_for_drops(int fd, uint32_t *drops)
{
#if defined(SO_MEMINFO) && !defined(UOTT_PORTABLE)
	enum {
		DROPS = 8 /* SK_MEMINFO_DROPS of linux/sock_diag.h, which not every libc brings */
	};
	uint32_t info[DROPS + 1];
	socklen_t size = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size) == 0 && size == sizeof(info)) {
		*drops = info[DROPS];
		return true;
	}
#endif
	(void)fd;
	(void)drops;
	return false;
}

static int open_socket(int family)
{
#ifdef SOCK_CLOEXEC
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
#else
	int fd = socket(family, SOCK_DGRAM, 0);
#endif
	if (fd < 0)
		return -1;
#ifndef SOCK_CLOEXEC
	fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
#ifdef SO_RXQ_OVFL
	if (!ask_for_drops(fd, &(uint32_t){0}))
		set_option(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
#endif
#if SEGMENTS_MAX > 1
	set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
#endif
	return fd;
}

static int close_failed(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

static void ask_for_local_addresses(int fd, int family)
{
#ifdef IP_PKTINFO
	set_option(fd, IPPROTO_IP, IP_PKTINFO, 1); /* an IPv6 socket may have IPv4 clients */
#endif
#ifdef IPV6_RECVPKTINFO
	if (family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
#endif
	(void)family;
}

int udp_open_bound(const struct address *address, bool dual_stack)
{
	int family = address->any.sa_family;
	int fd = open_socket(family);

	if (fd < 0)
		return -1;
	set_option(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_SIZE);
#ifdef SO_RCVBUFFORCE
	set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_SIZE);
#endif
	if (family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual_stack);
	if (address_is_wildcard(address))
		ask_for_local_addresses(fd, family);
	if (bind(fd, &address->any, address_length(address)) != 0)
		return close_failed(fd);
	return fd;
}

/* Until it was connected, the socket took datagrams from anybody: they are not the target's. */
static void discard_strangers(int fd)
{
	uint8_t byte;

	while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
		;
}

static int open_connected(const struct address *target, const struct address *source)
{
	int fd = open_socket(target->any.sa_family);

	if (fd < 0)
		return -1;
	if (source && bind(fd, &source->any, address_length(source)) != 0)
		return close_failed(fd);
	if (connect(fd, &target->any, address_length(target)) != 0)
		return close_failed(fd);
	discard_strangers(fd);
	return fd;
}

static bool has_port_of(int fd, const struct address *target)
{
	struct address own;

	udp_bound_address(fd, &own);
	return address_port(&own) == address_port(target);
}

int udp_open_connected(const struct address *target, const struct address *source)
{
	int fd = open_connected(target, source), other;

	if (fd < 0 || !has_port_of(fd, target))
		return fd;
	other = open_connected(target, source); /* another port, as this one is still taken */
	close(fd);
	return other;
}

bool udp_has_source(int socket)
{
	struct address own;
	int other;

	udp_bound_address(socket, &own);
	address_set_port(&own, 0);
	other = udp_open_bound(&own, false);
	if (other < 0)
		return errno != EADDRNOTAVAIL;
	close(other);
	return true;
}

void udp_stop_receiving(int socket)
{
	set_option(socket, SOL_SOCKET, SO_RCVBUF, 0); /* the least that there is */
}

/* How many ports the system gives out to sockets that ask for none; SIZE_MAX: it does not say. */
static size_t local_ports(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
	size_t first = 0, last = 0;
	int found = 0;

	if (file) {
		found = fscanf(file, "%zu %zu", &first, &last);
		fclose(file);
	}
	return found == 2 && first <= last ? last - first + 1 : SIZE_MAX;
}

size_t udp_socket_limit(bool leave_ports)
{
	size_t ports = leave_ports ? max_size(local_ports() / 2, 1) : SIZE_MAX;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return ports;
	return min_size(ports,
		max_size((size_t)limit.rlim_cur, DESCRIPTORS_RESERVED + 1) - DESCRIPTORS_RESERVED);
}

void udp_bound_address(int socket, struct address *address)
{
	socklen_t length = sizeof(*address);

	memset(address, 0, sizeof(*address));
	(void)getsockname(socket, &address->any, &length);
}

void batch_init(struct batch *batch)
{
	batch->used = 0;
	batch->limit = BATCH_MAX;
	for (size_t i = 0; i < BATCH_MAX; i++) {
		struct datagram *datagram = &batch->datagrams[i];

		datagram->payload = batch->slots[i] + FRAME_HEADER_SIZE;
		batch->vectors[i] = (struct iovec){datagram->payload, UDP_PAYLOAD_MAX};
		batch->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &datagram->peer,
			.msg_iov = &batch->vectors[i],
			.msg_iovlen = 1,
			.msg_control = batch->controls[i],
		};
	}
}

bool batch_is_full(const struct batch *batch)
{
	return batch->used >= batch->limit;
}

/*
 * A batch of messages like the last ones holds about as much as the largest pipe. With more, the
 * reader of the pipe would wait for nothing, and the memory would have left the cache.
 */
static void fit_limit(struct batch *batch, size_t received, size_t bytes)
{
	batch->limit = bytes == 0 ? BATCH_MAX : min_size(received * BATCH_BYTES / bytes, BATCH_MAX);
}

static void set_local_ip4(struct local_address *local, struct in_addr ip)
{
	memset(&local->ip, 0, sizeof(local->ip));
	local->ip.s6_addr[10] = local->ip.s6_addr[11] = 0xff;
	memcpy(&local->ip.s6_addr[12], &ip, sizeof(ip));
}

/* A datagram to a group was not sent to an address of ours: the system chooses where from. */
static void set_local_ip6(struct local_address *local, const struct in6_pktinfo *info)
{
	if (IN6_IS_ADDR_MULTICAST(&info->ipi6_addr) || IN6_IS_ADDR_V4MAPPED(&info->ipi6_addr))
		return; /* for mapped addresses IP_PKTINFO says more */
	local->ip = info->ipi6_addr;
	if (IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr))
		local->interface = info->ipi6_ifindex;
}

#if SEGMENTS_MAX > 1
static void note_segments(struct datagram *datagram, int size)
{
	if (size <= 0 || size >= datagram->length)
		return;
	datagram->segment_size = (uint16_t)size;
	datagram->count = (uint16_t)((datagram->length + size - 1) / size);
}
#endif

/* There is room for the headers of so many only. No kernel known puts more into one message. */
static void cut_segments(struct datagram *datagram, struct counters *counters)
{
	if (datagram->count <= SEGMENTS_RECEIVED_MAX)
		return;
	counters->value[DROP_KERNEL] += datagram->count - SEGMENTS_RECEIVED_MAX;
	datagram->count = SEGMENTS_RECEIVED_MAX;
	datagram->length = (uint16_t)(SEGMENTS_RECEIVED_MAX * datagram->segment_size);
}

static void read_control(struct msghdr *message, struct datagram *datagram, uint32_t *kernel_drops)
{
	struct local_address *local = &datagram->local;
	struct cmsghdr *c;

	(void)kernel_drops; /* where the system does not tell */
	memset(local, 0, sizeof(*local));
	for (c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
#ifdef IP_PKTINFO
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			set_local_ip4(local, info.ipi_spec_dst);
		}
#endif
#ifdef IPV6_PKTINFO
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			set_local_ip6(local, &info);
		}
#endif
#ifdef SO_RXQ_OVFL
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
			memcpy(kernel_drops, CMSG_DATA(c), sizeof(*kernel_drops));
#endif
#if SEGMENTS_MAX > 1
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			int size;

			memcpy(&size, CMSG_DATA(c), sizeof(size));
			note_segments(datagram, size);
		}
#endif
	}
}

/* An earlier datagram came back (ICMP): the error belongs to that one, not to the socket. */
static bool tells_of_earlier_datagram(int error)
{
	return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH ||
	       error == EHOSTDOWN || error == ECONNRESET || error == EPROTO ||
	       error == ENOPROTOOPT || error == EACCES;
}

size_t udp_receive(
	int socket, struct batch *batch, uint32_t *kernel_drops, struct counters *counters)
{
	message_header *messages = batch->messages + batch->used;
	size_t room = batch->limit - batch->used, bytes = 0;
	uint32_t drops_before = *kernel_drops;
	int received;

	for (size_t i = 0; i < room; i++) {
		messages[i].msg_hdr.msg_namelen = sizeof(struct address);
		messages[i].msg_hdr.msg_controllen = CONTROL_SIZE;
	}
	received = receive_messages(socket, messages, (unsigned int)room, MSG_DONTWAIT);
	if (received < 0) {
		counters->value[REFUSED] += tells_of_earlier_datagram(errno) || errno == EMSGSIZE;
		return 0;
	}
	for (int i = 0; i < received; i++) {
		struct datagram *datagram = &batch->datagrams[batch->used++];

		datagram->length = datagram->segment_size = (uint16_t)messages[i].msg_len;
		datagram->count = 1;
		read_control(&messages[i].msg_hdr, datagram, kernel_drops);
		cut_segments(datagram, counters);
		counters->value[UDP_IN] += datagram->count;
		bytes += datagram->length;
	}
	counters->value[UDP_IN_BYTES] += bytes;
	if (received > 0)
		fit_limit(batch, (size_t)received, bytes);
	/* Only a socket with so much waiting can have dropped one. */
	if ((size_t)received == room || bytes >= BATCH_BYTES / 8)
		(void)ask_for_drops(socket, kernel_drops);
	counters->value[DROP_KERNEL] += *kernel_drops - drops_before;
	return (size_t)received;
}

static void add_control(struct msghdr *message, int level, int type, const void *data, size_t size)
{
	struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)message->msg_control +
					       message->msg_controllen);

	message->msg_controllen += CMSG_SPACE(size);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = (__typeof__(c->cmsg_len))CMSG_LEN(size); /* narrower on macOS */
	memcpy(CMSG_DATA(c), data, size);
}

/* Makes the datagram leave from `local` (ip(7), RFC 3542 section 6.2). */
static void set_local(struct msghdr *message, const struct local_address *local)
{
	if (IN6_IS_ADDR_V4MAPPED(&local->ip)) {
#ifdef IP_PKTINFO
		struct in_pktinfo info = {0};

		memcpy(&info.ipi_spec_dst, &local->ip.s6_addr[12], sizeof(info.ipi_spec_dst));
		add_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
#endif
	} else {
#ifdef IPV6_PKTINFO
		struct in6_pktinfo info = {
			.ipi6_addr = local->ip, .ipi6_ifindex = local->interface};

		add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
#endif
	}
}

/*
 * What the system call wants to be told about datagrams to send. Each message is one datagram, or a
 * run of them that the kernel takes apart.
 */
struct send_batch {
	message_header messages[BATCH_MAX];
	struct iovec vectors[BATCH_MAX];
	alignas(max_align_t) uint8_t controls[BATCH_MAX][CONTROL_SIZE];
};

/* How many of the datagrams, from the first on, may leave as one message. */
static size_t run_length(const struct outgoing *first, size_t count)
{
	size_t run = 1, bytes = first->length;

	if (first->length == 0 || first->length > *first->segment_max)
		return 1;
	while (run < min_size(count, SEGMENTS_MAX)) {
		const struct outgoing *next = &first[run];

		bytes += next->length;
		if (next->peer != first->peer || next->local != first->local || next->length == 0 ||
			next->length > first->length || bytes > SEGMENTS_BYTES_MAX)
			return run;
		run++;
		if (next->length < first->length) /* the last may be shorter */
			return run;
	}
	return run;
}

static void prepare(struct send_batch *batch, size_t message_index, size_t vector_index,
	const struct outgoing *datagrams, size_t run)
{
	struct msghdr *message = &batch->messages[message_index].msg_hdr;
	const struct outgoing *first = &datagrams[0];

	for (size_t i = 0; i < run; i++)
		batch->vectors[vector_index + i] = (struct iovec){
			(void *)(uintptr_t)datagrams[i].payload, datagrams[i].length};
	*message = (struct msghdr){
		.msg_iov = &batch->vectors[vector_index],
		.msg_control = batch->controls[message_index],
	};
	message->msg_iovlen =
		(__typeof__(message->msg_iovlen))run; /* int in POSIX, size_t in glibc */
	if (first->peer) {
		message->msg_name = (void *)(uintptr_t)first->peer;
		message->msg_namelen = address_length(first->peer);
	}
	if (first->local && !IN6_IS_ADDR_UNSPECIFIED(&first->local->ip))
		set_local(message, first->local);
#if SEGMENTS_MAX > 1
	if (run > 1)
		add_control(
			message, IPPROTO_UDP, UDP_SEGMENT, &first->length, sizeof(first->length));
#endif
	if (message->msg_controllen == 0)
		message->msg_control = NULL;
}

/* What the kernel, the device or the path refuses to take apart will not be tried again. */
static void learn_limit(int error, uint16_t length, uint16_t *segment_max)
{
	if (error == EINVAL || error == EMSGSIZE)
		*segment_max = (uint16_t)(length - 1); /* it may not be cut into fragments, too */
	else if (error == EIO)
		*segment_max = 0;
}

/* A message failed. Returns whether to try again: the error may tell of an earlier datagram. */
static bool note_send_error(bool is_second_try, struct counters *counters)
{
	if (errno == EAGAIN || is_second_try)
		return false;
	counters->value[REFUSED] += tells_of_earlier_datagram(errno);
	return true;
}

static void count_sent(const struct outgoing *datagrams, size_t count, struct counters *counters)
{
	counters->value[UDP_OUT] += count;
	for (size_t i = 0; i < count; i++)
		counters->value[UDP_OUT_BYTES] += datagrams[i].length;
}

/* Runs leave as one message, if they may (`in_runs`). */
static void send_datagrams(int socket, const struct outgoing *datagrams, size_t count, bool in_runs,
	struct counters *counters)
{
	struct send_batch batch;
	size_t message_count = 0, message = 0, done = 0, sent_again = SIZE_MAX;

	for (size_t i = 0, run; i < count; i += run) {
		run = in_runs ? run_length(&datagrams[i], count - i) : 1;
		prepare(&batch, message_count++, i, &datagrams[i], run);
	}
	while (message < message_count) {
		size_t run = (size_t)batch.messages[message].msg_hdr.msg_iovlen;
		int sent = send_messages(socket, batch.messages + message,
			(unsigned int)(message_count - message), MSG_DONTWAIT);

		for (int i = 0; i < sent; i++) {
			run = (size_t)batch.messages[message++].msg_hdr.msg_iovlen;
			count_sent(&datagrams[done], run, counters);
			done += run;
		}
		if (sent > 0)
			continue;
		if (note_send_error(sent_again == done, counters)) {
			sent_again = done;
			continue;
		}
		if (run > 1) {
			learn_limit(errno, datagrams[done].length, datagrams[done].segment_max);
			send_datagrams(socket, datagrams + done, run, false, counters);
		} else {
			counters->value[errno == EMSGSIZE ? DROP_TOO_BIG : DROP_SEND_FAILED]++;
		}
		done += run;
		message++;
	}
}

void udp_send(int socket, const struct outgoing *datagrams, size_t count, struct counters *counters)
{
	assert(count <= BATCH_MAX);
	send_datagrams(socket, datagrams, count, true, counters);
}
