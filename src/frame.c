/*
 * How this works: bytes are appended at `end`, frames are taken off at `start`, and nothing is
 * moved until the room behind `end` gets short. The last frame given out stays in front of `start`
 * (from `previous`), because the bytes of a damaged frame tell what damaged it.
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
	MAGIC_SIZE = 4
};

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
	decoder->previous = decoder->start = decoder->end = 0;
	decoder->base = 0;
	decoder->synchronized = false;
	decoder->noise = 0;
}

uint8_t *decoder_room(struct decoder *decoder, size_t *room)
{
	if (DECODER_BUFFER_SIZE - decoder->end < DECODER_ROOM_MIN) {
		size_t old = decoder->previous;

		memmove(decoder->buffer, decoder->buffer + old, decoder->end - old);
		decoder->base += old;
		decoder->previous = 0;
		decoder->start -= old;
		decoder->end -= old;
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

/* Whether the `length` bytes at `p` are, or may become, the beginning of a frame. */
static bool begins_frame(const uint8_t *p, size_t length)
{
	size_t known = min_size(length, MAGIC_SIZE);

	return memcmp(p, magic_data, known) == 0 || memcmp(p, magic_control, known) == 0;
}

static void note_noise(struct decoder *decoder, size_t length)
{
	if (decoder->noise < NOISE_SAMPLE_SIZE)
		memcpy(decoder->noise_sample + decoder->noise, decoder->buffer + decoder->start,
			min_size(length, NOISE_SAMPLE_SIZE - decoder->noise));
	decoder->noise += length;
	decoder->start += length;
	decoder->previous = decoder->start;
}

/* Before the first frame: steps over what a login or a shell printed. Returns whether a frame was
 * found. */
static bool synchronize(struct decoder *decoder)
{
	size_t at = decoder->start;

	while (at < decoder->end && !begins_frame(decoder->buffer + at, decoder->end - at))
		at++;
	note_noise(decoder, at - decoder->start);
	decoder->synchronized = decoder->end - at >= MAGIC_SIZE;
	return decoder->synchronized;
}

/*
 * A terminal sends CR LF for LF, so that a frame spills over by as many bytes as there are LFs, and
 * each LF has a CR before it. A CR LF within the header makes the length wrong instead.
 */
static bool looks_like_crlf_damage(const struct decoder *decoder)
{
	const uint8_t *buffer = decoder->buffer;
	size_t header_end = decoder->previous + FRAME_HEADER_SIZE + 1;
	size_t next = decoder->wrong, pairs = 0;
	bool in_header = false;

	while (next < decoder->end && !begins_frame(buffer + next, decoder->end - next))
		next++;
	for (size_t i = decoder->previous; i < next; i++) {
		if (buffer[i] != '\n')
			continue;
		if (i == decoder->previous || buffer[i - 1] != '\r')
			return false;
		in_header |= i < header_end;
		pairs++;
	}
	return in_header || (pairs > 0 && next - decoder->wrong <= pairs);
}

enum decoder_result decoder_next(struct decoder *decoder, struct frame *frame)
{
	const uint8_t *p;
	size_t available, size;

	if (!decoder->synchronized && !synchronize(decoder))
		return decoder->noise > NOISE_MAX ? DECODER_CORRUPT : DECODER_MORE;
	if (decoder->noise > NOISE_MAX)
		return DECODER_CORRUPT;
	p = decoder->buffer + decoder->start;
	available = decoder->end - decoder->start;
	decoder->wrong = decoder->start;
	if (!begins_frame(p, available))
		return DECODER_CORRUPT;
	if (available < FRAME_HEADER_SIZE)
		return DECODER_MORE;
	size = frame_size(p);
	if (available < size)
		return DECODER_MORE;
	decoder->previous = decoder->start;
	if (available > size && !begins_frame(p + size, available - size)) {
		/* The frame may be whole and what follows wrong; but not if this is the damage. */
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

bool decoder_is_inside_frame(const struct decoder *decoder)
{
	bool is_noise = !decoder->synchronized && decoder->noise > 0;

	return decoder->end > decoder->start && !is_noise;
}

/* What stands where a frame should begin, if that tells who is to blame. */
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
	enum {
		SHOWN = 8
	};
	const uint8_t *p = decoder->buffer + decoder->wrong;
	size_t available = min_size(decoder->end - decoder->wrong, SHOWN);
	char bytes[3 * SHOWN + 1] = "";

	if (!decoder->synchronized || decoder->noise > NOISE_MAX) {
		snprintf(text, size, "no frame in the first %d bytes of the stream", NOISE_MAX);
		return;
	}
	for (size_t i = 0; i < available; i++)
		snprintf(bytes + 3 * i, 4, " %02x", p[i]);
	snprintf(text, size, "corrupt stream at byte %" PRIu64 ": expected \"UOTT\", found%s%s",
		decoder->base + decoder->wrong, bytes, likely_cause(decoder));
}
