/*
 * The queue beside a model of it. The model is slow and plain: one array of frames, searched
 * through at each step. Both get the same calls. After each call they agree on the number of frames
 * that wait, on all counters and on every byte that leaves. Examples show what both could get wrong
 * in the same way.
 */
#include "queue.h"

#include "check.h"
#include "util.h"

#define BLOCKS(size) (((size) + BLOCK - 1) / BLOCK)
#define NEVER UINT64_MAX
#define STAMPS (UINT64_C(1) << 32) /* more than there are */

enum {
	HEADER = FRAME_HEADER_SIZE,
	BLOCK = 512,
	QUANTUM = 1514 + HEADER,
	BIG = 1024 * 1024,
	FRAMES_MAX = BIG / BLOCK,
	MODEL_FLOWS = 8,
	NONE = MODEL_FLOWS,
	LEAVING = MODEL_FLOWS, /* rows of frames beside those of the flows */
	RECALLED,
	NOISE_PERIOD = 65521,
	TAG_STEP = 0x2001,
	SIZES = 6,
	BULK = 1, /* flows of the examples */
	SPARSE,
};

static const uint64_t target_us = 5 * US_PER_MS, interval_us = 100 * US_PER_MS;
static uint64_t now_us;

/* --- the model ---------------------------------------------------------------------------- */

struct item {
	uint32_t number; /* of the frame: says its bytes */
	uint32_t size, flow, row;
	uint64_t queued_us;
};

struct codel {
	bool is_dropping;
	uint32_t count, last_count;
	uint64_t first_above_us, drop_next_us;
};

static struct {
	struct item items[FRAMES_MAX]; /* each row in its order */
	size_t count, block_limit;
	uint64_t target_us, interval_us, stale_us, stamp;
	struct codel codel[MODEL_FLOWS];
	int deficit[MODEL_FLOWS];
	uint64_t turn[MODEL_FLOWS]; /* the least is first: a stamp for new flows, + STAMPS for old
				       ones */
	uint64_t loss[MODEL_FLOWS]; /* the least loses first: a stamp, + STAMPS for each block not
				       used */
	struct counters counters;
} model;

static uint32_t least(const uint64_t keys[static MODEL_FLOWS])
{
	uint32_t found = 0;

	for (uint32_t i = 1; i < MODEL_FLOWS; i++)
		if (keys[i] < keys[found])
			found = i;
	return keys[found] == NEVER ? NONE : found;
}

/* How many parts of `unit` bytes the frames of a row take. */
static size_t sum(uint32_t row, size_t unit)
{
	size_t parts = 0;

	for (size_t i = 0; i < model.count; i++)
		if (model.items[i].row == row)
			parts += (model.items[i].size + unit - 1) / unit;
	return parts;
}

static struct item *first(uint32_t row)
{
	size_t i = 0;

	while (i < model.count && model.items[i].row != row)
		i++;
	return i < model.count ? &model.items[i] : NULL;
}

static void row_changed(uint32_t row)
{
	if (row >= MODEL_FLOWS)
		return;
	model.loss[row] = (FRAMES_MAX - sum(row, BLOCK)) * STAMPS + ++model.stamp;
	if (first(row))
		return;
	model.loss[row] = NEVER;
	model.codel[row].first_above_us = 0;
	model.codel[row].is_dropping = false;
}

static struct item take(struct item *place)
{
	struct item item = *place;

	memmove(place, place + 1, (size_t)(&model.items[--model.count] - place) * sizeof(item));
	row_changed(item.row);
	return item;
}

static void put(struct item item, uint32_t row)
{
	item.row = row;
	model.items[model.count++] = item;
	row_changed(row);
	if (row >= MODEL_FLOWS || model.turn[row] != NEVER)
		return;
	model.turn[row] = ++model.stamp;
	model.deficit[row] = QUANTUM;
}

static void model_push(struct item item)
{
	size_t blocks = BLOCKS(item.size);

	for (uint32_t row = 0; row <= LEAVING; row++)
		blocks += sum(row, BLOCK);
	while (blocks > model.block_limit) {
		uint32_t flow = least(model.loss);

		model.counters.value[DROP_QUEUE_FULL]++;
		if (flow == NONE)
			return;
		blocks -= BLOCKS(take(first(flow)).size);
	}
	put(item, item.flow);
}

