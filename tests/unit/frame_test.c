#include "frame.h"

#include <limits.h>

#include "check.h"
#include "util.h"

enum {
	STREAM_MAX = 8 * 1024 * 1024,
	FRAMES_MAX = 20000,
	HEADER = FRAME_HEADER_SIZE,
	WHOLE = INT_MAX, /* as a size of reads: as much as there is room for */
};

#define CRLF_HINT "; a terminal in the way turns LF into CR LF: use ssh -T, adb shell -T, no -t"

/* A stream, and the frames that are to be found in it. */
static struct {
	size_t size;
	uint8_t bytes[STREAM_MAX];
	size_t count;
	struct frame frames[FRAMES_MAX];
} stream;

static struct decoder decoder;

/* --- streams to decode --------------------------------------------------------------------- */

static void empty_stream(void)
{
	stream.size = stream.count = 0;
}

static void add_bytes(const void *bytes, size_t size)
{
	if (!CHECK(size <= STREAM_MAX - stream.size))
		exit(EXIT_FAILURE);
	memcpy(stream.bytes + stream.size, bytes, size);
	stream.size += size;
}

static void add_text(const char *text)
{
	add_bytes(text, strlen(text));
}

static void add_fill(uint8_t byte, size_t size)
{
	while (size-- > 0)
		add_bytes(&byte, 1);
}

/* Not with frame_put_header(), which is what one of the tests is about. */
static void add_header(const char *magic, uint16_t tag, uint16_t length)
{
	uint8_t numbers[4] = {
		(uint8_t)(tag % 256),
		(uint8_t)(tag / 256),
		(uint8_t)(length % 256),
		(uint8_t)(length / 256),
	};

	add_text(magic);
	add_bytes(numbers, sizeof(numbers));
}

static void add_frame(enum frame_kind kind, uint16_t tag, const void *payload, uint16_t length)
{
	if (!CHECK(stream.count < FRAMES_MAX))
		exit(EXIT_FAILURE);
	stream.frames[stream.count++] = (struct frame){
		.kind = kind,
		.tag = tag,
		.length = length,
		.payload = stream.bytes + stream.size + HEADER,
		.offset = stream.size,
	};
	add_header(kind == FRAME_DATA ? "UOTT" : "UOTC", tag, length);
	add_bytes(payload, length);
}

static void add_data(uint16_t tag, const char *payload)
{
	add_frame(FRAME_DATA, tag, payload, (uint16_t)strlen(payload));
}

/* Any bytes, some of which look like frames. */
static void add_random_frame(uint16_t length)
{
	static uint8_t payload[FRAME_PAYLOAD_MAX];

	for (size_t i = 0; i < length; i++)
		payload[i] = random_byte();
	if (length >= 4 && random_below(3) == 0)
		memcpy(payload + random_below(length - 3U), "UOTT", 4);
	add_frame(random_below(8) > 0 ? FRAME_DATA : FRAME_CONTROL, (uint16_t)random_below(65536),
		payload, length);
}

static void random_stream(size_t count, uint16_t length_max)
{
	empty_stream();
	for (size_t i = 0; i < count; i++)
		add_random_frame((uint16_t)random_below(length_max + 1U));
}

/* --- decoding ------------------------------------------------------------------------------ */

/* Puts in as many bytes as there is room for, and behind them what must not be looked at. */
static size_t feed(const uint8_t *bytes, size_t length)
{
	static const char bait[] = "UOTTUOTT";
	size_t room;
	uint8_t *to = decoder_room(&decoder, &room);

	CHECK(room >= DECODER_ROOM_MIN);
	length = min_size(length, room);
	memcpy(to, bytes, length);
	memcpy(to + length, bait, min_size(sizeof(bait), room - length));
	decoder_filled(&decoder, length);
	return length;
}

static bool frames_equal(const struct frame *a, const struct frame *b)
{
	return a->kind == b->kind && a->tag == b->tag && a->length == b->length &&
	       a->offset == b->offset && memcmp(a->payload, b->payload, a->length) == 0;
}

/* Takes all frames that are there, which are to be those of the stream from `*next` on. */
static enum decoder_result take(size_t *next)
{
	enum decoder_result result;
	struct frame frame;

	while ((result = decoder_next(&decoder, &frame)) == DECODER_FRAME) {
		if (!CHECK(*next < stream.count) ||
			!CHECK(frames_equal(&frame, &stream.frames[*next])))
			break;
		++*next;
	}
	return result;
}

