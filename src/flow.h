/*
 * The flows of one stream: client address <-> tag <-> socket. enc adds and finds a flow by its
 * client, dec by its tag; no table has both. The table owns its flows: a pointer to a flow is valid
 * until flow_remove() or flow_table_free().
 *
 * Times are in microseconds on a clock that never goes back. Pure: no descriptor, no clock, no log.
 */
#ifndef FLOW_H
#define FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "tags.h"

/*
 * What tells the clients of a service apart in enc. Datagrams of one peer to two local addresses
 * are from two clients: each gets its replies from the address that it wrote to.
 */
struct client {
	struct address peer;
	struct local_address local;
};

struct flow {
	/* Public. Read only, except what the caller sets. */
	bool has_tag; /* false from flow_forget_tags() until flow_give_tag() */
	uint16_t tag;
	uint16_t service;     /* enc: 0 to n - 1; dec: set by the caller */
	uint16_t segment_max; /* enc: set by the caller, as for udp_send() */
	union {
		struct client client; /* enc */
		struct {              /* dec: set and owned by the caller */
			int socket;
			uint32_t kernel_drops; /* as for udp_receive() */
			uint64_t source_checked_us;
		};
	};

	uint64_t last_used_us; /* set by this module */

	/* Private. */
	struct flow *newer, *older; /* in the order of last use */
	struct flow *next_in_bucket;
};

/* Private, but for `tags`. 1.5 MB of address space; only pages that are used count. */
struct flow_table {
	size_t count;
	struct flow *by_tag[TAGS];
	struct flow *newest, *oldest;
	struct flow **buckets; /* owned: by the hash of the client; none in dec */
	size_t bucket_count;   /* a power of two, or 0 */
	uint8_t hash_key[16];  /* enc: random, so that clients cannot choose their bucket */
	struct tags tags;      /* enc: all functions of tags.h may be called but tags_init() */
};

/* Makes an empty table of zeroed memory. `counts_down` and `services` are as for tags_init(). */
void flow_table_init(struct flow_table *table, bool counts_down, uint16_t services,
	const uint8_t hash_key[static 16]);

/* Frees all flows, and closes no socket. No flow is added to the empty table any more. */
void flow_table_free(struct flow_table *table);

/* Returns the number of flows. */
size_t flow_count(const struct flow_table *table);

/* Returns the flow that has been idle longest; NULL without flows. */
struct flow *flow_oldest(const struct flow_table *table);

/* Returns NULL if no flow has this tag. */
struct flow *flow_find_tag(const struct flow_table *table, uint16_t tag);

/*
 * enc: finds the flow of a client of a service, or NULL, by the hash of both. The hash is the same
 * for the life of the table. Hash a whole batch before the first search: that fetches the buckets.
 */
uint64_t flow_hash_client(
	const struct flow_table *table, const struct client *client, uint16_t service);
struct flow *flow_find_client(const struct flow_table *table, const struct client *client,
	uint16_t service, uint64_t hash);

/* enc: adds a flow for a client that has none. Returns NULL if no tag is free, or no memory. */
struct flow *flow_add_client(
	struct flow_table *table, const struct client *client, uint16_t service, uint64_t now_us);

/* dec: adds a flow under a tag that has none. Returns NULL without memory. */
struct flow *flow_add_tag(struct flow_table *table, uint16_t tag, uint64_t now_us);

/* A datagram of the flow went by, in either direction: the flow is the newest now. */
void flow_touch(struct flow_table *table, struct flow *flow, uint64_t now_us);

/*
 * Removes the flow and frees it. dec: closes no socket. enc: the tag stays in use until the caller
 * gives it to tags_free() or tags_close().
 */
void flow_remove(struct flow_table *table, struct flow *flow);

/*
 * enc: a new stream begins, in which all tags are new. The flows stay, without tags. Stores in
 * `former`, by tag, the flow that had it or NULL.
 */
void flow_forget_tags(struct flow_table *table, struct flow *former[static TAGS]);

/* enc: takes a tag for a flow that has none. Returns false if no tag is free. */
bool flow_give_tag(struct flow_table *table, struct flow *flow, uint64_t now_us);

/*
 * Returns the flow that has been idle longest if that is `idle_timeout_us` or more, else NULL. RFC
 * 4787, REQ-5 asks for an idle timeout of two minutes or more, and recommends five.
 */
struct flow *flow_find_idle(
	const struct flow_table *table, uint64_t now_us, uint64_t idle_timeout_us);

/*
 * Returns when to call flow_find_idle() again: when the next flow can be idle that long, but after
 * a second at the earliest if the idle timeout is longer. UINT64_MAX without flows.
 */
uint64_t flow_next_check(const struct flow_table *table, uint64_t now_us, uint64_t idle_timeout_us);

#endif
