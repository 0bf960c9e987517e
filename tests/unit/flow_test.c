#include "flow.h"

#include <arpa/inet.h>

#include "check.h"

enum {
	IDLE_US = 300 * 1000 * 1000,
	START_US = 1000,
};

static struct flow_table table;

/* --- helpers ------------------------------------------------------------------------------- */

static void setup(bool counts_down)
{
	static const uint8_t key[16] = "any sixteen byte";

	memset(&table, 0, sizeof(table));
	flow_table_init(&table, counts_down, key);
}

/* Where fields are not set there is `filler`, as in memory that was used before. */
static struct client client_v4(uint32_t ip, uint16_t port, uint8_t filler)
{
	struct client client;

	memset(&client, filler, sizeof(client));
	client.peer.v4.sin_family = AF_INET;
	client.peer.v4.sin_addr.s_addr = htonl(ip);
	client.peer.v4.sin_port = htons(port);
	memset(&client.local, 0, sizeof(client.local));
	return client;
}

static struct client client_v6(const char *ip, uint16_t port, uint32_t scope, uint8_t filler)
{
	struct client client;

	memset(&client, filler, sizeof(client));
	client.peer.v6.sin6_family = AF_INET6;
	client.peer.v6.sin6_port = htons(port);
	client.peer.v6.sin6_scope_id = scope;
	CHECK(inet_pton(AF_INET6, ip, &client.peer.v6.sin6_addr) == 1);
	memset(&client.local, 0, sizeof(client.local));
	return client;
}

static struct client with_local(struct client client, const char *ip, uint32_t interface)
{
	CHECK(inet_pton(AF_INET6, ip, &client.local.ip) == 1);
	client.local.interface = interface;
	return client;
}

/* One of many clients. */
static struct client client_number(uint32_t number)
{
	return client_v4(0x0a000000 + number / 1000, (uint16_t)(1024 + number % 1000), 0);
}

static struct flow *add(uint32_t number, uint64_t now_us)
{
	struct client client = client_number(number);

	return flow_add_client(&table, &client, now_us);
}

static struct flow *find_client(const struct client *client)
{
	return flow_find_client(&table, client, flow_hash_client(&table, client));
}

static struct flow *find(uint32_t number)
{
	struct client client = client_number(number);

	return find_client(&client);
}

/* -1: no flow, or one without a tag. */
static int tag_of(const struct flow *flow)
{
	return flow && flow->has_tag ? flow->tag : -1;
}

/* Adds as many flows as there are tags, for the clients from 0 on, one each microsecond. */
static void use_all_tags(void)
{
	for (uint32_t i = 0; i < TAGS; i++)
		if (!CHECK(add(i, START_US + i)))
			exit(EXIT_FAILURE);
}

/* Whether the list in the order of use is whole, in both directions. */
static bool list_is_whole(void)
{
	size_t count = 0;

	for (struct flow *flow = table.newest; flow; flow = flow->older, count++) {
		if (!CHECK(flow->newer ? flow->newer->older == flow : table.newest == flow) ||
			!CHECK(flow->older ? flow->older->newer == flow : table.oldest == flow) ||
			!CHECK(!flow->has_tag || flow_find_tag(&table, flow->tag) == flow) ||
			!CHECK(!flow->older || flow->older->last_used_us <= flow->last_used_us))
			return false;
	}
	return CHECK_NUMBER(count, table.count);
}

/* Whether `count` flows, oldest first, have these tags. */
static void check_order(const uint16_t *tags, size_t count)
{
	struct flow *flow = table.oldest;

	for (size_t i = 0; i < count; i++, flow = flow->newer)
		if (!CHECK(flow) || !CHECK_NUMBER(flow->tag, tags[i]))
			return;
	CHECK(!flow);
	list_is_whole();
}

/* --- tags ---------------------------------------------------------------------------------- */

static void tags_count_down(void)
{
	setup(true);
	for (uint32_t i = 0; i < 1000; i++)
		CHECK_NUMBER(tag_of(add(i, START_US)), 65535 - i);
	flow_table_free(&table);
}

static void tags_count_up(void)
{
	setup(false);
	for (uint32_t i = 0; i < 1000; i++)
		CHECK_NUMBER(tag_of(add(i, START_US)), i);
	flow_table_free(&table);
}

