#include "queue.h"

#include "check.h"
#include "frame.h"
#include "util.h"

enum {
	HEADER = FRAME_HEADER_SIZE,
	BLOCK = 512,
	QUANTUM = 1514 + HEADER,
	BIG = 4 * 1024 * 1024, /* as the programs have it */
	SMALL = 64 * BLOCK + FRAME_SIZE_MAX,
	SMALL_BLOCKS = (SMALL + BLOCK - 1) / BLOCK,
	LONGEST_BLOCKS = (FRAME_SIZE_MAX + BLOCK - 1) / BLOCK,
	MARK_SIZE = 6, /* flow:u16 number:u32, at the start of each payload if it is long enough */
	FLOWS_MAX = 65536,
	WAITING_MAX = 4 * FRAME_SIZE_MAX,
	DROPS_SHOWN = 12,
	RANDOM_FLOWS = 60,
};

static const uint64_t target_us = 5 * US_PER_MS, interval_us = 100 * US_PER_MS;

static struct queue queue;
static struct counters counters;
static uint64_t now_us;

static uint8_t frame[FRAME_SIZE_MAX];
static uint32_t pushed_of[FLOWS_MAX], last_of[FLOWS_MAX]; /* numbers of frames: from 1 */
static uint64_t pushed, completed;
static uint32_t tag_shift, flow_count;

static uint8_t waiting[WAITING_MAX]; /* what queue_peek() returned, put together */
static uint8_t reader[FRAME_SIZE_MAX];
static size_t reader_used; /* bytes of a frame of which not all have left */

/* What left last. */
static struct {
	enum frame_kind kind;
	uint16_t flow;
	uint32_t number;
	size_t size;
} seen;

/* --- helpers ------------------------------------------------------------------------------- */

static void setup(size_t capacity)
{
	memset(&counters, 0, sizeof(counters));
	memset(pushed_of, 0, sizeof(pushed_of));
	memset(last_of, 0, sizeof(last_of));
	memset(&seen, 0, sizeof(seen));
	pushed = completed = 0;
	reader_used = 0;
	tag_shift = flow_count = 0;
	now_us = 1234567890;
	if (!CHECK(queue_init(&queue, capacity)))
		exit(EXIT_FAILURE);
}

static uint64_t dropped(void)
{
	return counters.value[DROP_QUEUE_FULL] + counters.value[DROP_STALE] +
	       counters.value[DROP_CODEL] + counters.value[DROP_NO_FLOW] +
	       counters.value[DROP_PIPE_CLOSED];
}

/* What holds at any time. */
static bool is_consistent(void)
{
	return CHECK_NUMBER(queue.frames, pushed - completed - dropped()) &&
	       CHECK_NUMBER(queue_is_inside_frame(&queue), reader_used > 0) &&
	       CHECK(!queue_is_empty(&queue) || (queue.blocks_used == 0 && queue.frames == 0));
}

static void teardown(void)
{
	is_consistent();
	queue_free(&queue);
}

/* Tags are the flows' numbers until a recall gives them other ones. */
static uint16_t tag_of(uint32_t flow)
{
	if (flow_count > 0)
		flow = (flow + tag_shift) % flow_count;
	return (uint16_t)flow;
}

static uint8_t payload_byte(uint16_t flow, uint32_t number, size_t at)
{
	uint8_t mark[MARK_SIZE] = {0};

	le16_store(mark, flow);
	for (size_t i = 0; i < 4; i++)
		mark[2 + i] = (uint8_t)(number >> 8 * i);
	return at < MARK_SIZE ? mark[at] : (uint8_t)(flow + number * 31 + at * 7);
}

static void make_frame(uint16_t flow, uint32_t number, size_t size)
{
	if (!CHECK(size >= HEADER && size <= sizeof(frame)))
		exit(EXIT_FAILURE);
	frame_put_header(frame, FRAME_DATA, tag_of(flow), (uint16_t)(size - HEADER));
	for (size_t i = 0; i < size - HEADER; i++)
		frame[HEADER + i] = payload_byte(flow, number, i);
}

static void make_control(size_t size)
{
	make_frame(0, 0, size);
	frame[3] = 'C';
}

static void push(uint16_t flow, size_t size)
{
	make_frame(flow, ++pushed_of[flow], size);
	pushed++;
	queue_push(&queue, frame, size, now_us, &counters);
}

static void push_many(size_t count, uint16_t flow, size_t size)
{
	while (count-- > 0)
		push(flow, size);
}

/* A frame of which `gone` bytes were written before the queue got the rest. */
static void push_rest(uint16_t flow, size_t size, size_t gone, bool is_data)
{
	if (is_data)
		make_frame(flow, ++pushed_of[flow], size);
	else
		make_control(size);
	memcpy(reader, frame, gone);
	reader_used = gone;
	pushed += is_data;
	queue_push_rest(&queue, frame + gone, size - gone, is_data);
}

static void push_control(size_t size)
{
	make_control(size);
	queue_push_control(&queue, frame, size);
}

static void push_last(size_t size)
{
	make_control(size);
	queue_push_last(&queue, frame, size);
}

static void drop_tag(uint16_t flow, enum counter cause)
{
	queue_drop_tag(&queue, tag_of(flow), &counters, cause);
}

/* Gives each recalled frame the tag that its flow has in the new stream. */
static void requeue_all(void)
{
	uint16_t tag;

	tag_shift++;
	while (queue_next_recalled(&queue, &tag))
		queue_requeue_recalled(&queue, (uint16_t)((tag + 1) % flow_count));
}

/* Puts what may be written together. Returns how many bytes. */
static size_t peek(size_t budget)
{
	struct iovec pieces[QUEUE_PIECES_MAX];
	int count = queue_peek(&queue, budget, now_us, &counters, pieces);
	size_t used = 0;

	CHECK(count <= QUEUE_PIECES_MAX);
	for (int i = 0; i < count; i++) {
		if (!CHECK(pieces[i].iov_len > 0 && pieces[i].iov_len <= WAITING_MAX - used))
			exit(EXIT_FAILURE);
		memcpy(waiting + used, pieces[i].iov_base, pieces[i].iov_len);
		used += pieces[i].iov_len;
	}
	return used;
}

/* A whole frame has left: its bytes must be those pushed, and later than its flow's last ones. */
static void check_frame(void)
{
	const uint8_t *payload = reader + HEADER;
	size_t length = reader_used - HEADER;

	seen.kind = reader[3] == 'C' ? FRAME_CONTROL : FRAME_DATA;
	seen.size = reader_used;
	if (!CHECK(memcmp(reader, "UOT", 3) == 0) || length < MARK_SIZE)
		return;
	seen.flow = le16_load(payload);
	seen.number = le16_load(payload + 2) | (uint32_t)le16_load(payload + 4) << 16;
	for (size_t i = 0; i < length; i++)
		if (!CHECK_NUMBER(payload[i], payload_byte(seen.flow, seen.number, i)))
			return;
	if (seen.kind == FRAME_CONTROL)
		return;
	CHECK_NUMBER(le16_load(reader + 4), tag_of(seen.flow));
	CHECK(seen.number > last_of[seen.flow] && seen.number <= pushed_of[seen.flow]);
	last_of[seen.flow] = seen.number;
}