/* Decodes the first `size` bytes of the stream from reads of `step`. Returns how many frames. */
static size_t decode(size_t size, size_t step, enum decoder_result *result)
{
	size_t next = 0, at = 0;

	decoder_init(&decoder);
	*result = DECODER_MORE;
	while (at < size && *result == DECODER_MORE) {
		at += feed(stream.bytes + at, min_size(step, size - at));
		*result = take(&next);
	}
	return next;
}

static bool decodes_whole(size_t step)
{
	enum decoder_result result;
	size_t count = decode(stream.size, step, &result);

	return CHECK_NUMBER(count, stream.count) && CHECK_NUMBER(result, DECODER_MORE) &&
	       CHECK_NUMBER(decoder_bytes(&decoder), stream.size) &&
	       CHECK(!decoder_is_inside_frame(&decoder));
}

/* Decodes to where the stream is corrupt, after `count` frames. Returns what is said about it. */
static const char *corruption(size_t step, size_t count)
{
	static char text[256];
	enum decoder_result result;

	CHECK_NUMBER(decode(stream.size, step, &result), count);
	text[0] = '\0';
	if (CHECK_NUMBER(result, DECODER_CORRUPT))
		decoder_describe(&decoder, text, sizeof(text));
	return text;
}

/* --- frames -------------------------------------------------------------------------------- */