static void every_tag_is_used(bool counts_down)
{
	setup(counts_down);
	use_all_tags();
	CHECK_NUMBER(table.count, TAGS);
	for (uint32_t tag = 0; tag < TAGS; tag++) {
		struct flow *flow = flow_find_tag(&table, (uint16_t)tag);

		if (!CHECK(flow) || !CHECK_NUMBER(flow->tag, tag) ||
			!CHECK(find(counts_down ? 65535 - tag : tag) == flow))
			break;
	}
	list_is_whole();
	flow_table_free(&table);
}

static void every_tag_is_used_once(void)
{
	every_tag_is_used(true);
	every_tag_is_used(false);
}

static void all_tags_busy(void)
{
	setup(true);
	use_all_tags();
	CHECK(!add(TAGS, START_US + TAGS));
	CHECK(!add(TAGS, START_US + 100 * (uint64_t)IDLE_US));
	CHECK(!find(TAGS));
	CHECK_NUMBER(table.count, TAGS);
	CHECK_NUMBER(tag_of(find(0)), 65535);
	list_is_whole();
	flow_table_free(&table);
}

/* As enc does it. Returns whether a flow had been idle long enough. */
static bool expire_one(uint64_t now_us)
{
	struct flow *flow = flow_find_idle(&table, now_us, IDLE_US);
	uint16_t tag;

	if (!flow)
		return false;
	tag = flow->tag;
	flow_remove(&table, flow);
	tags_free(&table.tags, tag);
	return true;
}

static void flows_expire_in_the_order_of_use(void)
{
	setup(true);
	CHECK(!flow_find_idle(&table, UINT64_MAX, 0));
	for (uint32_t i = 0; i < 3; i++)
		add(i, START_US + i);
	flow_touch(&table, find(0), START_US + 10);
	CHECK(!flow_find_idle(&table, START_US + IDLE_US, IDLE_US));
	CHECK(flow_find_idle(&table, START_US + 1 + IDLE_US, IDLE_US) == find(1));
	CHECK(expire_one(START_US + 1 + IDLE_US));
	CHECK(!expire_one(START_US + 1 + IDLE_US));
	CHECK(expire_one(START_US + 10 + IDLE_US) && !find(2) && find(0));
	CHECK(expire_one(START_US + 10 + IDLE_US) && table.count == 0);
	flow_table_free(&table);
}

static void new_tags_come_before_used_ones(void)
{
	setup(false);
	for (uint32_t i = 0; i < TAGS; i++) {
		if (!CHECK_NUMBER(tag_of(add(i, START_US)), i))
			break;
		expire_one(START_US + IDLE_US);
	}
	CHECK_NUMBER(table.count, 0);
	flow_table_free(&table);
}

static void freed_tags_are_used_in_the_order_of_freeing(void)
{
	setup(true);
	use_all_tags();
	for (uint32_t i = 0; i < 10; i++)
		CHECK(expire_one(START_US + TAGS + IDLE_US));
	for (uint32_t i = 0; i < 10; i++)
		CHECK_NUMBER(tag_of(add(TAGS + i, START_US + TAGS + IDLE_US)), 65535 - i);
	CHECK(!add(2 * TAGS, START_US + TAGS + IDLE_US));
	list_is_whole();
	flow_table_free(&table);
}

static void tag_not_freed_is_not_used(void)
{
	setup(true);
	use_all_tags();
	flow_remove(&table, find(0));
	CHECK(!add(TAGS, START_US));
	tags_free(&table.tags, 65535);
	CHECK_NUMBER(tag_of(add(TAGS, START_US)), 65535);
	flow_table_free(&table);
}

static void tags_are_reused_for_ever(void)
{
	setup(true);
	use_all_tags();
	for (uint32_t i = 0; i < 3 * TAGS; i++) {
		uint64_t now_us = START_US + TAGS + (1 + i / TAGS) * (uint64_t)IDLE_US + i;

		if (!CHECK(expire_one(now_us)) ||
			!CHECK_NUMBER(tag_of(add(TAGS + i, now_us)), 65535 - i % TAGS))
			break;
	}
	CHECK_NUMBER(table.count, TAGS);
	list_is_whole();
	flow_table_free(&table);
}