/* RFC 8290, 4.2: whose turn it is. */
static uint32_t next_flow(void)
{
	uint32_t i;

	while ((i = least(model.turn)) != NONE) {
		bool has_deficit = model.deficit[i] > 0, is_old = model.turn[i] > STAMPS;

		if (has_deficit && first(i))
			break;
		model.turn[i] = has_deficit && is_old ? NEVER : STAMPS + ++model.stamp;
		model.deficit[i] += has_deficit ? 0 : QUANTUM;
	}
	return i;
}

static void leave(uint32_t flow, struct item item)
{
	model.deficit[flow] -= (int)item.size;
	put(item, LEAVING);
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

	codel->is_dropping = ok_to_drop(codel, bytes_left, sojourn_us);
	if (!codel->is_dropping || (was_dropping && now_us < codel->drop_next_us))
		return false;
	if (was_dropping) {
		codel->drop_next_us += control_law(++codel->count);
		return true;
	}
	if (delta <= 1 || now_us >= codel->drop_next_us + 16 * model.interval_us)
		delta = 1;
	codel->count = codel->last_count = delta;
	codel->drop_next_us = now_us + control_law(delta);
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
			leave(flow, item);
	}
}

static void model_begin(void)
{
	memset(model.codel, 0, sizeof(model.codel));
	memset(model.turn, 0xff, sizeof(model.turn)); /* NEVER */
	memset(model.loss, 0xff, sizeof(model.loss));
}

static void model_recall(uint64_t stale_us)
{
	uint32_t flow;

	while ((flow = next_flow()) != NONE)
		leave(flow, take(first(flow)));
	for (size_t count = model.count; count > 0; count--) {
		struct item item = take(model.items);

		if (now_us - item.queued_us > stale_us)
			model.counters.value[DROP_STALE]++;
		else
			put(item, RECALLED);
	}
	model_begin();
}

/* --- both get the same calls -------------------------------------------------------------- */

static struct queue queue;
static struct counters counters;
static uint32_t pushed;
static uint8_t noise[NOISE_PERIOD + FRAME_PAYLOAD_MAX];
static uint8_t gathered[2 * FRAME_SIZE_MAX]; /* what leaves next, put together */

static void set_codel(uint64_t target, uint64_t interval)
{
	queue_set_codel(&queue, target, interval);
	model.target_us = target;
	model.interval_us = interval;
}

static void set_stale(uint64_t stale_us)
{
	queue_set_stale(&queue, stale_us);
	model.stale_us = stale_us;
}

static void setup(size_t capacity)
{
	memset(&model, 0, sizeof(model));
	memset(&counters, 0, sizeof(counters));
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = random_byte();
	now_us = 1234567890;
	model.block_limit = BLOCKS(capacity);
	model.stale_us = UINT64_MAX;
	model_begin();
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
	memcpy(to + HEADER, noise + item->number % NOISE_PERIOD, item->size - HEADER);
	return item->size;
}

static void push(uint32_t flow, uint32_t size)
{
	static uint8_t frame[FRAME_SIZE_MAX];
	struct item item = {++pushed, size, flow, flow, now_us};

	queue_push(&queue, frame, put_frame(frame, &item), now_us, &counters);
	model_push(item);
	agree();
}

static void push_many(size_t count, uint32_t flow, uint32_t size)
{
	while (count-- > 0)
		push(flow, size);
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
	size_t size = 0, wanted_size = 0;

	CHECK(count <= QUEUE_PIECES_MAX);
	for (int i = 0; i < count; size += pieces[i++].iov_len)
		memcpy(gathered + size, pieces[i].iov_base, pieces[i].iov_len);
	model_gather(budget, sparse_extra);
	for (size_t i = 0; i < model.count; i++)
		if (model.items[i].row == LEAVING)
			wanted_size += put_frame(wanted + wanted_size, &model.items[i]);
	if (CHECK_NUMBER(size, wanted_size))
		CHECK(memcmp(gathered, wanted, size) == 0);
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
	if (CHECK_NUMBER(rest_size, end - written))
		CHECK(memcmp(rest, gathered + written, rest_size) == 0);
	agree();
}

/* The next frame leaves, and only that. Returns its flow. */
static uint32_t pop(void)
{
	settle(gather(1, 0));
	return (uint32_t)(UINT16_MAX - le16_load(gathered + 4)) / TAG_STEP;
}

