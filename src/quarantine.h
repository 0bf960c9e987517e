/*
 * Sockets that no flow has any more and that keep their ports for a while. A target may still
 * answer a port: if the system gave it to the next flow at once, that flow would get the answer.
 * Pure: it holds numbers of descriptors, and the owner closes them.
 *
 * Times are in microseconds on a clock that never goes back.
 */
#ifndef QUARANTINE_H
#define QUARANTINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

enum {
	/*
	 * So long after its last datagram a flow may still be answered. It is the time that
	 * resolvers wait for an answer (resolv.conf(5)), and more than the round trip of any usual
	 * path. A NAT keeps a mapping, and so its port, much longer (RFC 4787, REQ-5: 2 minutes at
	 * least), but it has no other way to know that a flow is over. RFC 6056 asks not to use a
	 * port again soon.
	 */
	QUARANTINE_US = 5 * US_PER_SECOND
};

struct quarantine {
	struct detained {
		int socket;
		uint64_t until_us;
	} * ring; /* owned */
	size_t capacity, first, count;
};

/* An empty quarantine is zeroed memory. Frees the memory; sockets in it are not closed. */
void quarantine_free(struct quarantine *quarantine);

/* Detains a socket from `now_us` on. Returns false without memory: it may be closed at once then.
 */
bool quarantine_add(struct quarantine *quarantine, int socket, uint64_t now_us);

size_t quarantine_count(const struct quarantine *quarantine);

/* When quarantine_take() may return the next socket; UINT64_MAX: never. */
uint64_t quarantine_deadline_us(const struct quarantine *quarantine);

/* Takes out a socket whose time is over, to be closed. Returns -1 if there is none. */
int quarantine_take(struct quarantine *quarantine, uint64_t now_us);

#endif