static void closing_tag_waits_for_the_answer(void)
{
	setup(true);
	use_all_tags();
	flow_remove(&table, find(0));
	tags_close(&table.tags, 65535);
	CHECK(!add(TAGS, UINT64_MAX));
	tags_closed(&table.tags, 65535);
	CHECK_NUMBER(tag_of(add(TAGS, START_US)), 65535);
	flow_table_free(&table);
}

static void tag_of_a_late_frame_waits(void)
{
	setup(true);
	use_all_tags();
	flow_remove(&table, find(0));
	tags_free(&table.tags, 65535);
	tags_late_frame(&table.tags, 65535, START_US + IDLE_US);
	CHECK(!add(TAGS, START_US + IDLE_US - 1));
	CHECK(!find(TAGS));
	CHECK_NUMBER(table.count, TAGS - 1);
	CHECK_NUMBER(tag_of(add(TAGS, START_US + IDLE_US)), 65535);
	flow_table_free(&table);
}

static void next_check_is_no_sooner_than_needed(void)
{
	const uint64_t second_us = 1000000, idle_us = 300 * second_us;

	setup(true);
	CHECK(flow_next_check(&table, START_US, idle_us) == UINT64_MAX);
	add(0, START_US);
	CHECK_NUMBER(flow_next_check(&table, START_US + 5, idle_us), START_US + idle_us);
	CHECK_NUMBER(flow_next_check(&table, START_US + idle_us - 1, idle_us),
		START_US + idle_us - 1 + second_us);
	CHECK_NUMBER(flow_next_check(&table, START_US, 1000), START_US + 1000);
	flow_table_free(&table);
}

/* --- new streams --------------------------------------------------------------------------- */

static struct flow *former[TAGS];

static bool give(uint32_t number)
{
	return flow_give_tag(&table, find(number), START_US);
}

static void flows_stay_without_tags(void)
{
	setup(true);
	for (uint32_t i = 0; i < 1000; i++)
		add(i, START_US + i);
	flow_touch(&table, find(500), START_US + 2000);
	flow_forget_tags(&table, former);
	CHECK_NUMBER(table.count, 1000);
	for (uint32_t i = 0; i < 1000; i++) {
		CHECK(find(i) && !find(i)->has_tag);
		CHECK(former[65535 - i] == find(i));
	}
	for (uint32_t tag = 0; tag < TAGS; tag++) {
		CHECK(!flow_find_tag(&table, (uint16_t)tag));
		CHECK(tag >= TAGS - 1000 || !former[tag]);
	}
	CHECK(table.newest == find(500) && table.oldest == find(0));
	CHECK_NUMBER(find(500)->last_used_us, START_US + 2000);
	list_is_whole();
	flow_table_free(&table);
}

static void stream_begins_with_the_first_tag(bool counts_down)
{
	uint16_t first = counts_down ? 65535 : 0;
	int step = counts_down ? -1 : 1;

	setup(counts_down);
	for (uint32_t i = 0; i < 10; i++)
		add(i, START_US);
	flow_forget_tags(&table, former);
	CHECK(give(7) && give(2));
	CHECK_NUMBER(tag_of(find(7)), first);
	CHECK_NUMBER(tag_of(find(2)), first + step);
	CHECK_NUMBER(tag_of(add(10, START_US)), first + 2 * step);
	CHECK(give(0));
	CHECK_NUMBER(tag_of(find(0)), first + 3 * step);
	CHECK(flow_find_tag(&table, first) == find(7));
	CHECK(flow_find_tag(&table, (uint16_t)(first + 3 * step)) == find(0));
	CHECK(!flow_find_tag(&table, (uint16_t)(first + 4 * step)));
	CHECK_NUMBER(tag_of(find(1)), -1);
	list_is_whole();
	flow_table_free(&table);
}

static void every_stream_begins_with_the_first_tag(void)
{
	stream_begins_with_the_first_tag(true);
	stream_begins_with_the_first_tag(false);
}

/* Its tag of the stream before is another flow's now. */
static void flow_without_tag_goes_alone(void)
{
	setup(true);
	add(0, START_US);
	add(1, START_US + 1);
	flow_forget_tags(&table, former);
	CHECK(give(1));
	CHECK(former[65535] == find(0));
	flow_touch(&table, find(0), START_US + 2);
	CHECK(flow_find_idle(&table, UINT64_MAX, 0) == find(1));
	flow_remove(&table, find(0));
	CHECK(!find(0));
	CHECK(find(1) && flow_find_tag(&table, 65535) == find(1));
	check_order((const uint16_t[]){65535}, 1);
	flow_table_free(&table);
	CHECK(!flow_find_tag(&table, 65535));
}

