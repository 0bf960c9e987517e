/*
 * How this works: datagrams received in a turn stay in the batch, with their frame headers put in
 * front of them, until the turn ends; then one write takes all frames straight from there. Only
 * what the pipe has no room for, or the delivery window does not allow yet, is copied into the
 * queue, and from then on everything goes through the queue until that is empty again.
 */
#include "sender.h"

#include <errno.h>
#include <string.h>

#include "util.h"

enum {
	QUEUE_SIZE = 4 * 1024 * 1024,
	HELD_MAX = 8 * 1024,           /* bytes written before it is known who reads */
	HELD_MAX_US = 900 * US_PER_MS, /* less than STALE_US: nothing is lost by that */
	LOADED_US = US_PER_SECOND,
	STALE_US = US_PER_SECOND,
	CODEL_INTERVAL_US = 100 * US_PER_MS, /* RFC 8289, section 4.3 */
	CODEL_RATIO = 20,
	SPARSE_EXTRA = 1500,
	PIPE_SIZE_USUAL = 64 * 1024,
	PIPE_FRAMES = 32,
};

enum piece {
	PIECE_URGENT,
	PIECE_FRAME,
	PIECE_CLOSES,
};

bool sender_init(struct sender *sender, struct transport *transport, struct loop *loop,
	struct control *control, struct counters *counters, uint64_t latency_us)
{
	sender->transport = transport;
	sender->loop = loop;
	sender->control = control;
	sender->counters = counters;
	sender->latency_us = latency_us;
	batch_init(&sender->batch);
	if (!queue_init(&sender->queue, QUEUE_SIZE))
		return false;
	if (latency_us > 0)
		sender->queue.stale_us = STALE_US;
	return true;
}

void sender_begin_stream(struct sender *sender)
{
	sender->has_window = sender->latency_us > 0 && sender->control->has_way_back;
	sender->acked = sender->held_since_us = sender->largest = 0;
	sender->queue.target_us = 0;
	window_init(&sender->window, sender->latency_us);
	sender->blocked = sender->gone = false;
	if (sender->has_window)
		transport_keep_short(sender->transport);
}

void sender_free(struct sender *sender)
{
	queue_free(&sender->queue);
}

/* --- the window --------------------------------------------------------------------------- */

/* Whether the far side acknowledges; it begins to when it says HELLO. */
static bool is_acknowledged(const struct sender *sender)
{
	return control_is_on(sender->control) && sender->control->acked > 0;
}

/*
 * While the far side may turn out to acknowledge, little is written: it might be under way for
 * long. To enc, data without HELLO before it tells that it never will.
 */
static bool is_held(const struct sender *sender, uint64_t now_us)
{
	const struct control *control = sender->control;

	return !control->input_ended &&
	       (control->is_dec ? control->hello_sent || control->hello_due
				: !control->data_seen) &&
	       (sender->held_since_us == 0 || now_us - sender->held_since_us < HELD_MAX_US);
}

/* How many bytes may be written now. */
static size_t room(const struct sender *sender, uint64_t now_us)
{
	uint64_t sent = sender->control->sent;

	if (!sender->has_window)
		return SIZE_MAX;
	if (is_acknowledged(sender))
		return window_room(&sender->window, now_us);
	if (is_held(sender, now_us))
		return (size_t)(HELD_MAX - min_u64(sent, HELD_MAX));
	return SIZE_MAX;
}

/*
 * The pipe is small until it is known what it needs. Where large frames are gone in a millisecond,
 * it is to hold some of them, so that who writes and who reads need not take turns.
 */
static void fit_pipe(struct sender *sender)
{
	size_t usual, brief;

	if (!sender->has_window)
		return;
	if (is_acknowledged(sender)) {
		usual = min_size(2 * window_limit(&sender->window), PIPE_SIZE_USUAL);
		brief = window_rate(&sender->window) / (US_PER_SECOND / US_PER_MS);
		transport_widen(sender->transport, usual);
		transport_widen(sender->transport, min_size(brief, PIPE_FRAMES * sender->largest));
	} else if (sender->control->data_seen) {
		transport_widen(sender->transport, PIPE_SIZE_USUAL);
	}
}

