/*
 * Streams, and what becomes of them: the same whether they come in one read or byte by byte. DATA
 * and CONTROL are frames with two bytes of payload.
 */
#include "receiver.h"

#include "check.h"
#include "util.h"

#define BYTES(text) text, sizeof(text) - 1
#define DATA "UOTT\7\0\2\0hi"
#define HELLO "UOTC\1\0\2\0\1\0"
#define CLOSE "UOTC\3\0\2\0\7\0"
#define PING "UOTC\4\0\0\0"
#define ACK "UOTC\2\0\x08\0\x09\0\0\0\0\0\0\0"
#define TEN "0123456789"
#define NOISE TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct example {
	const char *name, *stream;
	size_t size;
	const char *results; /* of receiver_next(), and the end */
	const char *noise;   /* what is told of it; NULL: nothing */
	const char *error;
	size_t noise_bytes, frames;
} examples[] = {
	{"data frames come out", BYTES(DATA DATA), "data 7 data 7 end", NULL, "", 0, 2},
	{"of control frames CLOSE comes out", BYTES(HELLO PING DATA CLOSE "UOTC\x63\0\0\0"),
		"data 7 close 7 end", NULL, "", 0, 1},
	{"noise is told once, escaped", BYTES("Hi \"\\\r\n\1\x7f\xff ~" DATA DATA),
		"data 7 data 7 end",
		"skipped 12 bytes that are no frame: "
		"\"Hi \\\"\\\\\\r\\n\\x01\\x7f\\xff ~\"",
		"", 12, 2},
	{"noise before a control frame is told", BYTES("noise" HELLO), "end",
		"skipped 5 bytes that are no frame: \"noise\"", "", 5, 0},
	{"noise alone is told at the end", BYTES("noise"), "end",
		"skipped 5 bytes that are no frame: \"noise\"", "", 5, 0},
	{"all of 160 bytes of noise are shown", BYTES(NOISE DATA), "data 7 end",
		"skipped 160 bytes that are no frame: \"" NOISE "\"", "", 160, 1},
	{"of more noise 160 bytes are shown", BYTES(NOISE "x" DATA), "data 7 end",
		"skipped 161 bytes that are no frame: \"" NOISE "\"...", "", 161, 1},
	{"an end inside a frame is an error", BYTES(DATA "UOTT\7"), "data 7 cut", NULL,
		"the stream ended inside a frame, at byte 15", 0, 1},
	{"what is no frame is an error, and says where", BYTES("noise" DATA "wrong"),
		"data 7 corrupt", "skipped 5 bytes that are no frame: \"noise\"",
		"corrupt stream at byte 15: expected \"UOTT\", found 77", 5, 1},
	{"a control frame that may not come is an error, and says where", BYTES(DATA PING DATA),
		"data 7 corrupt", NULL,
		"corrupt stream at byte 10: a control frame of type 4 (PING) before HELLO", 0, 1},
	{"an ACK of what was not sent is an error", BYTES("noise" HELLO ACK), "corrupt",
		"skipped 5 bytes that are no frame: \"noise\"",
		"corrupt stream at byte 15: ACK of bytes that were not sent", 5, 0},
};

static struct control control;
static struct counters counters;
static struct receiver receiver;
static uint64_t now_us;
static char results[128], noise[RECEIVER_TEXT_SIZE], error[RECEIVER_TEXT_SIZE];

static void begin(bool is_dec)
{
	memset(&counters, 0, sizeof(counters));
	control_init(&control, is_dec, true, now_us);
	receiver_init(&receiver, &control, &counters);
	receiver_begin_stream(&receiver);
	results[0] = noise[0] = error[0] = '\0';
}

static void add_result(const char *result)
{
	snprintf(results + strlen(results), sizeof(results) - strlen(results), "%s%s",
		results[0] ? " " : "", result);
}

static void hear_noise(void)
{
	char text[RECEIVER_TEXT_SIZE];

	if (receiver_tells_noise(&receiver, text))
		snprintf(noise + strlen(noise), sizeof(noise) - strlen(noise), "%s", text);
}

/* Returns whether the stream goes on. */
static bool read_bytes(const char *bytes, size_t size)
{
	static const char *const names[] = {"data", "close", "", "corrupt"};
	enum receiver_result result;
	struct frame frame;
	char text[16];
	size_t room;

	memcpy(receiver_room(&receiver, &room), bytes, size);
	receiver_filled(&receiver, size, now_us);
	while ((result = receiver_next(&receiver, &frame, error)) < RECEIVER_MORE) {
		snprintf(text, sizeof(text), "%s %u", names[result], frame.tag);
		add_result(text);
		hear_noise();
	}
	hear_noise();
	if (result == RECEIVER_CORRUPT)
		add_result("corrupt");
	return result != RECEIVER_CORRUPT;
}

static const struct example *example;

static void run_example(void)
{
	for (size_t part = 1; part <= example->size; part += example->size - 1) {
		bool goes_on = true;

		begin(false);
		CHECK(receiver_is_untouched(&receiver));
		for (size_t at = 0; goes_on && at < example->size; at += part)
			goes_on = read_bytes(example->stream + at, part);
		CHECK(!receiver_is_untouched(&receiver));
		if (goes_on)
			add_result(receiver_end(&receiver, error) ? "end" : "cut");
		hear_noise();
		CHECK_TEXT(results, example->results);
		CHECK_TEXT(noise, example->noise ? example->noise : "");
		CHECK_CONTAINS(error, example->error);
		CHECK_NUMBER(counters.value[FRAMES_IN], example->frames);
		CHECK_NUMBER(counters.value[NOISE_BYTES], example->noise_bytes);
	}
	CHECK_NUMBER(counters.value[STREAM_IN_BYTES], example->size);
}

/* What control.h wants to be told: when bytes came, how many without noise, and the end. */
static void control_is_told(void)
{
	uint8_t bytes[CONTROL_BYTES_MAX];
	size_t ack_size;

	begin(true);
	CHECK_NUMBER(control_peer(&control), PEER_UNKNOWN);
	read_bytes(BYTES("noise" HELLO "UOTT\xff\xff\2\0hi"));
	CHECK_NUMBER(control_gather(&control, now_us, bytes, &ack_size), 10 + 16);
	CHECK_NUMBER(le64_load(bytes + 18), 20);
	now_us += 777;
	read_bytes(BYTES("UOTT\7\0\x40\0" TEN TEN)); /* 28 bytes may be an ACK, ... */
	CHECK_NUMBER(control_gather(&control, now_us, bytes, &ack_size), 0);
	read_bytes(BYTES("0")); /* ... 29 are none */
	control_set_frames_wait(&control, true);
	CHECK_NUMBER(control_gather(&control, now_us + 9999, bytes, &ack_size), 12 + 16);
	CHECK_NUMBER(le32_load(bytes + 8), now_us);
	CHECK_NUMBER(le64_load(bytes + 20), 49);
	CHECK(!receiver_end(&receiver, error));
	CHECK_NUMBER(control_peer(&control), PEER_PLAIN);
	begin(true);
	CHECK(receiver_is_untouched(&receiver));
	read_bytes(BYTES(DATA));
	CHECK_NUMBER(control_peer(&control), PEER_PLAIN); /* by its tag */
}

int main(void)
{
	for (example = examples; example < examples + ARRAY_SIZE(examples); example++)
		test(example->name, run_example);
	test("the control frames to send know what was read", control_is_told);
	return tests_end();
}
