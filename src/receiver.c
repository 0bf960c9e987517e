#include "receiver.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "util.h"

void receiver_init(struct receiver *receiver, const struct transport *transport,
	struct control *control, struct counters *counters)
{
	receiver->transport = transport;
	receiver->control = control;
	receiver->counters = counters;
}

void receiver_begin_stream(struct receiver *receiver)
{
	decoder_init(&receiver->decoder);
	receiver->noise_reported = false;
}

/* Says once what came before the first frame, with everything but plain text escaped. */
static void report_noise(struct receiver *receiver)
{
	const struct decoder *decoder = &receiver->decoder;
	size_t shown = min_size(decoder->noise, NOISE_SAMPLE_SIZE);
	char text[4 * NOISE_SAMPLE_SIZE + 1];
	size_t used = 0;

	if (decoder->noise == 0 || receiver->noise_reported)
		return;
	receiver->noise_reported = true;
	receiver->counters->value[NOISE_BYTES] += decoder->noise;
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

static enum receiver_result stream_ended(struct receiver *receiver)
{
	report_noise(receiver);
	if (!decoder_is_inside_frame(&receiver->decoder))
		return RECEIVER_END;
	log_line(LOG_ERROR, "the stream ended inside a frame, at byte %" PRIu64,
		decoder_bytes(&receiver->decoder));
	return RECEIVER_ERROR;
}

enum receiver_result receiver_read(struct receiver *receiver, uint64_t now_us)
{
	struct decoder *decoder = &receiver->decoder;
	size_t room;
	uint8_t *to = decoder_room(decoder, &room);
	ssize_t length = transport_read(receiver->transport, to, room);

	if (length == 0)
		return stream_ended(receiver);
	if (length > 0) {
		decoder_filled(decoder, (size_t)length);
		receiver->counters->value[STREAM_IN_BYTES] += (uint64_t)length;
		control_heard(receiver->control, now_us);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		log_line(LOG_ERROR, "cannot read frames: %s", strerror(errno));
		return RECEIVER_ERROR;
	}
	return RECEIVER_OK;
}

/* Returns RECEIVER_OK if the frame is for the caller, RECEIVER_MORE if it has been dealt with. */
static enum receiver_result accept_frame(struct receiver *receiver, const struct frame *frame)
{
	char error[CONTROL_ERROR_SIZE];

	if (frame->kind == FRAME_DATA) {
		receiver->counters->value[FRAMES_IN]++;
		control_data_frame(receiver->control, frame->tag);
		return RECEIVER_OK;
	}
	if (control_accept(receiver->control, frame, error))
		return frame->type == CONTROL_CLOSE ? RECEIVER_OK : RECEIVER_MORE;
	log_line(LOG_ERROR, "corrupt stream at byte %" PRIu64 ": %s", frame->offset, error);
	return RECEIVER_ERROR;
}

enum receiver_result receiver_next(struct receiver *receiver, struct frame *frame)
{
	struct decoder *decoder = &receiver->decoder;
	enum decoder_result found;
	char text[256];

	while ((found = decoder_next(decoder, frame)) == DECODER_FRAME) {
		enum receiver_result result;

		report_noise(receiver);
		result = accept_frame(receiver, frame);
		if (result != RECEIVER_MORE)
			return result;
	}
	if (found == DECODER_MORE) {
		control_consumed(receiver->control, decoder_bytes(decoder) - decoder->noise,
			decoder->end - decoder->start);
		return RECEIVER_MORE;
	}
	report_noise(receiver);
	decoder_describe(decoder, text, sizeof(text));
	log_line(LOG_ERROR, "%s", text);
	return RECEIVER_ERROR;
}
