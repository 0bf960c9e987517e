/*
 * The table of flows of enc and its tags, beside a slow model: which tag is next is searched for
 * among all tags. The input says how many services there are, and then what happens step by step.
 */
#include "flow.h"

#include "fuzz.h"

enum {
	ROWS = 4, /* services that have clients */
	CLIENTS = 96,
	IDLE_US = 10 * US_PER_SECOND,
};

static struct flow_table flows, *table = &flows;
static bool counts_down;
static uint16_t services;
static uint64_t now_us, stamp;
static struct held {
	struct flow *flow;
	uint64_t used; /* a stamp */
} held[ROWS * CLIENTS];
static enum {
	NEW,
	USED,
	CLOSING,
	FREE,
	WAITING
} state[TAGS];
static uint64_t joined[TAGS], free_at_us[TAGS]; /* a stamp; of WAITING */

static uint16_t service_of(size_t row)
{
	return (uint16_t)(row + 1 == ROWS ? services - 1u : row % services);
}

/* Some clients differ in their local address or their family only. Each row has the same ones. */
static struct client client_of(size_t number)
{
	struct client client = {0};
	bool is_ip6 = number & 2;

	client.peer.any.sa_family = is_ip6 ? AF_INET6 : AF_INET;
	address_set_port(&client.peer, (uint16_t)(number % CLIENTS / 4));
	client.local.ip.s6_addr[15] = number & 1;
	if (services < ROWS) /* rows of the same service */
		client.local.interface = (uint32_t)(number / CLIENTS);
	return client;
}

static struct flow *find(size_t number)
{
	struct client client = client_of(number);
	uint16_t service = service_of(number / CLIENTS);

	return flow_find_client(table, &client, service, flow_hash_client(table, &client, service));
}

/* The tag that is to be given out next, or -1. */
static int32_t next_tag(uint16_t service)
{
	int32_t found = -1;

	for (uint32_t i = service; i < TAGS; i += services) {
		uint16_t tag = (uint16_t)(counts_down ? UINT16_MAX - i : i);

		if (state[tag] == NEW)
			return tag;
		if (state[tag] >= FREE &&
			(found < 0 || state[tag] < state[found] ||
				(state[tag] == state[found] && joined[tag] < joined[found])))
			found = tag;
	}
	return found >= 0 && state[found] == WAITING && free_at_us[found] > now_us ? -1 : found;
}

static void check_tag(const struct flow *flow, size_t number, int32_t wanted)
{
	CHECK(flow->has_tag && flow->tag == wanted &&
		flow->service == service_of(number / CLIENTS));
	CHECK(tags_service(counts_down, services, flow->tag) == flow->service);
	CHECK(state[flow->tag] != USED && flow_find_tag(table, flow->tag) == flow);
	state[flow->tag] = USED;
}

static void set_state(uint16_t tag, int to)
{
	state[tag] = (uint8_t)to;
	joined[tag] = ++stamp;
}

static void add(size_t number)
{
	struct client client = client_of(number);
	uint16_t service = service_of(number / CLIENTS);
	int32_t wanted = next_tag(service);

	if (held[number].flow)
		return;
	held[number].flow = flow_add_client(table, &client, service, now_us);
	held[number].used = ++stamp;
	CHECK((held[number].flow != NULL) == (wanted >= 0));
	if (held[number].flow)
		check_tag(held[number].flow, number, wanted);
}

static void drop(size_t number, bool asks_far_side)
{
	struct flow *flow = held[number].flow;
	uint16_t tag = flow->tag;
	bool has_tag = flow->has_tag;

	held[number].flow = NULL;
	flow_remove(table, flow);
	if (!has_tag)
		return;
	if (asks_far_side)
		tags_close(&table->tags, tag);
	else
		tags_free(&table->tags, tag);
	set_state(tag, asks_far_side ? CLOSING : FREE);
}

static void begin_stream(void)
{
	static struct flow *former[TAGS];

	flow_forget_tags(table, former);
	memset(state, 0, sizeof(state));
	for (size_t i = 0; i < ROWS * CLIENTS; i++) {
		int32_t wanted = next_tag(service_of(i / CLIENTS));

		if (!held[i].flow)
			continue;
		CHECK(former[held[i].flow->tag] == held[i].flow && !held[i].flow->has_tag);
		if (flow_give_tag(table, held[i].flow, now_us))
			check_tag(held[i].flow, i, wanted);
		else
			drop(i, false);
	}
}

static void change_tag(uint16_t tag, bool is_late)
{
	if (is_late && !flow_find_tag(table, tag)) {
		tags_late_frame(&table->tags, tag, now_us + IDLE_US);
		if (state[tag] >= FREE)
			set_state(tag, WAITING);
		free_at_us[tag] = now_us + IDLE_US;
	} else {
		tags_closed(&table->tags, tag);
		if (state[tag] == CLOSING)
			set_state(tag, FREE);
	}
}

static void check_all(size_t number)
{
	size_t count = 0, oldest = number;

	for (size_t i = 0; i < ROWS * CLIENTS; i++) {
		count += held[i].flow != NULL;
		if (held[i].flow && (!held[oldest].flow || held[i].used < held[oldest].used))
			oldest = i;
	}
	CHECK(flow_count(table) == count && flow_oldest(table) == held[oldest].flow);
	CHECK(find(number) == held[number].flow);
	CHECK(flow_next_check(table, now_us, IDLE_US) > now_us);
	if (count > 0 && flow_find_idle(table, now_us, IDLE_US)) {
		CHECK(now_us - held[oldest].flow->last_used_us >= IDLE_US);
		drop(oldest, true);
	}
}

static void step(struct input *input)
{
	uint32_t choice = take(input, 16), row = take(input, ROWS), client = take(input, CLIENTS);
	size_t number = row * CLIENTS + client;
	uint32_t i = service_of(row) + client * (uint32_t)services;

	if (choice < 4) {
		for (; choice == 3 && client < CLIENTS - 1; client++)
			add(number++);
		add(number);
	} else if (choice < 8 && held[number].flow) {
		drop(number, choice & 1);
	} else if (choice < 11) {
		change_tag((uint16_t)(counts_down ? UINT16_MAX - i : i), choice & 1);
	} else if (choice < 13 && held[number].flow) {
		flow_touch(table, held[number].flow, now_us);
		held[number].used = ++stamp;
	} else if (choice == 13) {
		begin_stream();
	} else {
		now_us += client * (choice == 14 ? 1000u : 1000000u);
	}
	check_all(number);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const uint16_t numbers[] = {1, 2, 3, 900, 1000, 1023, 1024, 7};
	static const uint8_t key[16] = "not random here";
	struct input input = {bytes, size};

	counts_down = take(&input, 2);
	services = numbers[take(&input, 8)];
	now_us = stamp = 0;
	memset(held, 0, sizeof(held));
	memset(state, 0, sizeof(state));
	memset(table, 0, sizeof(*table)); /* much faster here than new memory */
	flow_table_init(table, counts_down, services, key);
	while (input.left > 0)
		step(&input);
	flow_table_free(table);
	return 0;
}