/* A flow that sends little need not wait for room: what it takes is soon made up for. */
static void fit_sparse_extra(struct sender *sender)
{
	uint64_t in_flight = window_in_flight(&sender->window);
	uint64_t most = window_limit(&sender->window) * 5 / 4 + SPARSE_EXTRA;

	sender->queue.sparse_extra = 0;
	if (sender->has_window && is_acknowledged(sender) && in_flight < most)
		sender->queue.sparse_extra = (size_t)(most - in_flight);
}

/* CoDel's interval is to be a round trip that flows have, its target a part of that. */
static void fit_codel(struct sender *sender)
{
	uint64_t interval_us = max_u64(CODEL_INTERVAL_US, 2 * window_rtt_us(&sender->window));

	sender->queue.interval_us = interval_us;
	sender->queue.target_us = max_u64(sender->latency_us, interval_us / CODEL_RATIO);
}

static void hear_acks(struct sender *sender, uint64_t now_us)
{
	struct control *control = sender->control;

	if (!sender->has_window || control->acked == sender->acked)
		return;
	if (sender->acked == 0)
		window_forget_times(&sender->window);
	sender->acked = control->acked;
	if (control->has_far_time) /* whose upper half is guessed: only changes matter */
		sender->far_us += control->far_us - (uint32_t)sender->far_us;
	window_acked(&sender->window, control->acked,
		control->has_far_time ? sender->far_us : WINDOW_NO_TIME, now_us);
	fit_codel(sender);
}

/* `count` bytes have left; the last `unanswered` of them are an ACK. */
static void note_sent(struct sender *sender, size_t count, size_t unanswered, uint64_t now_us)
{
	control_sent(sender->control, count, unanswered, now_us);
	if (!sender->has_window || count == 0)
		return;
	if (sender->held_since_us == 0)
		sender->held_since_us = now_us;
	if (count > unanswered)
		window_sent(&sender->window, count - unanswered, now_us,
			!queue_is_empty(&sender->queue));
	window_sent_ack(&sender->window, min_size(count, unanswered));
	if (sender->blocked)
		window_blocked(&sender->window);
}

uint64_t sender_deadline_us(const struct sender *sender, uint64_t now_us)
{
	if (!sender->has_window || sender->blocked || queue_is_empty(&sender->queue))
		return UINT64_MAX;
	if (is_acknowledged(sender))
		return window_opens_us(&sender->window, now_us);
	return sender->held_since_us + HELD_MAX_US;
}

void sender_measure(struct sender *sender)
{
	struct counters *counters = sender->counters;
	const struct window *window = &sender->window;
	bool is_known = sender->has_window && is_acknowledged(sender);

	counters->value[QUEUED] = sender->queue.frames;
	counters->value[IN_FLIGHT] = is_known ? window_in_flight(window) : 0;
	counters->value[RATE] = is_known ? window_rate(window) : 0;
	counters->value[RTT_US] = is_known ? window_rtt_us(window) : 0;
}

/* --- writing ------------------------------------------------------------------------------ */

/* Writes once. Returns how many bytes left; 0 when there is no room, or after an error. */
static size_t write_pieces(struct sender *sender, const struct iovec *pieces, int count)
{
	ssize_t written = transport_write(sender->transport, pieces, count);
	size_t size = 0;

	for (int i = 0; i < count; i++)
		size += pieces[i].iov_len;
	if (written < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR &&
		errno != ENOBUFS) {
		sender->gone = true;
		sender->error = errno == EPIPE || errno == ECONNRESET ? 0 : errno;
		return 0;
	}
	if (written < 0)
		written = 0;
	if ((size_t)written < size) {
		sender->blocked = true;
		loop_want_room(sender->loop, sender->transport->output, true);
	}
	sender->counters->value[STREAM_OUT_BYTES] += (uint64_t)written;
	return (size_t)written;
}

