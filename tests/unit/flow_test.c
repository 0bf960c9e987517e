/*
 * The table of flows beside a model of it: one row for each client, all searched at each step. Both
 * get the same random calls, as enc or as dec makes them, and then agree. Examples show what both
 * could get wrong in the same way.
 */
#include "flow.h"

#include "check.h"
#include "model.h"
#include "util.h"

enum {
	CLIENTS = 200, /* of the model: more than the table has buckets at first */
	FEW_TAGS = 150,
	IDLE_US = 5000,
	SIMILAR = 2048, /* clients, and buckets */
};

static struct flow_table table;
static uint16_t services;
static uint64_t now_us;
static bool is_enc;

static void setup(bool counts_down, uint16_t service_count)
{
	static const uint8_t key[16] = "any sixteen byte";

	memset(&table, 0, sizeof(table));
	services = service_count;
	flow_table_init(&table, counts_down, services, key);
	model_init(&table.tags, counts_down, services);
	is_enc = true;
}

static uint16_t service_of(uint32_t number)
{
	return (uint16_t)(number % services);
}

/* Each client uses all services. Even ones have IPv4, odd ones IPv6. */
static struct client client_of(uint32_t number)
{
	struct client client = {.peer.v6.sin6_family = AF_INET6};

	number /= services;
	client.peer.v6.sin6_scope_id = number;
	if (number % 2 == 0)
		client.peer.v4 = (struct sockaddr_in){
			.sin_family = AF_INET, .sin_addr.s_addr = number};
	return client;
}

/* In dec: 0, 65535, 65534, ... */
static uint16_t dec_tag(uint32_t number)
{
	return (uint16_t)(TAGS - number);
}

static struct flow *find(uint32_t number)
{
	struct client client = client_of(number);

	return is_enc ? flow_find_client(&table, &client, service_of(number),
				flow_hash_client(&table, &client, service_of(number)))
		      : flow_find_tag(&table, dec_tag(number));
}

static struct flow *add(uint32_t number)
{
	struct client client = client_of(number);

	return is_enc ? flow_add_client(&table, &client, service_of(number), now_us)
		      : flow_add_tag(&table, dec_tag(number), now_us);
}

static int32_t tag_of(const struct flow *flow)
{
	return flow && flow->has_tag ? flow->tag : -1;
}

/* --- beside the model ---------------------------------------------------------------------- */

static struct row {
	struct flow *flow; /* or NULL */
	int32_t tag;       /* or -1 */
	uint64_t used_us;
	uint64_t turn; /* grows with each use */
} rows[CLIENTS + 1];   /* the last one is empty */
static uint64_t turns;

/* The number of the flow that has been idle longest; CLIENTS if there is none. */
static uint32_t longest_idle(void)
{
	uint32_t found = CLIENTS;

	for (uint32_t i = 0; i < CLIENTS; i++)
		if (rows[i].flow && (found == CLIENTS || rows[i].turn < rows[found].turn))
			found = i;
	return found;
}

static void agree(void)
{
	const struct row *oldest = &rows[longest_idle()];
	uint64_t idle_us = now_us - oldest->used_us;

	CHECK(flow_oldest(&table) == oldest->flow);
	CHECK(flow_find_idle(&table, now_us, idle_us) == oldest->flow);
	CHECK(!flow_find_idle(&table, now_us, idle_us + 1));
}

static void use(struct row *row)
{
	row->used_us = now_us;
	row->turn = ++turns;
}

static void add_both(uint32_t number)
{
	struct row *row = &rows[number];

	CHECK(!find(number));
	row->flow = add(number);
	row->tag = is_enc ? model_take(service_of(number), now_us) : dec_tag(number);
	CHECK_NUMBER(tag_of(row->flow), row->tag);
	use(row);
}

static void touch_both(uint32_t number)
{
	struct row *row = &rows[number];

	CHECK(find(number) == row->flow);
	if (row->tag < 0) {
		row->tag = model_take(service_of(number), now_us);
		CHECK(flow_give_tag(&table, row->flow, now_us) == (row->tag >= 0));
		CHECK_NUMBER(tag_of(row->flow), row->tag);
	}
	flow_touch(&table, row->flow, now_us);
	use(row);
}

