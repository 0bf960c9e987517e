/*
 * The decoder takes a stream apart read by read. The model below has the whole stream at once, and
 * so is much simpler. Both have to find the same in random streams, and in those of the tables,
 * which also say what is to be found. It does not matter how the streams are cut into reads.
 */
#include "frame.h"

#include <limits.h>

#include "check.h"
#include "util.h"

enum {
	STREAM_MAX = 8 * 1024 * 1024,
	HEADER = FRAME_HEADER_SIZE,
	WHOLE = INT_MAX, /* the size of a read: as much as there is room for */
};

static struct {
	size_t size;
	uint8_t bytes[STREAM_MAX];
} stream;

/* --- the model ------------------------------------------------------------------------------ */

static struct {
	size_t noise, count; /* of skipped bytes, and of whole frames */
	struct frame frames[STREAM_MAX / HEADER];
	size_t rest; /* the offset of what is behind them */
	enum decoder_result result;
} model;

/* Whether a frame begins there, or may begin, since the stream ends too early to tell. */
static bool may_begin(size_t at)
{
	size_t left = min_size(4, stream.size - at);

	return memcmp(stream.bytes + at, "UOTT", left) == 0 ||
	       memcmp(stream.bytes + at, "UOTC", left) == 0;
}

static struct frame frame_at(size_t at)
{
	const uint8_t *p = stream.bytes + at;

	return (struct frame){
		.kind = p[3] == 'T' ? FRAME_DATA : FRAME_CONTROL,
		.tag = (uint16_t)(p[4] + 256 * p[5]),
		.length = (uint16_t)(p[6] + 256 * p[7]),
		.payload = p + HEADER,
		.offset = at,
	};
}

static void run_model(void)
{
	size_t at = 0;

	while (!may_begin(at))
		at++;
	model.noise = at;
	model.count = 0;
	while (model.noise <= NOISE_MAX && may_begin(at) && stream.size - at >= HEADER &&
		stream.size - at - HEADER >= frame_at(at).length) {
		model.frames[model.count] = frame_at(at);
		at += (size_t)HEADER + model.frames[model.count++].length;
	}
	model.rest = at;
	model.result = model.noise <= NOISE_MAX && may_begin(at) ? DECODER_MORE : DECODER_CORRUPT;
}

/* How many bytes of an unfinished frame end the stream. Part of a magic behind noise is noise. */
static size_t model_part(void)
{
	size_t left = stream.size - model.rest;

	return model.noise > 0 && model.count == 0 && left < 4 ? 0 : left;
}

/* --- the decoder beside the model ----------------------------------------------------------- */

static struct decoder decoder;
static size_t given;    /* frames so far */
static char error[256]; /* what the decoder says about corruption, or "" */

/* Puts in as many bytes as there is room for. Behind them is what must not be looked at. */
static size_t feed(const uint8_t *bytes, size_t length)
{
	size_t room;
	uint8_t *to = decoder_room(&decoder, &room);

	CHECK(room >= DECODER_ROOM_MIN);
	length = min_size(length, room);
	memcpy(to, bytes, length);
	memcpy(to + length, random_below(2) > 0 ? "UOTT" : "\n\n\n\n", min_size(4, room - length));
	decoder_filled(&decoder, length);
	return length;
}

static bool frames_equal(const struct frame *a, const struct frame *b)
{
	return a->kind == b->kind && a->tag == b->tag && a->length == b->length &&
	       a->offset == b->offset && memcmp(a->payload, b->payload, a->length) == 0;
}

/* Takes all frames that are there, and only then looks at them: they have to stay valid. */
static enum decoder_result take(void)
{
	static struct frame frames[DECODER_BUFFER_SIZE / HEADER + 1];
	enum decoder_result result;
	size_t count = 0;

	while ((result = decoder_next(&decoder, &frames[count])) == DECODER_FRAME)
		count++;
	for (size_t i = 0; i < count; i++, given++)
		CHECK(given < model.count && frames_equal(&frames[i], &model.frames[given]));
	return result;
}

/* Decodes a first read of `first` bytes, then others of random size up to `most`. */
static enum decoder_result decode(size_t first, uint32_t most)
{
	enum decoder_result result;
	size_t at = 0, length = first;

	decoder_init(&decoder);
	given = 0;
	do {
		at += feed(stream.bytes + at, min_size(length, stream.size - at));
		result = take();
		length = 1 + random_below(most);
	} while (at < stream.size && result == DECODER_MORE);
	CHECK_NUMBER(decoder_bytes(&decoder), at);
	return result;
}

