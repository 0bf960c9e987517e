/*
 * How this works: each write takes the head, then frames. The head is the rest of the data frame
 * that the last write has cut, and the control frames that are due. The frames are the runs of this
 * turn, if no frame waits and the window has room for all of them. Else the runs join the queue,
 * and the queue says which frames leave.
 *
 * The pipe may take less. Then what is left of the head stays there, the rest of a cut frame is
 * copied to the head, and all other frames go back to the queue.
 *
 * Until the far side has acknowledged something, nobody knows the pipe. If the far side may turn
 * out to acknowledge, only what the window allows at first is written, for up to 0.9 s: what is
 * under way by then delays all that follows.
 */
#include "sender.h"

#include <assert.h>
#include <string.h>

#include "util.h"

enum {
	QUEUE_SIZE = 4 * 1024 * 1024,
	STALE_US = US_PER_SECOND,
	PROBE_US = 900 * US_PER_MS,
	CODEL_INTERVAL_US = 100 * US_PER_MS, /* RFC 8289, 4.3 */
	CODEL_RATIO = 20,                    /* of interval and target, as there */
	SPARSE_EXTRA = 1500,
	PIPE_SIZE_USUAL = 64 * 1024,
	PIPE_FRAMES = 32,
};

static_assert(PROBE_US < STALE_US, "nothing gets stale while the far side is probed");
static_assert(SENDER_PIECES_MAX > SENDER_RUNS_MAX, "one piece for each run, and the head");

bool sender_init(struct sender *sender, struct control *control, struct counters *counters,
	uint64_t latency_us)
{
	sender->control = control;
	sender->counters = counters;
	sender->latency_us = latency_us;
	if (!queue_init(&sender->queue, QUEUE_SIZE))
		return false;
	if (latency_us > 0)
		queue_set_stale(&sender->queue, STALE_US);
	return true;
}

void sender_free(struct sender *sender)
{
	queue_free(&sender->queue);
}

static bool has_rest(const struct sender *sender)
{
	return sender->head_start < sender->rest_end;
}

static void drop_head(struct sender *sender)
{
	sender->counters->value[DROP_PIPE_CLOSED] += has_rest(sender);
	sender->head_start = sender->rest_end = sender->head_end = 0;
}

void sender_begin_stream(struct sender *sender)
{
	drop_head(sender);
	sender->has_window = sender->latency_us > 0 && control_peer(sender->control) != PEER_PLAIN;
	sender->acked = sender->probe_since_us = sender->largest_frame = 0;
	queue_set_codel(&sender->queue, 0, CODEL_INTERVAL_US);
	window_init(&sender->window, sender->latency_us);
}

/* --- the window --------------------------------------------------------------------------- */

static bool is_window_known(const struct sender *sender)
{
	return sender->has_window && control_peer(sender->control) == PEER_ACKNOWLEDGES;
}

/* Whether the window limits what may leave: once it knows the pipe, and while it is to learn. */
static bool is_limited(const struct sender *sender, uint64_t now_us)
{
	bool probes = sender->probe_since_us == 0 || now_us - sender->probe_since_us < PROBE_US;

	if (!sender->has_window || control_peer(sender->control) == PEER_PLAIN)
		return false;
	return probes || is_window_known(sender);
}

/* How many bytes may be written now. */
static size_t room(const struct sender *sender, uint64_t now_us)
{
	return is_limited(sender, now_us) ? window_room(&sender->window, now_us) : SIZE_MAX;
}

/* A flow that sends little need not wait for room: other flows wait longer instead. */
static size_t sparse_extra(const struct sender *sender, uint64_t now_us)
{
	uint64_t in_flight = window_in_flight(&sender->window);
	uint64_t most = window_limit(&sender->window) * 5 / 4 + SPARSE_EXTRA;

	return is_limited(sender, now_us) ? (size_t)(most - min_u64(in_flight, most)) : 0;
}

/* CoDel's interval is a round trip that flows have, its target a part of the interval. */
static void fit_codel(struct sender *sender)
{
	uint64_t interval_us = max_u64(CODEL_INTERVAL_US, 2 * window_rtt_us(&sender->window));

	queue_set_codel(&sender->queue, max_u64(sender->latency_us, interval_us / CODEL_RATIO),
		interval_us);
}