/* What the pipe did not take of a frame or of control frames, wholly or (`cut`) in part. */
static void keep(struct sender *sender, enum piece kind, const uint8_t *bytes, size_t size,
	bool cut, uint64_t now_us)
{
	if (sender->gone)
		sender->counters->value[DROP_PIPE_CLOSED] += kind == PIECE_FRAME;
	else if (cut)
		queue_push_rest(&sender->queue, bytes, size, kind == PIECE_FRAME);
	else if (kind == PIECE_FRAME)
		queue_push(&sender->queue, bytes, size, now_us, sender->counters);
	else if (kind == PIECE_URGENT)
		queue_push_control(&sender->queue, bytes, size);
	else
		queue_push_last(&sender->queue, bytes, size);
}

/* The pipe took the first `written` bytes of the run. */
static void keep_rest_of_run(
	struct sender *sender, const struct frame_run *run, size_t written, uint64_t now_us)
{
	for (size_t at = 0, size; at < run->size; at += size) {
		size_t gone = written > at ? written - at : 0;

		size = frame_size(run->frames + at);
		if (gone >= size)
			sender->counters->value[FRAMES_OUT]++;
		else
			keep(sender, PIECE_FRAME, run->frames + at + gone, size - gone, gone > 0,
				now_us);
	}
}

/* Nothing waits: the batch leaves from where it is. */
static void write_batch(struct sender *sender, uint64_t now_us)
{
	bool has_flows = sender->counters->value[FLOWS] > 0;
	size_t run_count = sender->run_count, count = run_count + 2, written, left;
	uint8_t urgent[CONTROL_URGENT_MAX], closes[CONTROL_CLOSES_MAX];
	struct iovec pieces[1 + BATCH_MAX + 1];
	bool only_urgent;
	size_t ack_size;

	pieces[0].iov_base = urgent;
	pieces[0].iov_len = control_urgent(sender->control, has_flows, now_us, urgent, &ack_size);
	for (size_t i = 0; i < run_count; i++)
		pieces[1 + i] = (struct iovec){sender->runs[i].frames, sender->runs[i].size};
	pieces[count - 1].iov_base = closes;
	pieces[count - 1].iov_len = control_closes(sender->control, closes);
	if (run_count == 0 && pieces[0].iov_len == 0 && pieces[1].iov_len == 0)
		return;
	left = written = write_pieces(sender, pieces, (int)count);
	only_urgent = written == pieces[0].iov_len;
	for (size_t i = 0; i < count; i++) {
		const struct frame_run *run = i > 0 && i <= run_count ? &sender->runs[i - 1] : NULL;
		size_t size = pieces[i].iov_len;

		if (left >= size) {
			left -= size;
			sender->counters->value[FRAMES_OUT] += run ? run->count : 0;
			continue;
		}
		if (run)
			keep_rest_of_run(sender, run, left, now_us);
		else
			keep(sender, i == 0 ? PIECE_URGENT : PIECE_CLOSES,
				(uint8_t *)pieces[i].iov_base + left, size - left, left > 0,
				now_us);
		left = 0;
	}
	note_sent(sender, written, only_urgent ? ack_size : 0, now_us);
}

static void queue_batch(struct sender *sender, uint64_t now_us)
{
	for (size_t i = 0; i < sender->run_count; i++)
		keep_rest_of_run(sender, &sender->runs[i], 0, now_us);
}

/* Returns how many bytes are an ACK, if nothing but it comes last; else 0. */
static size_t queue_control(struct sender *sender, uint64_t now_us)
{
	bool has_flows = sender->counters->value[FLOWS] > 0;
	uint8_t bytes[CONTROL_CLOSES_MAX];
	size_t size, ack_size;

	if (queue_has_control(&sender->queue))
		return 0;
	size = control_urgent(sender->control, has_flows, now_us, bytes, &ack_size);
	if (size > 0)
		queue_push_control(&sender->queue, bytes, size);
	size = control_closes(sender->control, bytes);
	if (size > 0)
		queue_push_last(&sender->queue, bytes, size);
	return size > 0 ? 0 : ack_size;
}