static void check_corruption(void)
{
	char start[64] = "no frame in the first 65536 bytes of the stream", cut[16];

	decoder_describe(&decoder, error, sizeof(error));
	if (model.noise <= NOISE_MAX)
		snprintf(start, sizeof(start), "corrupt stream at byte %zu: expected \"UOTT\", ",
			model.rest);
	CHECK_CONTAINS(error, start);
	decoder_describe(&decoder, cut, sizeof(cut));
	CHECK(strlen(cut) == sizeof(cut) - 1 && memcmp(cut, error, sizeof(cut) - 1) == 0);
	/* A damaged frame is held back if what shows the damage came in the same read. */
	CHECK(given == model.count || (given + 1 == model.count && strstr(error, "CR LF")));
	CHECK_NUMBER(take(), DECODER_CORRUPT);
}

/* Checks that the decoder finds in the stream what the model finds. */
static void compare(size_t first, uint32_t most)
{
	const uint8_t *sample;
	size_t kept;

	error[0] = '\0';
	run_model();
	CHECK_NUMBER(decode(first, most), model.result);
	sample = decoder_noise_sample(&decoder, &kept);
	CHECK_NUMBER(kept, min_size(decoder_noise(&decoder), NOISE_SAMPLE_SIZE));
	CHECK(memcmp(sample, stream.bytes, kept) == 0);
	if (model.noise <= NOISE_MAX)
		CHECK_NUMBER(decoder_noise(&decoder), model.noise);
	if (model.result == DECODER_CORRUPT) {
		check_corruption();
	} else {
		CHECK_NUMBER(given, model.count);
		CHECK_NUMBER(decoder_part(&decoder), model_part());
	}
}

/* --- tables --------------------------------------------------------------------------------- */

/* A stream, in which {1000} stands for a thousand times x, and its outcome. */
struct vector {
	const char *bytes;
	size_t size;
	const char *outcome;
};

static size_t set_stream(const struct vector *vector)
{
	stream.size = 0;
	for (const char *p = vector->bytes; p < vector->bytes + vector->size; p++) {
		char byte = *p == '{' ? 'x' : *p;
		size_t count = *p == '{' ? strtoul(p + 1, (char **)&p, 10) : 1;

		while (count-- > 0)
			stream.bytes[stream.size++] = (uint8_t)byte;
	}
	return stream.size;
}

/* What was found: each frame's kind, tag or type, length and <first bytes>; noise; how it ended. */
static const char *outcome(void)
{
	static char text[1024];
	char *p = text;

	for (const struct frame *frame = model.frames; frame < model.frames + given; frame++)
		p += sprintf(p, "%s %u %u <%.*s>, ", frame->kind == FRAME_DATA ? "data" : "control",
			frame->tag, frame->length, (int)min_size(frame->length, 5), frame->payload);
	if (decoder_noise(&decoder) > 0)
		p += sprintf(p, "%zu noise, ", decoder_noise(&decoder));
	if (error[0])
		sprintf(p, "%s", error);
	else
		sprintf(p, "%zu left", decoder_part(&decoder));
	return text;
}

#define STREAM(text) text, sizeof(text) - 1
#define AT(offset, bytes) "corrupt stream at byte " #offset ": expected \"UOTT\", found " bytes
#define CRLF "; a terminal in the way turns LF into CR LF: use " NO_TERMINAL
#define MIXED "; a terminal in the way mixes messages with frames: use " NO_TERMINAL
#define NO_FRAME "no frame in the first 65536 bytes of the stream"
#define A "UOTT\1\0\1\0a"
#define A_FOUND "data 1 1 <a>, "
#define XS "78 78 78 78 78 78 78 78"

static const struct vector frames[] = {
	{STREAM(""), "0 left"},
	{STREAM("UOTT\xff\xff\5\0hello"), "data 65535 5 <hello>, 0 left"},
	{STREAM("UOTT\2\1\0\0" A), "data 258 0 <>, " A_FOUND "0 left"},
	{STREAM("UOTC\1\0\2\0\2\1" A), "control 1 2 <\2\1>, " A_FOUND "0 left"},
	{STREAM(A "UOTC\xfe\xff\0\0"), A_FOUND "control 65534 0 <>, 0 left"},
	{STREAM("UOTT\1\0\13\0UOTCUOTTUOT"), "data 1 11 <UOTCU>, 0 left"},
	{STREAM("UOTT\1\0\xff\xff{65535}UOTT\2\0\0\1{256}"),
		"data 1 65535 <xxxxx>, data 2 256 <xxxxx>, 0 left"},
	{STREAM("UOT"), "3 left"},
	{STREAM(A "UOTT\1\0\3\0bc"), A_FOUND "10 left"},
	{NULL, 0, NULL},
};