static void hear_acks(struct sender *sender, uint64_t now_us)
{
	uint64_t acked = control_acked_bytes(sender->control);
	uint64_t read_us = WINDOW_NO_TIME;
	uint32_t time_us, held_us;

	if (!sender->has_window || acked == sender->acked)
		return;
	if (sender->acked == 0)
		window_forget_times(&sender->window);
	sender->acked = acked;
	if (control_ack_time(sender->control, &time_us, &held_us)) {
		/* The upper half is a guess: the window looks at differences only. */
		sender->far_us += time_us - (uint32_t)sender->far_us;
		read_us = sender->far_us;
	}
	window_acked(&sender->window, acked, read_us, held_us, now_us);
	fit_codel(sender);
}

bool sender_has_window(const struct sender *sender)
{
	return sender->has_window;
}

size_t sender_pipe_size(const struct sender *sender)
{
	size_t usual, of_a_ms;

	if (!sender->has_window)
		return 0;
	switch (control_peer(sender->control)) {
	case PEER_UNKNOWN:
		return 0;
	case PEER_PLAIN:
		return PIPE_SIZE_USUAL;
	case PEER_ACKNOWLEDGES:
		break;
	}
	/* Where large frames are gone in a millisecond, the pipe holds several of them, so that its
	 * writer and its reader need not take turns. */
	usual = (size_t)min_u64(2 * window_limit(&sender->window), PIPE_SIZE_USUAL);
	of_a_ms = (size_t)(window_rate(&sender->window) / (US_PER_SECOND / US_PER_MS));
	return max_size(usual, min_size(of_a_ms, PIPE_FRAMES * sender->largest_frame));
}

uint64_t sender_deadline_us(const struct sender *sender, uint64_t now_us)
{
	if (!sender->has_window || sender_is_empty(sender))
		return UINT64_MAX;
	if (is_window_known(sender))
		return window_opens_us(&sender->window, now_us);
	return sender->probe_since_us + PROBE_US;
}

void sender_disable_window(struct sender *sender)
{
	sender->has_window = false;
	queue_set_stale(&sender->queue, UINT64_MAX);
}

/* --- frames that wait --------------------------------------------------------------------- */

void sender_add(struct sender *sender, const struct frame_run *run, size_t largest_frame)
{
	assert(sender->run_count < SENDER_RUNS_MAX);
	sender->runs[sender->run_count++] = *run;
	sender->run_bytes += run->size;
	sender->largest_frame = max_size(sender->largest_frame, largest_frame);
}

bool sender_has_queue(const struct sender *sender)
{
	return queue_frames(&sender->queue) > 0;
}

bool sender_is_empty(const struct sender *sender)
{
	return sender->head_start == sender->head_end && !sender_has_queue(sender);
}

bool sender_is_inside_frame(const struct sender *sender)
{
	size_t at = sender->rest_end; /* where the control frames begin */

	while (at < sender->head_start)
		at += frame_size(sender->head + at);
	return at != sender->head_start;
}

static void keep_rest(struct sender *sender, const uint8_t *rest, size_t size)
{
	assert(sender->head_end == 0);
	memcpy(sender->head, rest, size);
	sender->rest_end = sender->head_end = size;
}

/* Of the run `written` bytes have left. */
static void settle_run(
	struct sender *sender, const struct frame_run *run, size_t written, uint64_t now_us)
{
	for (size_t at = 0, size; at < run->size; at += size) {
		const uint8_t *frame = run->frames + at;

		size = frame_size(frame);
		if (at + size <= written)
			sender->counters->value[FRAMES_OUT]++;
		else if (at < written)
			keep_rest(sender, run->frames + written, at + size - written);
		else
			queue_push(&sender->queue, frame, size, now_us, sender->counters);
	}
}

static void settle_runs(struct sender *sender, size_t written, uint64_t now_us)
{
	for (size_t i = 0; i < sender->run_count; i++) {
		const struct frame_run *run = &sender->runs[i];
		size_t of_run = min_size(written, run->size);

		if (of_run == run->size)
			sender->counters->value[FRAMES_OUT] += run->count;
		else
			settle_run(sender, run, of_run, now_us);
		written -= of_run;
	}
	sender->run_count = sender->run_bytes = 0;
}

void sender_hold(struct sender *sender, uint64_t now_us)
{
	hear_acks(sender, now_us);
	settle_runs(sender, 0, now_us);
}

void sender_close_flow(struct sender *sender, uint16_t tag, uint64_t now_us)
{
	settle_runs(sender, 0, now_us); /* so that the queue has all frames of the flow */
	queue_drop_tag(&sender->queue, tag, sender->counters, DROP_STALE);
	control_close(sender->control, tag);
}

struct queue *sender_queue(struct sender *sender)
{
	return &sender->queue;
}

