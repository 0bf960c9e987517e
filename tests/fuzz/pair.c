/*
 * enc and dec, each a sender and a receiver, with a pipe each way that is cut anywhere. What one
 * writes the other one reads, in order within a flow; what is lost is counted under a cause. The
 * input says how they begin, and then what happens step by step.
 */
#include "receiver.h"
#include "sender.h"

#include "fuzz.h"

enum {
	FLOWS_MAX = 8,
	RUNS_MAX = 4,
	PIPE_MAX = 256 * 1024,
	ROUNDS_MAX = 150,
	ROUND_US = 10 * US_PER_MS,
};

static struct end {
	struct control control;
	struct counters counters;
	struct sender sender;
	struct receiver receiver;
	size_t pipe_start, pipe_end; /* of `pipe` */
	uint64_t added;              /* frames */
	uint32_t last[FLOWS_MAX];    /* number of the frame of the flow that was read last */
	bool is_closed[FLOWS_MAX];
	bool is_over, is_cut;   /* writes nothing any more; has ended inside a frame */
	uint8_t pipe[PIPE_MAX]; /* to this end */
} ends[2];                      /* enc and dec */
static uint64_t now_us;
static bool is_one_way;
static uint8_t frames[RUNS_MAX * 16 * FRAME_SIZE_MAX / 8];

static struct end *far_of(const struct end *end)
{
	return end == &ends[0] ? &ends[1] : &ends[0];
}

static uint16_t tag_of(uint32_t flow)
{
	return (uint16_t)(is_one_way ? flow : UINT16_MAX - flow);
}

/* enc asks, dec answers. Between them no frame of the flow comes to dec, and behind it none to enc.
 */
static void close_flow(struct end *end, uint32_t flow)
{
	bool is_said = control_is_on(&end->control);

	sender_close_flow(&end->sender, tag_of(flow), now_us);
	end->is_closed[flow] = is_said;
}

static void read_frame(struct end *end, const struct frame *frame, bool is_close)
{
	uint32_t flow = is_one_way ? frame->tag : UINT16_MAX - (uint32_t)frame->tag;

	CHECK(flow < FLOWS_MAX);
	if (!is_close) {
		check_numbered(frame->payload, frame->length, flow, &end->last[flow]);
		CHECK(end == &ends[0] || !end->is_closed[flow]);
	} else if (end == &ends[1]) {
		close_flow(end, flow);
	} else { /* the answer: the tag may be used again */
		CHECK(ends[0].is_closed[flow]);
		ends[0].is_closed[flow] = ends[1].is_closed[flow] = false;
	}
}

static void read_pipe(struct end *end, size_t most)
{
	char error[RECEIVER_TEXT_SIZE] = "";
	enum receiver_result result;
	struct frame frame;
	size_t room;
	uint8_t *to = receiver_room(&end->receiver, &room);
	size_t size = min_size(min_size(most, room), end->pipe_end - end->pipe_start);

	memcpy(to, end->pipe + end->pipe_start, size);
	end->pipe_start += size;
	if (size == 0)
		return;
	receiver_filled(&end->receiver, size, now_us);
	while ((result = receiver_next(&end->receiver, &frame, error)) <= RECEIVER_CLOSE)
		read_frame(end, &frame, result == RECEIVER_CLOSE);
	CHECK(result == RECEIVER_MORE);
}

static void check_books(struct end *end)
{
	const uint64_t *value = end->counters.value;
	uint64_t sum;

	sender_update_counters(&end->sender);
	sum = value[FRAMES_OUT] + value[QUEUED];
	for (enum counter cause = FIRST_DROP; cause < COUNTERS; cause++)
		sum += value[cause];
	CHECK(sum == end->added);
	CHECK(far_of(end)->counters.value[FRAMES_IN] <= value[FRAMES_OUT]);
	CHECK(sender_is_empty(&end->sender) <= (value[QUEUED] == 0));
}

/* One write, of `most` bytes at most. */
static void write_pipe(struct end *end, size_t most)
{
	struct end *far = far_of(end);
	struct iovec pieces[SENDER_PIECES_MAX];
	size_t size = 0;
	int count;

	if (end->is_over)
		return;
	memmove(far->pipe, far->pipe + far->pipe_start, far->pipe_end - far->pipe_start);
	far->pipe_end -= far->pipe_start;
	far->pipe_start = 0;
	most = min_size(most, PIPE_MAX - far->pipe_end);
	count = sender_gather(&end->sender, most, now_us, pieces);
	for (int i = 0; i < count; i++) {
		size_t part = min_size(pieces[i].iov_len, most - size);

		memcpy(far->pipe + far->pipe_end + size, pieces[i].iov_base, part);
		size += part;
	}
	far->pipe_end += size;
	if (count > 0)
		sender_settle(&end->sender, size, now_us);
	check_books(end);
}