static const struct vector noise[] = {
	{STREAM("Hi!\r\nUO, UOTX\n" A), A_FOUND "14 noise, 0 left"},
	{STREAM("{100}y{100}" A), A_FOUND "201 noise, 0 left"},
	{STREAM("UOTnoiseUOTC\1\0\0\0"), "control 1 0 <>, 8 noise, 0 left"},
	{STREAM("UOTUOTUOUOTTUO\0\0"), "data 20309 0 <>, 8 noise, 0 left"},
	{STREAM("noise UOT"), "6 noise, 0 left"},
	{STREAM("noise UOTT"), "6 noise, 4 left"},
	{STREAM("{65536}UOT"), "65536 noise, 0 left"},
	{STREAM("{65536}" A A), A_FOUND A_FOUND "65536 noise, 0 left"},
	{STREAM("{65536}UOT?"), "65540 noise, " NO_FRAME},
	{STREAM("{65537}" A), "65537 noise, " NO_FRAME},
	{NULL, 0, NULL},
};

static const struct vector corruption[] = {
	{STREAM(A "?"), A_FOUND AT(9, "3f")},
	{STREAM(A "UOTt" A), A_FOUND AT(9, "55 4f 54 74 55 4f 54 54")},
	{STREAM(A "\0\xffU\r\x7f"), A_FOUND AT(9, "00 ff 55 0d 7f")},
	{STREAM("{65536}" A "{9}"), A_FOUND "65536 noise, " AT(65545, XS)},
	{STREAM(A "uott"), A_FOUND AT(9, "75 6f 74 74")},
	{STREAM(A "uott-"), A_FOUND AT(9, "75 6f 74 74 2d") MIXED},
	{STREAM(A "uott-dec"), A_FOUND AT(9, "75 6f 74 74 2d 64 65 63") MIXED},
	{NULL, 0, NULL},
};

/* What counts is the last frame, and all behind it up to where the next one begins. */
static const struct vector crlf[] = {
	{STREAM("\nUOTT\1\0\1\0\nUOTT\1\0\4\0a\r\nb\r\nUOTT\1\0\1\0\n"),
		"data 1 1 <\n>, 1 noise, " AT(22, "0d 0a 55 4f 54 54 01 00") CRLF},
	{STREAM("UOTT\1\0\2\0\r\nx"), AT(10, "78") CRLF},
	{STREAM("UOTT\1\0\2\0\r\nxx"), "data 1 2 <\r\n>, " AT(10, "78 78")},
	{STREAM("UOTT\1\0\3\0\n\r\nx"), "data 1 3 <\n\r\n>, " AT(11, "78")},
	{STREAM("UOTT\1\0\3\0\r\n\nx"), "data 1 3 <\r\n\n>, " AT(11, "78")},
	{STREAM("UOTT\1\0\4\0\r\n\r\n\n"), "data 1 4 <\r\n\r\n>, " AT(12, "0a")},
	{STREAM("UOTT\r\n\0\5\0{2000}"), AT(1288, XS) CRLF},
	{STREAM("UOTT\1\0\r\n\0{3000}"), AT(2581, XS) CRLF},
	{STREAM("UOTT\1\0\0\r\n{4000}"), AT(3336, XS) CRLF},
	/* In the decoder's buffer bytes move; those of the damaged frame are kept. */
	{STREAM("{65536}UOTT\1\0\xff\xff{65535}UOTT\1\0\1\0\r\n" A),
		"data 1 65535 <xxxxx>, 65536 noise, " AT(131088, "0a 55 4f 54 54 01 00 01") CRLF},
	{NULL, 0, NULL},
};

static const struct vector *vectors; /* one of these tables */

/* Cuts the streams in two, and off, at all places, or at the last 50 of a long one. */
static void check_vectors(void)
{
	for (const struct vector *vector = vectors; vector->bytes; vector++) {
		size_t size = set_stream(vector);

		compare(WHOLE, WHOLE);
		CHECK_TEXT(outcome(), vector->outcome);
		compare(1, 1);
		for (size_t cut = size - min_size(size, 50); cut <= size; cut++) {
			stream.size = cut;
			compare(cut, WHOLE);
			stream.size = size;
			compare(cut, WHOLE);
			CHECK(strstr(error, CRLF) || !strstr(vector->outcome, CRLF));
		}
	}
}

static void headers(void)
{
	uint8_t header[HEADER + 1] = {[HEADER] = '#'};

	frame_put_header(header, FRAME_DATA, 0x1234, 0xabcd);
	CHECK(memcmp(header, "UOTT\x34\x12\xcd\xab#", sizeof(header)) == 0);
	CHECK_NUMBER(frame_size(header), HEADER + 0xabcd);
	frame_put_header(header, FRAME_CONTROL, CONTROL_TIME, 0);
	CHECK(memcmp(header, "UOTC\5\0\0\0#", sizeof(header)) == 0);
	CHECK_NUMBER(frame_size(header), HEADER);
	CHECK(CONTROL_HELLO == 1 && CONTROL_ACK == 2 && CONTROL_CLOSE == 3 && CONTROL_PING == 4);
}

