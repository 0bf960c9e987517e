/*
 * How this works, from a socket to the pipe: datagrams received in a turn stay in the batch. Their
 * frame headers are written in front of them, so that each is a frame where it lies. At the end of
 * the turn, sender.c says which bytes leave, in one write that takes frames straight from the
 * batch; what does not leave it copies into its queue. Then the batch is free again.
 *
 * From the pipe to a socket: one read fills the decoder in receiver.c, which hands out frames where
 * they lie.
 */
#include "stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "log.h"
#include "util.h"

/* Whether the same call may succeed when the descriptor is ready again. */
static bool is_retry_later(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS;
}

static_assert(SENDER_RUNS_MAX >= (int)BATCH_MAX, "each datagram of a batch may become a run");

bool stream_init(struct stream *stream, struct counters *counters, uint64_t latency_us)
{
	stream->counters = counters;
	stream->output = STREAM_END;
	pipe_use(&stream->pipe, -1, -1);
	batch_init(&stream->batch);
	receiver_init(&stream->receiver, &stream->control, counters);
	return sender_init(&stream->sender, &stream->control, counters, latency_us);
}

void stream_free(struct stream *stream)
{
	sender_free(&stream->sender);
}

struct pipe *stream_pipe(struct stream *stream)
{
	return &stream->pipe;
}

void stream_begin(
	struct stream *stream, bool is_dec, uint16_t services, bool has_way_back, uint64_t now_us)
{
	control_init(&stream->control, is_dec, services, has_way_back, now_us);
	control_set_has_flows(&stream->control, stream->has_flows);
	receiver_begin_stream(&stream->receiver);
	sender_begin_stream(&stream->sender);
	stream->is_blocked = stream->has_come = false;
	stream->output = STREAM_OK;
	if (sender_has_window(&stream->sender))
		pipe_keep_short(&stream->pipe);
}

void stream_pause(struct stream *stream, uint64_t now_us)
{
	stream_reader_is_gone(stream);
	control_input_ended(&stream->control);
	stream_flush(stream, now_us); /* to the queue */
}

/* --- datagrams to frames ------------------------------------------------------------------- */

size_t stream_receive(struct stream *stream, int socket, uint32_t *kernel_drops,
	struct datagram **first, uint64_t now_us)
{
	struct batch *batch = &stream->batch;

	if (batch_is_full(batch))
		stream_flush(stream, now_us);
	*first = &batch->datagrams[batch->used];
	return udp_receive(socket, batch, kernel_drops, stream->counters);
}

/* Puts a header in front of each datagram. From the last to the first: each moves up by as many. */
static void put_headers(const struct datagram *datagram, uint16_t tag)
{
	uint8_t *frames = datagram->payload - FRAME_HEADER_SIZE;
	size_t segment_size = datagram->segment_size, end = datagram->length;

	for (size_t i = datagram->count; i-- > 0; end = i * segment_size) {
		uint8_t *frame = frames + i * (FRAME_HEADER_SIZE + segment_size);
		size_t start = i * segment_size;

		if (i > 0)
			memmove(frame + FRAME_HEADER_SIZE, datagram->payload + start, end - start);
		frame_put_header(frame, FRAME_DATA, tag, (uint16_t)(end - start));
	}
}

void stream_send(struct stream *stream, uint16_t tag, struct datagram *datagram)
{
	struct frame_run run = {
		.frames = datagram->payload - FRAME_HEADER_SIZE,
		.size = datagram->length + datagram->count * (size_t)FRAME_HEADER_SIZE,
		.count = datagram->count,
	};

	put_headers(datagram, tag);
	sender_add(&stream->sender, &run, FRAME_HEADER_SIZE + (size_t)datagram->segment_size);
}

void stream_close_flow(struct stream *stream, uint16_t tag, uint64_t now_us)
{
	sender_close_flow(&stream->sender, tag, now_us);
}

bool stream_has_control(const struct stream *stream)
{
	return control_is_on(&stream->control);
}

void stream_set_has_flows(struct stream *stream, bool has_flows)
{
	stream->has_flows = has_flows;
	control_set_has_flows(&stream->control, has_flows);
}

struct queue *stream_waiting(struct stream *stream)
{
	return sender_queue(&stream->sender);
}

/* --- frames to datagrams ------------------------------------------------------------------- */

static void tell_noise(struct stream *stream)
{
	char text[RECEIVER_TEXT_SIZE];

	if (receiver_tells_noise(&stream->receiver, text))
		log_line(LOG_WARNING, "%s", text);
}

static enum stream_result end_input(struct stream *stream)
{
	char error[RECEIVER_TEXT_SIZE];
	bool is_whole = receiver_end(&stream->receiver, error);

	tell_noise(stream);
	if (!is_whole)
		log_line(LOG_ERROR, "%s", error);
	return is_whole ? STREAM_END : STREAM_FAILED;
}