/* Reads bytes that have left as a receiver does. Returns how many data frames they complete. */
static size_t read_stream(const uint8_t *bytes, size_t size)
{
	size_t frames = 0;

	for (size_t i = 0; i < size; i++) {
		reader[reader_used++] = bytes[i];
		if (reader_used < HEADER || reader_used < HEADER + (size_t)le16_load(reader + 6))
			continue;
		check_frame();
		frames += seen.kind == FRAME_DATA;
		reader_used = 0;
	}
	return frames;
}

/* Takes off that many bytes of those last peeked at. */
static size_t consume(size_t size)
{
	size_t frames = read_stream(waiting, size);

	completed += frames;
	CHECK_NUMBER(queue_consume(&queue, size), frames);
	return frames;
}

/* Takes off what leaves next and no more: one frame, or what had been chosen before. */
static bool pop(void)
{
	size_t size = peek(1);

	consume(size);
	return size > 0;
}

static void pop_that(uint16_t flow, uint32_t number, size_t size)
{
	CHECK(pop());
	CHECK_NUMBER(seen.kind, FRAME_DATA);
	CHECK_NUMBER(seen.flow, flow);
	CHECK_NUMBER(seen.number, number);
	CHECK_NUMBER(seen.size, size);
}

static void pop_control(size_t size)
{
	if (CHECK(peek(0) >= size))
		CHECK_NUMBER(consume(size), 0);
	CHECK_NUMBER(seen.kind, FRAME_CONTROL);
	CHECK_NUMBER(seen.size, size);
}

static void drain(void)
{
	while (pop() && checks_failed < CHECKS_SHOWN_MAX)
		;
	CHECK(queue_is_empty(&queue));
}

/* --- one flow ------------------------------------------------------------------------------ */

static void empty_queue(void)
{
	setup(SMALL);
	CHECK(queue_is_empty(&queue));
	CHECK(!queue_is_inside_frame(&queue));
	CHECK(!queue_has_control(&queue));
	CHECK_NUMBER(queue.frames, 0);
	CHECK_NUMBER(peek(SIZE_MAX), 0);
	CHECK_NUMBER(consume(0), 0);
	teardown();
}

static void freed_queue(void)
{
	setup(SMALL);
	push(1, 100);
	queue_free(&queue);
	CHECK(queue_is_empty(&queue));
	queue_free(&queue); /* nothing left to free */
}