static void remove_both(uint32_t number)
{
	struct row *row = &rows[number];

	flow_remove(&table, row->flow);
	row->flow = NULL;
	if (is_enc && row->tag >= 0)
		give_back((uint16_t)row->tag, random_below(2) == 0);
}

static void expire_both(void)
{
	uint32_t i;

	while ((i = longest_idle()) < CLIENTS && now_us - rows[i].used_us >= IDLE_US) {
		CHECK(flow_find_idle(&table, now_us, IDLE_US) == rows[i].flow);
		remove_both(i);
	}
}

/* Each flow is found by its client and by its tag, and in its turn it is the oldest. */
static void agree_on_all(void)
{
	size_t flows = 0, tags = 0;

	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct flow *flow = rows[i].flow;

		CHECK(find(i) == flow);
		CHECK_NUMBER(tag_of(flow), flow ? rows[i].tag : -1);
		CHECK(tag_of(flow) < 0 || flow_find_tag(&table, flow->tag) == flow);
		flows += flow != NULL;
		tags += tag_of(flow) >= 0;
	}
	CHECK_NUMBER(flow_count(&table), flows);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		tags -= flow_find_tag(&table, (uint16_t)tag) != NULL;
	CHECK_NUMBER(tags, 0);
	for (; flows > 0; flows--) {
		touch_both(longest_idle());
		agree();
	}
}

/* In every other stream all tags but a few are in use elsewhere. */
static void begin_stream(void)
{
	uint32_t elsewhere = random_below(2) * (TAGS - FEW_TAGS);

	model_init(&table.tags, model.counts_down, services);
	for (uint32_t i = 0; i < elsewhere; i++)
		CHECK_NUMBER(tags_take(&table.tags, service_of(i), now_us),
			model_take(service_of(i), now_us));
}

static void forget_tags(void)
{
	static struct flow *former[TAGS], *expected[TAGS];

	for (uint32_t tag = 0; tag < TAGS; tag++)
		expected[tag] = flow_find_tag(&table, (uint16_t)tag);
	flow_forget_tags(&table, former);
	CHECK(memcmp(former, expected, sizeof(former)) == 0);
	for (uint32_t i = 0; i < CLIENTS; i++)
		rows[i].tag = -1;
	begin_stream();
}

static void random_step(uint32_t number, uint16_t tag)
{
	now_us += random_below(random_below(500) == 0 ? 2 * IDLE_US : 50);
	expire_both();
	if (!rows[number].flow)
		add_both(number);
	else if (random_below(8) == 0)
		remove_both(number);
	else
		touch_both(number);
	if (random_below(2) == 0)
		answer_close(tag);
	else
		late_frame(tag, now_us + IDLE_US);
	agree();
}

static void random_runs(void)
{
	for (size_t run = 0; run < 20 && checks_failed == 0; run++) {
		setup(run % 2 == 0, run % 4 < 2 ? 1 : 3);
		is_enc = run < 10;
		memset(rows, 0, sizeof(rows));
		begin_stream();
		for (size_t step = 0; step < 5000 && checks_failed == 0; step++) {
			random_step(
				random_below(CLIENTS), nth_tag(TAGS - 1 - random_below(FEW_TAGS)));
			if (step % 500 == 0)
				agree_on_all();
			if (is_enc && random_below(300) == 0)
				forget_tags();
		}
		flow_table_free(&table);
		CHECK_NUMBER(flow_count(&table), 0);
	}
}

/* --- examples ------------------------------------------------------------------------------ */

static void all_tags_in_use(void)
{
	struct client first = client_of(0);
	uint64_t hash;

	setup(true, 1);
	hash = flow_hash_client(&table, &first, 0);
	for (uint32_t i = 0; i < TAGS; i++)
		CHECK_NUMBER(tag_of(add(i)), 65535 - i);
	CHECK(!add(TAGS) && !find(TAGS));
	CHECK_NUMBER(flow_count(&table), 65536);
	for (uint32_t i = 0; i < TAGS; i++)
		CHECK(find(i) && find(i) == flow_find_tag(&table, (uint16_t)(65535 - i)));
	CHECK(flow_find_client(&table, &first, 0, hash) == find(0));
	flow_remove(&table, find(7));
	tags_free(&table.tags, 65528);
	CHECK_NUMBER(tag_of(add(TAGS)), 65528);
	flow_table_free(&table);
}

