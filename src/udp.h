/*
 * UDP sockets: opening them, and receiving and sending datagrams in batches. Errors of single
 * datagrams are counted here and never end anything.
 */
#ifndef UDP_H
#define UDP_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "counters.h"
#include "frame.h"
#include "mmsg.h"

enum {
	BATCH_MAX = 64,
	UDP_PAYLOAD_MAX = 65535,
	/* Apart from the headers of frames, room that keeps slots from sharing cache sets. */
	BATCH_SLOT_SIZE = UDP_PAYLOAD_MAX + SEGMENTS_RECEIVED_MAX * FRAME_HEADER_SIZE + 1 + 192,
	CONTROL_SIZE = 128, /* more than what a message tells besides its bytes; aligned */
};

/*
 * A datagram received, or a run of them from one peer, which the system has put into one message:
 * then each has segment_size bytes but for the last, which may have less. `payload` has
 * FRAME_HEADER_SIZE writable bytes for each of them, one in front of it and the others behind.
 */
struct datagram {
	struct address peer;
	struct local_address local;
	uint8_t *payload;
	uint16_t length; /* of all together */
	uint16_t segment_size;
	uint16_t count;
};

/* Datagrams received and not yet passed on. No heap; about 4 MiB of which only used pages count. */
struct batch {
	size_t used;
	size_t limit; /* so many at once: fewer where they are large */
	struct datagram datagrams[BATCH_MAX];
	message_header messages[BATCH_MAX];
	struct iovec vectors[BATCH_MAX];
	alignas(max_align_t) uint8_t controls[BATCH_MAX][CONTROL_SIZE];
	uint8_t slots[BATCH_MAX][BATCH_SLOT_SIZE];
};

/* A datagram to be sent. */
struct outgoing {
	const struct address *peer;        /* NULL on a connected socket */
	const struct local_address *local; /* where it must come from; NULL: the system decides */
	uint16_t *segment_max;             /* of the peer: see udp_send() */
	const uint8_t *payload;
	uint16_t length;
};

/*
 * Opens a socket bound to `address`, with a large receive buffer. With `dual_stack`, an IPv6
 * wildcard takes IPv4 too. Where the address is a wildcard, received datagrams tell their local
 * address. Returns the descriptor, or -1 with errno.
 */
int udp_open_bound(const struct address *address, bool dual_stack);

/*
 * Opens a socket that exchanges datagrams with `target` alone, from the host address `source`
 * unless that is NULL. It never has the target's own port: on the target's host it would answer
 * itself, and keep the service from its port. Returns the descriptor, or -1 with errno; EAGAIN or
 * EADDRINUSE: no local port is free.
 */
int udp_open_connected(const struct address *target, const struct address *source);

/* Whether the host has the address that the socket sends from. Also true if nothing can tell. */
bool udp_has_source(int socket);

/* The socket is only kept for its port: lets it hold hardly anything. */
void udp_stop_receiving(int socket);

/*
 * How many sockets this program may have at once: the limit of descriptors less some for other
 * things; leave_ports: half of the host's local ports at most.
 */
size_t udp_socket_limit(bool leave_ports);

/* Stores the address that the socket is bound to. */
void udp_bound_address(int socket, struct address *address);

void batch_init(struct batch *batch);

/* Whether the batch must be emptied before more can be received. */
bool batch_is_full(const struct batch *batch);

/*
 * Receives what waits on the socket, without blocking, behind the batch's other datagrams and as
 * far as there is room. Returns how many entries of the batch it took. Counts datagrams, errors,
 * and by the change against *kernel_drops those that the kernel had no room for.
 */
size_t udp_receive(
	int socket, struct batch *batch, uint32_t *kernel_drops, struct counters *counters);

/*
 * Sends up to BATCH_MAX datagrams without blocking. One that cannot be sent is dropped and counted;
 * one whose send only told of an earlier refusal (ICMP) is sent again once. Neighbours of one
 * length, whose `peer` and `local` are the same pointers, leave as one where that works: for
 * lengths up to *segment_max, which starts as UINT16_MAX and becomes less when the system or the
 * path to that peer refuses.
 */
void udp_send(
	int socket, const struct outgoing *datagrams, size_t count, struct counters *counters);

#endif