static void states_of_tags_are_forgotten(void)
{
	setup(true);
	use_all_tags();
	for (uint32_t i = 0; i < 300; i++) {
		uint16_t tag = (uint16_t)(65535 - i);

		flow_remove(&table, find(i));
		if (i % 3 == 0)
			tags_close(&table.tags, tag);
		else
			tags_free(&table.tags, tag);
		if (i % 3 == 1)
			tags_late_frame(&table.tags, tag, START_US + IDLE_US);
	}
	flow_forget_tags(&table, former);
	CHECK(!former[65535] && !former[65236] && former[65235] == find(300));
	for (uint32_t i = 0; i < 300; i++)
		CHECK_NUMBER(tag_of(add(i, START_US + TAGS)), 65535 - i);
	for (uint32_t i = 300; i < TAGS; i++)
		if (!CHECK(give(i)) || !CHECK_NUMBER(tag_of(find(i)), 65535 - i))
			break;
	CHECK(!add(TAGS, UINT64_MAX));
	list_is_whole();
	flow_table_free(&table);
}

static void only_flows_with_tags_had_them(void)
{
	setup(true);
	for (uint32_t i = 0; i < 3; i++)
		add(i, START_US + i);
	flow_forget_tags(&table, former);
	CHECK(give(1));
	flow_forget_tags(&table, former);
	CHECK(former[65535] == find(1));
	CHECK(!former[65534] && !former[65533]);
	flow_forget_tags(&table, former);
	CHECK(!former[65535]);
	CHECK(give(2));
	CHECK(flow_find_tag(&table, 65535) == find(2));
	CHECK_NUMBER(table.count, 3);
	flow_table_free(&table);
}

static void no_tag_to_give(void)
{
	setup(true);
	add(TAGS, START_US);
	flow_forget_tags(&table, former);
	use_all_tags();
	CHECK_NUMBER(table.count, TAGS + 1);
	CHECK(!give(TAGS));
	CHECK_NUMBER(tag_of(find(TAGS)), -1);
	flow_remove(&table, find(9));
	CHECK(!give(TAGS));
	tags_close(&table.tags, 65526);
	CHECK(!give(TAGS));
	tags_closed(&table.tags, 65526);
	CHECK(give(TAGS));
	CHECK_NUMBER(tag_of(find(TAGS)), 65526);
	CHECK(flow_find_tag(&table, 65526) == find(TAGS));
	flow_table_free(&table);
}

static void forgotten_table_is_freed(void)
{
	setup(true);
	flow_forget_tags(&table, former); /* without a flow */
	CHECK_NUMBER(tag_of(add(0, START_US)), 65535);
	add(1, START_US);
	flow_forget_tags(&table, former);
	CHECK(give(1));
	flow_table_free(&table);
	CHECK_NUMBER(table.count, 0);
	CHECK(!find(0) && !find(1));
}

/* --- clients ------------------------------------------------------------------------------- */

static void empty_table(void)
{
	setup(true);
	CHECK(!find(0));
	for (uint32_t tag = 0; tag < TAGS; tag++)
		CHECK(!flow_find_tag(&table, (uint16_t)tag));
	CHECK_NUMBER(table.count, 0);
	flow_table_free(&table);
}

static void found_by_client_and_tag(void)
{
	struct client v4 = with_local(client_v4(0xc0000201, 53, 0), "::ffff:192.0.2.9", 0);
	struct client v6 = with_local(client_v6("fe80::1", 53, 2, 0), "fe80::2", 2);
	struct flow *flow4, *flow6;

	setup(true);
	flow4 = flow_add_client(&table, &v4, START_US);
	flow6 = flow_add_client(&table, &v6, START_US + 1);
	CHECK(flow4 && flow6 && flow4 != flow6);
	CHECK(find_client(&v4) == flow4);
	CHECK(find_client(&v6) == flow6);
	CHECK(flow_find_tag(&table, 65535) == flow4);
	CHECK(flow_find_tag(&table, 65534) == flow6);
	CHECK(!flow_find_tag(&table, 65533));
	CHECK(address_equal(&flow6->client.peer, &v6.peer));
	CHECK(local_address_equal(&flow6->client.local, &v6.local));
	CHECK_NUMBER(flow4->last_used_us, START_US);
	CHECK_NUMBER(table.count, 2);
	flow_table_free(&table);
}

