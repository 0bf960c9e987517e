/*
 * How this works: each flow is in up to three structures at once: an array by tag, a list in the
 * order of last use, and in enc a hash table by client with a chain of flows in each bucket. To
 * find, add, touch or remove a flow takes constant time on average.
 */
#include "flow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "siphash.h"
#include "util.h"

enum {
	BUCKETS_MIN = 64
};
static_assert((BUCKETS_MIN & (BUCKETS_MIN - 1)) == 0, "bucket_of() needs a power of two");

void flow_table_init(struct flow_table *table, bool counts_down, uint16_t services,
	const uint8_t hash_key[static 16])
{
	tags_init(&table->tags, counts_down, services);
	memcpy(table->hash_key, hash_key, sizeof(table->hash_key));
}

void flow_table_free(struct flow_table *table)
{
	for (struct flow *flow = table->newest, *older; flow; flow = older) {
		older = flow->older;
		flow_remove(table, flow);
	}
	free(table->buckets);
}

size_t flow_count(const struct flow_table *table)
{
	return table->count;
}

struct flow *flow_oldest(const struct flow_table *table)
{
	return table->oldest;
}

struct flow *flow_find_tag(const struct flow_table *table, uint16_t tag)
{
	return table->by_tag[tag];
}

/* Hashes what is_of_client() compares, and nothing else. */
static uint64_t hash_ip6(
	const struct flow_table *table, const struct client *client, uint16_t service)
{
	struct {
		struct in6_addr peer, local;
		uint32_t scope, interface;
		uint16_t port, service;
	} key = {
		.peer = client->peer.v6.sin6_addr,
		.local = client->local.ip,
		.scope = client->peer.v6.sin6_scope_id,
		.interface = client->local.interface,
		.port = client->peer.v6.sin6_port,
		.service = service,
	};

	static_assert(sizeof(key) == 44, "padding would be hashed too");
	return siphash(table->hash_key, &key, sizeof(key));
}

/* A short key for speed. The local address is an IPv4 address too: its last four bytes tell all. */
static uint64_t hash_ip4(
	const struct flow_table *table, const struct client *client, uint16_t service)
{
	struct {
		struct in_addr peer, local;
		uint32_t interface;
		uint16_t port, service;
	} key = {
		.peer = client->peer.v4.sin_addr,
		.interface = client->local.interface,
		.port = client->peer.v4.sin_port,
		.service = service,
	};

	static_assert(sizeof(key) == 16, "padding would be hashed too");
	memcpy(&key.local, &client->local.ip.s6_addr[12], sizeof(key.local));
	return siphash(table->hash_key, &key, sizeof(key));
}

static struct flow **bucket_of(const struct flow_table *table, uint64_t hash)
{
	return &table->buckets[hash & (table->bucket_count - 1)];
}

uint64_t flow_hash_client(
	const struct flow_table *table, const struct client *client, uint16_t service)
{
	bool is_ip6 = client->peer.any.sa_family == AF_INET6;
	uint64_t hash = is_ip6 ? hash_ip6(table, client, service)
			       : hash_ip4(table, client, service);

#ifdef __GNUC__
	if (table->bucket_count > 0)
		__builtin_prefetch(bucket_of(table, hash));
#endif
	return hash;
}

static bool is_of_client(const struct flow *flow, const struct client *client, uint16_t service)
{
	return flow->service == service && address_equal(&flow->client.peer, &client->peer) &&
	       local_address_equal(&flow->client.local, &client->local);
}

struct flow *flow_find_client(const struct flow_table *table, const struct client *client,
	uint16_t service, uint64_t hash)
{
	struct flow *flow = table->newest;

	if (!flow || is_of_client(flow, client, service)) /* likely: datagrams come in runs */
		return flow;
	flow = *bucket_of(table, hash);
	while (flow && !is_of_client(flow, client, service))
		flow = flow->next_in_bucket;
	return flow;
}

static uint64_t hash_of(const struct flow_table *table, const struct flow *flow)
{
	return flow_hash_client(table, &flow->client, flow->service);
}

static void bucket_insert(struct flow_table *table, struct flow *flow)
{
	struct flow **bucket = bucket_of(table, hash_of(table, flow));

	flow->next_in_bucket = *bucket;
	*bucket = flow;
}

static void bucket_remove(struct flow_table *table, struct flow *flow)
{
	struct flow **link = bucket_of(table, hash_of(table, flow));

	while (*link != flow)
		link = &(*link)->next_in_bucket;
	*link = flow->next_in_bucket;
}

