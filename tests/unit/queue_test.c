/*
 * The queue beside a model, which is slow and plain: one array of frames, searched through at each
 * step. Both get the same calls. After each they agree on the number of frames, on all counters and
 * on every byte that leaves. Examples show what both could get wrong in the same way.
 */
#include "queue.h"

#include "check.h"
#include "util.h"

#define BLOCKS(size) (((size) + BLOCK - 1) / BLOCK)
#define STAMPS (UINT64_C(1) << 32) /* more than there are */

enum {
	HEADER = FRAME_HEADER_SIZE,
	BLOCK = 512,
	QUANTUM = 1514 + HEADER,
	BIG = 1024 * 1024,
	FRAMES_MAX = BIG / BLOCK,
	LANES = 8, /* flows that there are */
	NONE = LANES,
	LEAVING = LANES, /* the row after those of the flows */
	ROWS,
	ALL = ROWS,
	TAG_STEP = 0x2001,
	SIZES = 6,
	BULK = 1, /* flows of the examples */
	SPARSE,
};

/* --- the model ---------------------------------------------------------------------------- */

struct item {
	uint64_t number, queued_us; /* the number says which bytes the frame has */
	uint32_t size, flow, row;
};

struct codel {
	bool is_dropping;
	uint32_t count, last_count;
	uint64_t first_above_us, drop_next_us;
};

static uint64_t now_us;
static struct {
	struct item items[FRAMES_MAX]; /* each row in its order */
	size_t count, block_limit;
	uint64_t target_us, interval_us, stale_us, stamp;
	uint64_t changed[ROWS]; /* a stamp */
	uint64_t turn[LANES];   /* a stamp for new flows, + STAMPS for old ones; 0: not listed */
	int deficit[LANES];
	struct codel codel[LANES];
	struct counters counters;
} model;

/* The flow with the least key, of those that are not 0. */
static uint32_t least(const uint64_t keys[static LANES])
{
	uint32_t found = 0;

	for (uint32_t i = 1; i < LANES; i++)
		if (keys[i] - 1 < keys[found] - 1)
			found = i;
	return keys[found] > 0 ? found : NONE;
}

/* How many parts of `unit` bytes the frames of a row take. */
static size_t sum(uint32_t row, size_t unit)
{
	size_t parts = 0;

	for (size_t i = 0; i < model.count; i++)
		if (row == ALL || model.items[i].row == row)
			parts += (model.items[i].size + unit - 1) / unit;
	return parts;
}

static struct item *first(uint32_t row)
{
	for (size_t i = 0; i < model.count; i++)
		if (model.items[i].row == row)
			return &model.items[i];
	return NULL;
}

static struct item take(struct item *place)
{
	struct item item = *place;

	memmove(place, place + 1, (size_t)(&model.items[--model.count] - place) * sizeof(item));
	model.changed[item.row] = ++model.stamp;
	return item;
}

static void put(struct item item)
{
	uint32_t flow = item.row = item.flow;

	if (!first(flow))
		model.codel[flow].first_above_us = 0;
	model.items[model.count++] = item;
	model.changed[flow] = ++model.stamp;
	if (model.turn[flow] > 0)
		return;
	model.turn[flow] = ++model.stamp;
	model.deficit[flow] = QUANTUM;
}

static void leave(struct item item)
{
	item.row = LEAVING;
	model.items[model.count++] = item;
	model.deficit[item.flow] -= (int)item.size;
}

/* The flow that uses most blocks loses first, and of such the one that has done so for longest. */
static void model_push(struct item item)
{
	size_t blocks = sum(ALL, BLOCK) + BLOCKS(item.size);
	uint64_t keys[LANES];
	struct item *loss;

	while (blocks > model.block_limit) {
		for (uint32_t i = 0; i < LANES; i++)
			keys[i] = (FRAMES_MAX - sum(i, BLOCK)) * STAMPS + model.changed[i];
		loss = first(least(keys));
		model.counters.value[DROP_QUEUE_FULL]++;
		if (!loss)
			return;
		blocks -= BLOCKS(take(loss).size);
	}
	put(item);
}

/* RFC 8290, 4.2: whose turn it is. */
static uint32_t next_flow(void)
{
	uint32_t i;

	while ((i = least(model.turn)) != NONE && (model.deficit[i] <= 0 || !first(i))) {
		bool is_over = model.deficit[i] > 0 && model.turn[i] > STAMPS;

		model.turn[i] = is_over ? 0 : STAMPS + ++model.stamp;
		model.deficit[i] += model.deficit[i] > 0 ? 0 : QUANTUM;
	}
	return i;
}