/* Each of these clients differs from the first of its family in one thing. */
static void one_difference_is_another_client(void)
{
	struct client v4 = client_v4(0xc0000201, 53, 0), v6 = client_v6("fe80::1", 53, 2, 0);
	struct client clients[] = {
		v4,
		client_v4(0xc0000202, 53, 0),
		client_v4(0xc0000201, 54, 0),
		with_local(v4, "::ffff:192.0.2.9", 0),
		with_local(v4, "::ffff:192.0.2.10", 0),
		with_local(v4, "::", 1),
		v6,
		client_v6("fe80::2", 53, 2, 0),
		client_v6("fe80::1", 54, 2, 0),
		client_v6("fe80::1", 53, 3, 0),
		with_local(v6, "fe80::9", 0),
		with_local(v6, "fe80::9", 2),
		with_local(v6, "fe80::9", 3),
		client_v6("::ffff:192.0.2.1", 53, 0, 0),
	};
	size_t count = sizeof(clients) / sizeof(clients[0]);

	setup(false);
	for (size_t i = 0; i < count; i++) {
		CHECK(!find_client(&clients[i]));
		CHECK_NUMBER(tag_of(flow_add_client(&table, &clients[i], START_US)), i);
	}
	for (size_t i = 0; i < count; i++)
		CHECK_NUMBER(tag_of(find_client(&clients[i])), i);
	flow_table_free(&table);
}

static void flow_labels_and_padding(void)
{
	struct client v4 = client_v4(0xc0000201, 53, 0x00);
	struct client v6 = client_v6("2001:db8::1", 53, 0, 0x00);
	struct flow *flow4, *flow6;

	setup(true);
	flow4 = flow_add_client(&table, &v4, START_US);
	flow6 = flow_add_client(&table, &v6, START_US);
	for (int filler = 0; filler <= 0xff; filler++) {
		v4 = client_v4(0xc0000201, 53, (uint8_t)filler);
		v6 = client_v6("2001:db8::1", 53, 0, (uint8_t)filler);
		CHECK(find_client(&v4) == flow4);
		CHECK(find_client(&v6) == flow6);
	}
	flow_table_free(&table);
}

/* --- the order of use ---------------------------------------------------------------------- */

static void order_of_use(void)
{
	setup(false);
	for (uint32_t i = 0; i < 5; i++)
		add(i, START_US + i);
	check_order((const uint16_t[]){0, 1, 2, 3, 4}, 5);
	flow_touch(&table, find(2), START_US + 10);
	check_order((const uint16_t[]){0, 1, 3, 4, 2}, 5);
	flow_touch(&table, find(0), START_US + 11);
	check_order((const uint16_t[]){1, 3, 4, 2, 0}, 5);
	flow_touch(&table, find(0), START_US + 12);
	check_order((const uint16_t[]){1, 3, 4, 2, 0}, 5);
	CHECK_NUMBER(find(0)->last_used_us, START_US + 12);
	CHECK_NUMBER(find(2)->last_used_us, START_US + 10);
	CHECK_NUMBER(find(1)->last_used_us, START_US + 1);
	flow_table_free(&table);
}

static void touch_of_the_only_flow(void)
{
	setup(true);
	add(0, START_US);
	flow_touch(&table, find(0), START_US + 1);
	CHECK_NUMBER(find(0)->last_used_us, START_US + 1);
	check_order((const uint16_t[]){65535}, 1);
	flow_table_free(&table);
}

static void removal_anywhere_in_the_order(void)
{
	setup(false);
	for (uint32_t i = 0; i < 5; i++)
		add(i, START_US + i);
	flow_remove(&table, find(2));
	check_order((const uint16_t[]){0, 1, 3, 4}, 4);
	flow_remove(&table, find(0));
	check_order((const uint16_t[]){1, 3, 4}, 3);
	flow_remove(&table, find(4));
	check_order((const uint16_t[]){1, 3}, 2);
	flow_remove(&table, find(1));
	flow_remove(&table, find(3));
	check_order(NULL, 0);
	CHECK(!table.newest && !table.oldest);
	flow_table_free(&table);
}

