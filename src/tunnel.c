/*
 * How this works: a turn is one wait and the events it returned. Datagrams received in a turn stay
 * in the batch, with their frame headers put in front of them, until the turn ends; then one write
 * takes all frames straight from there. Only what the pipe has no room for is copied, into the
 * queue, and from then on everything goes through the queue until that is empty again.
 *
 * The tunnel ends by itself when a signal asks for it or the stream is corrupt. When the far side
 * has gone (COMMAND has ended, nobody reads our frames), it is `finishing`: what had arrived before
 * is still delivered, and the first wait that finds nothing to read is the end.
 */
#include "tunnel.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"
#include "util.h"

enum {
	QUEUE_SIZE = 4 * 1024 * 1024
};

void tunnel_read_options(
	enum program program, int argc, char **argv, struct options *options, struct stdio *stdio)
{
	char error[OPTIONS_ERROR_SIZE];
	const char *name = program_name(program);

	stdio_claim(stdio);
	log_open(name, LOG_WARNING);
	switch (options_parse(options, program, argc, argv, error)) {
	case OPTIONS_HELP:
		fputs(options_help(program), stdout);
		exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	case OPTIONS_VERSION:
		printf("%s %s\n", name, UOTT_VERSION);
		exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	case OPTIONS_WRONG:
		log_line(LOG_ERROR, "%s", error);
		log_line(LOG_ERROR, "try '%s --help'", name);
		exit(2);
	case OPTIONS_RUN:
		break;
	}
	log_open(name, options->quiet ? LOG_ERROR : options->verbose ? LOG_DETAIL : LOG_WARNING);
}

static int open_transport(struct tunnel *tunnel, const struct stdio *stdio, bool reads, bool writes)
{
	const struct options *options = tunnel->options;
	const char *wrong;
	int error;

	if (!options->command) {
		wrong = transport_use_stdio(&tunnel->transport, stdio, reads, writes);
		if (wrong)
			log_line(LOG_ERROR, "%s", wrong);
		return wrong ? 2 : 0;
	}
	error = transport_run(&tunnel->transport, options->command, reads);
	if (error)
		log_line(LOG_ERROR, "cannot run '%s': %s", options->command[0], strerror(error));
	return error ? tunnel->transport.child.status : 0;
}