/* RFC 8289, 5.5: interval / sqrt(count). */
static uint64_t control_law(uint32_t count)
{
	double root = 1;

	for (int i = 0; i < 50; i++)
		root = (root + count / root) / 2;
	return (uint64_t)((double)model.interval_us / root);
}

/* RFC 8289, 5.5: dodequeue(). */
static bool ok_to_drop(struct codel *codel, size_t bytes_left, uint64_t sojourn_us)
{
	if (model.target_us == 0 || sojourn_us < model.target_us || bytes_left <= QUANTUM)
		codel->first_above_us = 0;
	else if (codel->first_above_us == 0)
		codel->first_above_us = now_us + model.interval_us;
	else
		return now_us >= codel->first_above_us;
	return false;
}

/* RFC 8289, 5.5: deque(), frame by frame. So each drop moves drop_next, the last one too. */
static bool codel_drops(struct codel *codel, size_t bytes_left, uint64_t sojourn_us)
{
	uint32_t delta = codel->count - codel->last_count;
	bool was_dropping = codel->is_dropping;
	bool is_soon = now_us < codel->drop_next_us + 16 * model.interval_us;

	codel->is_dropping = ok_to_drop(codel, bytes_left, sojourn_us);
	if (!codel->is_dropping || (was_dropping && now_us < codel->drop_next_us))
		return false;
	if (was_dropping) {
		codel->count++;
	} else {
		codel->count = codel->last_count = delta > 1 && is_soon ? delta : 1;
		codel->drop_next_us = now_us;
	}
	codel->drop_next_us += control_law(codel->count);
	return true;
}

static bool may_leave(uint32_t flow, size_t budget, size_t sparse_extra)
{
	size_t size = first(flow)->size, bytes = sum(LEAVING, 1) + size;
	double room = (double)budget + (model.turn[flow] < STAMPS ? (double)sparse_extra : 0);

	if (!first(LEAVING))
		return room > 0;
	return (double)bytes <= room && bytes <= QUEUE_LEAVING_MAX &&
	       sum(LEAVING, BLOCK) + BLOCKS(size) <= QUEUE_PIECES_MAX;
}

static void model_gather(size_t budget, size_t sparse_extra)
{
	uint32_t flow;

	while ((flow = next_flow()) != NONE && may_leave(flow, budget, sparse_extra)) {
		struct item item = take(first(flow));
		uint64_t sojourn_us = now_us - item.queued_us;

		if (sojourn_us > model.stale_us)
			model.counters.value[DROP_STALE]++;
		else if (codel_drops(&model.codel[flow], sum(flow, 1), sojourn_us))
			model.counters.value[DROP_CODEL]++;
		else
			leave(item);
	}
}

/* --- both get the same calls -------------------------------------------------------------- */

static struct queue queue;
static struct counters counters;
static uint8_t noise[2 * FRAME_SIZE_MAX];
static uint8_t gathered[2 * FRAME_SIZE_MAX]; /* what leaves next, put together */

static void set(uint64_t target_us, uint64_t interval_us, uint64_t stale_us)
{
	queue_set_codel(&queue, target_us, interval_us);
	queue_set_stale(&queue, stale_us);
	model.target_us = target_us;
	model.interval_us = interval_us;
	model.stale_us = stale_us;
}

/* Each queue takes the place of the one before. */
static void setup(size_t capacity)
{
	queue_free(&queue);
	memset(&model, 0, sizeof(model));
	memset(&counters, 0, sizeof(counters));
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = random_byte();
	now_us = 1234567890;
	model.block_limit = BLOCKS(capacity);
	model.stale_us = UINT64_MAX;
	if (!CHECK(queue_init(&queue, capacity)))
		exit(EXIT_FAILURE);
}

static void agree(void)
{
	CHECK_NUMBER(queue_frames(&queue), model.count);
	for (size_t i = 0; i < COUNTERS; i++)
		check_number(counters.value[i], model.counters.value[i],
			counter_key((enum counter)i), __FILE__, __LINE__);
}

static uint16_t tag_of(uint32_t flow)
{
	return (uint16_t)(UINT16_MAX - flow * TAG_STEP);
}

static size_t put_frame(uint8_t *to, const struct item *item)
{
	frame_put_header(to, FRAME_DATA, tag_of(item->flow), (uint16_t)(item->size - HEADER));
	memcpy(to + HEADER, noise + item->number % FRAME_SIZE_MAX, item->size - HEADER);
	return item->size;
}

static void push(size_t count, uint32_t flow, size_t size)
{
	static uint8_t frame[FRAME_SIZE_MAX];

	for (; count > 0; count--) {
		struct item item = {++model.stamp, now_us, (uint32_t)size, flow, flow};

		queue_push(&queue, frame, put_frame(frame, &item), now_us, &counters);
		model_push(item);
		agree();
	}
}