/* Each frame gets any tag in the new stream, or is dropped. */
static void recall(uint64_t stale_us)
{
	uint16_t tag;

	queue_recall(&queue, now_us, stale_us, &counters);
	model_recall(stale_us);
	while (queue_next_recalled(&queue, &tag) && first(RECALLED)) {
		struct item item = take(first(RECALLED));

		CHECK_NUMBER(tag, tag_of(item.flow));
		item.flow = random_below(MODEL_FLOWS + 1);
		if (item.flow == NONE) {
			queue_drop_recalled(&queue, &counters);
			model.counters.value[DROP_PIPE_CLOSED]++;
		} else {
			queue_requeue_recalled(&queue, tag_of(item.flow));
			put(item, item.flow);
		}
		agree();
	}
	CHECK(!queue_next_recalled(&queue, &tag));
	agree();
}

/* --- long random runs --------------------------------------------------------------------- */

static const uint32_t *sizes; /* SIZES of them, in this run */

static uint32_t random_size(void)
{
	return sizes[random_below(SIZES)];
}

static size_t random_room(void)
{
	const size_t rooms[] = {
		0, 1, random_size(), 2 * random_size(), sum(LEAVING, 1) + random_size(), SIZE_MAX};

	return rooms[random_below(ARRAY_SIZE(rooms))];
}

static void set_at_random(void)
{
	static const uint64_t intervals_us[] = {1, 10, 300, 20000};
	uint64_t interval = intervals_us[random_below(ARRAY_SIZE(intervals_us))];
	const uint64_t targets_us[] = {0, 1, interval / 20, interval};

	set_codel(targets_us[random_below(ARRAY_SIZE(targets_us))], interval);
	set_stale(random_below(4) == 0 ? random_below(50) * interval : UINT64_MAX);
}

/* Pushes are that many of 8 steps. */
static void random_step(uint32_t pushes)
{
	size_t size;

	now_us += random_below((uint32_t)model.interval_us / 4 + 2);
	if (random_below(8) < pushes) {
		push(random_below(1 + random_below(MODEL_FLOWS)), random_size());
		return;
	}
	size = gather(random_room(), random_room());
	if (random_below(4) > 0)
		settle(random_below(2) == 0 ? size : random_below((uint32_t)size + 1));
	if (random_below(100) == 0)
		drop_tag(random_below(MODEL_FLOWS), DROP_NO_FLOW);
	if (random_below(500) == 0)
		recall(random_below(20) * model.interval_us);
	if (random_below(500) == 0)
		set_at_random();
}

static void random_runs(void)
{
	static const uint32_t rows[][SIZES] = {
		{HEADER, HEADER, HEADER + 1, 60, BLOCK - 1, BLOCK},
		{BLOCK, BLOCK, 2 * BLOCK, 2 * BLOCK, 4 * BLOCK, 8 * BLOCK},
		{HEADER, BLOCK, BLOCK + 1, 1023, 1025, 1400},
		{QUANTUM - 1, QUANTUM, QUANTUM + 1, 40, 300, 9000},
		{HEADER, QUANTUM, 1400, 9000, FRAME_SIZE_MAX - 1, FRAME_SIZE_MAX},
	};

	for (size_t run = 0; run < 100 && checks_failed == 0; run++) {
		uint32_t pushes = 3 + random_below(5);

		setup(FRAME_SIZE_MAX + random_below(3) * random_below(3 * FRAME_SIZE_MAX));
		sizes = rows[run % ARRAY_SIZE(rows)];
		set_at_random();
		for (size_t step = 0; step < 2000 && checks_failed == 0; step++)
			random_step(pushes);
		while (checks_failed == 0 && queue_frames(&queue) > 0)
			settle(gather(SIZE_MAX, 0));
		queue_free(&queue);
	}
}

/* --- examples ----------------------------------------------------------------------------- */

static void sparse_flow(void)
{
	setup(BIG);
	push_many(100, BULK, QUANTUM);
	for (size_t i = 0; i < 30; i++) {
		CHECK_NUMBER(pop(), BULK);
		CHECK_NUMBER(pop(), BULK);
		push(SPARSE, 100);
		CHECK_NUMBER(pop(), SPARSE);
	}
	queue_free(&queue);
}

