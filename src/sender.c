/*
 * How this works: datagrams received in a turn stay in the batch, with their frame headers put in
 * front of them, until the turn ends; then one write takes all frames straight from there. Only
 * what the pipe has no room for is copied, into the queue, and from then on everything goes through
 * the queue until that is empty again.
 */
#include "sender.h"

#include <errno.h>

#include "util.h"

enum {
	QUEUE_SIZE = 4 * 1024 * 1024
};

enum piece {
	PIECE_URGENT,
	PIECE_FRAME,
	PIECE_CLOSES,
};

bool sender_init(struct sender *sender, const struct transport *transport, struct loop *loop,
	struct control *control, struct counters *counters)
{
	sender->transport = transport;
	sender->loop = loop;
	sender->control = control;
	sender->counters = counters;
	batch_init(&sender->batch);
	return queue_init(&sender->queue, QUEUE_SIZE);
}

void sender_free(struct sender *sender)
{
	queue_free(&sender->queue);
}

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

/* What the pipe did not take, wholly or (`cut`) in part. */
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

/* Nothing waits: the batch leaves from where it is. */
static void write_batch(struct sender *sender, uint64_t now_us)
{
	bool has_flows = sender->counters->value[FLOWS] > 0;
	size_t frame_count = sender->frame_count, count = frame_count + 2, written;
	uint8_t urgent[CONTROL_URGENT_MAX], closes[CONTROL_CLOSES_MAX];
	struct iovec pieces[1 + BATCH_MAX + 1];
	bool only_urgent;
	size_t ack_size;

	pieces[0].iov_base = urgent;
	pieces[0].iov_len = control_urgent(sender->control, has_flows, now_us, urgent, &ack_size);
	for (size_t i = 0; i < frame_count; i++)
		pieces[1 + i] = sender->frames[i];
	pieces[count - 1].iov_base = closes;
	pieces[count - 1].iov_len = control_closes(sender->control, closes);
	if (frame_count == 0 && pieces[0].iov_len == 0 && pieces[1].iov_len == 0)
		return;
	written = write_pieces(sender, pieces, (int)count);
	only_urgent = written == pieces[0].iov_len;
	control_sent(sender->control, written, only_urgent ? ack_size : 0, now_us);
	for (size_t i = 0; i < count; i++) {
		enum piece kind = i == 0             ? PIECE_URGENT
				  : i <= frame_count ? PIECE_FRAME
						     : PIECE_CLOSES;
		size_t size = pieces[i].iov_len;

		if (written >= size) {
			written -= size;
			sender->counters->value[FRAMES_OUT] += kind == PIECE_FRAME;
		} else {
			keep(sender, kind, (uint8_t *)pieces[i].iov_base + written, size - written,
				written > 0, now_us);
			written = 0;
		}
	}
}

static void queue_batch(struct sender *sender, uint64_t now_us)
{
	for (size_t i = 0; i < sender->frame_count; i++)
		keep(sender, PIECE_FRAME, sender->frames[i].iov_base, sender->frames[i].iov_len,
			false, now_us);
}

static void queue_control(struct sender *sender, uint64_t now_us)
{
	bool has_flows = sender->counters->value[FLOWS] > 0;
	uint8_t bytes[CONTROL_CLOSES_MAX];
	size_t size, ack_size;

	if (queue_has_control(&sender->queue))
		return;
	size = control_urgent(sender->control, has_flows, now_us, bytes, &ack_size);
	if (size > 0)
		queue_push_control(&sender->queue, bytes, size);
	size = control_closes(sender->control, bytes);
	if (size > 0)
		queue_push_last(&sender->queue, bytes, size);
}

static void write_queue(struct sender *sender, uint64_t now_us)
{
	struct iovec pieces[QUEUE_PIECES_MAX];

	while (!sender->blocked && !sender->gone) {
		int count;
		size_t written;

		queue_control(sender, now_us);
		count = queue_peek(&sender->queue, SIZE_MAX, now_us, sender->counters, pieces);
		if (count == 0)
			return;
		written = write_pieces(sender, pieces, count);
		control_sent(sender->control, written, 0, now_us);
		sender->counters->value[FRAMES_OUT] += queue_consume(&sender->queue, written);
	}
}

void sender_flush(struct sender *sender, uint64_t now_us)
{
	if (sender->blocked || sender->gone || !queue_is_empty(&sender->queue))
		queue_batch(sender, now_us);
	else
		write_batch(sender, now_us);
	sender->frame_count = 0;
	sender->batch.used = 0;
	if (!queue_is_empty(&sender->queue) || sender->control->close_count > 0)
		write_queue(sender, now_us);
	sender->counters->value[QUEUED] = sender->queue.frames;
}

size_t sender_receive(struct sender *sender, int socket, uint32_t *kernel_drops,
	struct datagram **first, uint64_t now_us)
{
	struct batch *batch = &sender->batch;

	if (batch->used == BATCH_MAX)
		sender_flush(sender, now_us);
	*first = &batch->datagrams[batch->used];
	return udp_receive(socket, batch, kernel_drops, sender->counters);
}

void sender_send(struct sender *sender, uint16_t tag, struct datagram *datagram)
{
	uint8_t *frame = datagram->payload - FRAME_HEADER_SIZE;

	frame_put_header(frame, tag, datagram->length);
	sender->frames[sender->frame_count++] = (struct iovec){
		.iov_base = frame,
		.iov_len = FRAME_HEADER_SIZE + (size_t)datagram->length,
	};
}

void sender_close_flow(struct sender *sender, uint16_t tag, uint64_t now_us)
{
	if (sender->frame_count > 0)
		sender_flush(sender, now_us);
	queue_drop_tag(&sender->queue, tag, sender->counters, DROP_STALE);
	control_close(sender->control, tag);
}

void sender_pause(struct sender *sender)
{
	sender->blocked = true;
	sender->gone = false;
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