static void drop_tag(uint32_t flow, enum counter cause)
{
	queue_drop_tag(&queue, tag_of(flow), &counters, cause);
	for (size_t i = model.count; i > 0; i--)
		if (model.items[i - 1].flow == flow) {
			take(&model.items[i - 1]);
			model.counters.value[cause]++;
		}
	agree();
}

/* Returns how many bytes leave next. */
static size_t gather(size_t budget, size_t sparse_extra)
{
	static uint8_t wanted[sizeof(gathered)];
	struct iovec pieces[QUEUE_PIECES_MAX];
	int count = queue_gather(&queue, budget, sparse_extra, now_us, &counters, pieces);
	const uint8_t *end = NULL;
	size_t size = 0, wanted_size = 0;

	for (int i = 0; i < count; size += pieces[i++].iov_len) {
		CHECK(pieces[i].iov_base != end); /* neighbours are one piece */
		memcpy(gathered + size, pieces[i].iov_base, pieces[i].iov_len);
		end = (uint8_t *)pieces[i].iov_base + pieces[i].iov_len;
	}
	model_gather(budget, sparse_extra);
	for (size_t i = 0; i < model.count; i++)
		if (model.items[i].row == LEAVING)
			wanted_size += put_frame(wanted + wanted_size, &model.items[i]);
	CHECK(size == wanted_size && memcmp(gathered, wanted, size) == 0);
	agree();
	return size;
}

/* Of the bytes last gathered, the first ones leave. */
static void settle(size_t written)
{
	static uint8_t rest[FRAME_SIZE_MAX];
	size_t rest_size, end = 0, whole = 0;

	while (end < written && first(LEAVING)) {
		end += take(first(LEAVING)).size;
		whole += end <= written;
	}
	CHECK_NUMBER(queue_settle(&queue, written, rest, &rest_size), whole);
	CHECK(rest_size == end - written && memcmp(rest, gathered + written, rest_size) == 0);
	agree();
}

/* The next frame leaves, and only that. Returns its flow. */
static uint32_t pop(void)
{
	settle(gather(1, 0));
	return (uint32_t)(UINT16_MAX - le16_load(gathered + 4)) / TAG_STEP;
}

/* In the new stream each frame gets another tag, or is dropped. */
static void recall(uint64_t stale_us)
{
	uint32_t flow;
	uint16_t tag;

	queue_recall(&queue, now_us, stale_us, &counters);
	while ((flow = next_flow()) != NONE)
		leave(take(first(flow)));
	memset(model.codel, 0, sizeof(model.codel));
	memset(model.turn, 0, sizeof(model.turn));
	while (first(LEAVING)) {
		struct item item = take(first(LEAVING));

		if (now_us - item.queued_us > stale_us) {
			model.counters.value[DROP_STALE]++;
			continue;
		}
		if (!CHECK(queue_next_recalled(&queue, &tag) && tag == tag_of(item.flow)))
			return;
		item.flow = random_below(LANES + 1);
		if (item.flow == NONE) {
			queue_drop_recalled(&queue, &counters);
			model.counters.value[DROP_PIPE_CLOSED]++;
		} else {
			queue_requeue_recalled(&queue, tag_of(item.flow));
			put(item);
		}
	}
	CHECK(!queue_next_recalled(&queue, &tag));
	agree();
}

/* --- long random runs --------------------------------------------------------------------- */

/* Pushes are that many of 8 steps. */
static void random_step(const uint32_t sizes[static SIZES], uint32_t pushes)
{
	size_t size = sizes[random_below(SIZES)];
	const size_t rooms[] = {size, sum(LEAVING, 1) + size, 2 * size, 1, 0, SIZE_MAX};

	now_us += (model.interval_us + 7) / 8 * random_below(3);
	if (random_below(8) < pushes) {
		push(random_below(500) > 0 ? 1 : 500, random_below(1 + random_below(LANES)), size);
		return;
	}
	size = gather(rooms[random_below(1 + random_below(6))], rooms[random_below(6)]);
	if (random_below(4) > 0)
		settle(random_below(2) == 0 ? size : random_below((uint32_t)size + 1));
	if (random_below(200) == 0)
		drop_tag(random_below(LANES), DROP_NO_FLOW);
	if (random_below(500) == 0)
		recall(random_below(20) * model.interval_us);
}