static void removed_flow_is_not_found(void)
{
	setup(true);
	add(1, START_US);
	add(2, START_US);
	flow_remove(&table, find(1));
	CHECK(!find(1));
	CHECK(!flow_find_tag(&table, 65535));
	CHECK(find(2) && flow_find_tag(&table, 65534) == find(2));
	CHECK_NUMBER(table.count, 1);
	CHECK_NUMBER(tag_of(add(1, START_US)), 65533); /* a client that comes back is a new flow */
	flow_table_free(&table);
}

/* --- many flows ---------------------------------------------------------------------------- */

enum {
	MANY = 50000
};

static size_t flows_in_chains(void)
{
	size_t count = 0;

	for (struct flow *flow = table.newest; flow; flow = flow->older)
		count += flow->next_in_bucket != NULL;
	return count;
}

static void many_flows(void)
{
	setup(true);
	for (uint32_t i = 0; i < MANY; i++) {
		CHECK(!find(i));
		add(i, START_US + i);
		CHECK(find(i) && find(i / 2) && find(0));
	}
	for (uint32_t i = 0; i < MANY; i++)
		CHECK_NUMBER(tag_of(find(i)), 65535 - i);
	CHECK(!find(MANY));
	CHECK_NUMBER(table.count, MANY);
	list_is_whole();
	flow_table_free(&table);
}

static void table_grows_with_its_flows(void)
{
	setup(true);
	for (uint32_t i = 0; i < MANY; i++) {
		add(i, START_US);
		CHECK(table.bucket_count >= table.count);
		CHECK(table.bucket_count <= 64 || table.bucket_count <= 2 * table.count);
		CHECK((table.bucket_count & (table.bucket_count - 1)) == 0);
	}
	flow_table_free(&table);
}

static void removal_from_chains(void)
{
	static bool removed[MANY];

	memset(removed, 0, sizeof(removed));
	setup(true);
	for (uint32_t i = 0; i < MANY; i++)
		add(i, START_US);
	CHECK(flows_in_chains() > MANY / 10); /* or this would not test much */
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t number = random_below(MANY);

		if (!removed[number])
			flow_remove(&table, find(number));
		removed[number] = true;
	}
	for (uint32_t i = 0; i < MANY; i++)
		CHECK(!find(i) == removed[i]);
	list_is_whole();
	flow_table_free(&table);
}

/* Clients that differ in one thing, which is a different one for each kind. */
static struct client client_of_kind(int kind, uint32_t number)
{
	struct client v4 = client_v4(0xc0000201, 53, 0), v6 = client_v6("fe80::1", 53, 2, 0);

	switch (kind) {
	case 0:
		return client_v4(number, 53, 0);
	case 1:
		return client_v4(0xc0000201, (uint16_t)number, 0);
	case 2:
		v4.local.interface = number;
		return v4;
	case 3:
		return client_v6("fe80::1", (uint16_t)number, 2, 0);
	case 4:
		return client_v6("fe80::1", 53, number, 0);
	case 5:
		v6.peer.v6.sin6_addr.s6_addr[7] = (uint8_t)(number / 256);
		v6.peer.v6.sin6_addr.s6_addr[15] = (uint8_t)(number % 256);
		return v6;
	default:
		v6.local.ip.s6_addr[0] = (uint8_t)(number / 256);
		v6.local.ip.s6_addr[15] = (uint8_t)(number % 256);
		return v6;
	}
}

static size_t longest_chain(void)
{
	size_t longest = 0;

	for (size_t i = 0; i < table.bucket_count; i++) {
		size_t length = 0;

		for (struct flow *flow = table.buckets[i]; flow; flow = flow->next_in_bucket)
			length++;
		longest = length > longest ? length : longest;
	}
	return longest;
}

static void similar_clients(void)
{
	for (int kind = 0; kind < 7; kind++) {
		setup(false);
		for (uint32_t i = 0; i < 2000; i++) {
			struct client client = client_of_kind(kind, i);

			CHECK(!find_client(&client));
			flow_add_client(&table, &client, START_US);
		}
		for (uint32_t i = 0; i < 2000; i++) {
			struct client client = client_of_kind(kind, i);

			CHECK_NUMBER(tag_of(find_client(&client)), i);
		}
		CHECK(longest_chain() > 1 && longest_chain() < 15);
		flow_table_free(&table);
	}
}