static void write_queue(struct sender *sender, uint64_t now_us)
{
	struct iovec pieces[QUEUE_PIECES_MAX];

	while (!sender->blocked && !sender->gone) {
		size_t ack_size = queue_control(sender, now_us), budget, written;
		int count;

		fit_sparse_extra(sender);
		/* All that fits, lest the reader be woken for less; no more, for that is stuck. */
		budget = min_size(room(sender, now_us), transport_room(sender->transport));
		count = queue_peek(&sender->queue, budget, now_us, sender->counters, pieces);
		if (count == 0)
			return;
		if (sender->queue.leaving_bytes > 0)
			ack_size = 0; /* data comes behind it */
		written = write_pieces(sender, pieces, count);
		sender->counters->value[FRAMES_OUT] += queue_consume(&sender->queue, written);
		note_sent(sender, written, sender->blocked ? 0 : ack_size, now_us);
	}
}

/* Whether the batch need not wait for anything. */
static bool may_leave_at_once(const struct sender *sender, uint64_t now_us)
{
	return !sender->blocked && !sender->gone && queue_is_empty(&sender->queue) &&
	       (sender->run_count == 0 || sender->run_bytes <= room(sender, now_us));
}

void sender_flush(struct sender *sender, uint64_t now_us)
{
	hear_acks(sender, now_us);
	fit_pipe(sender);
	sender->control->time_wanted = now_us < sender->loaded_until_us;
	if (may_leave_at_once(sender, now_us))
		write_batch(sender, now_us);
	else
		queue_batch(sender, now_us);
	sender->run_count = sender->run_bytes = 0;
	sender->batch.used = 0;
	if (!queue_is_empty(&sender->queue) || sender->control->close_count > 0)
		write_queue(sender, now_us);
	if (!queue_is_empty(&sender->queue))
		sender->loaded_until_us = now_us + LOADED_US;
}

size_t sender_receive(struct sender *sender, int socket, uint32_t *kernel_drops,
	struct datagram **first, uint64_t now_us)
{
	struct batch *batch = &sender->batch;

	if (batch_is_full(batch))
		sender_flush(sender, now_us);
	*first = &batch->datagrams[batch->used];
	return udp_receive(socket, batch, kernel_drops, sender->counters);
}

void sender_send(struct sender *sender, uint16_t tag, struct datagram *datagram)
{
	uint8_t *frames = datagram->payload - FRAME_HEADER_SIZE;
	size_t segment_size = datagram->segment_size, end = datagram->length;

	/* From the last: each moves up to make room for the headers. */
	for (size_t i = datagram->count; i-- > 0; end = i * segment_size) {
		uint8_t *frame = frames + i * (FRAME_HEADER_SIZE + segment_size);
		size_t start = i * segment_size;

		if (i > 0)
			memmove(frame + FRAME_HEADER_SIZE, datagram->payload + start, end - start);
		frame_put_header(frame, FRAME_DATA, tag, (uint16_t)(end - start));
	}
	sender->runs[sender->run_count++] = (struct frame_run){
		.frames = frames,
		.size = datagram->length + datagram->count * (size_t)FRAME_HEADER_SIZE,
		.count = datagram->count,
	};
	sender->run_bytes += sender->runs[sender->run_count - 1].size;
	if (sender->largest < FRAME_HEADER_SIZE + segment_size)
		sender->largest = FRAME_HEADER_SIZE + segment_size;
}

void sender_close_flow(struct sender *sender, uint16_t tag, uint64_t now_us)
{
	if (sender->run_count > 0)
		sender_flush(sender, now_us);
	queue_drop_tag(&sender->queue, tag, sender->counters, DROP_STALE);
	control_close(sender->control, tag);
}

void sender_pause(struct sender *sender)
{
	sender->blocked = true;
	sender->gone = sender->has_window = false;
}

void sender_hurry(struct sender *sender)
{
	sender->has_window = false;
	sender->queue.stale_us = UINT64_MAX;
}

bool sender_has_work(const struct sender *sender)
{
	return !queue_is_empty(&sender->queue) && !sender->gone && sender->transport->output >= 0;
}

void sender_resume(struct sender *sender)
{
	if (sender->blocked)
		loop_want_room(sender->loop, sender->transport->output, false);
	sender->blocked = false;
}