static void order_within_a_flow(void)
{
	setup(BIG);
	for (size_t i = 1; i <= 500; i++)
		push(7, HEADER + MARK_SIZE + 7 * i);
	for (uint32_t i = 1; i <= 500; i++)
		pop_that(7, i, HEADER + MARK_SIZE + 7 * i);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void frames_are_copied(void)
{
	setup(SMALL);
	push(1, 100);
	memset(frame, 0xee, sizeof(frame));
	pop_that(1, 1, 100);
	teardown();
}

static void every_length_around_a_block(void)
{
	setup(BIG);
	for (size_t size = HEADER; size <= 2 * BLOCK + 2; size++) {
		push(1, size);
		CHECK_NUMBER(queue.blocks_used, (size + BLOCK - 1) / BLOCK);
		CHECK_NUMBER(peek(SIZE_MAX), size);
		CHECK_NUMBER(consume(size), 1);
	}
	teardown();
}

static void longest_frame(void)
{
	setup(FRAME_SIZE_MAX);
	push(1, FRAME_SIZE_MAX);
	CHECK_NUMBER(peek(1), FRAME_SIZE_MAX);
	CHECK_NUMBER(consume(FRAME_SIZE_MAX - 1), 0);
	CHECK_NUMBER(peek(0), 1);
	CHECK_NUMBER(consume(1), 1);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void many_frames_at_once(void)
{
	setup(SMALL);
	push_many(10, 1, 20);
	CHECK_NUMBER(peek(SIZE_MAX), 200);
	CHECK_NUMBER(consume(45), 2);
	CHECK_NUMBER(queue.frames, 8);
	CHECK(queue_is_inside_frame(&queue));
	CHECK_NUMBER(peek(SIZE_MAX), 155);
	CHECK_NUMBER(consume(155), 8);
	CHECK(!queue_is_inside_frame(&queue));
	teardown();
}

static void byte_by_byte(void)
{
	setup(SMALL);
	push(1, 10);
	push(1, HEADER);
	push(1, 1300);
	for (size_t left = 1318; left > 0 && CHECK_NUMBER(peek(SIZE_MAX), left); left--) {
		bool ends = left == 1309 || left == 1301 || left == 1;

		CHECK_NUMBER(consume(1), ends);
		CHECK(queue_is_inside_frame(&queue) == !ends);
	}
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void consume_of_nothing(void)
{
	setup(SMALL);
	push(1, 100);
	peek(SIZE_MAX);
	CHECK_NUMBER(consume(0), 0);
	CHECK(!queue_is_inside_frame(&queue));
	consume(50);
	CHECK_NUMBER(consume(0), 0);
	CHECK(queue_is_inside_frame(&queue));
	teardown();
}

/* --- what leaves next ---------------------------------------------------------------------- */

static void budget(void)
{
	setup(BIG);
	push_many(10, 1, 1000);
	CHECK_NUMBER(peek(0), 0);
	CHECK_NUMBER(peek(2999), 2000);
	CHECK_NUMBER(peek(3000), 3000);
	CHECK_NUMBER(peek(0), 3000); /* these are chosen */
	consume(1500);
	CHECK_NUMBER(peek(2499), 1500);
	CHECK_NUMBER(peek(2500), 2500);
	consume(2500);
	CHECK_NUMBER(peek(0), 0);
	CHECK_NUMBER(peek(1), 1000);
	teardown();
}

/* One that has had its first quantum waits behind the others. */
static void push_bulk(uint16_t flow)
{
	push_many(10, flow, QUANTUM);
	pop_that(flow, 1, QUANTUM);
}

static void sparse_extra(void)
{
	setup(BIG);
	CHECK_NUMBER(queue.sparse_extra, 0);
	push_bulk(1);
	queue.sparse_extra = 300;
	CHECK_NUMBER(peek(0), 0);
	for (uint16_t flow = 2; flow <= 5; flow++)
		push(flow, 100);
	CHECK_NUMBER(peek(0), 300);
	CHECK_NUMBER(peek(0), 300); /* these are chosen */
	queue.sparse_extra = 0;
	CHECK_NUMBER(consume(300), 3);
	CHECK_NUMBER(seen.flow, 4);
	CHECK_NUMBER(peek(0), 0);
	pop_that(5, 1, 100);
	teardown();
}

/* What is chosen of sparse flows takes the room of others. */
static void sparse_extra_and_budget(void)
{
	setup(BIG);
	push_bulk(1);
	queue.sparse_extra = 100;
	CHECK_NUMBER(peek(QUANTUM - 1), QUANTUM); /* one is chosen in any case */
	consume(QUANTUM);
	CHECK_NUMBER(peek(2 * QUANTUM), 2 * QUANTUM);
	consume(2 * QUANTUM);
	for (uint16_t flow = 2; flow <= 5; flow++)
		push(flow, 100);
	CHECK_NUMBER(peek(250), 300);
	consume(300);
	CHECK_NUMBER(peek(QUANTUM), 100);
	CHECK_NUMBER(peek(QUANTUM + 99), 100);
	CHECK_NUMBER(peek(QUANTUM + 100), QUANTUM + 100);
	drain();
	teardown();
}

/* A flow is new for a quantum; of that it may have a frame more, or a long one. */
static void sparse_extra_of_new_flows(void)
{
	setup(BIG);
	queue.sparse_extra = 10 * QUANTUM;
	push_many(100, 1, 1000);
	CHECK_NUMBER(peek(0), 2000);
	consume(2000);
	CHECK_NUMBER(peek(0), 0);
	queue.sparse_extra = 1;
	push(2, FRAME_SIZE_MAX);
	CHECK_NUMBER(peek(0), FRAME_SIZE_MAX);
	consume(FRAME_SIZE_MAX);
	CHECK_NUMBER(seen.flow, 2);
	drain();
	teardown();
}

static void sparse_extra_without_end(void)
{
	static const size_t most[] = {1, SIZE_MAX - 1, SIZE_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(most); i++) {
		setup(BIG);
		for (uint16_t flow = 1; flow <= 200; flow++)
			push(flow, 1000);
		queue.sparse_extra = most[i];
		CHECK_NUMBER(peek(SIZE_MAX), QUEUE_LEAVING_MAX / 1000 * 1000);
		consume(QUEUE_LEAVING_MAX / 1000 * 1000);
		CHECK_NUMBER(peek(1999), i == 0 ? 2000 : QUEUE_LEAVING_MAX / 1000 * 1000);
		drain();
		teardown();
	}
}

static void few_are_chosen(void)
{
	setup(BIG);
	push_many(100, 1, 1000);
	CHECK_NUMBER(peek(SIZE_MAX), QUEUE_LEAVING_MAX / 1000 * 1000);
	push(2, QUEUE_LEAVING_MAX + 1);
	consume(QUEUE_LEAVING_MAX / 1000 * 1000);
	CHECK_NUMBER(peek(SIZE_MAX), QUEUE_LEAVING_MAX + 1);
	drain();
	teardown();
}

static void more_frames_than_pieces(void)
{
	setup(BIG);
	push_many(3000, 1, HEADER + MARK_SIZE);
	while (!queue_is_empty(&queue)) {
		size_t size = peek(SIZE_MAX);

		if (!CHECK(size > 0 && size % (HEADER + MARK_SIZE) == 0))
			break;
		consume(size);
	}
	CHECK_NUMBER(completed, 3000);
	teardown();
}

static void adjacent_blocks(void)
{
	struct iovec pieces[QUEUE_PIECES_MAX];

	setup(BIG);
	push(1, 5 * BLOCK);
	push(1, 2 * BLOCK + 1);
	push(1, BLOCK);
	CHECK_NUMBER(queue_peek(&queue, SIZE_MAX, now_us, &counters, pieces), 2);
	CHECK_NUMBER(pieces[0].iov_len, 7 * BLOCK + 1);
	CHECK_NUMBER(pieces[1].iov_len, BLOCK);
	teardown();
}

/* One write takes the longest frame even if its blocks lie anywhere. */
static void scattered_blocks(void)
{
	setup(BIG);
	for (uint16_t i = 0; i < 2000; i++)
		push(i % 2, BLOCK);
	for (uint16_t i = 0; i < 2000; i++) {
		pop();
		push(i % 3 == 0, i % 2 == 0 ? BLOCK : 2 * BLOCK);
	}
	drain();
	push(3, FRAME_SIZE_MAX);
	peek(1);
	consume(1);
	push_control(QUEUE_CONTROL_MAX);
	push_many(20, 4, 1400);
	CHECK_NUMBER(peek(SIZE_MAX), FRAME_SIZE_MAX - 1 + QUEUE_CONTROL_MAX);
	consume(FRAME_SIZE_MAX - 1 + QUEUE_CONTROL_MAX);
	drain();
	teardown();
}

static void memory_is_used_again(void)
{
	setup(BIG);
	for (size_t i = 0; i < 10000; i++) {
		push(1, 1400);
		push(2, 300);
		pop();
		pop();
	}
	CHECK_NUMBER(queue.blocks_seen, 1 + 3 + 1);
	teardown();
}

/* --- flows beside each other --------------------------------------------------------------- */

static void equal_flows(void)
{
	setup(BIG);
	push_many(20, 1, QUANTUM);
	push_many(20, 2, QUANTUM);
	push_many(20, 3, QUANTUM);
	for (uint32_t i = 1; i <= 20; i++)
		for (uint16_t flow = 1; flow <= 3; flow++)
			pop_that(flow, i, QUANTUM);
	teardown();
}

/* While each has frames waiting, none gets more than a quantum and a frame ahead of another. */
static void fairness_in_bytes(void)
{
	static const size_t sizes[] = {60, 300, 1400, 9000, FRAME_SIZE_MAX};
	size_t sent[ARRAY_SIZE(sizes)] = {0};
	size_t least, most;

	setup(BIG);
	for (uint16_t flow = 0; flow < ARRAY_SIZE(sizes); flow++)
		push_many(2, flow, sizes[flow]);
	for (size_t i = 0; i < 20000; i++) {
		pop();
		sent[seen.flow] += seen.size;
		push(seen.flow, sizes[seen.flow]);
		least = most = sent[0];
		for (size_t flow = 1; flow < ARRAY_SIZE(sizes); flow++) {
			least = min_size(least, sent[flow]);
			most = sent[flow] > most ? sent[flow] : most;
		}
		if (!CHECK(most - least <= FRAME_SIZE_MAX + QUANTUM))
			break;
	}
	for (size_t flow = 0; flow < 3; flow++)
		CHECK(sent[flow] + 2 * QUANTUM >= sent[0] && sent[flow] <= sent[0] + 2 * QUANTUM);
	CHECK_NUMBER(dropped(), 0);
	teardown();
}

static void sparse_flow(void)
{
	setup(BIG);
	for (uint16_t flow = 1; flow <= 3; flow++)
		push_many(100, flow, 1400);
	for (size_t i = 0; i < 8; i++)
		pop();
	for (uint32_t i = 1; i <= 20; i++) {
		push(9, 100);
		pop_that(9, i, 100);
		for (size_t k = 0; k < 8; k++) { /* more than one round */
			pop();
			CHECK(seen.flow != 9);
		}
	}
	teardown();
}

/* Running empty does not make a flow sparse: it waits until the others have had their turn. */
static void flow_that_runs_empty(void)
{
	setup(BIG);
	push_many(10, 1, QUANTUM);
	push_many(10, 2, QUANTUM);
	pop_that(1, 1, QUANTUM);
	pop_that(2, 1, QUANTUM);
	push(9, 100);
	pop_that(9, 1, 100);
	pop_that(1, 2, QUANTUM);
	push(9, 100);
	pop_that(2, 2, QUANTUM);
	pop_that(9, 2, 100);
	pop_that(1, 3, QUANTUM);
	teardown();
}

static void longest_frames_are_paid_for(void)
{
	size_t small = 0;

	setup(BIG);
	push_many(200, 2, 1000);
	push(1, FRAME_SIZE_MAX);
	pop();
	while (seen.flow != 1)
		pop();
	push(1, FRAME_SIZE_MAX); /* the only one again, but its flow is in debt */
	for (pop(); seen.flow != 1; pop())
		small += seen.size;
	CHECK(small >= FRAME_SIZE_MAX - 2 * QUANTUM && small <= FRAME_SIZE_MAX + 2 * QUANTUM);
	drain();
	teardown();
}

static void many_flows(void)
{
	setup((size_t)FLOWS_MAX * BLOCK + FRAME_SIZE_MAX);
	for (uint32_t flow = 0; flow < FLOWS_MAX; flow++)
		push((uint16_t)flow, 40);
	CHECK_NUMBER(queue.frames, FLOWS_MAX);
	for (uint32_t flow = 0; flow < FLOWS_MAX && checks_failed == 0; flow++)
		pop_that((uint16_t)flow, 1, 40);
	CHECK(queue_is_empty(&queue));
	CHECK_NUMBER(dropped(), 0);
	teardown();
}

static void many_flows_without_room(void)
{
	setup(SMALL);
	for (uint16_t flow = 0; flow < 5 * SMALL_BLOCKS; flow++)
		push(flow, 40);
	CHECK_NUMBER(queue.frames, SMALL_BLOCKS);
	CHECK_NUMBER(counters.value[DROP_QUEUE_FULL], 4 * SMALL_BLOCKS);
	drain();
	teardown();
}

/* --- no room ------------------------------------------------------------------------------- */

static void greedy_flow_loses(void)
{
	setup(SMALL);
	push_many(10, 1, 500);
	push_many(20, 2, 500);
	push_many(1000, 3, 500);
	CHECK_NUMBER(queue.blocks_used, SMALL_BLOCKS);
	push_many(5, 1, 500);
	drain();
	CHECK_NUMBER(last_of[1], 15);
	CHECK_NUMBER(last_of[2], 20);
	CHECK_NUMBER(last_of[3], 1000); /* the newest are kept */
	CHECK_NUMBER(completed + counters.value[DROP_QUEUE_FULL], pushed);
	teardown();
}

static void no_more_drops_than_needed(void)
{
	setup(SMALL);
	push_many(SMALL_BLOCKS, 1, 500);
	CHECK_NUMBER(dropped(), 0);
	push(2, 1400);
	CHECK_NUMBER(dropped(), 3);
	push(2, 1400);
	CHECK_NUMBER(dropped(), 6);
	push(1, 500);
	CHECK_NUMBER(dropped(), 7);
	pop_that(1, 8, 500);
	push(1, 500); /* into the room of what is leaving */
	CHECK_NUMBER(dropped(), 7);
	drain();
	teardown();
}

/* All flows that take most lose by turns, the one with the oldest frame first. */
static void equally_fat_flows(void)
{
	setup(SMALL);
	for (uint16_t flow = 0; flow < SMALL_BLOCKS / 30; flow++)
		push_many(10, flow, QUANTUM);
	push_many(SMALL_BLOCKS / 3 % 10, 1000, QUANTUM);
	CHECK_NUMBER(dropped(), 0);
	for (uint16_t flow = 2000; flow < 2003; flow++)
		push(flow, QUANTUM);
	CHECK_NUMBER(dropped(), 3);
	for (uint16_t flow = 0; flow < SMALL_BLOCKS / 30; flow++)
		pop_that(flow, flow < 3 ? 2 : 1, QUANTUM);
	teardown();
}

/* A block is as good as taken by eight bytes. */
static void room_counts_in_blocks(void)
{
	setup(SMALL);
	push_many(100, 1, 40);
	push_many((SMALL_BLOCKS - 100) / 3, 2, 1400);
	push_many(3, 3, 500);
	CHECK(dropped() > 0);
	drain();
	CHECK_NUMBER(completed, pushed - dropped());
	CHECK_NUMBER(last_of[2], (SMALL_BLOCKS - 100) / 3);
	teardown();
}

static void longest_frame_needs_room(void)
{
	setup(SMALL);
	push_many(SMALL_BLOCKS, 1, 500);
	push(2, FRAME_SIZE_MAX);
	CHECK(dropped() >= LONGEST_BLOCKS && dropped() < SMALL_BLOCKS);
	drain();
	CHECK_NUMBER(last_of[2], 1);
	CHECK_NUMBER(last_of[1], SMALL_BLOCKS);
	teardown();
}

static void leaving_frames_are_kept(void)
{
	setup(FRAME_SIZE_MAX);
	push(1, FRAME_SIZE_MAX);
	CHECK_NUMBER(peek(1), FRAME_SIZE_MAX);
	push(2, 100);
	CHECK_NUMBER(counters.value[DROP_QUEUE_FULL], 1);
	CHECK_NUMBER(queue.frames, 1);
	pop_that(1, 1, FRAME_SIZE_MAX);
	push(2, 100);
	pop_that(2, 2, 100);
	teardown();
}

/* --- frames that have begun, and control --------------------------------------------------- */

static void rest_of_a_frame(void)
{
	setup(SMALL);
	push_rest(1, 1000, 3, true);
	CHECK(!queue_is_empty(&queue));
	CHECK(is_consistent());
	push(1, 60);
	CHECK_NUMBER(peek(0), 997);
	CHECK_NUMBER(peek(SIZE_MAX), 1057);
	CHECK_NUMBER(consume(996), 0);
	CHECK(queue_is_inside_frame(&queue));
	CHECK_NUMBER(peek(SIZE_MAX), 61);
	CHECK_NUMBER(consume(1), 1);
	CHECK(!queue_is_inside_frame(&queue));
	pop_that(1, 2, 60);
	teardown();
}

static void rest_of_control(void)
{
	setup(SMALL);
	push_rest(0, 20, 19, false);
	CHECK(queue_has_control(&queue));
	CHECK(queue_is_inside_frame(&queue));
	CHECK_NUMBER(queue.frames, 0);
	CHECK_NUMBER(peek(0), 1);
	CHECK_NUMBER(consume(1), 0);
	CHECK(!queue_has_control(&queue));
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void room_for_rest_and_control(void)
{
	setup(FRAME_SIZE_MAX);
	for (size_t i = 0; i < 10; i++) {
		push_many(LONGEST_BLOCKS, 1, 500);
		push_rest(2, FRAME_SIZE_MAX, 1, true);
		push_control(QUEUE_CONTROL_MAX);
		CHECK_NUMBER(peek(0), FRAME_SIZE_MAX - 1 + QUEUE_CONTROL_MAX);
		consume(FRAME_SIZE_MAX - 1 + QUEUE_CONTROL_MAX);
		CHECK_NUMBER(last_of[2], i + 1);
	}
	drain();
	teardown();
}

static void control_goes_first(void)
{
	setup(SMALL);
	push_many(5, 1, 100);
	peek(300);
	push_control(20);
	CHECK(queue_has_control(&queue));
	CHECK_NUMBER(queue.frames, 5);
	CHECK_NUMBER(peek(0), 320);
	CHECK(memcmp(waiting, "UOTC", 4) == 0);
	CHECK_NUMBER(consume(20), 0);
	CHECK(!queue_has_control(&queue));
	CHECK_NUMBER(queue.frames, 5);
	push_control(20);
	CHECK_NUMBER(peek(0), 320);
	CHECK_NUMBER(consume(120), 1);
	drain();
	teardown();
}

static void control_alone(void)
{
	setup(SMALL);
	push_control(24);
	CHECK(!queue_is_empty(&queue));
	CHECK_NUMBER(peek(0), 24);
	consume(10);
	CHECK(queue_has_control(&queue));
	CHECK(queue_is_inside_frame(&queue));
	push(1, 100); /* goes behind it, though it is first of its kind */
	CHECK_NUMBER(peek(1), 114);
	CHECK_NUMBER(consume(114), 1);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void control_behind_what_has_begun(void)
{
	setup(SMALL);
	push_many(2, 1, 100);
	peek(200);
	consume(1);
	push_control(20);
	CHECK_NUMBER(peek(0), 219);
	CHECK_NUMBER(consume(99 + 20), 1);
	CHECK(!queue_has_control(&queue));
	consume(peek(0));
	push(1, 100);
	peek(100);
	consume(99);
	push_control(20); /* the list's last one now */
	push(1, 100);
	CHECK_NUMBER(peek(101), 121);
	CHECK_NUMBER(consume(121), 2);
	teardown();
}

/* Else a control frame in each write would keep back what is longer than the budget. */
static void control_takes_no_budget(void)
{
	setup(SMALL);
	push(1, 1400);
	push_control(20);
	CHECK_NUMBER(peek(100), 1420);
	drain();
	teardown();
}

static void last_behind_what_leaves(void)
{
	setup(SMALL);
	push_many(5, 1, 100);
	CHECK_NUMBER(peek(300), 300);
	push_last(20);
	CHECK(queue_has_control(&queue));
	CHECK_NUMBER(queue.frames, 5);
	CHECK_NUMBER(peek(0), 320);
	CHECK_NUMBER(peek(400), 420); /* what is chosen later goes behind it */
	CHECK(memcmp(waiting + 300, "UOTC", 4) == 0);
	CHECK_NUMBER(consume(300), 3);
	CHECK(queue_has_control(&queue));
	pop_control(20);
	CHECK(!queue_has_control(&queue));
	pop_that(1, 4, 100);
	pop_that(1, 5, 100);
	teardown();
}

static void last_before_lanes(void)
{
	setup(SMALL);
	push_many(2, 1, 100);
	push_last(20);
	CHECK_NUMBER(peek(0), 20);
	push(2, 100);
	CHECK_NUMBER(peek(SIZE_MAX), 320);
	pop_control(20);
	CHECK_NUMBER(consume(peek(0)), 3);
	teardown();
}

static void last_alone(void)
{
	setup(SMALL);
	push_last(24);
	CHECK(!queue_is_empty(&queue));
	CHECK_NUMBER(peek(0), 24);
	consume(23);
	CHECK(queue_has_control(&queue));
	CHECK(queue_is_inside_frame(&queue));
	CHECK_NUMBER(peek(0), 1);
	consume(1);
	CHECK(queue_is_empty(&queue));
	push_last(24); /* as if none had been there */
	pop_control(24);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void control_first_and_last(void)
{
	setup(SMALL);
	push_many(3, 1, 100);
	peek(200);
	push_control(24);
	push_last(30);
	CHECK(queue_has_control(&queue));
	CHECK_NUMBER(peek(0), 254);
	pop_control(24);
	CHECK(queue_has_control(&queue));
	CHECK_NUMBER(consume(peek(0) - 30), 2);
	CHECK(queue_has_control(&queue));
	pop_control(30);
	CHECK(!queue_has_control(&queue));
	push_control(24);
	push_last(30);
	CHECK_NUMBER(peek(100), 154); /* neither takes of the budget */
	pop_control(24);
	pop_control(30);
	CHECK(!queue_has_control(&queue));
	pop_that(1, 3, 100);
	CHECK(queue_is_empty(&queue));
	teardown();
}

/* Whatever has begun: a frame from here, or one whose rest was put in. */
static void last_behind_what_has_begun(void)
{
	setup(SMALL);
	push(1, 100);
	peek(100);
	consume(1);
	push_control(24);
	push_last(30);
	CHECK_NUMBER(peek(0), 99 + 54);
	CHECK_NUMBER(consume(99), 1);
	pop_control(24);
	pop_control(30);
	push_rest(1, 100, 1, true);
	push_last(30);
	CHECK_NUMBER(peek(0), 99 + 30);
	CHECK_NUMBER(consume(99), 1);
	pop_control(30);
	push_rest(0, 20, 1, false);
	push_last(30);
	CHECK_NUMBER(peek(0), 19 + 30);
	CHECK_NUMBER(consume(19), 0);
	CHECK(queue_has_control(&queue));
	pop_control(30);
	CHECK(!queue_has_control(&queue));
	teardown();
}

static void room_for_both_controls(void)
{
	const size_t size = FRAME_SIZE_MAX - 1 + 2 * QUEUE_CONTROL_MAX;

	setup(FRAME_SIZE_MAX);
	for (size_t i = 0; i < 10; i++) {
		push_many(LONGEST_BLOCKS, 1, 500);
		push_rest(2, FRAME_SIZE_MAX, 1, true);
		push_control(QUEUE_CONTROL_MAX);
		push_last(QUEUE_CONTROL_MAX);
		CHECK_NUMBER(peek(0), size);
		CHECK_NUMBER(consume(size), 1);
		CHECK_NUMBER(queue.blocks_used, LONGEST_BLOCKS);
	}
	CHECK_NUMBER(dropped(), 9 * LONGEST_BLOCKS);
	drain();
	CHECK_NUMBER(queue.blocks_used, 0);
	teardown();
}

/* --- frames of a flow that is over --------------------------------------------------------- */

static void frames_of_a_tag(void)
{
	setup(SMALL);
	for (uint16_t flow = 6; flow <= 8; flow++)
		push_many(3, flow, 1000);
	drop_tag(7, DROP_PIPE_CLOSED);
	CHECK_NUMBER(counters.value[DROP_PIPE_CLOSED], 3);
	CHECK_NUMBER(dropped(), 3);
	CHECK_NUMBER(queue.blocks_used, 2 * 3 * 2);
	drop_tag(7, DROP_STALE); /* none is left */
	CHECK_NUMBER(counters.value[DROP_STALE], 0);
	CHECK(is_consistent());
	drain();
	CHECK_NUMBER(last_of[6], 3);
	CHECK_NUMBER(last_of[7], 0);
	CHECK_NUMBER(last_of[8], 3);
	teardown();
}

static void dropped_but_what_leaves(void)
{
	setup(SMALL);
	push_many(5, 1, 100);
	push_many(2, 2, 100);
	CHECK_NUMBER(peek(200), 200);
	consume(30);
	push_last(20);
	drop_tag(1, DROP_STALE);
	CHECK_NUMBER(counters.value[DROP_STALE], 3);
	CHECK_NUMBER(dropped(), 3);
	CHECK(queue_is_inside_frame(&queue));
	CHECK(queue_has_control(&queue));
	CHECK_NUMBER(peek(0), 170 + 20);
	CHECK_NUMBER(consume(170), 2);
	CHECK_NUMBER(last_of[1], 2);
	pop_control(20);
	pop_that(2, 1, 100);
	pop_that(2, 2, 100);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void tag_without_frames(void)
{
	setup(SMALL);
	drop_tag(0, DROP_STALE);
	drop_tag(65535, DROP_STALE);
	CHECK(queue_is_empty(&queue));
	push(1, 100);
	push_rest(2, 100, 1, true);
	drop_tag(2, DROP_STALE); /* not in its lane */
	drop_tag(3, DROP_STALE);
	drop_tag(0x0101, DROP_STALE);
	pop();
	pop_that(1, 1, 100);
	drop_tag(1, DROP_STALE);
	CHECK_NUMBER(dropped(), 0);
	teardown();
}

static void tag_of_an_earlier_stream(void)
{
	setup(SMALL);
	flow_count = 10;
	push_many(3, 4, 100);
	push_many(2, 5, 100);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	drop_tag(4, DROP_STALE); /* which is in no lane */
	CHECK_NUMBER(queue.frames, 5);
	requeue_all();
	drop_tag(3, DROP_STALE); /* its tag was that of flow 4 before */
	CHECK_NUMBER(dropped(), 0);
	drop_tag(4, DROP_STALE);
	CHECK_NUMBER(counters.value[DROP_STALE], 3);
	pop_that(5, 1, 100);
	pop_that(5, 2, 100);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void push_after_drop(void)
{
	setup(BIG);
	push_many(10, 1, QUANTUM);
	push_many(10, 2, QUANTUM);
	pop_that(1, 1, QUANTUM);
	drop_tag(2, DROP_STALE); /* it stays in the list of lanes, once */
	push_many(3, 2, QUANTUM);
	pop_that(2, 11, QUANTUM);
	drop_tag(2, DROP_STALE);
	pop_that(1, 2, QUANTUM);
	push(2, QUANTUM);
	pop_that(2, 14, QUANTUM);
	pop_that(1, 3, QUANTUM);
	drop_tag(1, DROP_STALE);
	CHECK_NUMBER(dropped(), 10 + 2 + 7);
	CHECK(queue_is_empty(&queue));
	push(1, 100);
	pop_that(1, 11, 100);
	teardown();
}

static void room_after_drop(void)
{
	setup(SMALL);
	push_many(SMALL_BLOCKS - 10, 1, 500);
	push_many(10, 2, 500);
	drop_tag(1, DROP_STALE);
	push_many(SMALL_BLOCKS - 10, 3, 500);
	CHECK_NUMBER(counters.value[DROP_QUEUE_FULL], 0);
	CHECK_NUMBER(queue.blocks_used, SMALL_BLOCKS);
	push_many(10, 1, 500);
	CHECK_NUMBER(counters.value[DROP_QUEUE_FULL], 10);
	drain();
	CHECK_NUMBER(last_of[1], SMALL_BLOCKS);
	CHECK_NUMBER(last_of[2], 10);
	teardown();
}

/* --- waiting too long ---------------------------------------------------------------------- */

static void stale_frames(void)
{
	setup(SMALL);
	queue.stale_us = US_PER_SECOND;
	push_many(3, 1, 100);
	now_us++;
	push(1, 100);
	now_us += US_PER_SECOND;
	pop_that(1, 4, 100);
	CHECK_NUMBER(counters.value[DROP_STALE], 3);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void chosen_frames_do_not_get_stale(void)
{
	setup(SMALL);
	queue.stale_us = US_PER_SECOND;
	push_many(3, 1, 100);
	CHECK_NUMBER(peek(200), 200);
	now_us += 2 * US_PER_SECOND;
	CHECK_NUMBER(peek(SIZE_MAX), 200);
	CHECK_NUMBER(consume(200), 2);
	CHECK_NUMBER(counters.value[DROP_STALE], 1);
	teardown();
}

static void nothing_is_stale_by_itself(void)
{
	setup(SMALL);
	push(1, 100);
	now_us += UINT64_C(1000000) * US_PER_SECOND;
	pop_that(1, 1, 100);
	teardown();
}

/* --- CoDel --------------------------------------------------------------------------------- */

static uint64_t drop_times_us[DROPS_SHOWN];
static size_t drop_times;

static void setup_codel(void)
{
	setup(BIG);
	queue.target_us = target_us;
	queue.interval_us = interval_us;
}

/* Takes one frame off per millisecond, and notes when CoDel drops one. */
static void serve(size_t count)
{
	uint64_t before = counters.value[DROP_CODEL];

	for (drop_times = 0; count > 0; count--) {
		pop();
		if (counters.value[DROP_CODEL] > before && drop_times < DROPS_SHOWN)
			drop_times_us[drop_times++] = now_us;
		before = counters.value[DROP_CODEL];
		now_us += US_PER_MS;
	}
}

static void control_law(void)
{
	/* interval / sqrt(count) */
	static const uint64_t distances_us[DROPS_SHOWN] = {
		0, 100000, 70710, 57735, 50000, 44721, 40824, 37796, 35355, 33333, 31622, 30151};
	uint64_t due_us;

	setup_codel();
	due_us = now_us + target_us + interval_us;
	push_many(3000, 1, 1000);
	serve(1000);
	CHECK_NUMBER(drop_times, DROPS_SHOWN);
	for (size_t i = 0; i < DROPS_SHOWN; i++) {
		due_us += distances_us[i];
		CHECK(drop_times_us[i] >= due_us && drop_times_us[i] < due_us + US_PER_MS);
	}
	teardown();
}

static void codel_is_off_at_first(void)
{
	setup(BIG);
	push_many(3000, 1, 1000);
	serve(3000);
	CHECK_NUMBER(dropped(), 0);
	teardown();
}

/* Twice what the pipe carries for two seconds, then half of it. */
static void overload_and_relief(void)
{
	uint64_t drops[4], before = 0;
	int phase;

	setup_codel();
	for (phase = 0; phase < 4; phase++) {
		for (int i = 0; i < 250; i++, now_us += 2 * US_PER_MS) {
			push_many(2, 1, 1000);
			pop();
		}
		drops[phase] = counters.value[DROP_CODEL] - before;
		before = counters.value[DROP_CODEL];
		CHECK(phase == 0 ? drops[0] > 0 : drops[phase] > drops[phase - 1]);
	}
	for (int i = 0; queue.frames > 1 && CHECK(i < 2000); i++, now_us += 2 * US_PER_MS) {
		push_many(i % 2 == 0, 1, 1000);
		pop();
	}
	before = counters.value[DROP_CODEL];
	for (int i = 0; i < 2000; i++, now_us += 2 * US_PER_MS) {
		push_many(i % 2 == 0, 1, 1000);
		pop();
	}
	CHECK_NUMBER(counters.value[DROP_CODEL], before);
	teardown();
}

/* A burst that is gone within an interval is what a queue is for. */
static void good_queue(void)
{
	setup_codel();
	for (size_t i = 0; i < 20; i++) {
		push_many(90, 1, 1000);
		serve(100);
	}
	CHECK_NUMBER(dropped(), 0);
	teardown();
}

/* Waiting just below the target for ever is fine; at the target it is not. */
static void target(void)
{
	setup_codel();
	push_many(4, 1, 1000);
	for (size_t i = 0; i < 1000; i++) {
		push(1, 1000);
		serve(1);
	}
	CHECK_NUMBER(dropped(), 0);
	push_many(1, 1, 1000);
	for (size_t i = 0; i < 1000; i++) {
		push(1, 1000);
		serve(1);
	}
	CHECK(dropped() > 0);
	teardown();
}

static void last_frame_is_kept(void)
{
	setup_codel();
	for (uint32_t i = 1; i <= 100; i++) {
		push(1, FRAME_SIZE_MAX);
		now_us += US_PER_SECOND;
		pop_that(1, i, FRAME_SIZE_MAX);
	}
	teardown();
}

/* What is behind the frame fits into one datagram: there is no queue to be shortened. */
static void short_backlog_is_kept(void)
{
	setup_codel();
	push_many(QUANTUM / 100, 1, 100);
	for (size_t i = 0; i < 100; i++) {
		push(1, 100);
		now_us += US_PER_SECOND;
		pop();
	}
	CHECK_NUMBER(dropped(), 0);
	push_many(2, 1, 100);
	for (size_t i = 0; i < 100; i++) {
		push(1, 100);
		now_us += US_PER_SECOND;
		pop();
	}
	CHECK(dropped() > 0);
	teardown();
}

static void greedy_flow_alone_is_dropped_from(void)
{
	setup_codel();
	for (uint32_t i = 0; i < 3000; i++, now_us += US_PER_MS) {
		push_many(2, 1, 700);
		if (i % 20 == 0)
			push(2, 200);
		pop();
	}
	drain();
	CHECK(counters.value[DROP_CODEL] > 20);
	CHECK_NUMBER(last_of[2], 150);
	CHECK_NUMBER(completed, pushed - dropped());
	CHECK_NUMBER(pushed_of[1] + pushed_of[2], pushed);
	teardown();
}

/* Nothing is dropped that cannot leave anyway, however often one asks. */
static void blocked_pipe_drops_nothing(void)
{
	setup_codel();
	push_many(3000, 1, 1000);
	serve(300);
	CHECK(dropped() > 0);
	peek(SIZE_MAX);
	drop_times = counters.value[DROP_CODEL];
	for (size_t i = 0; i < 1000; i++, now_us += US_PER_MS)
		peek(SIZE_MAX);
	CHECK_NUMBER(counters.value[DROP_CODEL], drop_times);
	teardown();
}

/* Overloads the flow again. Returns the distance of the first two drops. */
static uint64_t second_drop_us(void)
{
	push_many(1000, 1, 1000);
	serve(400);
	drain();
	CHECK(drop_times > 2);
	return drop_times_us[1] - drop_times_us[0];
}

static void codel_remembers(void)
{
	setup_codel();
	push_many(3000, 1, 1000);
	serve(600); /* ten drops */
	drain();
	CHECK_NUMBER(second_drop_us(), 34 * US_PER_MS);
	now_us += 17 * interval_us;
	CHECK_NUMBER(second_drop_us(), 100 * US_PER_MS);
	teardown();
}

/* Below the target once, a flow has an interval again, without having run empty. */
static void codel_stops_below_the_target(void)
{
	setup_codel();
	push_many(3000, 1, 1000);
	serve(600);
	while (queue.frames > 3)
		pop();
	push_many(1000, 1, 1000);
	while (last_of[1] < 3000)
		pop();
	serve(400);
	CHECK_NUMBER(drop_times_us[1] - drop_times_us[0], 34 * US_PER_MS);
	teardown();
}

static void codel_stops_when_stale_frames_go(void)
{
	setup_codel();
	queue.stale_us = US_PER_SECOND;
	for (size_t i = 0; i < 2; i++) {
		push_many(10, 1, 1000);
		now_us += 2 * target_us;
		pop();
		now_us += 2 * US_PER_SECOND;
		pop();
	}
	CHECK_NUMBER(counters.value[DROP_STALE], 18);
	CHECK_NUMBER(counters.value[DROP_CODEL], 0);
	teardown();
}

static void codel_stops_when_a_tag_is_dropped(void)
{
	setup_codel();
	push_many(3000, 1, 1000);
	serve(600);
	CHECK(drop_times > 2);
	drop_tag(1, DROP_STALE);
	push_many(1000, 1, 1000);
	serve(100);
	CHECK_NUMBER(drop_times, 0);
	serve(400);
	CHECK(drop_times > 2);
	teardown();
}

/* --- a new stream -------------------------------------------------------------------------- */

static void recalled_frames_leave_again(void)
{
	uint16_t tag = 0;

	setup(SMALL);
	flow_count = 100;
	CHECK(!queue_next_recalled(&queue, &tag));
	push_many(3, 99, 700);
	push_many(3, 7, 1000);
	CHECK_NUMBER(peek(1400), 1400);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	CHECK(!queue_is_empty(&queue));
	CHECK_NUMBER(peek(SIZE_MAX), 0);
	CHECK(queue_next_recalled(&queue, &tag));
	CHECK_NUMBER(tag, 99);
	requeue_all();
	CHECK_NUMBER(queue.frames, 6);
	for (uint32_t i = 1; i <= 3; i++)
		pop_that(99, i, 700);
	for (uint32_t i = 1; i <= 3; i++)
		pop_that(7, i, 1000);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void recalled_in_the_order_of_leaving(void)
{
	static const uint16_t wanted[] = {1, 2, 3, 1, 2, 1};
	uint16_t tag;

	setup(SMALL);
	push_many(3, 1, QUANTUM);
	push_many(2, 2, QUANTUM);
	push_many(1, 3, QUANTUM);
	peek(1);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	for (size_t i = 0; i < ARRAY_SIZE(wanted) && queue_next_recalled(&queue, &tag); i++) {
		CHECK_NUMBER(tag, wanted[i]);
		queue_drop_recalled(&queue, &counters);
	}
	CHECK_NUMBER(counters.value[DROP_PIPE_CLOSED], 6);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void what_has_begun_is_lost(void)
{
	setup(SMALL);
	flow_count = 10;
	push_many(3, 1, 100);
	peek(SIZE_MAX);
	consume(130);
	push_control(20);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	reader_used = 0;
	CHECK_NUMBER(counters.value[DROP_PIPE_CLOSED], 1);
	CHECK(!queue_has_control(&queue));
	CHECK(is_consistent());
	requeue_all();
	pop_that(1, 3, 100);
	CHECK(queue_is_empty(&queue));
	push_rest(1, 100, 1, true);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	reader_used = 0;
	CHECK_NUMBER(counters.value[DROP_PIPE_CLOSED], 2);
	push_rest(1, 100, 1, false);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	reader_used = 0;
	CHECK_NUMBER(dropped(), 2);
	CHECK(queue_is_empty(&queue));
	push(1, 100);
	peek(100);
	push_control(20);
	push_last(30);
	queue_recall(&queue, now_us, UINT64_MAX, &counters);
	CHECK(!queue_has_control(&queue));
	requeue_all();
	CHECK_NUMBER(peek(SIZE_MAX), 100);
	CHECK_NUMBER(consume(100), 1);
	CHECK_NUMBER(dropped(), 2);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void age_survives_recall(void)
{
	setup(SMALL);
	flow_count = 10;
	queue.stale_us = 3 * US_PER_SECOND;
	push(1, 100);
	now_us += US_PER_SECOND;
	push(2, 100);
	now_us += US_PER_SECOND;
	queue_recall(&queue, now_us, US_PER_SECOND, &counters);
	CHECK_NUMBER(counters.value[DROP_STALE], 1);
	requeue_all();
	now_us += 2 * US_PER_SECOND + 1;
	CHECK(!pop());
	CHECK_NUMBER(counters.value[DROP_STALE], 2);
	CHECK(queue_is_empty(&queue));
	teardown();
}

static void lanes_begin_anew(void)
{
	setup_codel();
	flow_count = 2;
	push_many(3000, 1, 1000);
	serve(600);
	queue_recall(&queue, now_us, 0, &counters);
	CHECK(queue_is_empty(&queue));
	CHECK_NUMBER(second_drop_us(), 100 * US_PER_MS);
	teardown();
}

/* --- at random ----------------------------------------------------------------------------- */

static size_t random_size(void)
{
	static const uint32_t most[] = {1, 20, 300, 1500, 3000, 30000, FRAME_PAYLOAD_MAX + 1};

	return HEADER + random_below(most[random_below(1 + random_below(ARRAY_SIZE(most)))]);
}

static size_t random_control_size(void)
{
	return HEADER + random_below(QUEUE_CONTROL_MAX - HEADER + 1);
}

static void random_control(void)
{
	uint32_t where = random_below(3);

	if (where != 0)
		push_control(random_control_size());
	if (where != 1)
		push_last(random_control_size());
}

static void random_input(void)
{
	uint16_t flow = (uint16_t)(random_below(RANDOM_FLOWS) & random_below(RANDOM_FLOWS));
	size_t size = random_size();
	bool is_data = random_below(4) > 0;

	if (!queue.leaving.first && random_below(4) == 0)
		push_rest(RANDOM_FLOWS, is_data ? size : 40,
			1 + random_below(is_data ? (uint32_t)size - 1 : 39), is_data);
	else if (!is_data && random_below(4) == 0 && !queue_has_control(&queue))
		random_control();
	else
		push_many(1 + random_below(3), flow, size);
}

static void random_output(void)
{
	size_t most = random_below(100) == 0 ? SIZE_MAX : random_below(6000);
	size_t size;

	queue.sparse_extra = random_below(3) == 0 ? random_below(4000) : 0;
	size = peek(random_below(4) > 0 ? most : 0);
	consume(random_below(3) == 0 ? size : min_size(size, random_below(4000)));
}

static void random_recall(void)
{
	uint16_t tag;

	queue_recall(&queue, now_us, 100 * US_PER_MS, &counters);
	reader_used = 0;
	while (random_below(10) > 0 && queue_next_recalled(&queue, &tag))
		queue_drop_recalled(&queue, &counters);
	requeue_all();
}

static void random_use(void)
{
	setup(3 * SMALL);
	flow_count = RANDOM_FLOWS + 1; /* whose last one has the frames that begin elsewhere */
	queue.target_us = target_us;
	queue.stale_us = 200 * US_PER_MS;
	for (size_t round = 0; round < 200000 && is_consistent(); round++) {
		uint32_t what = random_below(2000);
		bool is_busy = round / 2000 % 2 > 0; /* fills up and runs empty by turns */

		now_us += random_below(10) == 0 ? random_below(20 * US_PER_MS) : 0;
		if (what == 0)
			random_recall();
		else if (what <= 3)
			drop_tag((uint16_t)random_below(flow_count), DROP_NO_FLOW);
		else if (what < (is_busy ? 1400 : 500))
			random_input();
		else
			random_output();
	}
	for (enum counter cause = DROP_QUEUE_FULL; cause <= DROP_CODEL; cause++)
		CHECK(counters.value[cause] > 100);
	CHECK(counters.value[DROP_NO_FLOW] > 100);
	drain();
	CHECK_NUMBER(queue.blocks_used, 0);
	CHECK_NUMBER(completed, pushed - dropped());
	teardown();
}

int main(void)
{
	test("an empty queue has nothing to write", empty_queue);
	test("a freed queue holds nothing", freed_queue);
	test("frames of a flow leave in the order in which they came", order_within_a_flow);
	test("a frame is copied when it is queued", frames_are_copied);
	test("a frame of any length leaves as it came", every_length_around_a_block);
	test("the longest frame fits a queue of the least capacity", longest_frame);
	test("one write can complete many frames", many_frames_at_once);
	test("a frame is complete when its last byte has left", byte_by_byte);
	test("to consume nothing changes nothing", consume_of_nothing);
	test("no more frames are chosen than the budget allows, but one of any size", budget);
	test("sparse flows may leave beyond the budget, others not", sparse_extra);
	test("what sparse flows take counts as taken of the budget", sparse_extra_and_budget);
	test("a new flow is sparse for a quantum, or one long frame", sparse_extra_of_new_flows);
	test("what sparse flows may take is bounded by what may be chosen",
		sparse_extra_without_end);
	test("few bytes are chosen to leave next, but one frame of any size", few_are_chosen);
	test("more frames than a write has pieces leave in several", more_frames_than_pieces);
	test("blocks that are full and side by side are one piece", adjacent_blocks);
	test("blocks that lie anywhere leave in their order", scattered_blocks);
	test("memory that was never needed is never touched", memory_is_used_again);
	test("flows with equal frames take turns", equal_flows);
	test("flows with short and long frames get the same bytes", fairness_in_bytes);
	test("a sparse flow goes first, again and again", sparse_flow);
	test("a flow that runs empty waits for its next turn", flow_that_runs_empty);
	test("a flow of single long frames pays for them", longest_frames_are_paid_for);
	test("every tag can have its frame", many_flows);
	test("more flows than there is room for lose what is counted", many_flows_without_room);
	test("a full queue drops the oldest of the flow that takes most", greedy_flow_loses);
	test("a full queue drops no more than it must", no_more_drops_than_needed);
	test("flows that take equally much lose by turns", equally_fat_flows);
	test("short frames count by the room they take", room_counts_in_blocks);
	test("the longest frame finds room in a full queue", longest_frame_needs_room);
	test("frames that leave next are not dropped for new ones", leaving_frames_are_kept);
	test("the rest of a frame is completed like a frame", rest_of_a_frame);
	test("the rest of control bytes completes no frame", rest_of_control);
	test("there is always room for a rest and for control", room_for_rest_and_control);
	test("control goes before everything", control_goes_first);
	test("control bytes alone make the queue not empty", control_alone);
	test("control goes behind a frame that has begun", control_behind_what_has_begun);
	test("control takes nothing of the budget", control_takes_no_budget);
	test("control put last goes behind the frames that leave next", last_behind_what_leaves);
	test("control put last goes before frames that are not chosen", last_before_lanes);
	test("control put last alone makes the queue not empty", last_alone);
	test("control may be put first and last, and waits until both have left",
		control_first_and_last);
	test("control put last goes behind what has begun", last_behind_what_has_begun);
	test("there is always room for a rest and for control first and last",
		room_for_both_controls);
	test("a tag's frames are dropped, and no others", frames_of_a_tag);
	test("a tag's frames that leave next are not dropped", dropped_but_what_leaves);
	test("a tag without frames has none to drop", tag_without_frames);
	test("a tag of an earlier stream has none to drop", tag_of_an_earlier_stream);
	test("a tag whose frames were dropped keeps its turn", push_after_drop);
	test("a tag whose frames were dropped leaves its room to others", room_after_drop);
	test("frames that waited too long do not leave", stale_frames);
	test("frames that leave next do not get stale", chosen_frames_do_not_get_stale);
	test("without a limit nothing is stale", nothing_is_stale_by_itself);
	test("CoDel drops by its control law", control_law);
	test("CoDel is off at first", codel_is_off_at_first);
	test("CoDel drops more and more of an overload, and stops after it", overload_and_relief);
	test("CoDel leaves a burst alone", good_queue);
	test("CoDel leaves a queue below its target alone", target);
	test("CoDel never drops the last frame of a flow", last_frame_is_kept);
	test("CoDel never drops when one datagram's bytes wait behind", short_backlog_is_kept);
	test("CoDel drops from greedy flows only", greedy_flow_alone_is_dropped_from);
	test("CoDel drops nothing while nothing can leave", blocked_pipe_drops_nothing);
	test("CoDel stops below its target", codel_stops_below_the_target);
	test("CoDel stops when a flow's frames were stale", codel_stops_when_stale_frames_go);
	test("CoDel stops when a tag's frames were dropped", codel_stops_when_a_tag_is_dropped);
	test("CoDel remembers a flow for a while", codel_remembers);
	test("recalled frames leave again under their new tags", recalled_frames_leave_again);
	test("frames are recalled as they would have left", recalled_in_the_order_of_leaving);
	test("a recall loses what has begun to leave, and control", what_has_begun_is_lost);
	test("recalled frames keep their age", age_survives_recall);
	test("after a recall nothing is known about flows", lanes_begin_anew);
	test("a queue used at random loses nothing uncounted", random_use);
	return tests_end();
}
