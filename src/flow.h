/*
 * The flows of one stream: client address <-> tag <-> socket. enc finds a flow by its client, dec
 * by its tag; both know which one has been idle longest. Pure: time is an argument.
 */
#ifndef FLOW_H
#define FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "tags.h"

/*
 * A client as enc tells clients apart: two of the same address and port that came in on two local
 * addresses are two clients.
 */
struct client {
	struct address peer;
	struct local_address local;
};

struct flow {
	bool has_tag; /* not after flow_forget_tags() */
	uint16_t tag;
	uint64_t last_used_us;
	union {
		struct { /* enc */
			struct client client;
			uint16_t segment_max; /* of that client, as udp_send() has it */
		};
		struct { /* dec; the descriptor is owned by who added the flow */
			int socket;
			uint32_t kernel_drops; /* as udp_receive() counts them */
		};
	};
	struct flow *newer, *older; /* in the order of last use */
	struct flow *next_in_bucket;
};

struct flow_table {
	size_t count;
	struct flow *by_tag[TAGS];
	struct flow *newest, *oldest;
	struct flow **buckets; /* hash table by client; owned */
	size_t bucket_count;   /* a power of two */
	uint8_t hash_key[16];
	struct tags tags; /* enc */
};

/*
 * Makes an empty table of zeroed memory. The key is to be random, so that clients cannot choose
 * their bucket.
 */
void flow_table_init(struct flow_table *table, bool counts_down, const uint8_t hash_key[static 16]);

/* Frees all flows, and ends the use of the table; descriptors in them are not closed. */
void flow_table_free(struct flow_table *table);

/* The number of flows. */
size_t flow_count(const struct flow_table *table);

/* The flow that has been idle longest; NULL without flows. */
struct flow *flow_oldest(const struct flow_table *table);

struct flow *flow_find_tag(const struct flow_table *table, uint16_t tag);

/*
 * What flow_find_client() needs to know of a client. Asked for all of a batch before the first is
 * looked for, the memory that will be looked at is on its way meanwhile.
 */
uint64_t flow_hash_client(const struct flow_table *table, const struct client *client);
struct flow *flow_find_client(
	const struct flow_table *table, const struct client *client, uint64_t hash);

/*
 * enc: adds a flow for a client that has none, under a tag of its own. Returns NULL when no tag is
 * free or no memory.
 */
struct flow *flow_add_client(
	struct flow_table *table, const struct client *client, uint64_t now_us);

/* dec: adds a flow under a tag that has none. Returns NULL without memory. */
struct flow *flow_add_tag(struct flow_table *table, uint16_t tag, uint64_t now_us);

/* A datagram of the flow went by, in either direction. */
void flow_touch(struct flow_table *table, struct flow *flow, uint64_t now_us);

/*
 * Forgets the flow and frees it; the descriptor in it is not closed. In enc its tag is not given
 * out again before tags_free() or tags_close().
 */
void flow_remove(struct flow_table *table, struct flow *flow);

/*
 * enc: a new stream begins, in which all tags are new. The flows stay, without tags; `former` says
 * which had which.
 */
void flow_forget_tags(struct flow_table *table, struct flow *former[static TAGS]);

/* enc: gives a tag to a flow that has none. Returns false when no tag is free. */
bool flow_give_tag(struct flow_table *table, struct flow *flow, uint64_t now_us);

/*
 * Returns the flow that has been idle longest if that is `idle_timeout_us` or more, else NULL.
 */
struct flow *flow_find_idle(
	const struct flow_table *table, uint64_t now_us, uint64_t idle_timeout_us);

/*
 * Returns when flow_find_idle() is to be asked again: when the next flow can be idle, but at most
 * once a second, or UINT64_MAX without flows.
 */
uint64_t flow_next_check(const struct flow_table *table, uint64_t now_us, uint64_t idle_timeout_us);

#endif