/* Makes room for one more flow: as many buckets as flows. Without memory chains get longer. */
static bool make_buckets(struct flow_table *table)
{
	size_t count = table->bucket_count > 0 ? 2 * table->bucket_count : BUCKETS_MIN;
	struct flow **buckets;

	if (table->count < table->bucket_count)
		return true;
	buckets = calloc(count, sizeof(struct flow *));
	if (!buckets)
		return table->bucket_count > 0;
	free(table->buckets);
	table->buckets = buckets;
	table->bucket_count = count;
	for (struct flow *flow = table->newest; flow; flow = flow->older)
		bucket_insert(table, flow);
	return true;
}

static void list_insert_newest(struct flow_table *table, struct flow *flow)
{
	flow->newer = NULL;
	flow->older = table->newest;
	if (table->newest)
		table->newest->newer = flow;
	else
		table->oldest = flow;
	table->newest = flow;
}

static void list_remove(struct flow_table *table, struct flow *flow)
{
	if (flow->newer)
		flow->newer->older = flow->older;
	else
		table->newest = flow->older;
	if (flow->older)
		flow->older->newer = flow->newer;
	else
		table->oldest = flow->newer;
}

static void set_tag(struct flow_table *table, struct flow *flow, uint16_t tag)
{
	assert(!table->by_tag[tag]);
	flow->has_tag = true;
	flow->tag = tag;
	table->by_tag[tag] = flow;
}

static void insert(struct flow_table *table, struct flow *flow, uint64_t now_us)
{
	flow->last_used_us = now_us;
	list_insert_newest(table, flow);
	table->count++;
}

struct flow *flow_add_tag(struct flow_table *table, uint16_t tag, uint64_t now_us)
{
	struct flow *flow = calloc(1, sizeof(*flow));

	if (!flow)
		return NULL;
	set_tag(table, flow, tag);
	insert(table, flow, now_us);
	return flow;
}

bool flow_give_tag(struct flow_table *table, struct flow *flow, uint64_t now_us)
{
	int32_t tag = tags_take(&table->tags, flow->service, now_us);

	if (tag >= 0)
		set_tag(table, flow, (uint16_t)tag);
	return tag >= 0;
}

void flow_forget_tags(struct flow_table *table, struct flow *former[static TAGS])
{
	memcpy(former, table->by_tag, sizeof(table->by_tag));
	memset(table->by_tag, 0, sizeof(table->by_tag));
	for (struct flow *flow = table->newest; flow; flow = flow->older)
		flow->has_tag = false;
	tags_begin_anew(&table->tags);
}

/* The memory first: a tag that is given back is not new any more, and dec knows us by the first. */
struct flow *flow_add_client(
	struct flow_table *table, const struct client *client, uint16_t service, uint64_t now_us)
{
	struct flow *flow = make_buckets(table) ? calloc(1, sizeof(*flow)) : NULL;

	if (!flow)
		return NULL;
	flow->service = service;
	if (!flow_give_tag(table, flow, now_us)) {
		free(flow);
		return NULL;
	}
	insert(table, flow, now_us);
	flow->client = *client;
	bucket_insert(table, flow);
	return flow;
}

struct flow *flow_find_idle(
	const struct flow_table *table, uint64_t now_us, uint64_t idle_timeout_us)
{
	struct flow *oldest = table->oldest;

	return oldest && now_us - oldest->last_used_us >= idle_timeout_us ? oldest : NULL;
}

uint64_t flow_next_check(const struct flow_table *table, uint64_t now_us, uint64_t idle_timeout_us)
{
	uint64_t soonest_us = now_us + min_u64(idle_timeout_us, US_PER_SECOND);

	if (!table->oldest)
		return UINT64_MAX;
	return max_u64(soonest_us, table->oldest->last_used_us + idle_timeout_us);
}

void flow_touch(struct flow_table *table, struct flow *flow, uint64_t now_us)
{
	flow->last_used_us = now_us;
	if (table->newest == flow)
		return;
	list_remove(table, flow);
	list_insert_newest(table, flow);
}

void flow_remove(struct flow_table *table, struct flow *flow)
{
	list_remove(table, flow);
	if (table->bucket_count > 0)
		bucket_remove(table, flow);
	if (flow->has_tag)
		table->by_tag[flow->tag] = NULL;
	table->count--;
	free(flow);
}