enum stream_result stream_read(struct stream *stream, uint64_t now_us)
{
	size_t room;
	uint8_t *to = receiver_room(&stream->receiver, &room);
	ssize_t length = pipe_read(&stream->pipe, to, room);

	if (length > 0)
		receiver_filled(&stream->receiver, (size_t)length, now_us);
	if (length > 0 || (length < 0 && is_retry_later(errno)))
		return STREAM_OK;
	if (length == 0)
		return end_input(stream);
	log_line(LOG_ERROR, "cannot read frames: %s", strerror(errno));
	control_input_ended(&stream->control);
	return STREAM_FAILED;
}

enum receiver_result stream_next(struct stream *stream, struct frame *frame)
{
	char error[RECEIVER_TEXT_SIZE];
	enum receiver_result result = receiver_next(&stream->receiver, frame, error);

	tell_noise(stream);
	if (result != RECEIVER_CORRUPT && stream->receiver.noise_is_over && !stream->has_come) {
		stream->has_come = true;
		log_line(LOG_DETAIL, "the first frame has come from the far side");
		if (control_waits_in_vain(&stream->control))
			log_line(LOG_WARNING, "the far side waits for replies, and -u sends none");
	}
	if (result == RECEIVER_CORRUPT || result == RECEIVER_MISMATCH)
		log_line(LOG_ERROR, "%s", error);
	return result;
}

uint16_t stream_service(const struct stream *stream, uint16_t tag)
{
	return control_service(&stream->control, tag);
}

bool stream_was_acked(const struct stream *stream)
{
	return control_acked_bytes(&stream->control) > 0;
}

/* --- turns --------------------------------------------------------------------------------- */

static void note_write_error(struct stream *stream)
{
	stream->output = STREAM_END;
	if (errno == EPIPE || errno == ECONNRESET)
		return;
	stream->output = STREAM_FAILED;
	log_line(LOG_ERROR, "cannot write frames: %s", strerror(errno));
}

/* Returns how many bytes have left. */
static size_t write_pieces(struct stream *stream, const struct iovec *pieces, int count)
{
	ssize_t written = pipe_write(&stream->pipe, pieces, count);
	size_t size = 0;

	if (written < 0 && !is_retry_later(errno))
		note_write_error(stream);
	if (written < 0)
		written = 0;
	for (int i = 0; i < count; i++)
		size += pieces[i].iov_len;
	stream->is_blocked = (size_t)written < size;
	return (size_t)written;
}

static bool may_write(const struct stream *stream)
{
	return !stream->is_blocked && stream->output == STREAM_OK;
}

void stream_flush(struct stream *stream, uint64_t now_us)
{
	struct iovec pieces[SENDER_PIECES_MAX];
	struct sender *sender = &stream->sender;
	int count = 1;

	while (count > 0 && may_write(stream)) {
		size_t room = sender_has_queue(sender) ? pipe_room(&stream->pipe) : SIZE_MAX;

		count = sender_gather(sender, room, now_us, pieces);
		if (count > 0)
			sender_settle(sender, write_pieces(stream, pieces, count), now_us);
	}
	sender_hold(sender, now_us);
	sender_update_counters(sender);
	pipe_widen(&stream->pipe, sender_pipe_size(sender));
	stream->batch.used = 0;
}

enum stream_result stream_output(const struct stream *stream)
{
	return stream->output;
}

bool stream_is_blocked(const struct stream *stream)
{
	return stream->is_blocked && stream->output == STREAM_OK;
}

void stream_resume(struct stream *stream)
{
	stream->is_blocked = false;
}

void stream_reader_is_gone(struct stream *stream)
{
	stream->output = STREAM_END;
}

uint64_t stream_deadline_us(const struct stream *stream, uint64_t now_us)
{
	bool can_write = may_write(stream);
	uint64_t sender_us = can_write ? sender_deadline_us(&stream->sender, now_us) : UINT64_MAX;

	return min_u64(sender_us, control_deadline_us(&stream->control, !can_write));
}

bool stream_is_dead(const struct stream *stream, uint64_t now_us)
{
	return control_is_dead(&stream->control, now_us) && !pipe_has_input_waiting(&stream->pipe);
}

/* --- the end ------------------------------------------------------------------------------- */

void stream_hurry(struct stream *stream)
{
	sender_disable_window(&stream->sender);
}

bool stream_has_work(const struct stream *stream)
{
	return stream->output == STREAM_OK && !sender_is_empty(&stream->sender);
}

const char *stream_end(struct stream *stream, uint64_t now_us)
{
	bool is_cut = sender_is_inside_frame(&stream->sender);
	bool is_reader_gone = stream->output == STREAM_END;

	stream->output = STREAM_END; /* an ACK that is due does not leave any more */
	sender_drop_all(&stream->sender, now_us);
	sender_update_counters(&stream->sender);
	if (!is_cut)
		return NULL;
	return is_reader_gone ? "the reader closed the pipe inside a frame"
			      : "a frame was cut: the pipe did not take its rest in time";
}
