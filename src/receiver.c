#include "receiver.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "util.h"

static_assert(RECEIVER_TEXT_SIZE > 4 * NOISE_SAMPLE_SIZE + 100, "all of the noise may be escaped");

void receiver_init(struct receiver *receiver, struct control *control, struct counters *counters)
{
	receiver->control = control;
	receiver->counters = counters;
}

void receiver_begin_stream(struct receiver *receiver)
{
	decoder_init(&receiver->decoder);
	receiver->noise_is_over = receiver->noise_told = false;
}

uint8_t *receiver_room(struct receiver *receiver, size_t *room)
{
	return decoder_room(&receiver->decoder, room);
}

void receiver_filled(struct receiver *receiver, size_t length, uint64_t now_us)
{
	decoder_filled(&receiver->decoder, length);
	receiver->counters->value[STREAM_IN_BYTES] += length;
	control_bytes_read(receiver->control, now_us);
}

/* Returns RECEIVER_MORE for a control frame that was dealt with. */
static enum receiver_result accept_control(
	struct receiver *receiver, struct frame *frame, char error[static RECEIVER_TEXT_SIZE])
{
	char wrong[CONTROL_ERROR_SIZE];

	if (!control_accept(receiver->control, frame, wrong)) {
		snprintf(error, RECEIVER_TEXT_SIZE, "corrupt stream at byte %" PRIu64 ": %s",
			frame->offset, wrong);
		return RECEIVER_CORRUPT;
	}
	if (frame->type == CONTROL_HELLO && control_is_mismatch(receiver->control, error))
		return RECEIVER_MISMATCH;
	if (frame->type != CONTROL_CLOSE)
		return RECEIVER_MORE;
	frame->tag = le16_load(frame->payload);
	return RECEIVER_CLOSE;
}

enum receiver_result receiver_next(
	struct receiver *receiver, struct frame *frame, char error[static RECEIVER_TEXT_SIZE])
{
	struct decoder *decoder = &receiver->decoder;
	enum decoder_result found;

	while ((found = decoder_next(decoder, frame)) == DECODER_FRAME) {
		enum receiver_result result = RECEIVER_DATA;

		receiver->noise_is_over = true;
		if (frame->kind == FRAME_CONTROL) {
			result = accept_control(receiver, frame, error);
		} else {
			receiver->counters->value[FRAMES_IN]++;
			control_data_frame(receiver->control, frame->tag);
		}
		if (result != RECEIVER_MORE)
			return result;
	}
	if (found == DECODER_CORRUPT) {
		receiver->noise_is_over = true;
		decoder_describe(decoder, error, RECEIVER_TEXT_SIZE);
		return RECEIVER_CORRUPT;
	}
	control_consumed(receiver->control, decoder_bytes(decoder) - decoder_noise(decoder),
		decoder_part(decoder));
	return RECEIVER_MORE;
}

bool receiver_end(struct receiver *receiver, char error[static RECEIVER_TEXT_SIZE])
{
	receiver->noise_is_over = true;
	control_input_ended(receiver->control);
	if (decoder_part(&receiver->decoder) == 0)
		return true;
	snprintf(error, RECEIVER_TEXT_SIZE,
		"the stream ended inside a frame, at byte %" PRIu64 "%s",
		decoder_bytes(&receiver->decoder),
		receiver->control->data_seen || receiver->control->hello_received
			? ""
			: ", the first one: is a terminal in the pipe? use ssh -T");
	return false;
}

static const char *escape_format(uint8_t c)
{
	if (c == '"' || c == '\\')
		return "\\%c";
	if (c == '\n')
		return "\\n";
	if (c == '\r')
		return "\\r";
	return c >= ' ' && c <= '~' ? "%c" : "\\x%02x";
}

bool receiver_tells_noise(struct receiver *receiver, char text[static RECEIVER_TEXT_SIZE])
{
	size_t noise = decoder_noise(&receiver->decoder), shown;
	const uint8_t *sample = decoder_noise_sample(&receiver->decoder, &shown);
	int used;

	if (noise == 0 || !receiver->noise_is_over || receiver->noise_told)
		return false;
	receiver->noise_told = true;
	receiver->counters->value[NOISE_BYTES] += noise;
	used = snprintf(text, RECEIVER_TEXT_SIZE, "skipped %zu bytes that are no frame: \"", noise);
	for (size_t i = 0; i < shown; i++)
		used += snprintf(text + used, RECEIVER_TEXT_SIZE - (size_t)used,
			escape_format(sample[i]), sample[i]);
	snprintf(
		text + used, RECEIVER_TEXT_SIZE - (size_t)used, "\"%s", shown < noise ? "..." : "");
	return true;
}