static size_t bucket_of(uint32_t number, const uint8_t key[static 16])
{
	struct client client = client_number(number);
	struct flow *flow;
	size_t bucket = 0;

	memset(&table, 0, sizeof(table));
	flow_table_init(&table, true, key);
	flow = flow_add_client(&table, &client, START_US);
	while (bucket < table.bucket_count && table.buckets[bucket] != flow)
		bucket++;
	CHECK(bucket < table.bucket_count);
	flow_table_free(&table);
	return bucket;
}

static void key_decides_the_bucket(void)
{
	static const uint8_t one[16] = {1}, other[16] = {2};
	size_t same = 0;

	for (uint32_t i = 0; i < 1000; i++)
		same += bucket_of(i, one) == bucket_of(i, other);
	CHECK(same < 100); /* by chance one in 64 */
}

/* --- dec: flows by tag --------------------------------------------------------------------- */

static void flows_by_tag(void)
{
	struct flow *first, *second;

	setup(false);
	first = flow_add_tag(&table, 65535, START_US);
	second = flow_add_tag(&table, 0, START_US + 1);
	CHECK(first && second);
	CHECK(flow_find_tag(&table, 65535) == first && tag_of(first) == 65535);
	CHECK(flow_find_tag(&table, 0) == second && tag_of(second) == 0);
	CHECK(!flow_find_tag(&table, 1));
	CHECK_NUMBER(first->last_used_us, START_US);
	flow_touch(&table, first, START_US + 2);
	check_order((const uint16_t[]){0, 65535}, 2);
	flow_table_free(&table);
}

static void removed_tag_can_be_added_again(void)
{
	setup(false);
	for (uint64_t round = 0; round < 100000; round++) {
		struct flow *flow = flow_add_tag(&table, 77, round);

		if (!CHECK(flow) || !CHECK(flow_find_tag(&table, 77) == flow))
			return;
		flow_remove(&table, flow);
		CHECK(!flow_find_tag(&table, 77));
		CHECK_NUMBER(table.count, 0);
	}
	flow_table_free(&table);
}

static void all_tags_by_tag(void)
{
	setup(false);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		CHECK(flow_add_tag(&table, (uint16_t)tag, tag));
	CHECK_NUMBER(table.count, TAGS);
	list_is_whole();
	flow_table_free(&table);
}

static void freed_table_is_empty(void)
{
	setup(true);
	for (uint32_t i = 0; i < 1000; i++)
		add(i, START_US);
	flow_table_free(&table);
	CHECK_NUMBER(table.count, 0);
	CHECK(!find(1));
	CHECK(!flow_find_tag(&table, 65535));
	flow_table_free(&table); /* nothing left to free */
}

/* --- against a model ----------------------------------------------------------------------- */

enum {
	MODEL_CLIENTS = 300
};

enum {
	NO_FLOW = -2,
	NO_TAG = -1,
};

/* What a table does, in the plainest way: what is known of each client. */
static struct {
	int32_t tag[MODEL_CLIENTS]; /* or NO_FLOW or NO_TAG */
	uint64_t last_used_us[MODEL_CLIENTS];
	size_t count;
	uint32_t tags_given;
} model;

static void model_setup(void)
{
	memset(&model, 0, sizeof(model));
	for (size_t i = 0; i < MODEL_CLIENTS; i++)
		model.tag[i] = NO_FLOW;
}

/* As enc does it when COMMAND is run again. */
static void new_stream(void)
{
	flow_forget_tags(&table, former);
	for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
		if (model.tag[i] >= 0) {
			CHECK(former[model.tag[i]] == find(i));
			model.tag[i] = NO_TAG;
		}
	}
	model.tags_given = 0;
}