/* --- random streams ------------------------------------------------------------------------- */

static void add_random_bytes(size_t size)
{
	while (size-- > 0)
		stream.bytes[stream.size++] = random_byte();
}

/* The payload is `text` among random bytes, at most `more`, and often just as many. */
static void add_random_frame(const char *text, uint32_t more)
{
	enum frame_kind kind = random_below(8) > 0 ? FRAME_DATA : FRAME_CONTROL;
	uint16_t number = (uint16_t)random_below(65536);
	size_t size = strlen(text);
	size_t length = size + (random_below(4) > 0 ? random_below(more) : more);

	frame_put_header(stream.bytes + stream.size, kind, number, (uint16_t)length);
	stream.size += HEADER;
	add_random_bytes(length);
	length -= random_below((uint32_t)(length - size + 1));
	memcpy(stream.bytes + stream.size - length, text, size);
}

/* What is likely to take a decoder in: parts of frames. */
static void add_garbage(void)
{
	static const char *const parts[] = {"U", "UO", "UOT", "UOTT\1\1", "UOTC", "\r\n", "\n"};

	for (const char *p = parts[random_below(ARRAY_SIZE(parts))]; *p; p++)
		stream.bytes[stream.size++] = (uint8_t)*p;
	add_random_bytes(random_below(8));
}

static void random_streams(void)
{
	static const struct {
		uint32_t rounds, pieces, payload_max, read_max, garbage; /* one piece of so many */
	} shapes[] = {
		{50000, 8, 12, 4, 2},
		{50000, 8, 12, 80, 2},
		{200, 40, 60, WHOLE, 40},
		{100, 200, 5000, 200000, 200},
		{20, 100, 65531, 200000, 200},
		{1, 100, 65531, 1, 1000},
	};

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		for (size_t round = 0; round < shapes[i].rounds; round++) {
			stream.size = 0;
			for (size_t j = 0; j < shapes[i].pieces; j++)
				if (random_below(shapes[i].garbage) == 0)
					add_garbage();
				else
					add_random_frame(
						j % 2 ? "UOTT" : "", shapes[i].payload_max);
			compare(1 + random_below(shapes[i].read_max), shapes[i].read_max);
		}
}

static void insert(size_t at, uint8_t byte)
{
	memmove(stream.bytes + at + 1, stream.bytes + at, stream.size++ - at);
	stream.bytes[at] = byte;
}

static void add_carriage_returns(void)
{
	for (size_t at = 0; at < stream.size; at++)
		if (stream.bytes[at] == '\n')
			insert(at++, '\r');
}

/* Each frame has an LF without CR, unless a terminal adds it. */
static void random_damage(void)
{
	for (size_t round = 0; round < 4000; round++) {
		bool is_crlf = round % 4 == 0;
		size_t at;

		stream.size = 0;
		for (size_t i = 0; i < 20; i++)
			add_random_frame("a\nb", 200);
		run_model();
		at = (size_t)model.frames[1 + random_below(18)].offset + HEADER;
		if (is_crlf)
			add_carriage_returns();
		else if (round % 4 == 1)
			stream.bytes[at - HEADER + random_below(4)] ^= 0x80;
		else if (round % 4 == 2)
			insert(at, random_byte());
		else
			memmove(stream.bytes + at, stream.bytes + at + 1, --stream.size - at);
		compare(1 + random_below(1000), round % 8 < 4 ? 1 : 1000);
		if (model.result == DECODER_CORRUPT)
			CHECK((strstr(error, CRLF) != NULL) == is_crlf);
		else
			CHECK(is_crlf && model_part() > 0);
	}
}

int main(void)
{
	test("a header is magic, tag or type, and length, and nothing more", headers);
	vectors = frames;
	test("frames come out whole, and what has come of the next is counted", check_vectors);
	vectors = noise;
	test("noise before the first frame is skipped and counted, up to 64 KiB", check_vectors);
	vectors = corruption;
	test("corruption is shown with its offset, its bytes and its likely cause", check_vectors);
	vectors = crlf;
	test("CR LF for LF is the likely cause only where it explains the damage", check_vectors);
	test("random streams are taken apart as the model does, however cut", random_streams);
	test("CR LF anywhere is told apart from lost, added and changed bytes", random_damage);
	return tests_end();
}