static void sparse_extra(void)
{
	setup(BIG);
	push_many(3, BULK, QUANTUM);
	CHECK_NUMBER(gather(QUANTUM, 0), QUANTUM);
	push_many(2, SPARSE, 100);
	CHECK_NUMBER(gather(QUANTUM, 99), QUANTUM);
	CHECK_NUMBER(gather(QUANTUM, 199), QUANTUM + 100);
	CHECK_NUMBER(gather(QUANTUM, SIZE_MAX), QUANTUM + 200);
	queue_free(&queue);
}

static void equal_shares(void)
{
	static const uint32_t size_of[MODEL_FLOWS] = {
		60, 300, 512, 1400, 1400, QUANTUM, 9000, 65000};
	size_t sent[MODEL_FLOWS] = {0};

	setup(BIG);
	for (uint32_t flow = 0; flow < MODEL_FLOWS; flow++)
		push_many(2, flow, size_of[flow]);
	for (size_t i = 0; i < 3000; i++) {
		uint32_t flow = pop();

		push(flow, size_of[flow]); /* so that it never runs empty */
		sent[flow] += size_of[flow];
		for (uint32_t other = 0; other < MODEL_FLOWS; other++)
			CHECK(sent[flow] < sent[other] + QUANTUM + size_of[flow]);
	}
	queue_free(&queue);
}

static void greedy_flow(void)
{
	size_t left[MODEL_FLOWS] = {0};

	setup(FRAME_SIZE_MAX); /* 129 blocks */
	push_many(10, SPARSE, BLOCK);
	push_many(1000, BULK, BLOCK);
	push_many(5, SPARSE, BLOCK);
	CHECK_NUMBER(queue_frames(&queue), 129);
	while (queue_frames(&queue) > 0)
		left[pop()]++;
	CHECK_NUMBER(left[SPARSE], 15);
	CHECK_NUMBER(left[BULK], 129 - 15);
	queue_free(&queue);
}

static void longest_frame(void)
{
	setup(FRAME_SIZE_MAX);
	push(BULK, FRAME_SIZE_MAX);
	CHECK_NUMBER(gather(0, 0), 0);
	CHECK_NUMBER(gather(1, 0), FRAME_SIZE_MAX);
	queue_free(&queue);
}

static void neighbours(void)
{
	struct iovec pieces[QUEUE_PIECES_MAX];

	setup(BIG);
	push(BULK, 5 * BLOCK);
	push(BULK, 2 * BLOCK + 1);
	push(BULK, BLOCK);
	CHECK_NUMBER(queue_gather(&queue, SIZE_MAX, 0, now_us, &counters, pieces), 2);
	CHECK_NUMBER(pieces[0].iov_len, 7 * BLOCK + 1);
	queue_free(&queue);
}

/* One that has no more than a quantum behind the frame that leaves. */
static void short_flow(void)
{
	for (uint32_t size = QUANTUM; size <= QUANTUM + 1; size++) {
		setup(BIG);
		set_codel(target_us, interval_us);
		for (size_t i = 0; i < 100; i++) {
			push_many(i == 0 ? 2 : 1, BULK, size);
			now_us += interval_us;
			pop();
		}
		CHECK((counters.value[DROP_CODEL] > 0) == (size > QUANTUM));
		queue_free(&queue);
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
		set_codel(target_us, laws[law][0]);
		push_many(50, BULK, 1000);
		now_us += target_us;
		pop();
		for (size_t i = 0; i < ARRAY_SIZE(laws[law]); i++) {
			now_us += laws[law][i] - 1;
			pop();
			CHECK_NUMBER(counters.value[DROP_CODEL], i);
			now_us++;
			pop();
			CHECK_NUMBER(counters.value[DROP_CODEL], i + 1);
		}
		queue_free(&queue);
	}
}

int main(void)
{
	test("the queue does what the model does", random_runs);
	test("a sparse flow overtakes a bulk flow", sparse_flow);
	test("a sparse flow may use more than the budget", sparse_extra);
	test("backlogged flows get equal shares, to within a quantum and a frame", equal_shares);
	test("at a full queue the greedy flow loses its own frames", greedy_flow);
	test("the longest frame leaves in one gather, even with a budget of 1", longest_frame);
	test("blocks that lie side by side are one piece", neighbours);
	test("CoDel leaves a short flow alone", short_flow);
	test("CoDel drops at interval / sqrt(count)", drop_schedule);
	return tests_end();
}