/* Sizes and settings change while frames wait; now and then a new queue begins. */
static void random_runs(void)
{
	static const uint32_t sizes[5][SIZES] = {
		{HEADER, HEADER, HEADER + 1, 60, BLOCK - 1, BLOCK},
		{BLOCK, BLOCK, 2 * BLOCK, 2 * BLOCK, 4 * BLOCK, 8 * BLOCK},
		{HEADER, BLOCK, BLOCK + 1, 1023, 1025, 1400},
		{QUANTUM - 1, QUANTUM, QUANTUM + 1, 40, 300, 9000},
		{HEADER, QUANTUM, 1400, 9000, FRAME_SIZE_MAX - 1, FRAME_SIZE_MAX},
	};

	for (uint32_t run = 0; run < 400; run++) {
		uint64_t interval_us = UINT64_C(1) << 3 * random_below(4);

		if (run % 8 == 0)
			setup(FRAME_SIZE_MAX + random_below(2) * random_below(6 * FRAME_SIZE_MAX));
		set((interval_us / 20 + 1) * random_below(3), interval_us,
			random_below(4) > 0 ? UINT64_MAX : random_below(50) * interval_us);
		for (size_t step = 0; step < 1000 && checks_failed == 0; step++)
			random_step(sizes[run % 5], 3 + run / 5 % 5);
	}
}

/* --- examples ----------------------------------------------------------------------------- */

static void sparse_flow(void)
{
	setup(BIG);
	push(100, BULK, QUANTUM);
	for (size_t i = 0; i < 30; i++) {
		CHECK_NUMBER(pop(), BULK);
		CHECK_NUMBER(pop(), BULK);
		push(1, SPARSE, 100);
		CHECK_NUMBER(pop(), SPARSE);
	}
}

static void equal_shares(void)
{
	static const size_t size_of[LANES] = {60, 300, 512, 1400, 1400, QUANTUM, 9000, 65000};
	size_t sent[LANES] = {0};

	setup(BIG);
	for (uint32_t flow = 0; flow < LANES; flow++)
		push(2, flow, size_of[flow]);
	for (size_t i = 0; i < 3000; i++) {
		uint32_t flow = pop();

		push(1, flow, size_of[flow]); /* so that it never runs empty */
		sent[flow] += size_of[flow];
		for (uint32_t other = 0; other < LANES; other++)
			CHECK(sent[flow] < sent[other] + QUANTUM + size_of[flow]);
	}
}

static void greedy_flow(void)
{
	size_t left[LANES] = {0};

	setup(FRAME_SIZE_MAX); /* 129 blocks */
	push(10, SPARSE, BLOCK);
	push(1000, BULK, BLOCK);
	push(5, SPARSE, BLOCK);
	CHECK_NUMBER(queue_frames(&queue), 129);
	while (queue_frames(&queue) > 0)
		left[pop()]++;
	CHECK_NUMBER(left[SPARSE], 15);
}

static void longest_frame(void)
{
	setup(FRAME_SIZE_MAX);
	push(1, BULK, FRAME_SIZE_MAX);
	CHECK_NUMBER(gather(1, 0), FRAME_SIZE_MAX);
}

/* One that has no more than a quantum behind the frame that leaves. */
static void short_flow(void)
{
	for (size_t size = QUANTUM; size <= QUANTUM + 1; size++) {
		setup(BIG);
		set(5000, 100000, UINT64_MAX);
		for (size_t i = 0; i < 100; i++) {
			push(i == 0 ? 2 : 1, BULK, size);
			now_us += 100000;
			pop();
		}
		CHECK((counters.value[DROP_CODEL] > 0) == (size > QUANTUM));
	}
}

/* The first drop comes an interval after the first late frame, then each at its distance. */
static void drop_schedule(void)
{
	static const uint64_t laws[][6] = {
		{100000, 100000, 70710, 57735, 50000, 44721},
		{3600000000, 3600000000, 2545584412, 2078460969, 1800000000, 1609968943},
	};

	for (size_t law = 0; law < ARRAY_SIZE(laws); law++) {
		setup(BIG);
		set(5000, laws[law][0], UINT64_MAX);
		push(50, BULK, 1000);
		now_us += 5000;
		pop();
		for (size_t i = 0; i < ARRAY_SIZE(laws[law]); i++) {
			now_us += laws[law][i] - 1;
			pop();
			CHECK_NUMBER(counters.value[DROP_CODEL], i);
			now_us++;
			pop();
		}
	}
}

int main(void)
{
	test("the queue does what the model does", random_runs);
	test("a sparse flow overtakes a bulk flow", sparse_flow);
	test("backlogged flows get equal shares, to within a quantum and a frame", equal_shares);
	test("at a full queue the greedy flow loses frames and the small one none", greedy_flow);
	test("the longest frame leaves in one gather, even with a budget of 1", longest_frame);
	test("CoDel leaves a short flow alone", short_flow);
	test("CoDel drops at interval / sqrt(count)", drop_schedule);
	queue_free(&queue);
	return tests_end();
}
