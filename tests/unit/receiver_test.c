/* Streams, and what comes out of them: the same if they come in one read or byte by byte. */
#include "receiver.h"

#include "check.h"
#include "util.h"

#define BYTES(text) text, sizeof(text) - 1
#define DATA "UOTT\7\0\2\0hi"
#define HELLO "UOTC\1\0\2\0\1\0"
#define PING "UOTC\4\0\0\0"
#define TEN "0123456789"
#define LONG TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN /* 160 bytes */

static const struct example {
	const char *name, *stream;
	size_t size, noise;
	const char *seen; /* results of receiver_next(), noise, the end, errors */
} examples[] = {
	{"data frames and CLOSE come out", BYTES(HELLO PING DATA "UOTC\3\0\2\0\7\0" DATA), 0,
		"data 7, close 7, data 7, end, "},
	{"noise is told once, escaped", BYTES("Hi \"\\\r\n\1\x7f\xff ~" DATA DATA), 12,
		"data 7, skipped 12 bytes that are no frame: "
		"\"Hi \\\"\\\\\\r\\n\\x01\\x7f\\xff ~\", data 7, end, "},
	{"noise alone is told at the end", BYTES("noise"), 5,
		"end, skipped 5 bytes that are no frame: \"noise\", "},
	{"all of 160 bytes of noise are shown", BYTES(LONG HELLO), 160,
		"skipped 160 bytes that are no frame: \"" LONG "\", end, "},
	{"of more noise 160 bytes are shown", BYTES(LONG "x" HELLO), 161,
		"skipped 161 bytes that are no frame: \"" LONG "\"..., end, "},
	{"an end inside a frame is an error", BYTES(DATA "UOTT\7"), 0,
		"data 7, the stream ended inside a frame, at byte 15"},
	{"what is no frame is an error, and says where", BYTES("noise" DATA "w"), 5,
		"data 7, skipped 5 bytes that are no frame: \"noise\", "
		"corrupt stream at byte 15: expected \"UOTT\", found 77"},
	{"a control frame before HELLO is an error, and says where", BYTES(DATA PING DATA), 0,
		"data 7, corrupt stream at byte 10: a control frame of type 4 (PING) before HELLO"},
};

static const struct example *example;
static struct control control;
static struct counters counters;
static struct receiver receiver;
static uint64_t now_us;
static char seen[4096], error[RECEIVER_TEXT_SIZE];

static void begin(bool is_dec)
{
	memset(&counters, 0, sizeof(counters));
	control_init(&control, is_dec, 1, true, now_us);
	receiver_init(&receiver, &control, &counters);
	receiver_begin_stream(&receiver);
	seen[0] = error[0] = '\0';
}

static void hear_noise(void)
{
	char text[RECEIVER_TEXT_SIZE];

	if (receiver_tells_noise(&receiver, text))
		sprintf(seen + strlen(seen), "%s, ", text);
}

/* Returns whether the stream goes on. */
static bool read_bytes(const char *bytes, size_t size)
{
	static const char *const names[] = {"data", "close"};
	enum receiver_result result;
	struct frame frame;
	size_t room;

	memcpy(receiver_room(&receiver, &room), bytes, size);
	receiver_filled(&receiver, size, now_us);
	while ((result = receiver_next(&receiver, &frame, error)) < RECEIVER_MORE) {
		sprintf(seen + strlen(seen), "%s %u, ", names[result], frame.tag);
		hear_noise();
	}
	hear_noise();
	return result == RECEIVER_MORE;
}

static void run_example(void)
{
	for (size_t part = 1; part <= example->size; part += example->size - 1) {
		size_t at = 0;

		begin(false);
		while (at < example->size && read_bytes(example->stream + at, part))
			at += part;
		if (at == example->size && receiver_end(&receiver, error))
			strcat(seen, "end, ");
		hear_noise();
		CHECK_TEXT(strcat(seen, error), example->seen);
		CHECK_NUMBER(counters.value[NOISE_BYTES], example->noise);
	}
	CHECK_NUMBER(counters.value[STREAM_IN_BYTES], example->size);
}

/* When bytes came, how many without noise, whether some may be no ACK, and the end. */
static void control_is_told(void)
{
	uint8_t bytes[CONTROL_BYTES_MAX];
	size_t ack_size;

	begin(true);
	read_bytes(BYTES("noise" HELLO "UOTT\xff\xff\2\0hi"));
	CHECK_NUMBER(control_gather(&control, true, now_us, bytes, &ack_size), 10 + 32);
	CHECK_NUMBER(le64_load(bytes + 34), 20);
	CHECK_NUMBER(counters.value[FRAMES_IN], 1);
	now_us += 777;
	read_bytes(BYTES("UOTT\7\0\x40\0" TEN TEN "1234")); /* 32 bytes may be an ACK, ... */
	CHECK_NUMBER(control_gather(&control, true, UINT64_MAX / 2, bytes, &ack_size), 0);
	read_bytes(BYTES("0")); /* ... 33 are none */
	CHECK_NUMBER(control_gather(&control, true, now_us + 100000, bytes, &ack_size), 32);
	CHECK_NUMBER(le32_load(bytes + 8), now_us);
	CHECK_NUMBER(le32_load(bytes + 12), 100000);
	CHECK_NUMBER(le64_load(bytes + 24), 53);
	CHECK_NUMBER(control_peer(&control), PEER_UNKNOWN);
	CHECK(!receiver_end(&receiver, error));
	CHECK_NUMBER(control_peer(&control), PEER_PLAIN);
}

int main(void)
{
	for (example = examples; example < examples + ARRAY_SIZE(examples); example++)
		test(example->name, run_example);
	test("control frames that are to be sent know what was read", control_is_told);
	return tests_end();
}
