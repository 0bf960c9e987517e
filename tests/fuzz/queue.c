/*
 * Any calls of the queue. Each frame has the number of its flow and its own in it; so what leaves
 * is known, and must be in order within a flow. The input says how large the queue is, and then
 * what happens step by step.
 */
#include "queue.h"

#include "fuzz.h"

enum {
	FLOWS_MAX = 6,
	ALL_MAX = QUEUE_LEAVING_MAX + FRAME_SIZE_MAX,
};

static struct queue queue;
static struct counters counters;
static uint64_t now_us;
static uint32_t shift;           /* the tags of flows change with each stream */
static uint64_t added, taken;    /* frames */
static uint32_t last[FLOWS_MAX]; /* number of the frame of the flow that left last */
static uint8_t bytes_out[ALL_MAX];

static uint16_t tag_of(uint32_t flow)
{
	return (uint16_t)(1000 * ((flow + shift) % FLOWS_MAX));
}

static uint32_t flow_of(uint16_t tag)
{
	return (tag / 1000 + FLOWS_MAX - shift % FLOWS_MAX) % FLOWS_MAX;
}

static void push(uint32_t flow, size_t size)
{
	static uint8_t frame[FRAME_SIZE_MAX];

	put_numbered(frame, tag_of(flow), flow, (uint32_t)++added, size);
	queue_push(&queue, frame, size, now_us, &counters);
}

/* The pieces are whole frames, in order within their flow. Of them `written` bytes leave. */
static void check_gathered(size_t size, size_t written)
{
	static uint8_t rest[FRAME_SIZE_MAX];
	size_t at = 0, whole = 0, rest_size = 0;
	uint32_t seen[FLOWS_MAX];

	memcpy(seen, last, sizeof(seen));
	for (size_t next; at < size; at = next) {
		uint32_t flow = flow_of(le16_load(bytes_out + at + 4));

		next = at + frame_size(bytes_out + at);
		CHECK(next <= size && (next <= QUEUE_LEAVING_MAX || at == 0));
		check_numbered(bytes_out + at + FRAME_HEADER_SIZE, next - at - FRAME_HEADER_SIZE,
			flow, &seen[flow]);
		whole += next <= written;
		rest_size = at < written && written < next ? next - written : rest_size;
		if (at < written)
			last[flow] = seen[flow];
	}
	taken += whole + (rest_size > 0);
	CHECK(queue_settle(&queue, written, rest, &at) == whole && at == rest_size);
	CHECK(memcmp(rest, bytes_out + written, rest_size) == 0);
}

static void gather(size_t budget, size_t sparse_extra, size_t written)
{
	struct iovec pieces[QUEUE_PIECES_MAX];
	int count = queue_gather(&queue, budget, sparse_extra, now_us, &counters, pieces);
	size_t size = 0;

	CHECK(count >= 0 && count <= QUEUE_PIECES_MAX);
	for (int i = 0; i < count; i++) {
		CHECK(pieces[i].iov_len <= ALL_MAX - size);
		memcpy(bytes_out + size, pieces[i].iov_base, pieces[i].iov_len);
		size += pieces[i].iov_len;
	}
	CHECK(size > 0 || queue_frames(&queue) == 0 || budget == 0);
	check_gathered(size, min_size(written, size));
}

static void begin_stream(uint32_t new_shift, uint32_t drops, uint64_t stale_us)
{
	uint16_t tag;

	queue_recall(&queue, now_us, stale_us, &counters);
	for (uint32_t i = 0; queue_next_recalled(&queue, &tag); i++) {
		uint32_t flow = flow_of(tag), before = shift;

		shift = new_shift;
		if (i % 8 < drops)
			queue_drop_recalled(&queue, &counters);
		else
			queue_requeue_recalled(&queue, tag_of(flow));
		shift = before;
	}
	shift = new_shift;
}

static void step(struct input *input)
{
	uint32_t flow = take(input, FLOWS_MAX), number, more;

	switch (take(input, 10)) {
	case 0: /* large frames */
		push(flow, FRAME_SIZE_MAX - take(input, FRAME_SIZE_MAX - NUMBERED_MIN + 1));
		break;
	case 1: /* many frames */
		for (number = take(input, 64); number > 0; number--)
			push(flow, NUMBERED_MIN + number * 16);
		break;
	case 2:
		number = take(input, 4096);
		more = take(input, 4) * 500;
		gather(number, more, take(input, 65536));
		break;
	case 3:
		gather(SIZE_MAX, 0, take(input, 2) ? ALL_MAX : take(input, 65536));
		break;
	case 4:
		queue_drop_tag(&queue, tag_of(flow), &counters, DROP_STALE + take(input, 3));
		break;
	case 5:
		now_us += (uint64_t)take(input, 256) * 1000;
		break;
	case 6:
		number = take(input, 256);
		begin_stream(number % 16, number / 32, take(input, 4) ? UINT64_MAX : 100000);
		break;
	case 7:
		number = take(input, 32) * 1000;
		queue_set_codel(&queue, number, 1 + take(input, 200) * 1000);
		break;
	case 8:
		number = take(input, 256);
		queue_set_stale(&queue, number == 255 ? UINT64_MAX : number * UINT64_C(10000));
		break;
	default:
		push(flow, NUMBERED_MIN + take(input, 1500));
	}
	number = (uint32_t)queue_frames(&queue);
	for (enum counter cause = FIRST_DROP; cause < COUNTERS; cause++)
		number += (uint32_t)counters.value[cause];
	CHECK(added == taken + number);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};

	added = taken = shift = 0;
	now_us = US_PER_SECOND;
	memset(&counters, 0, sizeof(counters));
	memset(last, 0, sizeof(last));
	CHECK(queue_init(&queue, FRAME_SIZE_MAX + take(&input, 256) * 1024));
	while (input.left > 0)
		step(&input);
	while (queue_frames(&queue) > 0)
		gather(SIZE_MAX, 0, ALL_MAX);
	queue_free(&queue);
	return 0;
}