/* Where clients differ, in two bytes, and whether that tells them apart. */
static const struct difference {
	sa_family_t family;
	size_t offset;
	bool tells_apart;
} differences[] = {
	{AF_INET, offsetof(struct client, peer.v4.sin_addr), true},
	{AF_INET, offsetof(struct client, peer.v4.sin_port), true},
	{AF_INET, offsetof(struct client, peer.v4.sin_zero), false},
	{AF_INET, offsetof(struct client, local.ip) + 12, true},
	{AF_INET, offsetof(struct client, local.ip) + 14, true},
	{AF_INET, offsetof(struct client, local.interface), true},
	{AF_INET6, offsetof(struct client, peer.v6.sin6_addr), true},
	{AF_INET6, offsetof(struct client, peer.v6.sin6_addr) + 14, true},
	{AF_INET6, offsetof(struct client, peer.v6.sin6_port), true},
	{AF_INET6, offsetof(struct client, peer.v6.sin6_scope_id), true},
	{AF_INET6, offsetof(struct client, peer.v6.sin6_flowinfo), false},
	{AF_INET6, offsetof(struct client, local.ip), true},
	{AF_INET6, offsetof(struct client, local.ip) + 14, true},
	{AF_INET6, offsetof(struct client, local.interface), true},
};

/* Each client is added, and in a second round found. */
static void similar_clients(const struct difference *difference)
{
	size_t chains[SIMILAR] = {0};

	setup(false, 1);
	for (uint32_t i = 0; i < 2 * SIMILAR; i++) {
		uint16_t value = i % SIMILAR;
		struct client client = {.peer.v6.sin6_family = difference->family};
		struct flow *flow;
		uint64_t hash;

		memcpy((char *)&client + difference->offset, &value, sizeof(value));
		hash = flow_hash_client(&table, &client, 0);
		flow = flow_find_client(&table, &client, 0, hash);
		if (!flow)
			flow = flow_add_client(&table, &client, 0, now_us);
		CHECK_NUMBER(tag_of(flow), difference->tells_apart ? value : 0);
		chains[hash % SIMILAR]++;
		CHECK(difference->tells_apart ? chains[hash % SIMILAR] < 30
					      : chains[hash % SIMILAR] == i + 1);
	}
	flow_table_free(&table);
}

static void all_differences(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(differences); i++)
		similar_clients(&differences[i]);
}

static void other_key(void)
{
	static const uint8_t key[16] = {1};
	static struct flow_table other;
	struct client client4 = client_of(0), client6 = client_of(1);

	setup(true, 1);
	flow_table_init(&other, true, 1, key);
	CHECK(flow_hash_client(&table, &client4, 0) != flow_hash_client(&other, &client4, 0));
	CHECK(flow_hash_client(&table, &client6, 0) != flow_hash_client(&other, &client6, 0));
	CHECK(flow_hash_client(&table, &client4, 0) != flow_hash_client(&table, &client4, 1));
	CHECK(flow_hash_client(&table, &client6, 0) != flow_hash_client(&table, &client6, 1));
}

static void next_checks(void)
{
	const uint64_t second_us = US_PER_SECOND;
	const uint64_t rows_us[][3] = {
		/* now, idle timeout, next check; the flow was used at 0 */
		{0, 300 * second_us, 300 * second_us},
		{299 * second_us, 300 * second_us, 300 * second_us},
		{299 * second_us + 1, 300 * second_us, 300 * second_us + 1},
		{400 * second_us, 300 * second_us, 401 * second_us},
		{0, 1000, 1000},
		{7, 1000, 1007},
	};

	setup(true, 1);
	CHECK(flow_next_check(&table, 0, second_us) == UINT64_MAX);
	now_us = 0;
	add(0);
	for (size_t i = 0; i < ARRAY_SIZE(rows_us); i++)
		CHECK_NUMBER(flow_next_check(&table, rows_us[i][0], rows_us[i][1]), rows_us[i][2]);
	flow_table_free(&table);
}

int main(void)
{
	test("random calls of enc and dec do the same to table and model", random_runs);
	test("a table holds 65536 flows, and no more until a tag is free", all_tags_in_use);
	test("clients that differ in one thing have different flows, spread over the buckets",
		all_differences);
	test("the key decides the hash of a client", other_key);
	test("the next check is when a flow can be idle, at most once a second", next_checks);
	return tests_end();
}
