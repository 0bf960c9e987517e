/*
 * The table of flows of enc, by client, or of dec, by tag, beside a list of the same flows. Which
 * tag a flow of enc gets is a matter of tags.c. The input says what happens step by step.
 */
#include "flow.h"

#include "fuzz.h"

enum {
	ROWS = 4,     /* services that have clients */
	CLIENTS = 64, /* there are as many tags for each of 1,024 services */
	HELD_MAX = ROWS * CLIENTS,
	IDLE_US = 10 * US_PER_SECOND,
};

static struct flow_table flows, *table = &flows;
static bool is_dec;
static uint16_t services;
static uint64_t now_us, stamp;
static struct held {
	struct flow *flow;
	uint64_t used_us, used; /* a stamp */
} held[HELD_MAX];

/* In dec: from the first tag to the last one. */
static uint16_t tag_of(size_t number)
{
	return (uint16_t)(number * UINT16_MAX / (HELD_MAX - 1));
}

static uint16_t service_of(size_t number)
{
	return (uint16_t)((number / CLIENTS + services - 2u) % services);
}

/* Some clients differ in their local address or their family only. Each row has the same ones. */
static struct client client_of(size_t number)
{
	struct client client = {0};

	client.peer.any.sa_family = number & 2 ? AF_INET6 : AF_INET;
	address_set_port(&client.peer, (uint16_t)(number % CLIENTS / 4));
	client.local.ip.s6_addr[15] = number & 1;
	if (services < ROWS) /* rows of the same service */
		client.local.interface = (uint32_t)(number / CLIENTS);
	return client;
}

static struct flow *find(size_t number)
{
	struct client client = client_of(number);
	uint64_t hash = flow_hash_client(table, &client, service_of(number));

	return is_dec ? flow_find_tag(table, tag_of(number))
		      : flow_find_client(table, &client, service_of(number), hash);
}

static void use(size_t number)
{
	held[number].used_us = now_us;
	held[number].used = ++stamp;
}

static void add(size_t number)
{
	struct client client = client_of(number);

	held[number].flow = is_dec ? flow_add_tag(table, tag_of(number), now_us)
				   : flow_add_client(table, &client, service_of(number), now_us);
	use(number);
}

static void drop(size_t number)
{
	uint16_t tag = held[number].flow->tag;

	flow_remove(table, held[number].flow);
	held[number].flow = NULL;
	CHECK(!flow_find_tag(table, tag));
	if (!is_dec)
		tags_free(&table->tags, tag);
}

static void begin_stream(void)
{
	static struct flow *former[TAGS];

	flow_forget_tags(table, former);
	for (struct held *one = held; one < held + HELD_MAX; one++) {
		if (!one->flow)
			continue;
		CHECK(former[one->flow->tag] == one->flow && !one->flow->has_tag);
		CHECK(flow_give_tag(table, one->flow, now_us));
	}
}

static void check_flow(size_t number)
{
	const struct flow *flow = held[number].flow;

	CHECK(find(number) == flow);
	if (!flow)
		return;
	CHECK(flow->has_tag && flow_find_tag(table, flow->tag) == flow);
	CHECK(is_dec || flow->service == service_of(number));
	CHECK(flow->last_used_us == held[number].used_us);
}

static void check_all(void)
{
	size_t count = 0, oldest = 0;
	bool is_idle;

	for (size_t i = 0; i < HELD_MAX; i++) {
		count += held[i].flow != NULL;
		if (held[i].flow && (!held[oldest].flow || held[i].used < held[oldest].used))
			oldest = i;
	}
	is_idle = count > 0 && now_us - held[oldest].used_us >= IDLE_US;
	CHECK(flow_count(table) == count && flow_oldest(table) == held[oldest].flow);
	CHECK(flow_find_idle(table, now_us, IDLE_US) == (is_idle ? held[oldest].flow : NULL));
	if (is_idle)
		drop(oldest);
	else
		CHECK((flow_next_check(table, now_us, IDLE_US) == UINT64_MAX) == (count == 0));
}

static void step(struct input *input)
{
	uint32_t choice = take(input, 8), number = take(input, HELD_MAX);

	if (choice == 0) {
		now_us += number * UINT64_C(100000);
	} else if (choice == 1 && !is_dec) {
		begin_stream();
	} else if (choice == 2) { /* many */
		for (uint32_t i = number; i < HELD_MAX; i += 3)
			if (!held[i].flow)
				add(i);
	} else if (!held[number].flow) {
		add(number);
	} else if (choice < 5) {
		drop(number);
	} else {
		flow_touch(table, held[number].flow, now_us);
		use(number);
	}
	check_flow(number);
	check_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const uint16_t numbers[] = {1024, 1, 3, 1000};
	static const uint8_t key[16] = "not random here";
	struct input input = {bytes, size};

	is_dec = take(&input, 2);
	services = is_dec ? 1 : numbers[take(&input, 4)];
	now_us = stamp = 0;
	memset(held, 0, sizeof(held));
	memset(table, 0, sizeof(*table)); /* much faster here than new memory */
	flow_table_init(table, !is_dec, services, key);
	while (input.left > 0)
		step(&input);
	flow_table_free(table);
	return 0;
}
