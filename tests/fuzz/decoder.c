/*
 * The decoder beside a reference that has the whole stream at once. The input is: the sizes of four
 * reads, which come again and again (0: as much as there is room for); then parts of the stream.
 */
#include "fuzz.h"

enum {
	STREAM_MAX = 256 * 1024,
	READS = 4,
};

static uint8_t stream[STREAM_MAX];
static size_t size;
static struct decoder decoder;
static struct {
	size_t noise, frames, end; /* `end` of the last frame */
	bool is_corrupt;
} wanted;

static void put_parts(struct input *input)
{
	for (size = 0; input->left > 0 && size + FRAME_SIZE_MAX <= STREAM_MAX;) {
		uint32_t part = take(input, 4), length = part == 1 ? 0 : take(input, 65536);

		if (part == 1) { /* the input as it is */
			length = (uint32_t)min_size(input->left, STREAM_MAX - size);
			memcpy(stream + size, input->bytes, length);
			input->left = 0;
		} else {
			if (part >= 2) {
				frame_put_header(stream + size,
					part == 2 ? FRAME_DATA : FRAME_CONTROL,
					(uint16_t)take(input, 65536), (uint16_t)length);
				size += FRAME_HEADER_SIZE;
			}
			memset(stream + size, (int)take(input, 256), length);
		}
		size += length;
	}
}

static bool may_begin(size_t at)
{
	size_t known = min_size(4, size - at);

	return memcmp(stream + at, "UOTT", known) == 0 || memcmp(stream + at, "UOTC", known) == 0;
}

static void run_reference(void)
{
	memset(&wanted, 0, sizeof(wanted));
	while (!may_begin(wanted.noise))
		wanted.noise++;
	wanted.end = wanted.noise;
	while (wanted.noise <= NOISE_MAX && may_begin(wanted.end)) {
		size_t left = size - wanted.end;

		if (left < 8 || left < 8u + le16_load(stream + wanted.end + 6))
			return;
		wanted.end += 8u + le16_load(stream + wanted.end + 6);
		wanted.frames++;
	}
	wanted.is_corrupt = true;
}

/* The frame is the next one of the stream: encoded again it gives the same bytes. */
static size_t check_frame(const struct frame *frame, size_t at)
{
	uint8_t header[FRAME_HEADER_SIZE];

	frame_put_header(header, frame->kind, frame->tag, frame->length);
	CHECK(frame->offset == at && frame_size(header) <= size - at);
	CHECK(memcmp(header, stream + at, sizeof(header)) == 0);
	CHECK(memcmp(frame->payload, stream + at + sizeof(header), frame->length) == 0);
	return at + frame_size(header);
}

/* Of a corrupt stream the last frame may be held back: CR LF may have damaged it. */
static void check_end(enum decoder_result result, size_t frames, size_t at)
{
	size_t noise = decoder_noise(&decoder);
	bool is_synchronized = wanted.noise == 0 || size - wanted.noise >= 4;
	char text[256] = "";

	CHECK(result == (wanted.is_corrupt ? DECODER_CORRUPT : DECODER_MORE));
	CHECK(noise == wanted.noise || (noise > NOISE_MAX && wanted.noise > NOISE_MAX));
	CHECK(frames == wanted.frames || (wanted.is_corrupt && frames + 1 == wanted.frames &&
						 memmem(stream + at, size - at, "\r\n", 2)));
	if (result == DECODER_MORE) {
		CHECK(decoder_bytes(&decoder) == size && at == wanted.end);
		CHECK(decoder_part(&decoder) == (is_synchronized ? size - at : 0));
	} else {
		decoder_describe(&decoder, text, sizeof(text));
		CHECK(strstr(text, "stream"));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t input_size)
{
	struct input input = {bytes, input_size};
	enum decoder_result result = DECODER_MORE;
	size_t reads[READS], frames = 0, at = 0;
	struct frame frame;

	for (int i = 0; i < READS; i++)
		reads[i] = take(&input, 65536);
	put_parts(&input);
	run_reference();
	decoder_init(&decoder);
	for (size_t done = 0, turn = 0, room; done < size && result == DECODER_MORE; turn++) {
		uint8_t *to = decoder_room(&decoder, &room);
		size_t read = reads[turn % READS] > 0 ? reads[turn % READS] : room;

		CHECK(room >= DECODER_ROOM_MIN);
		read = min_size(min_size(read, room), size - done);
		memcpy(to, stream + done, read);
		decoder_filled(&decoder, read);
		done += read;
		for (; (result = decoder_next(&decoder, &frame)) == DECODER_FRAME; frames++)
			at = check_frame(&frame, frames == 0 ? decoder_noise(&decoder) : at);
	}
	check_end(result, frames, frames == 0 ? wanted.noise : at);
	return 0;
}