int tunnel_open(struct tunnel *tunnel, const struct options *options, const struct stdio *stdio,
	bool reads, bool writes)
{
	struct transport *transport = &tunnel->transport;
	int status;

	tunnel->options = options;
	tunnel->linger_until_us = tunnel->wake_us = UINT64_MAX;
	tunnel->now_us = clock_now_us();
	decoder_init(&tunnel->decoder);
	batch_init(&tunnel->batch);
	tunnel->signals = signals_open();
	if (tunnel->signals < 0 || !loop_open(&tunnel->loop) ||
		!queue_init(&tunnel->queue, QUEUE_SIZE)) {
		log_line(LOG_ERROR, "cannot start: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	status = open_transport(tunnel, stdio, reads, writes);
	if (status != 0)
		return status;
	if (!loop_add(&tunnel->loop, tunnel->signals, SOURCE_SIGNAL, 0) ||
		(reads && !loop_add(&tunnel->loop, transport->input, SOURCE_INPUT, 0)) ||
		(writes && !loop_add(&tunnel->loop, transport->output, SOURCE_OUTPUT, 0))) {
		log_line(LOG_ERROR, "cannot wait for the transport: %s", strerror(errno));
		tunnel_fail(tunnel); /* COMMAND is running and has to be ended */
	}
	return 0;
}

bool tunnel_watch(struct tunnel *tunnel, int socket, uint16_t tag)
{
	return loop_add(&tunnel->loop, socket, SOURCE_UDP, tag);
}

void tunnel_unwatch(struct tunnel *tunnel, int socket)
{
	loop_remove(&tunnel->loop, socket, SOURCE_UDP);
}

void tunnel_wake_at(struct tunnel *tunnel, uint64_t time_us)
{
	tunnel->wake_us = time_us;
}

void tunnel_end(struct tunnel *tunnel)
{
	tunnel->ended = true;
}

void tunnel_linger(struct tunnel *tunnel)
{
	tunnel->linger_until_us = tunnel->now_us + tunnel->options->linger_us;
}

void tunnel_fail(struct tunnel *tunnel)
{
	tunnel->status = EXIT_FAILURE;
	tunnel->ended = true;
}

/* --- frames out --------------------------------------------------------------------------- */

/* What the far side sent before it went is still delivered, but not for ever. */
static void finish(struct tunnel *tunnel)
{
	if (!tunnel->finishing)
		tunnel_linger(tunnel);
	tunnel->finishing = true;
}

static void output_is_gone(struct tunnel *tunnel)
{
	if (tunnel->output_gone)
		return;
	tunnel->output_gone = true;
	finish(tunnel);
}

/* Writes once. Returns how many bytes left; 0 when there is no room, or after an error. */
static size_t write_pieces(struct tunnel *tunnel, const struct iovec *pieces, int count)
{
	ssize_t written = transport_write(&tunnel->transport, pieces, count);

	if (written >= 0) {
		tunnel->counters.value[STREAM_OUT_BYTES] += (uint64_t)written;
		return (size_t)written;
	}
	if (errno == EPIPE || errno == ECONNRESET) {
		output_is_gone(tunnel);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ENOBUFS) {
		log_line(LOG_ERROR, "cannot write frames: %s", strerror(errno));
		tunnel->output_gone = true;
		tunnel_fail(tunnel);
	}
	return 0;
}

/* Copies what the last write left over of this turn's frames into the queue. */
static void queue_rest(struct tunnel *tunnel, size_t written)
{
	for (size_t i = 0; i < tunnel->frame_count; i++) {
		const uint8_t *frame = tunnel->frames[i].iov_base;
		size_t size = tunnel->frames[i].iov_len;

		if (written >= size) {
			written -= size;
			tunnel->counters.value[FRAMES_OUT]++;
		} else if (written > 0) {
			queue_push_rest(&tunnel->queue, frame + written, size - written);
			written = 0;
		} else if (tunnel->output_gone) {
			tunnel->counters.value[DROP_PIPE_CLOSED]++;
		} else if (!queue_push(&tunnel->queue, frame, size)) {
			tunnel->counters.value[DROP_QUEUE_FULL]++;
		}
	}
}

static void flush_queue(struct tunnel *tunnel)
{
	struct iovec pieces[2];
	size_t written = write_pieces(tunnel, pieces, queue_peek(&tunnel->queue, pieces));

	tunnel->counters.value[FRAMES_OUT] += queue_consume(&tunnel->queue, written);
}

/* The frames of this turn leave, as far as the pipe has room. */
static void flush_batch(struct tunnel *tunnel)
{
	bool was_empty = queue_is_empty(&tunnel->queue);
	size_t written = 0;

	if (tunnel->frame_count > 0) {
		if (was_empty && !tunnel->output_gone)
			written = write_pieces(tunnel, tunnel->frames, (int)tunnel->frame_count);
		queue_rest(tunnel, written);
		if (was_empty && !queue_is_empty(&tunnel->queue))
			loop_want_room(&tunnel->loop, tunnel->transport.output, true);
	}
	tunnel->frame_count = 0;
	tunnel->batch.used = 0;
}

static void handle_output(struct tunnel *tunnel, bool broken)
{
	if (broken)
		output_is_gone(tunnel);
	if (tunnel->output_gone || queue_is_empty(&tunnel->queue))
		return;
	flush_queue(tunnel);
	if (queue_is_empty(&tunnel->queue))
		loop_want_room(&tunnel->loop, tunnel->transport.output, false);
}

size_t tunnel_receive(
	struct tunnel *tunnel, int socket, uint32_t *kernel_drops, struct datagram **first)
{
	struct batch *batch = &tunnel->batch;

	if (batch->used == BATCH_MAX)
		flush_batch(tunnel);
	*first = &batch->datagrams[batch->used];
	return udp_receive(socket, batch, kernel_drops, &tunnel->counters);
}

/* --- frames in ---------------------------------------------------------------------------- */

/* Says once what came before the first frame, with everything but plain text escaped. */
static void report_noise(struct tunnel *tunnel)
{
	const struct decoder *decoder = &tunnel->decoder;
	size_t shown = min_size(decoder->noise, NOISE_SAMPLE_SIZE);
	char text[4 * NOISE_SAMPLE_SIZE + 1];
	size_t used = 0;

	if (decoder->noise == 0 || tunnel->noise_reported)
		return;
	tunnel->noise_reported = true;
	tunnel->counters.value[NOISE_BYTES] = decoder->noise;
	for (size_t i = 0; i < shown; i++) {
		unsigned char c = decoder->noise_sample[i];
		const char *format = c == '"' || c == '\\'  ? "\\%c"
				     : c >= ' ' && c <= '~' ? "%c"
				     : c == '\n'            ? "\\n"
				     : c == '\r'            ? "\\r"
							    : "\\x%02x";

		used += (size_t)snprintf(text + used, sizeof(text) - used, format, c);
	}
	text[used] = '\0';
	log_line(LOG_WARNING, "skipped %zu bytes that are no frame: \"%s\"%s", decoder->noise, text,
		shown < decoder->noise ? "..." : "");
}

static void input_reached_its_end(struct tunnel *tunnel)
{
	loop_remove(&tunnel->loop, tunnel->transport.input, SOURCE_INPUT);
	report_noise(tunnel);
	if (decoder_is_inside_frame(&tunnel->decoder)) {
		log_line(LOG_ERROR, "the stream ended inside a frame, at byte %" PRIu64,
			decoder_bytes(&tunnel->decoder));
		tunnel->status = EXIT_FAILURE;
	}
	transport_close_input(&tunnel->transport);
}

bool tunnel_read(struct tunnel *tunnel)
{
	size_t room;
	uint8_t *to = decoder_room(&tunnel->decoder, &room);
	ssize_t length = transport_read(&tunnel->transport, to, room);

	if (length > 0) {
		decoder_filled(&tunnel->decoder, (size_t)length);
		tunnel->counters.value[STREAM_IN_BYTES] += (uint64_t)length;
		return true;
	}
	if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return true;
	if (length < 0) {
		log_line(LOG_ERROR, "cannot read frames: %s", strerror(errno));
		tunnel->status = EXIT_FAILURE;
	}
	input_reached_its_end(tunnel);
	return false;
}

/* Control frames are for those who have said HELLO; without it they are not what they look like. */
static bool accept_control(struct tunnel *tunnel, const struct frame *frame)
{
	if (frame->type == CONTROL_HELLO && frame->length >= CONTROL_HELLO_BODY_MIN)
		tunnel->hello_seen = true;
	if (tunnel->hello_seen)
		return true;
	log_line(LOG_ERROR,
		"corrupt stream at byte %" PRIu64 ": a control frame of type %u before HELLO",
		frame->offset, frame->type);
	return false;
}

bool tunnel_next_frame(struct tunnel *tunnel, struct frame *frame)
{
	char text[256];

	while (!tunnel->ended) {
		enum decoder_result result = decoder_next(&tunnel->decoder, frame);

		if (result != DECODER_MORE)
			report_noise(tunnel);
		switch (result) {
		case DECODER_FRAME:
			if (frame->kind == FRAME_DATA) {
				tunnel->counters.value[FRAMES_IN]++;
				return true;
			}
			if (!accept_control(tunnel, frame))
				tunnel_fail(tunnel);
			break;
		case DECODER_MORE:
			return false;
		case DECODER_CORRUPT:
			decoder_describe(&tunnel->decoder, text, sizeof(text));
			log_line(LOG_ERROR, "%s", text);
			tunnel_fail(tunnel);
			break;
		}
	}
	return false;
}

void tunnel_send(struct tunnel *tunnel, uint16_t tag, struct datagram *datagram)
{
	uint8_t *frame = datagram->payload - FRAME_HEADER_SIZE;

	frame_put_header(frame, tag, datagram->length);
	tunnel->frames[tunnel->frame_count++] = (struct iovec){
		.iov_base = frame,
		.iov_len = FRAME_HEADER_SIZE + (size_t)datagram->length,
	};
}

/* --- turns -------------------------------------------------------------------------------- */

static void report_counters(const struct tunnel *tunnel, enum log_level level)
{
	char text[1024];

	counters_format(&tunnel->counters, text, sizeof(text));
	log_line(level, "%s", text);
}

static void handle_signals(struct tunnel *tunnel)
{
	unsigned int seen = signals_read(tunnel->signals);

	if (seen & SIGNALS_REPORT)
		report_counters(tunnel, LOG_ERROR);
	if (seen & SIGNALS_END) {
		tunnel->asked_to_end = true;
		tunnel_end(tunnel);
	}
	if (seen & SIGNALS_CHILD && tunnel->transport.child.pid != 0 &&
		child_is_gone(&tunnel->transport.child))
		finish(tunnel);
}

/* Says which datagrams were dropped. Returns when there may be more to say. */
static uint64_t report_drops(struct tunnel *tunnel, uint64_t now_us)
{
	uint64_t deadline_us;
	char text[256];

	while (counters_next_report(&tunnel->counters, now_us, text, sizeof(text), &deadline_us))
		log_line(LOG_WARNING, "%s", text);
	return deadline_us;
}

static int64_t time_to_wait_us(const struct tunnel *tunnel, uint64_t deadline_us)
{
	deadline_us = min_u64(deadline_us, min_u64(tunnel->linger_until_us, tunnel->wake_us));
	if (deadline_us == UINT64_MAX)
		return -1;
	return tunnel->finishing || deadline_us < tunnel->now_us
		       ? 0
		       : (int64_t)(deadline_us - tunnel->now_us);
}

static bool has_input_waiting(const struct tunnel *tunnel)
{
	return poll(&(struct pollfd){.fd = tunnel->transport.input, .events = POLLIN}, 1, 0) == 1;
}

static void next_turn(struct tunnel *tunnel)
{
	uint64_t deadline_us;

	flush_batch(tunnel);
	deadline_us = report_drops(tunnel, tunnel->now_us);
	if (tunnel->ended)
		return;
	tunnel->event_next = 0;
	tunnel->event_count = loop_wait(
		&tunnel->loop, time_to_wait_us(tunnel, deadline_us), tunnel->events);
	tunnel->now_us = clock_now_us();
	if (tunnel->now_us >= tunnel->linger_until_us ||
		(tunnel->finishing && !has_input_waiting(tunnel)))
		tunnel_end(tunnel);
}

enum tunnel_event tunnel_next_event(struct tunnel *tunnel, uint16_t *tag)
{
	while (!tunnel->ended) {
		const struct event *event = &tunnel->events[tunnel->event_next];

		if (tunnel->now_us >= tunnel->wake_us) {
			tunnel->wake_us = UINT64_MAX;
			return TUNNEL_WAKE;
		}
		if (tunnel->event_next == tunnel->event_count) {
			next_turn(tunnel);
			continue;
		}
		tunnel->event_next++;
		switch (event->source) {
		case SOURCE_SIGNAL:
			handle_signals(tunnel);
			break;
		case SOURCE_OUTPUT:
			handle_output(tunnel, event->broken);
			break;
		case SOURCE_INPUT:
			return TUNNEL_FRAMES;
		case SOURCE_UDP:
			*tag = event->tag;
			return TUNNEL_DATAGRAMS;
		case SOURCES: /* how many there are, and none itself */
			break;
		}
	}
	return TUNNEL_END;
}

/* --- the end ------------------------------------------------------------------------------ */

/* Gives the pipe the linger time to take what is queued, or until a signal asks once more. */
static void drain(struct tunnel *tunnel)
{
	uint64_t now_us = clock_now_us();
	uint64_t deadline_us = now_us + tunnel->options->linger_us;
	struct pollfd wake[] = {
		{.fd = tunnel->transport.output, .events = POLLOUT},
		{.fd = tunnel->signals, .events = POLLIN},
	};

	flush_batch(tunnel);
	while (!queue_is_empty(&tunnel->queue) && !tunnel->output_gone && now_us < deadline_us) {
		poll(wake, ARRAY_SIZE(wake), timeout_ms((int64_t)(deadline_us - now_us)));
		if (signals_read(tunnel->signals) & SIGNALS_END) {
			tunnel->asked_to_end = true;
			break;
		}
		flush_queue(tunnel);
		now_us = clock_now_us();
	}
	/* What ended the reader may have been meant for us too, as a ^C is. */
	if (signals_read(tunnel->signals) & SIGNALS_END)
		tunnel->asked_to_end = true;
	tunnel->counters.value[DROP_PIPE_CLOSED] += tunnel->queue.frames;
	if (!queue_is_inside_frame(&tunnel->queue) || tunnel->asked_to_end)
		return;
	log_line(LOG_ERROR, tunnel->output_gone
				    ? "the reader closed the pipe inside a frame"
				    : "a frame was cut: the pipe did not take its rest in time");
	tunnel->status = EXIT_FAILURE;
}

static void finish_child(struct tunnel *tunnel)
{
	struct child *child = &tunnel->transport.child;
	bool was_started = tunnel->options->command != NULL;
	bool unasked = child_finish(child, tunnel->signals, tunnel->options->linger_us);

	if (!was_started || tunnel->asked_to_end)
		return;
	if (!unasked)
		log_line(LOG_WARNING, "'%s' did not end by itself and was terminated",
			tunnel->options->command[0]);
	if (!unasked || child->status == 0)
		return;
	log_line(LOG_WARNING, "'%s' ended with status %d", tunnel->options->command[0],
		child->status);
	if (tunnel->status == 0)
		tunnel->status = child->status;
}

int tunnel_close(struct tunnel *tunnel)
{
	drain(tunnel);
	report_drops(tunnel, UINT64_MAX); /* however short ago the last report was */
	transport_close_output(&tunnel->transport);
	finish_child(tunnel);
	transport_close_input(&tunnel->transport); /* COMMAND must not die of that */
	if (log_shows(LOG_DETAIL))
		report_counters(tunnel, LOG_DETAIL);
	queue_free(&tunnel->queue);
	loop_close(&tunnel->loop);
	return tunnel->status;
}