void sender_drop_all(struct sender *sender, uint64_t now_us)
{
	uint16_t tag;

	settle_runs(sender, 0, now_us);
	drop_head(sender);
	queue_recall(&sender->queue, now_us, UINT64_MAX, sender->counters);
	while (queue_next_recalled(&sender->queue, &tag))
		queue_drop_recalled(&sender->queue, sender->counters);
}

/* --- one write ---------------------------------------------------------------------------- */

/* Control frames that are due join the head, unless earlier ones still wait there. */
static void gather_control(struct sender *sender, uint64_t now_us)
{
	bool is_alone = sender->run_count == 0 && sender_is_empty(sender);

	if (sender->head_end > sender->rest_end)
		return;
	sender->head_end += control_gather(sender->control, is_alone, now_us,
		sender->head + sender->head_end, &sender->ack_size);
}

static int gather_runs(const struct sender *sender, struct iovec *pieces)
{
	for (size_t i = 0; i < sender->run_count; i++)
		pieces[i] = (struct iovec){
			(void *)(uintptr_t)sender->runs[i].frames, sender->runs[i].size};
	return (int)sender->run_count;
}

/* All that fits into the pipe, so that its reader wakes once; what is beyond cannot be overtaken.
 */
static int gather_queue(
	struct sender *sender, size_t pipe_room, uint64_t now_us, struct iovec *pieces)
{
	size_t head = sender->head_end - sender->head_start;
	size_t budget = min_size(room(sender, now_us), pipe_room);

	return queue_gather(&sender->queue, budget - min_size(budget, head),
		sparse_extra(sender, now_us), now_us, sender->counters, pieces);
}

int sender_gather(struct sender *sender, size_t pipe_room, uint64_t now_us,
	struct iovec pieces[static SENDER_PIECES_MAX])
{
	int count = 0;

	hear_acks(sender, now_us);
	gather_control(sender, now_us);
	if (sender->head_end > sender->head_start)
		pieces[count++] = (struct iovec){
			sender->head + sender->head_start, sender->head_end - sender->head_start};
	sender->takes_runs = !has_rest(sender) && !sender_has_queue(sender) &&
			     sender->run_bytes <= room(sender, now_us);
	if (sender->takes_runs)
		return count + gather_runs(sender, pieces + count);
	settle_runs(sender, 0, now_us);
	return count + gather_queue(sender, pipe_room, now_us, pieces + count);
}

/* Takes the bytes off the head. Returns how many of them were there. */
static size_t settle_head(struct sender *sender, size_t written)
{
	size_t size = min_size(written, sender->head_end - sender->head_start);
	bool had_rest = has_rest(sender);

	sender->head_start += size;
	sender->counters->value[FRAMES_OUT] += had_rest && !has_rest(sender);
	if (sender->head_start == sender->head_end)
		sender->head_start = sender->rest_end = sender->head_end = 0;
	return size;
}

static void settle_queue(struct sender *sender, size_t written)
{
	size_t rest_size;

	if (written == 0)
		return;
	sender->counters->value[FRAMES_OUT] += queue_settle(
		&sender->queue, written, sender->head, &rest_size);
	sender->rest_end = sender->head_end = rest_size;
}

static void tell_window(struct sender *sender, size_t written, size_t unanswered, uint64_t now_us)
{
	if (!sender->has_window || written == 0)
		return;
	if (sender->probe_since_us == 0)
		sender->probe_since_us = now_us;
	if (written > unanswered)
		window_sent(
			&sender->window, written - unanswered, now_us, !sender_is_empty(sender));
	window_sent_ack(&sender->window, unanswered);
}

void sender_settle(struct sender *sender, size_t written, uint64_t now_us)
{
	bool is_head_alone = written == sender->head_end - sender->head_start;
	size_t unanswered = is_head_alone ? min_size(written, sender->ack_size) : 0;
	size_t of_frames = written - settle_head(sender, written);

	if (sender->takes_runs)
		settle_runs(sender, of_frames, now_us);
	else
		settle_queue(sender, of_frames);
	sender->counters->value[STREAM_OUT_BYTES] += written;
	control_sent(sender->control, written, unanswered, now_us);
	tell_window(sender, written, unanswered, now_us);
}

void sender_update_counters(const struct sender *sender)
{
	uint64_t *value = sender->counters->value;
	bool is_known = is_window_known(sender);

	value[QUEUED] = queue_frames(&sender->queue) + has_rest(sender);
	value[IN_FLIGHT] = is_known ? window_in_flight(&sender->window) : 0;
	value[RATE] = is_known ? window_rate(&sender->window) : 0;
	value[RTT_US] = is_known ? window_rtt_us(&sender->window) : 0;
}