/* Some runs of one flow, and what becomes of them: a write, or none in this turn. */
static void add(struct end *end, struct input *input, uint32_t flow)
{
	uint32_t runs = 1 + take(input, RUNS_MAX), most = take(input, 65536);
	uint8_t *frame = frames;

	for (; runs > 0 && !end->is_closed[flow] && !end->is_over; runs--) {
		uint32_t count = 1 + take(input, 16), kind = take(input, 256);
		size_t size = NUMBERED_MIN + (kind < 250 ? kind * 6 : FRAME_SIZE_MAX / 9 - kind);
		struct frame_run run = {frame, size * count, count};

		for (; count > 0; count--, frame += size)
			put_numbered(frame, tag_of(flow), flow, (uint32_t)++end->added, size);
		sender_add(&end->sender, &run, size);
	}
	if (most == 0)
		sender_hold(&end->sender, now_us);
	else
		write_pipe(end, most == 1 ? SIZE_MAX : most);
}

static void end_stream(struct end *end)
{
	end->is_cut |= sender_is_inside_frame(&end->sender);
	end->is_over = true;
	sender_drop_all(&end->sender, now_us);
}

static void step(struct input *input)
{
	struct end *end = &ends[take(input, 2)];
	uint32_t flow = take(input, FLOWS_MAX);

	if (is_one_way)
		end = &ends[0];
	switch (take(input, 8)) {
	case 0:
	case 1:
		add(end, input, flow);
		break;
	case 2:
		write_pipe(end, take(input, 65536));
		break;
	case 3:
		read_pipe(far_of(end), take(input, 65536));
		break;
	case 4:
		read_pipe(far_of(end), SIZE_MAX);
		break;
	case 5:
		now_us += (uint64_t)take(input, 256) * (US_PER_MS / 2);
		break;
	case 6:
		if (!ends[0].is_closed[flow])
			close_flow(&ends[0], flow);
		break;
	default:
		control_set_has_flows(&end->control, true);
		if (take(input, 16) == 0)
			end_stream(end);
	}
	check_books(end);
}

/* The stream to this end is over; it is told so. Part of the first magic may be noise. */
static void check_end(struct end *end)
{
	const struct end *far = far_of(end);
	char error[RECEIVER_TEXT_SIZE];

	CHECK(receiver_end(&end->receiver, error) == !far->is_cut ||
		far->counters.value[STREAM_OUT_BYTES] < 4);
}

/* Without new frames both become silent. Then all that has left is read. */
static void finish(void)
{
	for (int round = 0; round < ROUNDS_MAX; round++, now_us += ROUND_US) {
		for (struct end *end = ends; end < ends + 2; end++) {
			read_pipe(end, SIZE_MAX);
			if (far_of(end)->is_over && end->pipe_start == end->pipe_end)
				check_end(end);
			write_pipe(end, SIZE_MAX);
		}
	}
	read_pipe(&ends[0], SIZE_MAX);
	for (struct end *end = ends; end < ends + 2; end++) {
		CHECK(sender_is_empty(&end->sender) && end->pipe_start == end->pipe_end);
		CHECK(end->counters.value[FRAMES_OUT] == far_of(end)->counters.value[FRAMES_IN]);
		check_end(end);
		sender_free(&end->sender);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};
	uint64_t latency_us = take(&input, 4) * UINT64_C(2500);

	is_one_way = take(&input, 4) == 0;
	now_us = US_PER_SECOND;
	for (int i = 0; i < 2; i++) {
		struct end *end = &ends[i];

		memset(end, 0, offsetof(struct end, pipe));
		control_init(&end->control, i == 1, 1, !is_one_way, now_us);
		CHECK(sender_init(&end->sender, &end->control, &end->counters, latency_us));
		sender_begin_stream(&end->sender);
		receiver_init(&end->receiver, &end->control, &end->counters);
		receiver_begin_stream(&end->receiver);
		end->pipe_end = take(&input, 128);
		memset(end->pipe, '.', end->pipe_end);
	}
	while (input.left > 0)
		step(&input);
	finish();
	return 0;
}
