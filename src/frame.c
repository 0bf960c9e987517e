/*
 * How this works: each read appends bytes at `end`, and each frame is taken at `start`. No byte
 * moves until the room behind `end` is short. The last frame given out, at `previous`, stays in the
 * buffer: when a wrong byte comes behind it, its own bytes tell what has damaged it.
 *
 *   buffer:  | old | last frame | part of the next | room ...      |
 *                  ^previous    ^start             ^end
 */
#include "frame.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

enum {
	MAGIC_SIZE = 4,
	SHOWN_MAX = 8, /* bytes, where the stream is corrupt */
};

static_assert(FRAME_SIZE_MAX == 65543, "the longest frame of uott(5)");
static_assert(FRAME_HEADER_SIZE == MAGIC_SIZE + 2 * sizeof(uint16_t), "magic, number and length");

static const uint8_t magic_data[MAGIC_SIZE] = {'U', 'O', 'T', 'T'};
static const uint8_t magic_control[MAGIC_SIZE] = {'U', 'O', 'T', 'C'};

void frame_put_header(uint8_t header[static FRAME_HEADER_SIZE], enum frame_kind kind,
	uint16_t number, uint16_t length)
{
	memcpy(header, kind == FRAME_DATA ? magic_data : magic_control, MAGIC_SIZE);
	le16_store(header + 4, number);
	le16_store(header + 6, length);
}

size_t frame_size(const uint8_t header[static FRAME_HEADER_SIZE])
{
	return FRAME_HEADER_SIZE + (size_t)le16_load(header + 6);
}

void decoder_init(struct decoder *decoder)
{
	memset(decoder, 0, offsetof(struct decoder, noise_sample));
}

uint8_t *decoder_room(struct decoder *decoder, size_t *room)
{
	if (DECODER_BUFFER_SIZE - decoder->end < DECODER_ROOM_MIN) {
		memmove(decoder->buffer, decoder->buffer + decoder->previous,
			decoder->end - decoder->previous);
		decoder->base += decoder->previous;
		decoder->start -= decoder->previous;
		decoder->end -= decoder->previous;
		decoder->previous = 0;
	}
	*room = DECODER_BUFFER_SIZE - decoder->end;
	assert(*room >= DECODER_ROOM_MIN);
	return decoder->buffer + decoder->end;
}

void decoder_filled(struct decoder *decoder, size_t length)
{
	assert(length <= DECODER_BUFFER_SIZE - decoder->end);
	decoder->end += length;
}

/* Whether the `length` bytes at `p`, even none, are or may become the beginning of a frame. */
static bool begins_frame(const uint8_t *p, size_t length)
{
	size_t known = min_size(length, MAGIC_SIZE);

	return memcmp(p, magic_data, known) == 0 || memcmp(p, magic_control, known) == 0;
}

/* Returns where in the buffer the next frame begins, or may begin, from `at` on. */
static size_t find_frame(const struct decoder *decoder, size_t at)
{
	while (!begins_frame(decoder->buffer + at, decoder->end - at))
		at++;
	return at;
}

/* Skips what a login or a shell prints before the first frame. */
static void synchronize(struct decoder *decoder)
{
	size_t at = find_frame(decoder, decoder->start), skipped = at - decoder->start;
	size_t kept = min_size(decoder->noise, NOISE_SAMPLE_SIZE);

	memcpy(decoder->noise_sample + kept, decoder->buffer + decoder->start,
		min_size(skipped, NOISE_SAMPLE_SIZE - kept));
	decoder->noise += skipped;
	decoder->previous = decoder->start = at;
	decoder->synchronized = decoder->end - at >= MAGIC_SIZE;
}

/*
 * A terminal turns LF into CR LF: each LF then has a CR before it, and the frame is one byte longer
 * for each. If one of them is in the header, the length itself may be wrong.
 */
static bool looks_like_crlf_damage(const struct decoder *decoder)
{
	size_t header_end = decoder->previous + FRAME_HEADER_SIZE + 1; /* with a CR in it */
	size_t next = find_frame(decoder, decoder->wrong), pairs = 0;
	bool in_header = false;

	for (size_t i = decoder->previous + 1; i < next; i++) { /* the first byte is no LF */
		if (decoder->buffer[i] != '\n')
			continue;
		if (decoder->buffer[i - 1] != '\r')
			return false;
		in_header |= i < header_end;
		pairs++;
	}
	return in_header || next - decoder->wrong <= pairs;
}

enum decoder_result decoder_next(struct decoder *decoder, struct frame *frame)
{
	const uint8_t *p;
	size_t available, size;

	if (!decoder->synchronized)
		synchronize(decoder);
	if (decoder->noise > NOISE_MAX)
		return DECODER_CORRUPT;
	p = decoder->buffer + decoder->start;
	available = decoder->end - decoder->start;
	decoder->wrong = decoder->start;
	if (!begins_frame(p, available))
		return DECODER_CORRUPT;
	if (available < FRAME_HEADER_SIZE || available < frame_size(p))
		return DECODER_MORE;
	size = frame_size(p);
	decoder->previous = decoder->start;
	if (!begins_frame(p + size, available - size)) {
		/* Either the frame or what follows is damaged. If CR LF did it, the frame is. */
		decoder->wrong = decoder->start + size;
		if (looks_like_crlf_damage(decoder))
			return DECODER_CORRUPT;
	}
	frame->kind = p[3] == magic_data[3] ? FRAME_DATA : FRAME_CONTROL;
	frame->tag = le16_load(p + 4);
	frame->length = le16_load(p + 6);
	frame->payload = p + FRAME_HEADER_SIZE;
	frame->offset = decoder->base + decoder->start;
	decoder->start += size;
	return DECODER_FRAME;
}

uint64_t decoder_bytes(const struct decoder *decoder)
{
	return decoder->base + decoder->end;
}

size_t decoder_noise(const struct decoder *decoder)
{
	return decoder->noise;
}

const uint8_t *decoder_noise_sample(const struct decoder *decoder, size_t *length)
{
	*length = min_size(decoder->noise, NOISE_SAMPLE_SIZE);
	return decoder->noise_sample;
}

size_t decoder_part(const struct decoder *decoder)
{
	bool is_noise = !decoder->synchronized && decoder->noise > 0;

	return is_noise ? 0 : decoder->end - decoder->start;
}

/* Tells what has damaged the stream, if the bytes show it. */
static const char *likely_cause(const struct decoder *decoder)
{
	static const char message[] = "uott-";
	size_t available = decoder->end - decoder->wrong;

	if (looks_like_crlf_damage(decoder))
		return "; a terminal in the way turns LF into CR LF: use " NO_TERMINAL;
	if (available >= strlen(message) &&
		memcmp(decoder->buffer + decoder->wrong, message, strlen(message)) == 0)
		return "; a terminal in the way mixes messages with frames: use " NO_TERMINAL;
	return "";
}

void decoder_describe(const struct decoder *decoder, char *text, size_t size)
{
	size_t shown = min_size(decoder->end - decoder->wrong, SHOWN_MAX);
	char bytes[3 * SHOWN_MAX + 1] = "";

	if (decoder->noise > NOISE_MAX) {
		snprintf(text, size, "no frame in the first %d bytes of the stream", NOISE_MAX);
		return;
	}
	for (size_t i = 0; i < shown; i++)
		snprintf(bytes + 3 * i, 4, " %02x", decoder->buffer[decoder->wrong + i]);
	snprintf(text, size, "corrupt stream at byte %" PRIu64 ": expected \"UOTT\", found%s%s",
		decoder->base + decoder->wrong, bytes, likely_cause(decoder));
}