static void header_bytes(void)
{
	uint8_t header[HEADER + 1];

	memset(header, 0xee, sizeof(header));
	frame_put_header(header, FRAME_DATA, 0x1234, 0xabcd);
	CHECK(memcmp(header, "UOTT\x34\x12\xcd\xab\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_DATA, 0, 0);
	CHECK(memcmp(header, "UOTT\0\0\0\0\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_DATA, UINT16_MAX, UINT16_MAX);
	CHECK(memcmp(header, "UOTT\xff\xff\xff\xff\xee", sizeof(header)) == 0);
}

static void control_header_bytes(void)
{
	uint8_t header[HEADER + 1];

	memset(header, 0xee, sizeof(header));
	frame_put_header(header, FRAME_CONTROL, 0x1234, 0xabcd);
	CHECK(memcmp(header, "UOTC\x34\x12\xcd\xab\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_CONTROL, CONTROL_HELLO, 2);
	CHECK(memcmp(header, "UOTC\1\0\2\0\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_CONTROL, CONTROL_ACK, 8);
	CHECK(memcmp(header, "UOTC\2\0\10\0\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_CONTROL, CONTROL_CLOSE, 2);
	CHECK(memcmp(header, "UOTC\3\0\2\0\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_CONTROL, CONTROL_PING, 0);
	CHECK(memcmp(header, "UOTC\4\0\0\0\xee", sizeof(header)) == 0);
	frame_put_header(header, FRAME_CONTROL, CONTROL_TIME, 4);
	CHECK(memcmp(header, "UOTC\5\0\4\0\xee", sizeof(header)) == 0);
}

static void written_header_is_read(void)
{
	uint8_t header[HEADER];

	empty_stream();
	frame_put_header(header, FRAME_DATA, 0x0102, 3);
	add_bytes(header, HEADER);
	add_text("abc");
	stream.frames[stream.count++] = (struct frame){
		.kind = FRAME_DATA, .tag = 0x0102, .length = 3, .payload = (const uint8_t *)"abc"};
	decodes_whole(WHOLE);
}

static void written_control_header_is_read(void)
{
	uint8_t header[HEADER];

	empty_stream();
	frame_put_header(header, FRAME_CONTROL, 0x0102, 3);
	add_bytes(header, HEADER);
	add_text("abc");
	stream.frames[stream.count++] = (struct frame){.kind = FRAME_CONTROL,
		.type = 0x0102,
		.length = 3,
		.payload = (const uint8_t *)"abc"};
	decodes_whole(WHOLE);
}

static void nothing_read(void)
{
	struct frame frame;

	decoder_init(&decoder);
	CHECK_NUMBER(decoder_next(&decoder, &frame), DECODER_MORE);
	CHECK_NUMBER(decoder_bytes(&decoder), 0);
	CHECK(!decoder_is_inside_frame(&decoder));
}

static void empty_payloads(void)
{
	empty_stream();
	for (uint16_t tag = 0; tag < 5; tag++)
		add_data(tag, "");
	for (size_t step = 1; step <= stream.size; step++)
		decodes_whole(step);
}

static void longest_payloads(void)
{
	empty_stream();
	for (size_t i = 0; i < 20; i++)
		add_random_frame(FRAME_PAYLOAD_MAX);
	decodes_whole(WHOLE);
	decodes_whole(DECODER_ROOM_MIN);
	decodes_whole(FRAME_SIZE_MAX - 1);
	decodes_whole(FRAME_SIZE_MAX - DECODER_ROOM_MIN);
	decodes_whole(1);
}

static void control_frames(void)
{
	empty_stream();
	add_data(7, "before");
	add_frame(FRAME_CONTROL, CONTROL_HELLO, "\1\0", 2);
	add_frame(FRAME_CONTROL, CONTROL_ACK, "\1\2\3\4\5\6\7\10", 8);
	add_frame(FRAME_CONTROL, CONTROL_CLOSE, "\7\0", 2);
	add_frame(FRAME_CONTROL, CONTROL_PING, "", 0);
	add_frame(FRAME_CONTROL, CONTROL_TIME, "\1\2\3\4", 4);
	add_frame(FRAME_CONTROL, 0xfffe, "of a type nobody knows", 22);
	add_data(7, "after");
	for (size_t step = 1; step <= stream.size; step++)
		decodes_whole(step);
}

static void control_frame_first(void)
{
	empty_stream();
	add_frame(FRAME_CONTROL, CONTROL_HELLO, "\1\0", 2);
	add_data(1, "then data");
	for (size_t step = 1; step <= stream.size; step++)
		decodes_whole(step);
}

static void payload_like_frames(void)
{
	empty_stream();
	add_data(1, "UOTT");
	add_data(2, "UOTCUOTTUOT");
	add_data(3, "UOTT\1\1\1\1U");
	for (size_t step = 1; step <= stream.size; step++)
		decodes_whole(step);
}

/* --- however the stream is cut into reads -------------------------------------------------- */

static void every_size_of_read(void)
{
	random_stream(60, 100);
	for (size_t step = 1; step <= stream.size; step++)
		if (!decodes_whole(step))
			return;
}

static void large_stream_in_odd_reads(void)
{
	static const size_t steps[] = {1, 2, 3, 7, 8, 9, 1000, 4095, 4096, 65535, 65536, WHOLE};

	random_stream(1500, 3000);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		decodes_whole(steps[i]);
}

/* The longest frames and reads move the buffer's bytes most often and farthest. */
static void megabytes_in_random_reads(void)
{
	size_t next = 0, at = 0;

	random_stream(180, FRAME_PAYLOAD_MAX);
	decoder_init(&decoder);
	while (at < stream.size) {
		size_t most = random_below(4) > 0 ? 200000 : 200;
		size_t length = min_size(1 + random_below((uint32_t)most), stream.size - at);

		at += feed(stream.bytes + at, length);
		if (!CHECK(take(&next) == DECODER_MORE) || !CHECK(decoder_bytes(&decoder) == at))
			return;
	}
	CHECK(stream.size > 5 * 1000 * 1000);
	CHECK_NUMBER(next, stream.count);
}

static void frames_stay_until_the_next_read(void)
{
	struct frame frames[50];
	size_t count = 0;

	random_stream(ARRAY_SIZE(frames), 2000);
	decoder_init(&decoder);
	CHECK_NUMBER(feed(stream.bytes, stream.size), stream.size);
	while (count < ARRAY_SIZE(frames) &&
		decoder_next(&decoder, &frames[count]) == DECODER_FRAME)
		count++;
	CHECK_NUMBER(count, stream.count);
	for (size_t i = 0; i < count; i++)
		CHECK(frames_equal(&frames[i], &stream.frames[i]));
}

static size_t frames_before(size_t offset)
{
	size_t count = 0;

	while (count < stream.count &&
		stream.frames[count].offset + HEADER + stream.frames[count].length <= offset)
		count++;
	return count;
}

static void cut_at_every_offset(void)
{
	enum decoder_result result;

	random_stream(40, 60);
	for (size_t cut = 0; cut <= stream.size; cut++) {
		CHECK_NUMBER(decode(cut, WHOLE, &result), frames_before(cut));
		CHECK_NUMBER(result, DECODER_MORE);
		CHECK_NUMBER(decode(cut, 5, &result), frames_before(cut));
		CHECK_NUMBER(result, DECODER_MORE);
	}
}

static bool is_boundary(size_t offset)
{
	size_t count = frames_before(offset);

	return count == stream.count || stream.frames[count].offset == offset;
}

static void inside_frame_at_every_offset(void)
{
	enum decoder_result result;

	random_stream(40, 60);
	for (size_t cut = 0; cut <= stream.size; cut++) {
		decode(cut, WHOLE, &result);
		CHECK(decoder_is_inside_frame(&decoder) == !is_boundary(cut));
	}
}

static void not_inside_noise(void)
{
	enum decoder_result result;

	empty_stream();
	add_text("Last login: Mon Jan  1 00:00:00\n");
	decode(stream.size, WHOLE, &result);
	CHECK_NUMBER(result, DECODER_MORE);
	CHECK(!decoder_is_inside_frame(&decoder));
}

static void frame_taken_before_it_is_outside(void)
{
	struct frame frame;

	empty_stream();
	add_data(1, "x");
	decoder_init(&decoder);
	feed(stream.bytes, stream.size);
	CHECK_NUMBER(decoder_next(&decoder, &frame), DECODER_FRAME);
	CHECK(!decoder_is_inside_frame(&decoder));
}

/* --- noise before the first frame ---------------------------------------------------------- */

static void noise_is_skipped(void)
{
	static const char banner[] = "Welcome to host!\r\nUO, UOT, UOTX: no frames.\n";

	empty_stream();
	add_text(banner);
	add_data(9, "first");
	add_data(9, "second");
	for (size_t step = 1; step <= stream.size; step++) {
		decodes_whole(step);
		CHECK_NUMBER(decoder.noise, strlen(banner));
		CHECK(memcmp(decoder.noise_sample, banner, strlen(banner)) == 0);
	}
}

static void no_noise(void)
{
	empty_stream();
	add_data(1, "x");
	decodes_whole(1);
	CHECK_NUMBER(decoder.noise, 0);
}

/* The end of a read may be the beginning of a frame, or look like one. */
static void partial_magic(void)
{
	static const char *const noises[] = {
		"U", "UO", "UOT", "UU", "UOUO", "UOTUOT", "UOTUO", "xU", "xUOTU", "UOT UOTU"};

	for (size_t i = 0; i < ARRAY_SIZE(noises); i++) {
		empty_stream();
		add_text(noises[i]);
		add_data(0x4f55, "UOTT");
		for (size_t step = 1; step <= stream.size; step++) {
			decodes_whole(step);
			CHECK_NUMBER(decoder.noise, strlen(noises[i]));
		}
	}
}

static void noise_before_control_frame(void)
{
	empty_stream();
	add_text("UOTnoise");
	add_frame(FRAME_CONTROL, CONTROL_HELLO, "\1\0", 2);
	for (size_t step = 1; step <= stream.size; step++)
		decodes_whole(step);
}

static void sample_is_the_beginning(void)
{
	static const size_t steps[] = {1, 7, NOISE_SAMPLE_SIZE - 1, NOISE_SAMPLE_SIZE, WHOLE};

	empty_stream();
	for (size_t i = 0; i < 1000; i++)
		add_fill((uint8_t)random_below('U'), 1);
	add_data(1, "x");
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		decodes_whole(steps[i]);
		CHECK_NUMBER(decoder.noise, 1000);
		CHECK(memcmp(decoder.noise_sample, stream.bytes, NOISE_SAMPLE_SIZE) == 0);
		CHECK(memcmp(decoder.buffer, stream.bytes, stream.size) == 0); /* untouched */
	}
}

static const size_t noise_steps[] = {1, 3, 4096, NOISE_MAX - 1, NOISE_MAX, NOISE_MAX + 1, WHOLE};

static void most_noise(void)
{
	empty_stream();
	add_fill('.', NOISE_MAX);
	add_data(1, "found");
	add_data(2, "and its next");
	for (size_t i = 0; i < ARRAY_SIZE(noise_steps); i++) {
		decodes_whole(noise_steps[i]);
		CHECK_NUMBER(decoder.noise, NOISE_MAX);
	}
}

static void too_much_noise(void)
{
	empty_stream();
	add_fill('.', NOISE_MAX + 1);
	add_data(1, "too late");
	for (size_t i = 0; i < ARRAY_SIZE(noise_steps); i++)
		CHECK_TEXT(corruption(noise_steps[i], 0),
			"no frame in the first 65536 bytes of the stream");
}

static void most_noise_without_a_frame(void)
{
	enum decoder_result result;

	empty_stream();
	add_fill('.', NOISE_MAX);
	add_text("UOT");
	decode(NOISE_MAX, WHOLE, &result);
	CHECK_NUMBER(result, DECODER_MORE);
	decode(stream.size, 1, &result);
	CHECK_NUMBER(result, DECODER_MORE); /* the three bytes may still begin a frame */
	add_text("?");
	CHECK_CONTAINS(corruption(1, 0), "no frame in the first 65536 bytes");
	empty_stream();
	add_fill('.', NOISE_MAX + 1);
	CHECK_CONTAINS(corruption(1, 0), "no frame in the first 65536 bytes");
}

/* --- corruption after the first frame ------------------------------------------------------ */

static void corruption_says_where_and_what(void)
{
	static const size_t steps[] = {19, 100, WHOLE}; /* all eight bytes come at once */

	empty_stream();
	add_data(1, "12345");     /* 13 bytes */
	add_data(2, "123456789"); /* 17 bytes */
	add_bytes("\x00\xffUOTT\r\x7f!", 9);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		CHECK_TEXT(corruption(steps[i], 2), "corrupt stream at byte 30: expected \"UOTT\", "
						    "found 00 ff 55 4f 54 54 0d 7f");
}

static void message_in_the_stream(void)
{
	empty_stream();
	add_data(1, "12345");
	add_text("uott-dec: what it says");
	CHECK_CONTAINS(corruption(WHOLE, 1), "a terminal in the way mixes messages with frames");
	empty_stream();
	add_data(1, "12345");
	add_text("uott");
	CHECK_TEXT(corruption(WHOLE, 1),
		"corrupt stream at byte 13: expected \"UOTT\", found 75 6f 74 74");
}

static void corruption_with_few_bytes(void)
{
	empty_stream();
	add_data(1, "");
	add_text("UOTx");
	CHECK_TEXT(corruption(WHOLE, 1),
		"corrupt stream at byte 8: expected \"UOTT\", found 55 4f 54 78");
	CHECK_TEXT(
		corruption(1, 1), "corrupt stream at byte 8: expected \"UOTT\", found 55 4f 54 78");
}

static void first_wrong_byte_is_enough(void)
{
	static const char *const wrong[] = {"x", "Ux", "UOx", "UOTx", "\n", "u", "UOTt", "UOTc"};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		empty_stream();
		add_data(1, "good");
		add_text(wrong[i]);
		CHECK_CONTAINS(corruption(WHOLE, 1), "at byte 12: ");
		CHECK_CONTAINS(corruption(1, 1), "at byte 12: ");
	}
}

static void offset_counts_noise(void)
{
	empty_stream();
	add_fill('-', 1000);
	add_data(1, "good");
	add_text("bad");
	CHECK_CONTAINS(corruption(WHOLE, 1), "corrupt stream at byte 1012: ");
}

static void noise_between_frames(void)
{
	empty_stream();
	add_data(1, "good");
	add_text("Connection is idle\n");
	add_data(1, "never seen");
	CHECK_CONTAINS(corruption(WHOLE, 1), "at byte 12: expected \"UOTT\", found 43 6f 6e 6e 65");
}

static void corruption_after_megabytes(void)
{
	static const size_t steps[] = {1000, 65536, WHOLE};
	char wanted[64];

	random_stream(100, FRAME_PAYLOAD_MAX);
	snprintf(
		wanted, sizeof(wanted), "at byte %zu: expected \"UOTT\", found 58 59", stream.size);
	add_text("XYZ.........");
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		CHECK_CONTAINS(corruption(steps[i], stream.count), wanted);
}

static void corruption_is_final(void)
{
	struct frame frame;

	empty_stream();
	add_data(1, "good");
	add_text("bad");
	add_data(1, "good again");
	corruption(WHOLE, 1);
	for (size_t i = 0; i < 3; i++)
		CHECK_NUMBER(decoder_next(&decoder, &frame), DECODER_CORRUPT);
	empty_stream();
	add_fill('.', NOISE_MAX + 1);
	add_data(1, "good");
	corruption(WHOLE, 0);
	for (size_t i = 0; i < 3; i++)
		CHECK_NUMBER(decoder_next(&decoder, &frame), DECODER_CORRUPT);
}

static void description_is_cut(void)
{
	char text[16];

	empty_stream();
	add_data(1, "good");
	add_text("bad");
	corruption(WHOLE, 1);
	memset(text, '#', sizeof(text));
	decoder_describe(&decoder, text, sizeof(text) - 1);
	CHECK_TEXT(text, "corrupt stream");
	CHECK_NUMBER(text[15], '#');
}

static void decoder_starts_anew(void)
{
	empty_stream();
	add_text("noise");
	add_data(1, "good");
	add_text("bad");
	corruption(WHOLE, 1);
	empty_stream();
	add_data(2, "another stream");
	decodes_whole(WHOLE);
	CHECK_NUMBER(decoder.noise, 0);
}

/* --- what a terminal does to a stream ------------------------------------------------------ */

/* As a terminal does: LF becomes CR LF. */
static void add_carriage_returns(void)
{
	static uint8_t damaged[STREAM_MAX];
	size_t size = 0;

	for (size_t i = 0; i < stream.size && size < STREAM_MAX - 1; i++) {
		if (stream.bytes[i] == '\n')
			damaged[size++] = '\r';
		damaged[size++] = stream.bytes[i];
	}
	memcpy(stream.bytes, damaged, size);
	stream.size = size;
}

/* Decodes without looking at the frames. Returns how many there were. */
static size_t drain(size_t step, enum decoder_result *result)
{
	struct frame frame;
	size_t count = 0, at = 0;

	decoder_init(&decoder);
	*result = DECODER_MORE;
	while (at < stream.size && *result == DECODER_MORE) {
		at += feed(stream.bytes + at, min_size(step, stream.size - at));
		while ((*result = decoder_next(&decoder, &frame)) == DECODER_FRAME)
			count++;
	}
	return count;
}

/*
 * The same where the frames are not to be looked at, since some are damaged. The damaged one is
 * held back where what comes behind it was read together with it.
 */
static const char *damage(size_t step, size_t count)
{
	static char text[256];
	enum decoder_result result;
	size_t whole = drain(step, &result);

	CHECK(whole + 1 == count || whole == count);
	text[0] = '\0';
	if (CHECK_NUMBER(result, DECODER_CORRUPT))
		decoder_describe(&decoder, text, sizeof(text));
	return text;
}

static const char *damage_in_steps(size_t step)
{
	static char text[256];
	enum decoder_result result;

	drain(step, &result);
	decoder_describe(&decoder, text, sizeof(text));
	return text;
}

static void crlf_in_a_payload(void)
{
	empty_stream();
	add_data(1, "whole");
	add_data(2, "a line\n");
	add_data(3, "and more");
	add_carriage_returns();
	stream.frames[1].payload = (const uint8_t *)"a line\r";
	CHECK_TEXT(damage(WHOLE, 2), "corrupt stream at byte 28: expected \"UOTT\", found 0a 55 "
				     "4f 54 54 03 00 08" CRLF_HINT " for docker and kubectl");
	for (size_t step = 1; step < stream.size; step++)
		CHECK_CONTAINS(damage_in_steps(step), CRLF_HINT);
}

static void crlf_in_a_header(void)
{
	for (int in_length = 0; in_length < 2; in_length++) {
		empty_stream();
		add_frame(FRAME_DATA, in_length ? 1 : '\n', "0123456789", in_length ? 10 : 9);
		for (size_t i = 0; i < 400; i++)
			add_data(1, "plain text!");
		add_carriage_returns();
		CHECK_CONTAINS(damage(WHOLE, 1), CRLF_HINT);
		CHECK_CONTAINS(damage(1, 1), CRLF_HINT);
	}
}

/* Where what is left may still be a frame, the end of the stream tells that it is damaged. */
static void check_crlf_is_told(size_t step)
{
	enum decoder_result result;
	char text[256];

	drain(step, &result);
	if (result == DECODER_MORE) {
		CHECK(decoder_is_inside_frame(&decoder));
		return;
	}
	decoder_describe(&decoder, text, sizeof(text));
	CHECK_CONTAINS(text, CRLF_HINT);
}

static void crlf_anywhere(void)
{
	for (size_t round = 0; round < 2000; round++) {
		random_stream(20, 200);
		add_data(1, "one line feed\nat least");
		add_carriage_returns();
		check_crlf_is_told(1);
		check_crlf_is_told(1 + random_below(1000));
		check_crlf_is_told(WHOLE);
	}
}

static void crlf_after_megabytes(void)
{
	static char payload[40100];

	memset(payload, 'x', sizeof(payload));
	empty_stream();
	for (size_t i = 0; i < 100; i++)
		add_frame(FRAME_DATA, 1, payload, (uint16_t)(sizeof(payload) - i));
	add_data(1, "\n");
	add_data(1, "never seen");
	add_carriage_returns();
	CHECK(stream.size > 4 * 1000 * 1000);
	CHECK_CONTAINS(damage(WHOLE, 101), CRLF_HINT);
	CHECK_CONTAINS(damage(1000, 101), CRLF_HINT);
}

/* Byte by byte, so that at one of these places the buffer's bytes are moved behind the damaged
 * frame, which then must be among those that stay. */
static void crlf_before_a_move(void)
{
	static char payload[39950]; /* so that no length has a byte of 10, which is LF */
	size_t move_at = DECODER_BUFFER_SIZE - DECODER_ROOM_MIN + 1;

	memset(payload, 'x', sizeof(payload));
	for (size_t before = move_at - 50; before < move_at + 10; before++) {
		empty_stream();
		for (size_t i = 0; i < 3; i++)
			add_frame(FRAME_DATA, 1, payload, sizeof(payload));
		add_frame(FRAME_DATA, 1, payload, (uint16_t)(before - stream.size - HEADER));
		add_data(1, "\n");
		add_data(1, "never seen");
		add_carriage_returns();
		CHECK_CONTAINS(damage(1, 5), CRLF_HINT);
	}
}

/* Lines of which some end with CR LF and some, as no terminal leaves them, with LF alone. */
static void stream_of_lines(size_t count)
{
	static const char *const parts[] = {"\r\n", "\n", "a", "bc", "def"};
	char payload[128];

	empty_stream();
	while (count-- > 0) {
		strcpy(payload, "one line\nand another\n");
		for (size_t i = random_below(40); i > 0; i--)
			strcat(payload, parts[random_below(ARRAY_SIZE(parts))]);
		strcat(payload, ".");
		add_data((uint16_t)random_below(10), payload);
	}
}

static void check_other_damage(size_t frame)
{
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "corrupt stream at byte %llu: expected \"UOTT\", found ",
		(unsigned long long)stream.frames[frame].offset);
	for (int whole = 0; whole < 2; whole++) {
		const char *text = damage(whole ? WHOLE : 1, frame);

		CHECK_CONTAINS(text, wanted);
		CHECK(!strstr(text, "CR LF"));
	}
}

static void changed_byte(void)
{
	for (size_t round = 0; round < 2000; round++) {
		size_t frame = 1 + random_below(19);

		stream_of_lines(20);
		stream.bytes[stream.frames[frame].offset + random_below(4)] ^= 0x80;
		check_other_damage(frame);
	}
}

/* The payload of `frame` grows, or shrinks, by one byte. */
static void change_length(size_t frame, bool grows)
{
	size_t at = stream.frames[frame].offset + HEADER + random_below(22);
	size_t left = stream.size - at - 1;

	if (grows)
		memmove(stream.bytes + at + 1, stream.bytes + at, left + 1);
	else
		memmove(stream.bytes + at, stream.bytes + at + 1, left);
	stream.size = grows ? stream.size + 1 : stream.size - 1;
}

static void lost_and_added_bytes(void)
{
	for (size_t round = 0; round < 2000; round++) {
		size_t frame = random_below(19);

		stream_of_lines(20);
		change_length(frame, round % 2 == 0);
		check_other_damage(frame + 1);
	}
}

/* --- garbage ------------------------------------------------------------------------------- */

/* What is likely to take a decoder in: parts of frames, in any order. */
static void add_garbage(size_t size)
{
	static const char *const parts[] = {
		"U", "UO", "UOT", "UOTT", "UOTC", "UOTT\1", "T", "C", "\r\n", "\n"};
	uint8_t bytes[8];

	while (stream.size < size) {
		switch (random_below(4)) {
		case 0:
			add_text(parts[random_below(ARRAY_SIZE(parts))]);
			break;
		case 1:
			add_header(random_below(2) > 0 ? "UOTT" : "UOTC", random_byte(),
				(uint16_t)random_below(12));
			break;
		case 2:
			add_fill(0, random_below(4));
			break;
		default:
			for (size_t i = 0; i < sizeof(bytes); i++)
				bytes[i] = random_byte();
			add_bytes(bytes, random_below(sizeof(bytes)));
		}
	}
}

static bool may_be_frame(size_t at)
{
	size_t left = min_size(4, stream.size - at);

	return memcmp(stream.bytes + at, "UOTT", left) == 0 ||
	       memcmp(stream.bytes + at, "UOTC", left) == 0;
}

/* Takes the whole stream apart at once. Returns what it ends with, and where that begins. */
static enum decoder_result find_frames(size_t *noise, size_t *rest)
{
	size_t at = 0;

	while (!may_be_frame(at))
		at++;
	*noise = at;
	while (stream.size - at >= HEADER && may_be_frame(at)) {
		const uint8_t *p = stream.bytes + at;
		struct frame frame = {
			.kind = p[3] == 'T' ? FRAME_DATA : FRAME_CONTROL,
			.tag = (uint16_t)(p[4] + 256 * p[5]),
			.length = (uint16_t)(p[6] + 256 * p[7]),
			.payload = p + HEADER,
			.offset = at,
		};

		if (stream.size - at - HEADER < frame.length)
			break;
		stream.frames[stream.count++] = frame;
		at += (size_t)HEADER + frame.length;
	}
	*rest = at;
	return may_be_frame(at) ? DECODER_MORE : DECODER_CORRUPT;
}

/* Whether the decoder finds in the stream what find_frames() finds. */
static bool is_understood(size_t step)
{
	enum decoder_result wanted, result;
	size_t noise, rest, count;
	char text[256], place[64];

	stream.count = 0;
	wanted = find_frames(&noise, &rest);
	count = decode(stream.size, step, &result);
	if (result == DECODER_CORRUPT) {
		decoder_describe(&decoder, text, sizeof(text));
		snprintf(place, sizeof(place), "corrupt stream at byte %zu: ", rest);
		CHECK_CONTAINS(text, place);
	} else {
		/* Noise that ends as a frame may begin is noise. */
		CHECK(decoder_is_inside_frame(&decoder) ==
			(rest < stream.size &&
				(noise == 0 || stream.size - rest >= 4 || stream.count)));
	}
	if (result == DECODER_CORRUPT && strstr(text, CRLF_HINT) && count + 1 == stream.count)
		count++; /* by chance it looks like that damage, so the last one is held back */
	return CHECK_NUMBER(count, stream.count) && CHECK_NUMBER(result, wanted) &&
	       CHECK_NUMBER(decoder.noise, noise);
}

static void garbage(void)
{
	for (size_t round = 0; round < 200000; round++) {
		empty_stream();
		add_garbage(random_below(80));
		if (!is_understood(1 + random_below(round % 2 > 0 ? 4 : 80)))
			return;
	}
}

/* Long enough to fill the buffer more than once. */
static void damaged_long_streams(void)
{
	for (size_t round = 0; round < 200; round++) {
		size_t at;

		random_stream(200, 5000);
		at = HEADER + random_below((uint32_t)stream.size - HEADER);
		stream.bytes[at] ^= (uint8_t)(1 + random_below(255));
		at = stream.frames[1 + random_below(199)].offset + random_below(HEADER);
		stream.bytes[at] ^= (uint8_t)(1 + random_below(255));
		if (!is_understood(1 + random_below(200000)))
			return;
	}
}

int main(void)
{
	test("a header is UOTT, tag and length, little-endian, and nothing more", header_bytes);
	test("a control header is UOTC, type and length, little-endian, and nothing more",
		control_header_bytes);
	test("a header written is read as it was meant", written_header_is_read);
	test("a control header written is read as it was meant", written_control_header_is_read);
	test("a decoder that has read nothing wants more", nothing_read);
	test("an empty payload is a frame", empty_payloads);
	test("a payload of 65535 bytes is a frame", longest_payloads);
	test("control frames come out with type and body, known or not", control_frames);
	test("a stream may begin with a control frame", control_frame_first);
	test("a payload may look like frames", payload_like_frames);

	test("a stream is understood from reads of any size", every_size_of_read);
	test("a long stream is understood from reads of odd sizes", large_stream_in_odd_reads);
	test("megabytes in reads of random size lose nothing", megabytes_in_random_reads);
	test("frames stay valid until the next read", frames_stay_until_the_next_read);
	test("a stream cut anywhere is right so far, and wants more", cut_at_every_offset);
	test("the end of a stream is inside a frame unless one ends there",
		inside_frame_at_every_offset);
	test("noise is not the inside of a frame", not_inside_noise);
	test("after the last frame the stream is not inside one", frame_taken_before_it_is_outside);

	test("noise before the first frame is skipped, counted and kept", noise_is_skipped);
	test("a stream that begins with a frame has no noise", no_noise);
	test("part of a frame's first bytes is noise if the rest does not follow", partial_magic);
	test("noise may come before a control frame", noise_before_control_frame);
	test("of much noise the beginning is kept", sample_is_the_beginning);
	test("64 KiB of noise are skipped", most_noise);
	test("one byte of noise more is too much", too_much_noise);
	test("64 KiB of noise and the beginning of a frame may become a stream",
		most_noise_without_a_frame);

	test("corruption is shown with its offset and bytes", corruption_says_where_and_what);
	test("corruption is shown with the bytes that have come", corruption_with_few_bytes);
	test("a message of the far side in the stream is told as such", message_in_the_stream);
	test("the first wrong byte is enough", first_wrong_byte_is_enough);
	test("the offset of corruption counts noise", offset_counts_noise);
	test("between frames there is no noise, only corruption", noise_between_frames);
	test("corruption is found at its offset megabytes later", corruption_after_megabytes);
	test("after corruption there are no more frames", corruption_is_final);
	test("what is said about corruption fits the space for it", description_is_cut);
	test("a decoder can start anew after corruption", decoder_starts_anew);

	test("CR LF for LF in a payload is told as such", crlf_in_a_payload);
	test("CR LF for LF in a header is told as such", crlf_in_a_header);
	test("CR LF for LF anywhere is told as such", crlf_anywhere);
	test("CR LF for LF is told as such megabytes later", crlf_after_megabytes);
	test("a damaged frame is kept as long as it is needed", crlf_before_a_move);
	test("a changed byte is not taken for CR LF damage", changed_byte);
	test("a lost or added byte is not taken for CR LF damage", lost_and_added_bytes);

	test("garbage is taken apart as the format says", garbage);
	test("a damaged long stream is taken apart as the format says", damaged_long_streams);
	return tests_end();
}