/* As enc does it, and now and then a flow goes. */
static void random_step(uint64_t now_us)
{
	uint32_t number = random_below(MODEL_CLIENTS);
	struct flow *flow = find(number);

	CHECK(!flow == (model.tag[number] == NO_FLOW));
	if (!flow) {
		add(number, now_us);
		model.tag[number] = (int32_t)(65535 - model.tags_given++);
		model.count++;
	} else if (random_below(8) == 0) {
		flow_remove(&table, flow);
		model.tag[number] = NO_FLOW;
		model.count--;
		return;
	} else {
		if (!flow->has_tag && CHECK(flow_give_tag(&table, flow, now_us)))
			model.tag[number] = (int32_t)(65535 - model.tags_given++);
		flow_touch(&table, flow, now_us);
	}
	model.last_used_us[number] = now_us;
}

static bool is_like_model(void)
{
	uint64_t oldest_us = UINT64_MAX;

	for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
		struct flow *flow = find(i);

		if (!CHECK(!flow == (model.tag[i] == NO_FLOW)))
			return false;
		if (!flow)
			continue;
		if (!CHECK_NUMBER(tag_of(flow), model.tag[i]) ||
			!CHECK_NUMBER(flow->last_used_us, model.last_used_us[i]))
			return false;
		if (model.last_used_us[i] < oldest_us)
			oldest_us = model.last_used_us[i];
	}
	return CHECK_NUMBER(table.count, model.count) && list_is_whole() &&
	       CHECK(!table.oldest || table.oldest->last_used_us == oldest_us);
}

static void random_use(void)
{
	setup(true);
	model_setup();
	for (uint64_t round = 0; round < 100000; round++) {
		random_step(START_US + round);
		if (random_below(500) == 0)
			new_stream();
		if (round % 50 == 0 && !is_like_model())
			break;
	}
	flow_table_free(&table);
}

int main(void)
{
	test("with a way back tags count from 65535 down", tags_count_down);
	test("without one tags count from 0 up", tags_count_up);
	test("every tag is given out once", every_tag_is_used_once);
	test("while all tags are busy there is none for a new client", all_tags_busy);
	test("flows expire in the order of their last use", flows_expire_in_the_order_of_use);
	test("tags never used come before used ones", new_tags_come_before_used_ones);
	test("freed tags are used in the order of freeing",
		freed_tags_are_used_in_the_order_of_freeing);
	test("a tag is not used before it is freed", tag_not_freed_is_not_used);
	test("tags are used again and again", tags_are_reused_for_ever);
	test("a tag that is closing is not used before the answer",
		closing_tag_waits_for_the_answer);
	test("a tag whose late frame came is not used before its time", tag_of_a_late_frame_waits);
	test("the next check is when a flow can be idle, at most once a second",
		next_check_is_no_sooner_than_needed);

	test("when a new stream begins flows stay, without tags", flows_stay_without_tags);
	test("a new stream begins with the first tag, for old flows and new ones",
		every_stream_begins_with_the_first_tag);
	test("a flow without a tag goes without harm to the one that has its old tag",
		flow_without_tag_goes_alone);
	test("in a new stream no tag is busy, closing or waiting", states_of_tags_are_forgotten);
	test("a flow that got no tag in a stream had none", only_flows_with_tags_had_them);
	test("a flow gets no tag while none is free", no_tag_to_give);
	test("a table of flows with and without tags is freed", forgotten_table_is_freed);

	test("in an empty table nothing is found", empty_table);
	test("a flow is found by its client and by its tag", found_by_client_and_tag);
	test("what differs in one thing, a local address too, is another client",
		one_difference_is_another_client);
	test("flow labels and padding do not tell clients apart", flow_labels_and_padding);

	test("a flow that is used is the newest", order_of_use);
	test("the only flow can be used again", touch_of_the_only_flow);
	test("a flow can be removed from anywhere in the order", removal_anywhere_in_the_order);
	test("a removed flow is not found, and its client is new", removed_flow_is_not_found);

	test("any of many flows is found", many_flows);
	test("a table grows with its flows", table_grows_with_its_flows);
	test("flows are removed from shared buckets without harm to others", removal_from_chains);
	test("clients that differ in any one thing are told apart and spread over the buckets",
		similar_clients);
	test("the key decides the bucket of a client", key_decides_the_bucket);

	test("flows are added and found by tag", flows_by_tag);
	test("a tag that was removed can be added again", removed_tag_can_be_added_again);
	test("every tag can be added", all_tags_by_tag);
	test("a freed table is empty", freed_table_is_empty);
	test("a table used at random does what a plain one would", random_use);
	return tests_end();
}
