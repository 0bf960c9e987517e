#include "control.h"

#include "check.h"
#include "util.h"
#include "window.h"

enum {
	PING_US = 15 * US_PER_SECOND,
	SILENCE_US = 45 * US_PER_SECOND,
	START_US = 123456789,
	HELLO_SIZE = 10,
	PING_SIZE = 8,
	TIMED_ACK_SIZE = CONTROL_TIME_SIZE + CONTROL_ACK_SIZE,
	ACK_US = WINDOW_ACK_INTERVAL_US,
	TURNS_MAX = 10000,
};

static struct control control;
static uint8_t urgent[CONTROL_URGENT_MAX], closes[CONTROL_CLOSES_MAX];
static size_t ack_size; /* of the ACK at the end of `urgent`, and the TIME before it */

/* --- helpers ------------------------------------------------------------------------------- */

static void setup(bool is_dec, bool has_way_back)
{
	memset(&control, 0xee, sizeof(control)); /* as in memory that was used before */
	control_init(&control, is_dec, has_way_back, START_US);
}

/* Takes a frame whose body lies where it can be read to its end only. Shows in `error` what ails.
 */
static bool accept_into(uint16_t type, const void *body, uint16_t length, char *error)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);
	struct frame frame = {
		.kind = FRAME_CONTROL, .type = type, .length = length, .payload = copy};
	bool accepted;

	if (!copy)
		exit(EXIT_FAILURE);
	memcpy(copy, body, length);
	strcpy(error, "(unchanged)");
	accepted = control_accept(&control, &frame, error);
	free(copy);
	return accepted;
}

/* Something is read, `consumed` bytes up to now, that ends with a whole frame. */
static void read_bytes(uint64_t consumed, uint64_t now_us)
{
	control_heard(&control, now_us);
	control_consumed(&control, consumed, 0);
}

/* What was read ends with a part of a frame that can be neither TIME nor ACK. */
static void read_part(void)
{
	control_consumed(&control, control.consumed, TIMED_ACK_SIZE + 1);
}

static void accept(uint16_t type, const char *body, uint16_t length)
{
	char error[CONTROL_ERROR_SIZE];

	CHECK(accept_into(type, body, length, error));
	CHECK_TEXT(error, "(unchanged)");
}

static void refuse(uint16_t type, const char *body, uint16_t length, const char *wanted)
{
	char error[CONTROL_ERROR_SIZE];

	CHECK(!accept_into(type, body, length, error));
	CHECK_TEXT(error, wanted);
}

static void accept_hello(void)
{
	accept(CONTROL_HELLO, "\1\0", 2);
}

static bool takes_ack(uint64_t consumed)
{
	char error[CONTROL_ERROR_SIZE];
	uint8_t body[8];

	for (int i = 0; i < 8; i++)
		body[i] = (uint8_t)(consumed >> 8 * i);
	if (accept_into(CONTROL_ACK, body, 8, error))
		return true;
	CHECK_TEXT(error, "ACK of bytes that were not sent, or less than before");
	return false;
}

static void check_bytes(const uint8_t *got, size_t size, const char *wanted, size_t wanted_size)
{
	if (!CHECK_NUMBER(size, wanted_size))
		return;
	for (size_t i = 0; i < size; i++)
		if (!CHECK_NUMBER(got[i], (uint8_t)wanted[i]))
			return;
}

static bool has_header(const uint8_t *bytes, size_t size, size_t from_end, const char *header)
{
	return size >= from_end && memcmp(bytes + size - from_end, header, FRAME_HEADER_SIZE) == 0;
}

/* Of the ACK that these bytes end with, and the TIME before it. */
static size_t find_ack(const uint8_t *bytes, size_t size)
{
	if (!has_header(bytes, size, CONTROL_ACK_SIZE, "UOTC\2\0\10\0"))
		return 0;
	if (!has_header(bytes, size, TIMED_ACK_SIZE, "UOTC\5\0\4\0"))
		return CONTROL_ACK_SIZE;
	return TIMED_ACK_SIZE;
}

/* Puts what is due now, before data, into `urgent`. Returns how many bytes. */
static size_t put_urgent(struct control *from, bool has_flows, uint64_t now_us)
{
	size_t size;

	ack_size = SIZE_MAX;
	size = control_urgent(from, has_flows, now_us, urgent, &ack_size);
	CHECK_NUMBER(ack_size, find_ack(urgent, size));
	return size;
}

/* Whether exactly these frames are due now. */
#define CHECK_URGENT(has_flows, now_us, wanted)                                                    \
	check_bytes(urgent, put_urgent(&control, has_flows, now_us), wanted, sizeof(wanted) - 1)
#define CHECK_CLOSES(wanted)                                                                       \
	check_bytes(closes, control_closes(&control, closes), wanted, sizeof(wanted) - 1)

#define HELLO "UOTC\1\0\2\0\1\0"
#define ACK_OF(consumed) "UOTC\2\0\10\0" consumed
#define ACK_OF_0 ACK_OF("\0\0\0\0\0\0\0\0")
#define PING "UOTC\4\0\0\0"
#define TIME_OF(read_us) "UOTC\5\0\4\0" read_us

/* As the sender does it: what is due leaves at once. Returns how many bytes. */
static size_t send_urgent(bool has_flows, uint64_t now_us)
{
	size_t size = put_urgent(&control, has_flows, now_us);

	control_sent(&control, size, ack_size, now_us);
	return size;
}

/* The two sides have said HELLO, all was read, and nothing is due or owed. */
static void setup_talking(bool is_dec)
{
	setup(is_dec, true);
	if (is_dec)
		control_data_frame(&control, UINT16_MAX);
	accept_hello();
	CHECK_NUMBER(send_urgent(false, START_US), HELLO_SIZE + CONTROL_ACK_SIZE);
	CHECK(takes_ack(control.sent));
	CHECK(control_is_on(&control));
	CHECK_URGENT(true, START_US, "");
}

/* --- HELLO --------------------------------------------------------------------------------- */

/* Whatever time it is. */
static void check_mute(void)
{
	CHECK_URGENT(true, START_US, "");
	CHECK_URGENT(true, START_US + 100 * (uint64_t)PING_US, "");
	CHECK(control_deadline_us(&control, true, false) == UINT64_MAX);
	CHECK(!control_is_on(&control));
	CHECK(!control_is_dead(&control, START_US + 100 * (uint64_t)SILENCE_US));
}

static void nothing_before_data(void)
{
	setup(true, true);
	check_mute();
	read_bytes(5, START_US);
	read_part();
	check_mute();
	setup(false, true);
	check_mute();
}

static void dec_knows_by_the_first_tag(void)
{
	setup(true, true);
	control_data_frame(&control, 65535);
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
	CHECK(!control_is_on(&control));
}

static void dec_says_nothing_to_others(void)
{
	static const uint16_t tags[] = {0, 1, 0x00ff, 0xff00, 0xfffe};

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		setup(true, true);
		control_data_frame(&control, tags[i]);
		check_mute();
		control_data_frame(&control, 65535); /* too late */
		control_data_frame(&control, 65535);
		check_mute();
	}
}

static void dec_without_a_way_back(void)
{
	setup(true, false);
	control_data_frame(&control, 65535);
	check_mute();
	accept_hello(); /* of a recording */
	accept(CONTROL_PING, "", 0);
	check_mute();
}

static void dec_says_hello_once(void)
{
	setup(true, true);
	control_data_frame(&control, 65535);
	control_data_frame(&control, 65535);
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
	CHECK_URGENT(false, START_US, "");
	control_data_frame(&control, 65535);
	CHECK_URGENT(false, START_US, ACK_OF_0);
	accept_hello();
	CHECK_URGENT(false, START_US, ACK_OF_0);
}

/* Whatever frames come, and whatever the caller wants to close. */
static void check_no_answer(void)
{
	accept_hello();
	control_sent(&control, 100, 0, START_US);
	accept(CONTROL_CLOSE, "\0\0", 2);
	accept(CONTROL_PING, "", 0);
	accept(CONTROL_TIME, "\1\2\3", 4);
	control_close(&control, 0);
	control_data_frame(&control, 65535);
	read_part();
	check_mute();
	CHECK_CLOSES("");
}

/* It is none of ours, or a recording comes in where there is a way out. */
static void dec_that_may_not_say_hello(void)
{
	static const uint16_t tags[] = {0, 65534};

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		setup(true, true);
		control_data_frame(&control, tags[i]);
		check_no_answer();
		setup(true, true);
		accept_hello();
		check_mute();
		control_data_frame(&control, tags[i]);
		check_no_answer();
	}
}

static void dec_that_got_hello_first(void)
{
	setup(true, true);
	accept_hello();
	check_mute();
	control_data_frame(&control, 65535);
	CHECK(control_is_on(&control));
	control_close(&control, 5);
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
	CHECK_CLOSES("UOTC\3\0\2\0\5\0");
}

/* Of enc's side of a tunnel in which both spoke: its ACKs are about a stream that we never sent. */
static void recording(void)
{
	setup(true, false);
	control_data_frame(&control, 65535);
	accept_hello();
	CHECK(takes_ack(100));
	accept(CONTROL_TIME, "\1\2\3", 4);
	CHECK(takes_ack(UINT64_MAX));
	CHECK(!control.has_far_time);
	CHECK(takes_ack(0));
	check_no_answer();
	refuse(CONTROL_ACK, "\0\0\0\0\0\0", 7, "ACK of length 7, expected 8 or more");
}

/* The far side may be one of ours that knows no control frame yet, and never answer. */
static void dec_before_the_answer(void)
{
	setup(true, true);
	control_data_frame(&control, 65535);
	CHECK(send_urgent(true, START_US) > 0);
	CHECK_URGENT(true, START_US + 100 * (uint64_t)PING_US, "");
	CHECK(control_deadline_us(&control, true, false) == UINT64_MAX);
	CHECK(!control_is_dead(&control, START_US + 100 * (uint64_t)SILENCE_US));
	CHECK(!control_is_on(&control));
	accept_hello();
	CHECK(control_is_on(&control));
}

static void enc_waits_for_hello(void)
{
	setup(false, true);
	control_data_frame(&control, 65535);
	control_data_frame(&control, 65534);
	read_part();
	control_sent(&control, 1000, 0, START_US);
	check_mute();
	accept_hello();
	CHECK(control_is_on(&control));
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
}

static void enc_answers_once(void)
{
	setup(false, true);
	accept_hello();
	accept_hello();
	CHECK_URGENT(true, START_US, HELLO ACK_OF_0);
	accept_hello();
	CHECK_URGENT(true, START_US, ACK_OF_0);
	CHECK_URGENT(true, START_US, "");
}

/* Both in one read; the data frame is the first that enc sees. */
static void data_right_behind_hello(void)
{
	static const uint16_t tags[] = {65535, 65534, 0};

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		setup(false, true);
		accept_hello();
		control_data_frame(&control, tags[i]);
		CHECK_URGENT(true, START_US, HELLO ACK_OF_0);
		control_data_frame(&control, tags[i]);
		CHECK_URGENT(true, START_US, ACK_OF_0);
	}
}

static void enc_without_a_way_back(void)
{
	setup(false, false);
	accept_hello();
	check_mute();
}

static void hello_of_the_future(void)
{
	setup(false, true);
	accept(CONTROL_HELLO, "\2\0 and more", 11);
	CHECK(control_is_on(&control));
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
}

static void new_stream(void)
{
	setup_talking(true);
	control_close(&control, 5);
	control_data_frame(&control, 1);
	control_sent(&control, 100, 0, START_US);
	control_init(&control, true, true, START_US);
	check_mute();
	CHECK_CLOSES("");
	control_data_frame(&control, 65535);
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
	accept_hello();
	control_close(&control, 5);
	CHECK_CLOSES("UOTC\3\0\2\0\5\0");
	CHECK(!takes_ack(1)); /* the bytes of the old stream count no more */
}

/* --- ACK ----------------------------------------------------------------------------------- */

static void ack_bytes(void)
{
	setup_talking(false);
	read_bytes(0x0807060504030201, START_US);
	control_data_frame(&control, 1);
	CHECK_URGENT(false, START_US, ACK_OF("\1\2\3\4\5\6\7\10"));
	read_bytes(UINT64_MAX - 1, START_US);
	control_data_frame(&control, 1);
	CHECK_URGENT(false, START_US, ACK_OF("\xfe\xff\xff\xff\xff\xff\xff\xff"));
}

static void one_ack_a_turn(void)
{
	setup_talking(true);
	for (uint64_t i = 1; i <= 100; i++) {
		read_bytes(i, START_US);
		control_data_frame(&control, (uint16_t)i);
	}
	accept(CONTROL_PING, "", 0);
	CHECK_URGENT(false, START_US, ACK_OF("\144\0\0\0\0\0\0\0"));
	CHECK_URGENT(false, START_US, "");
}

static void what_is_acknowledged(void)
{
	setup_talking(false);
	read_part();
	CHECK_URGENT(false, START_US, ACK_OF_0);
	control_data_frame(&control, 1);
	CHECK_URGENT(false, START_US, ACK_OF_0);
	accept(CONTROL_PING, "", 0);
	CHECK_URGENT(false, START_US, ACK_OF_0);
	accept(CONTROL_CLOSE, "\1\0", 2);
	CHECK_URGENT(false, START_US, ACK_OF_0);
	accept_hello();
	CHECK_URGENT(false, START_US, ACK_OF_0);
	accept(4711, "?", 1);
	CHECK_URGENT(false, START_US, ACK_OF_0);
}

static void part_that_may_be_an_ack(void)
{
	setup_talking(false);
	for (uint8_t part = 0; part <= TIMED_ACK_SIZE; part++) {
		control_consumed(&control, 100 + part, part);
		CHECK_URGENT(false, START_US, "");
	}
	control_consumed(&control, 129, TIMED_ACK_SIZE + 1);
	CHECK_URGENT(false, START_US, ACK_OF("\201\0\0\0\0\0\0\0"));
	CHECK_URGENT(false, START_US, "");
	control_consumed(&control, 256, SIZE_MAX);
	CHECK_URGENT(false, START_US, ACK_OF("\0\1\0\0\0\0\0\0"));
}

/* As the receiver does it: the frames that were read come first. */
static void part_behind_a_frame(void)
{
	for (uint8_t part = 0; part <= TIMED_ACK_SIZE; part += TIMED_ACK_SIZE) {
		setup_talking(true);
		control_data_frame(&control, 1);
		control_consumed(&control, 42, part);
		control_consumed(&control, 43, 0);
		CHECK_URGENT(false, START_US, ACK_OF("\53\0\0\0\0\0\0\0"));
		CHECK_URGENT(false, START_US, "");
	}
}

static void acks_are_not_acknowledged(void)
{
	setup_talking(true);
	read_bytes(16, START_US);
	CHECK(takes_ack(control.sent));
	CHECK_URGENT(true, START_US, "");
	CHECK(takes_ack(control.sent));
	control_data_frame(&control, 1);
	CHECK(takes_ack(control.sent));
	CHECK_URGENT(true, START_US, ACK_OF("\20\0\0\0\0\0\0\0"));
}

/* ACKs alone, or what the far side has to say besides. */
static void many_acks(void)
{
	setup_talking(true);
	for (uint64_t i = 1; i < 64; i++) {
		read_bytes(i * CONTROL_ACK_SIZE, START_US);
		CHECK(takes_ack(control.sent));
		CHECK_URGENT(true, START_US, "");
	}
	read_bytes(1023, START_US);
	CHECK_URGENT(true, START_US, "");
	read_bytes(1024, START_US);
	CHECK_URGENT(true, START_US, ACK_OF("\0\4\0\0\0\0\0\0"));
	read_bytes(2047, START_US);
	CHECK_URGENT(true, START_US, "");
	read_bytes(2048, START_US);
	CHECK_URGENT(true, START_US, ACK_OF("\0\10\0\0\0\0\0\0"));
	read_bytes(2058, START_US);
	control_data_frame(&control, 1);
	CHECK_URGENT(true, START_US, ACK_OF("\12\10\0\0\0\0\0\0"));
	read_bytes(2058 + 1023, START_US); /* since the last ACK, whatever that was for */
	CHECK_URGENT(true, START_US, "");
	read_bytes(2058 + 1024, START_US);
	CHECK_URGENT(true, START_US, ACK_OF("\12\14\0\0\0\0\0\0"));
}

static void ack_within_what_was_sent(void)
{
	setup(false, true);
	accept_hello();
	CHECK(takes_ack(0));
	CHECK(!takes_ack(1));
	control_sent(&control, 100, 0, START_US);
	CHECK(takes_ack(40));
	CHECK(takes_ack(40));
	CHECK(!takes_ack(39));
	CHECK(!takes_ack(0));
	CHECK(!takes_ack(101));
	CHECK(!takes_ack(UINT64_MAX));
	CHECK(takes_ack(41));
	control_sent(&control, 100, CONTROL_ACK_SIZE, START_US);
	CHECK(!takes_ack(201));
	CHECK(takes_ack(200));
	CHECK(!takes_ack(199));
}

static void ack_of_a_long_stream(void)
{
	const size_t much = (size_t)1 << 40;

	setup(false, true);
	accept_hello();
	for (int i = 0; i < 3; i++)
		control_sent(&control, much, 0, START_US);
	CHECK(takes_ack(2 * (uint64_t)much));
	CHECK(!takes_ack(5));
	CHECK(!takes_ack(3 * (uint64_t)much + 1));
	CHECK(takes_ack(3 * (uint64_t)much));
}

/* --- TIME ---------------------------------------------------------------------------------- */

/* Frames wait, so that ACKs do. */
static void setup_loaded(bool is_dec)
{
	setup_talking(is_dec);
	control.time_wanted = true;
}

static void check_deadline(bool has_flows, bool blocked, uint64_t wanted_us)
{
	CHECK_NUMBER(control_deadline_us(&control, has_flows, blocked), wanted_us);
}

static void time_bytes(void)
{
	for (int is_dec = 0; is_dec <= 1; is_dec++) {
		setup_loaded(is_dec);
		control_heard(&control, 0x0807060504030201);
		control_consumed(&control, 5, 0);
		control_data_frame(&control, 1);
		CHECK_URGENT(
			false, START_US + ACK_US, TIME_OF("\1\2\3\4") ACK_OF("\5\0\0\0\0\0\0\0"));
		control_heard(&control, 0xfffffffe);
		control_data_frame(&control, 1);
		control.time_wanted = false;
		CHECK_URGENT(false, START_US + ACK_US, ACK_OF("\5\0\0\0\0\0\0\0"));
		control.time_wanted = true;
		control_data_frame(&control, 1);
		CHECK_URGENT(false, START_US + 2 * ACK_US,
			TIME_OF("\xfe\xff\xff\xff") ACK_OF("\5\0\0\0\0\0\0\0"));
	}
}

static void acks_wait_for_each_other(void)
{
	setup_loaded(false);
	check_deadline(false, false, UINT64_MAX);
	for (uint64_t i = 1; i <= 100; i++) {
		control_heard(&control, 0);
		control_data_frame(&control, 1);
		check_deadline(false, false, START_US + i * ACK_US);
		check_deadline(true, false, START_US + i * ACK_US);
		check_deadline(true, true, UINT64_MAX);
		CHECK_URGENT(false, START_US + i * ACK_US - 1, "");
		CHECK_URGENT(false, START_US + i * ACK_US, TIME_OF("\0\0\0\0") ACK_OF_0);
		CHECK_URGENT(false, START_US + i * ACK_US, "");
		check_deadline(false, false, UINT64_MAX);
	}
	control_data_frame(&control, 1); /* the 5 ms are over already */
	CHECK_URGENT(false, START_US + 1000 * ACK_US, TIME_OF("\0\0\0\0") ACK_OF_0);
	control_data_frame(&control, 1);
	check_deadline(false, false, START_US + 1001 * ACK_US);
	CHECK_URGENT(false, START_US + 1001 * ACK_US - 1, "");
}

/* An ACK that was let go resets the time whether it has a TIME or not. */
static void acks_wait_while_loaded(void)
{
	setup_loaded(true);
	control_data_frame(&control, 1);
	CHECK_URGENT(false, START_US + 1, "");
	control.time_wanted = false;
	CHECK(control_deadline_us(&control, false, false) <= START_US + 1);
	CHECK_URGENT(false, START_US + 1, ACK_OF_0);
	control_data_frame(&control, 1);
	CHECK_URGENT(false, START_US + 2, ACK_OF_0);
	control_data_frame(&control, 1);
	control.time_wanted = true;
	check_deadline(false, false, START_US + 2 + ACK_US);
	CHECK_URGENT(false, START_US + 1 + ACK_US, "");
	read_bytes(3000, START_US + 1 + ACK_US); /* however much it is */
	read_part();
	CHECK_URGENT(false, START_US + 1 + ACK_US, "");
}

static void ping_does_not_wait(void)
{
	setup_loaded(false);
	control_heard(&control, 0);
	control_data_frame(&control, 1);
	CHECK_URGENT(false, START_US + PING_US - 1, TIME_OF("\0\0\0\0") ACK_OF_0);
	control_data_frame(&control, 1);
	check_deadline(true, false, START_US + PING_US);
	CHECK_URGENT(true, START_US + PING_US, PING);
	CHECK_URGENT(false, START_US + PING_US - 1 + ACK_US, TIME_OF("\0\0\0\0") ACK_OF_0);
}

static void time_and_ack_are_not_owed(void)
{
	setup_loaded(true);
	control_data_frame(&control, 1);
	CHECK_NUMBER(send_urgent(false, START_US + ACK_US), TIMED_ACK_SIZE);
	CHECK(control.acked >= control.owed);
	CHECK(!control_is_dead(&control, UINT64_MAX));
	control_data_frame(&control, 1);
	CHECK_NUMBER(send_urgent(true, START_US + PING_US + ACK_US), PING_SIZE + TIMED_ACK_SIZE);
	CHECK_NUMBER(control.owed, control.sent - TIMED_ACK_SIZE);
}

static void far_time(void)
{
	setup_talking(false);
	control_sent(&control, 100, 0, START_US);
	accept(CONTROL_TIME, "\1\2\3\4", 4);
	CHECK(!control.has_far_time); /* not before its ACK */
	CHECK_URGENT(false, START_US, "");
	CHECK(takes_ack(control.sent - 50));
	CHECK(control.has_far_time);
	CHECK_NUMBER(control.far_us, 0x04030201);
	accept(CONTROL_TIME, "\xff\xff\xff\xff", 4);
	CHECK(takes_ack(control.sent - 40));
	CHECK(control.has_far_time);
	CHECK_NUMBER(control.far_us, UINT32_MAX);
	CHECK(takes_ack(control.sent - 30));
	CHECK(!control.has_far_time);
	CHECK(takes_ack(control.sent));
	CHECK(!control.has_far_time);
	accept(CONTROL_TIME, "\5\0\0\0 and more", 13);
	CHECK(takes_ack(control.sent)); /* says nothing new, but when */
	CHECK(control.has_far_time);
	CHECK_NUMBER(control.far_us, 5);
	CHECK_URGENT(false, START_US, "");
}

static void far_time_of_another_stream(void)
{
	setup_talking(true);
	accept(CONTROL_TIME, "\1\2\3\4", 4);
	CHECK(takes_ack(control.sent));
	accept(CONTROL_TIME, "\1\2\3\4", 4);
	control.time_wanted = true;
	control_init(&control, true, true, START_US);
	CHECK(!control.has_far_time && !control.time_wanted);
	accept_hello();
	CHECK(takes_ack(0));
	CHECK(!control.has_far_time);
}

/* --- CLOSE --------------------------------------------------------------------------------- */

static uint16_t closed_tag(size_t number)
{
	return le16_load(closes + number * CONTROL_CLOSE_SIZE + FRAME_HEADER_SIZE);
}

static void close_bytes(void)
{
	setup_talking(false);
	CHECK_CLOSES("");
	control_close(&control, 0xfffe);
	control_close(&control, 0x0102);
	control_close(&control, 0);
	CHECK_URGENT(false, START_US, "");
	CHECK_CLOSES("UOTC\3\0\2\0\xfe\xff"
		     "UOTC\3\0\2\0\2\1"
		     "UOTC\3\0\2\0\0\0");
	CHECK_CLOSES("");
}

static void close_once(void)
{
	setup_talking(false);
	control_close(&control, 7);
	control_close(&control, 8);
	control_close(&control, 7);
	control_close(&control, 8);
	CHECK_CLOSES("UOTC\3\0\2\0\7\0"
		     "UOTC\3\0\2\0\10\0");
	CHECK_CLOSES("");
}

/* What is closed before the far side could know of it is not due later. */
static void close_before_hello(void)
{
	setup(false, true);
	control_close(&control, 7);
	accept_hello();
	CHECK_CLOSES("");
	control_close(&control, 7); /* HELLO is due, and will go before it */
	CHECK_CLOSES("UOTC\3\0\2\0\7\0");

	setup(true, true);
	control_data_frame(&control, 65535);
	control_close(&control, 7);
	CHECK_URGENT(false, START_US, HELLO ACK_OF_0);
	control_close(&control, 7);
	accept_hello();
	CHECK_CLOSES("");
	control_close(&control, 7);
	CHECK_CLOSES("UOTC\3\0\2\0\7\0");
}

static void close_again(void)
{
	setup_talking(true);
	for (int i = 0; i < 70000; i++) {
		control_close(&control, 7);
		control_close(&control, 7);
		if (!CHECK_NUMBER(control_closes(&control, closes), CONTROL_CLOSE_SIZE))
			return;
	}
}

static void close_neighbours(void)
{
	setup_talking(true);
	for (uint16_t tag = 0; tag < 32; tag += 2)
		control_close(&control, tag);
	CHECK_NUMBER(control_closes(&control, closes), 16 * CONTROL_CLOSE_SIZE);
	control_close(&control, 4);
	for (uint16_t tag = 0; tag < 32; tag++)
		control_close(&control, tag);
	CHECK_NUMBER(control_closes(&control, closes), 32 * CONTROL_CLOSE_SIZE);
	CHECK_NUMBER(closed_tag(0), 4);
	CHECK_NUMBER(closed_tag(1), 0);
	CHECK_NUMBER(closed_tag(31), 31);
}

static void close_some_at_a_time(void)
{
	setup_talking(true);
	for (uint16_t tag = 0; tag < 150; tag++)
		control_close(&control, tag);
	CHECK_NUMBER(control_closes(&control, closes), 640);
	CHECK_NUMBER(closed_tag(0), 0);
	CHECK_NUMBER(closed_tag(63), 63);
	CHECK_NUMBER(control_closes(&control, closes), 640);
	CHECK_NUMBER(closed_tag(0), 64);
	CHECK_NUMBER(control_closes(&control, closes), 220);
	CHECK_NUMBER(closed_tag(21), 149);
	CHECK_CLOSES("");
}

/* Of tags 1 to 64 it was said; 65 to 100, some of which share a byte with 64, are still due. */
static void close_what_is_still_due(void)
{
	setup_talking(true);
	for (uint16_t tag = 1; tag <= 100; tag++)
		control_close(&control, tag);
	CHECK_NUMBER(control_closes(&control, closes), 640);
	CHECK_NUMBER(closed_tag(63), 64);
	for (uint16_t tag = 64; tag <= 100; tag++)
		control_close(&control, tag);
	CHECK_NUMBER(control_closes(&control, closes), 370);
	CHECK_NUMBER(closed_tag(0), 65);
	CHECK_NUMBER(closed_tag(35), 100);
	CHECK_NUMBER(closed_tag(36), 64);
	CHECK_CLOSES("");
}

static void close_all(void)
{
	setup_talking(false);
	for (uint16_t tag = 0; tag < 100; tag++) /* so that the next do not begin at 0 */
		control_close(&control, tag);
	while (control_closes(&control, closes) > 0)
		;
	for (int round = 0; round < 2; round++)
		for (uint32_t tag = 0; tag < TAGS; tag++)
			control_close(&control, (uint16_t)(UINT16_MAX - tag));
	for (uint32_t tag = 0; tag < TAGS; tag++) {
		if (tag % 64 == 0 && !CHECK_NUMBER(control_closes(&control, closes), 640))
			return;
		if (!CHECK_NUMBER(closed_tag(tag % 64), UINT16_MAX - tag))
			return;
	}
	CHECK_CLOSES("");
}

/* --- errors -------------------------------------------------------------------------------- */

static void control_before_hello(bool is_dec)
{
	setup(is_dec, true);
	control_data_frame(&control, 65535);
	refuse(CONTROL_ACK, "\0\0\0\0\0\0\0", 8, "a control frame of type 2 (ACK) before HELLO");
	refuse(CONTROL_CLOSE, "\0", 2, "a control frame of type 3 (CLOSE) before HELLO");
	refuse(CONTROL_PING, "", 0, "a control frame of type 4 (PING) before HELLO");
	refuse(0, "", 0, "a control frame of type 0 (unknown) before HELLO");
	refuse(CONTROL_TIME, "\0\0\0", 4, "a control frame of type 5 (TIME) before HELLO");
	refuse(6, "", 0, "a control frame of type 6 (unknown) before HELLO");
	refuse(65535, "", 0, "a control frame of type 65535 (unknown) before HELLO");
	CHECK(!control_is_on(&control));
	accept_hello();
	accept(CONTROL_PING, "", 0);
}

static void nothing_before_hello(void)
{
	control_before_hello(false);
	control_before_hello(true);
}

static void short_bodies(void)
{
	setup(false, true);
	refuse(CONTROL_HELLO, "", 0, "HELLO of length 0, expected 2 or more");
	refuse(CONTROL_HELLO, "\1", 1, "HELLO of length 1, expected 2 or more");
	CHECK(!control_is_on(&control));
	check_mute();
	accept_hello();
	refuse(CONTROL_HELLO, "\1", 1, "HELLO of length 1, expected 2 or more");
	refuse(CONTROL_ACK, "", 0, "ACK of length 0, expected 8 or more");
	refuse(CONTROL_ACK, "\0\0\0\0\0\0", 7, "ACK of length 7, expected 8 or more");
	refuse(CONTROL_CLOSE, "", 0, "CLOSE of length 0, expected 2 or more");
	refuse(CONTROL_CLOSE, "\1", 1, "CLOSE of length 1, expected 2 or more");
	refuse(CONTROL_TIME, "", 0, "TIME of length 0, expected 4 or more");
	refuse(CONTROL_TIME, "\1\1\1", 3, "TIME of length 3, expected 4 or more");
	CHECK(takes_ack(0));
	CHECK(!control.has_far_time);
}

static void long_bodies(void)
{
	setup(false, true);
	accept(CONTROL_HELLO, "\1\0!", 3);
	control_sent(&control, 1, 0, START_US);
	accept(CONTROL_ACK, "\1\0\0\0\0\0\0\0!", 9);
	accept(CONTROL_CLOSE, "\1\0!", 3);
	accept(CONTROL_PING, "!", 1);
	accept(CONTROL_TIME, "\1\0\0\0!", 5);
}

static void unknown_types(void)
{
	setup(true, true);
	accept_hello();
	for (uint32_t type = 6; type <= UINT16_MAX; type++)
		accept((uint16_t)type, "what it may be", (uint16_t)(type % 15));
	accept(0, "", 0);
}

/* --- PING and silence ---------------------------------------------------------------------- */

static void nothing_owed_is_silence(void)
{
	for (int is_dec = 0; is_dec <= 1; is_dec++) {
		setup_talking(is_dec);
		check_deadline(false, false, UINT64_MAX);
		CHECK_URGENT(false, START_US + 1000 * (uint64_t)SILENCE_US, "");
		CHECK(!control_is_dead(&control, START_US + 1000 * (uint64_t)SILENCE_US));
	}
}

static void ping_with_flows(void)
{
	for (int is_dec = 0; is_dec <= 1; is_dec++) {
		setup_talking(is_dec);
		check_deadline(true, false, START_US + PING_US);
		CHECK_URGENT(true, START_US + PING_US - 1, "");
		CHECK_URGENT(true, START_US + PING_US, PING);
	}
}

static void ping_while_owed(void)
{
	setup_talking(false);
	control_sent(&control, 100, 0, START_US + 5);
	check_deadline(false, false, START_US + 5 + PING_US);
	CHECK_URGENT(false, START_US + 5 + PING_US - 1, "");
	CHECK_URGENT(false, START_US + 5 + PING_US, PING);
	CHECK(takes_ack(control.sent - 1));
	CHECK_URGENT(false, START_US + 5 + PING_US, PING);
	CHECK(takes_ack(control.sent));
	CHECK_URGENT(false, START_US + 5 + PING_US, "");
}

static void ping_after_what_was_sent_last(void)
{
	setup_talking(true);
	control_sent(&control, 100, 0, START_US + 7);
	check_deadline(true, false, START_US + 7 + PING_US);
	control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US + 9);
	check_deadline(true, false, START_US + 9 + PING_US);
	control_sent(&control, 0, 0, START_US + 11); /* the pipe had no room */
	check_deadline(true, false, START_US + 9 + PING_US);
	read_bytes(1, START_US + 12); /* what comes in is no reason not to send */
	check_deadline(true, false, START_US + 9 + PING_US);
}

static void all_at_once(void)
{
	setup(false, true);
	accept_hello();
	CHECK_URGENT(true, START_US + PING_US, HELLO PING ACK_OF_0);
	setup(false, true);
	accept_hello();
	control_heard(&control, 0x04030201);
	control.time_wanted = true;
	CHECK_URGENT(true, START_US + PING_US, HELLO PING TIME_OF("\1\2\3\4") ACK_OF_0);
	CHECK_NUMBER(HELLO_SIZE + PING_SIZE + TIMED_ACK_SIZE, CONTROL_URGENT_MAX);
}

static void dead_after_silence(void)
{
	for (int is_dec = 0; is_dec <= 1; is_dec++) {
		setup_talking(is_dec);
		control_sent(&control, 1, 0, START_US);
		CHECK(!control_is_dead(&control, START_US));
		CHECK(!control_is_dead(&control, START_US + SILENCE_US - 1));
		CHECK(control_is_dead(&control, START_US + SILENCE_US));
		CHECK(control_is_dead(&control, START_US + 2 * SILENCE_US));
	}
}

static void silence_begins_when_something_is_owed(void)
{
	const uint64_t late_us = START_US + 1000 * (uint64_t)SILENCE_US;

	setup_talking(false);
	control_sent(&control, 1, 0, late_us);
	CHECK(!control_is_dead(&control, late_us + SILENCE_US - 1));
	CHECK(control_is_dead(&control, late_us + SILENCE_US));
	control_sent(&control, 1, 0, late_us + 5); /* still the first byte is owed */
	CHECK(control_is_dead(&control, late_us + SILENCE_US));
}

static void anything_heard_ends_silence(void)
{
	setup_talking(false);
	control_sent(&control, 100, 0, START_US);
	read_bytes(1, START_US + 50); /* not even a whole frame */
	CHECK(!control_is_dead(&control, START_US + 50 + SILENCE_US - 1));
	CHECK(control_is_dead(&control, START_US + 50 + SILENCE_US));
	read_bytes(17, START_US + 60);
	CHECK(takes_ack(control.sent - 1)); /* one byte is owed still */
	CHECK(!control_is_dead(&control, START_US + 60 + SILENCE_US - 1));
	CHECK(control_is_dead(&control, START_US + 60 + SILENCE_US));
}

static void nothing_owed_is_never_dead(void)
{
	setup_talking(true);
	control_sent(&control, 100, 0, START_US);
	CHECK(takes_ack(control.sent));
	CHECK(!control_is_dead(&control, UINT64_MAX));
	control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US);
	CHECK(!control_is_dead(&control, UINT64_MAX));
	check_deadline(false, false, UINT64_MAX);
	CHECK_URGENT(false, START_US + 100 * (uint64_t)PING_US, "");
	control_sent(&control, 0, 0, START_US);
	CHECK(!control_is_dead(&control, UINT64_MAX));
	check_deadline(false, false, UINT64_MAX);
}

static void acks_alone_do_not_count(void)
{
	setup_talking(true);
	control_sent(&control, 100, 0, START_US);
	control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US);
	CHECK(takes_ack(control.sent - CONTROL_ACK_SIZE)); /* all but the last ACK */
	CHECK(!control_is_dead(&control, UINT64_MAX));
	control_sent(&control, 1, 0, START_US + 5);
	CHECK(takes_ack(control.sent - 1));
	CHECK(control_is_dead(&control, START_US + 5 + SILENCE_US));
}

static void acks_in_a_row(void)
{
	setup_talking(true);
	for (int i = 0; i < 3; i++)
		control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US);
	check_deadline(false, false, UINT64_MAX);
	CHECK(!control_is_dead(&control, UINT64_MAX));
	control_sent(&control, 1, 0, START_US + 5);
	CHECK(takes_ack(control.sent));
	control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US + 6);
	control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US + 7);
	check_deadline(false, false, UINT64_MAX);
	CHECK(!control_is_dead(&control, UINT64_MAX));
	control_sent(&control, CONTROL_ACK_SIZE + 1, CONTROL_ACK_SIZE, START_US + 8);
	CHECK(control_is_dead(&control, START_US + 8 + SILENCE_US));
}

static void ack_behind_a_ping(void)
{
	setup_talking(true);
	control_data_frame(&control, 1);
	CHECK_NUMBER(send_urgent(true, START_US + PING_US), PING_SIZE + CONTROL_ACK_SIZE);
	CHECK(!control_is_dead(&control, START_US + PING_US + SILENCE_US - 1));
	CHECK(control_is_dead(&control, START_US + PING_US + SILENCE_US));
	CHECK(takes_ack(control.sent - CONTROL_ACK_SIZE - 1));
	CHECK(control_is_dead(&control, START_US + PING_US + SILENCE_US));
	CHECK(takes_ack(control.sent - CONTROL_ACK_SIZE));
	CHECK(!control_is_dead(&control, UINT64_MAX));
}

/* A data frame of 8 bytes is as long as an ACK. */
static void what_is_as_long_as_an_ack(void)
{
	setup_talking(false);
	control_sent(&control, CONTROL_ACK_SIZE, 0, START_US + 5);
	CHECK(control_is_dead(&control, START_US + 5 + SILENCE_US));
	CHECK(takes_ack(control.sent - 1));
	CHECK(control_is_dead(&control, START_US + 5 + SILENCE_US));
}

/* ACKs sent since do not make less of what is owed, nor the silence shorter. */
static void acks_after_what_is_owed(void)
{
	setup_talking(false);
	control_sent(&control, 100, 0, START_US + 5);
	control_sent(&control, CONTROL_ACK_SIZE, CONTROL_ACK_SIZE, START_US + 6);
	CHECK(control_is_dead(&control, START_US + 5 + SILENCE_US));
	CHECK(takes_ack(control.sent - CONTROL_ACK_SIZE - 1));
	CHECK(control_is_dead(&control, START_US + 5 + SILENCE_US));
	CHECK(takes_ack(control.sent - CONTROL_ACK_SIZE));
	CHECK(!control_is_dead(&control, UINT64_MAX));
}

static void never_dead_without_hello(void)
{
	setup(false, true);
	control_sent(&control, 100000, 0, START_US);
	check_mute();
	setup(true, false);
	control_sent(&control, 100000, 0, START_US);
	accept_hello();
	check_mute();
}

static void blocked_pipe(void)
{
	setup_talking(false);
	check_deadline(true, true, UINT64_MAX);
	control_sent(&control, 1, 0, START_US + 3);
	check_deadline(true, true, START_US + 3 + SILENCE_US);
	check_deadline(false, true, START_US + 3 + SILENCE_US);
	read_bytes(1, START_US + 4);
	check_deadline(true, true, START_US + 4 + SILENCE_US);
	check_deadline(true, false, START_US + 3 + PING_US);
	CHECK(takes_ack(control.sent));
	check_deadline(true, true, UINT64_MAX);
}

/* --- a clock that moves from deadline to deadline ------------------------------------------ */

/*
 * Waits until there is something to do, and does it. Returns when the far side is found dead, or
 * has been sent `pings` PINGs. Checks that no wake-up is in vain, too late, or in the past.
 */
static bool pings_until_dead(bool has_flows, int pings, uint64_t *now_us)
{
	for (int i = 0; i < pings; i++) {
		uint64_t deadline_us = control_deadline_us(&control, has_flows, false);

		if (!CHECK(deadline_us > *now_us) || !CHECK(deadline_us != UINT64_MAX))
			return false;
		CHECK_URGENT(has_flows, deadline_us - 1, "");
		CHECK(!control_is_dead(&control, deadline_us - 1));
		*now_us = deadline_us;
		if (control_is_dead(&control, deadline_us))
			return true;
		CHECK_NUMBER(send_urgent(has_flows, deadline_us), PING_SIZE);
		CHECK_URGENT(has_flows, deadline_us, "");
	}
	return false;
}

static void dead_far_side_of_flows(void)
{
	uint64_t now_us = START_US;

	setup_talking(true);
	CHECK(pings_until_dead(true, 10, &now_us));
	CHECK_NUMBER(now_us, START_US + PING_US + SILENCE_US);
}

static void dead_far_side_that_owes(void)
{
	uint64_t now_us = START_US + 1;

	setup_talking(false);
	control_sent(&control, 1, 0, now_us);
	CHECK(pings_until_dead(false, 10, &now_us));
	CHECK_NUMBER(now_us, START_US + 1 + SILENCE_US);
}

static void far_side_that_answers_pings(void)
{
	uint64_t now_us = START_US;

	setup_talking(false);
	for (uint64_t i = 1; i <= 1000; i++) {
		CHECK(!pings_until_dead(true, 1, &now_us));
		CHECK_NUMBER(now_us, START_US + i * PING_US);
		read_bytes(i * CONTROL_ACK_SIZE, now_us);
		CHECK(takes_ack(control.sent));
		CHECK_NUMBER(send_urgent(true, now_us), i % 64 == 0 ? CONTROL_ACK_SIZE : 0);
	}
}

/* Far side that sends, but has not read to the end of what it was sent. */
static void far_side_that_only_sends(void)
{
	uint64_t now_us = START_US;

	setup_talking(false);
	control_sent(&control, 1, 0, now_us);
	for (uint64_t i = 1; i <= 1000; i++) {
		CHECK(!pings_until_dead(false, 1, &now_us));
		read_bytes(i, now_us);
	}
	CHECK(pings_until_dead(false, 10, &now_us));
	CHECK_NUMBER(now_us, START_US + 1000 * (uint64_t)PING_US + SILENCE_US);
}

/* What may happen to a side that talks, at any time. */
static void random_event(uint64_t now_us)
{
	switch (random_below(6)) {
	case 0:
		control_sent(&control, 1 + random_below(1000), 0, now_us);
		break;
	case 1:
		read_bytes(control.consumed + random_below(1000), now_us);
		break;
	case 2:
		read_bytes(control.consumed + CONTROL_ACK_SIZE, now_us);
		takes_ack(control.acked + random_below(2) * (control.sent - control.acked));
		break;
	case 3:
		read_bytes(control.consumed + 100, now_us);
		control_data_frame(&control, 5);
		break;
	case 4:
		read_part();
		break;
	default:
		control_sent(&control, 0, 0, now_us);
	}
}

/* Events come at any time; each wake-up by the deadline has work, and none is missed. */
static void random_life(bool is_dec)
{
	uint64_t now_us = START_US;
	bool has_flows = true, blocked = false;

	setup_talking(is_dec);
	for (int i = 0; i < 100000 && checks_failed == 0; i++) {
		uint64_t deadline_us = control_deadline_us(&control, has_flows, blocked);
		uint64_t event_us = now_us + random_below(1U << random_below(27));
		bool is_dead;

		if (!CHECK(deadline_us > now_us))
			return;
		now_us = min_u64(deadline_us, event_us);
		is_dead = control_is_dead(&control, now_us);
		if (deadline_us <= event_us && !is_dead)
			CHECK(send_urgent(has_flows, now_us) >= PING_SIZE);
		CHECK(!is_dead || now_us == deadline_us);
		if (is_dead)
			setup_talking(is_dec);
		if (is_dead)
			now_us = START_US;
		has_flows = random_below(3) > 0;
		blocked = random_below(3) == 0;
		control.time_wanted = !blocked && random_below(2) > 0;
		random_event(now_us);
		if (!blocked)
			send_urgent(has_flows, now_us);
	}
}

static void random_lives(void)
{
	random_life(false);
	random_life(true);
}

/* --- two sides talk to each other ---------------------------------------------------------- */

/* One of the two, with the stream that it writes. */
struct side {
	struct control control;
	size_t written, read; /* bytes of our stream, and of them those that the other has read */
	size_t frame_start;   /* where in our stream the other is to read the next frame */
	uint8_t stream[1 << 20];
};

static struct side enc, dec;

static void setup_sides(void)
{
	enc.written = enc.read = enc.frame_start = 0;
	dec.written = dec.read = dec.frame_start = 0;
	control_init(&enc.control, false, true, START_US);
	control_init(&dec.control, true, true, START_US);
}

static void write_bytes(struct side *side, const uint8_t *bytes, size_t size)
{
	if (!CHECK(size <= sizeof(side->stream) - side->written))
		exit(EXIT_FAILURE);
	memcpy(side->stream + side->written, bytes, size);
	side->written += size;
}

/* A turn's end: what is due before data, `frames` data frames of 100 bytes, and what is due after.
 */
static size_t write_turn(struct side *side, bool has_flows, size_t frames, uint64_t now_us)
{
	size_t before = side->written, size;
	size_t unanswered;
	uint8_t frame[100] = {0};

	write_bytes(side, urgent, put_urgent(&side->control, has_flows, now_us));
	unanswered = ack_size;
	frame_put_header(frame, FRAME_DATA, UINT16_MAX, sizeof(frame) - FRAME_HEADER_SIZE);
	for (size_t i = 0; i < frames; i++)
		write_bytes(side, frame, sizeof(frame));
	for (; (size = control_closes(&side->control, closes)) > 0; unanswered = 0)
		write_bytes(side, closes, size);
	size = side->written - before;
	control_sent(&side->control, size, frames > 0 ? 0 : unanswered, now_us);
	return size;
}

/* Takes the next frame, if it was read whole. */
static bool read_frame(struct side *reader, struct side *writer)
{
	char error[CONTROL_ERROR_SIZE] = "";
	const uint8_t *p = writer->stream + writer->frame_start;
	size_t available = writer->read - writer->frame_start;
	struct frame frame = {.kind = FRAME_CONTROL, .payload = p + FRAME_HEADER_SIZE};

	if (available < FRAME_HEADER_SIZE)
		return false;
	frame.type = le16_load(p + 4);
	frame.length = le16_load(p + 6);
	if (available < FRAME_HEADER_SIZE + (size_t)frame.length)
		return false;
	writer->frame_start += FRAME_HEADER_SIZE + (size_t)frame.length;
	if (p[3] == 'T') {
		control_data_frame(&reader->control, frame.tag);
		return true;
	}
	if (!CHECK(control_accept(&reader->control, &frame, error)))
		printf("# %s\n", error);
	if (frame.type == CONTROL_CLOSE && reader->control.is_dec)
		control_close(&reader->control, le16_load(frame.payload));
	return true;
}

/* Reads at most `most` bytes of what the other has written. Returns how many. */
static size_t read_turn(struct side *reader, struct side *writer, size_t most, uint64_t now_us)
{
	size_t size = min_size(most, writer->written - writer->read);

	if (size == 0)
		return 0;
	writer->read += size;
	control_heard(&reader->control, now_us);
	while (read_frame(reader, writer))
		;
	control_consumed(&reader->control, writer->read, writer->read - writer->frame_start);
	return size;
}

/* Turns until nothing is read or written any more. Returns how many. */
static size_t talk(size_t most, bool has_flows, uint64_t now_us)
{
	for (size_t turns = 0; turns < TURNS_MAX; turns++) {
		size_t bytes = read_turn(&dec, &enc, most, now_us);

		bytes += write_turn(&dec, has_flows, 0, now_us);
		bytes += read_turn(&enc, &dec, most, now_us);
		bytes += write_turn(&enc, has_flows, 0, now_us);
		if (bytes == 0)
			return turns;
	}
	CHECK(false); /* no end in sight */
	return TURNS_MAX;
}

static bool owes(const struct side *side)
{
	return side->control.acked < side->control.owed;
}

static void talk_comes_to_an_end(void)
{
	setup_sides();
	write_turn(&enc, true, 1, START_US);
	CHECK_NUMBER(talk(SIZE_MAX, true, START_US), 2);
	CHECK(control_is_on(&enc.control) && control_is_on(&dec.control));
	CHECK(!owes(&enc) && !owes(&dec));
	CHECK_NUMBER(enc.written, 100 + HELLO_SIZE + CONTROL_ACK_SIZE);
	CHECK_NUMBER(dec.written, HELLO_SIZE + 2 * CONTROL_ACK_SIZE);
	CHECK(control_deadline_us(&enc.control, false, false) == UINT64_MAX);
	CHECK(control_deadline_us(&dec.control, false, false) == UINT64_MAX);
}

static void talk_with_data(void)
{
	setup_sides();
	for (int i = 0; i < 100; i++) {
		write_turn(&enc, true, 1 + random_below(3), START_US);
		write_turn(&dec, true, random_below(3), START_US);
		CHECK(talk(SIZE_MAX, true, START_US) <= 3);
		CHECK(!owes(&enc) && !owes(&dec));
	}
}

static void talk_in_pieces(void)
{
	for (size_t most = 1; most < 300 && checks_failed == 0; most++) {
		setup_sides();
		write_turn(&enc, true, 2, START_US);
		talk(most, true, START_US);
		CHECK(control_is_on(&enc.control) && control_is_on(&dec.control));
		CHECK(!owes(&enc) && !owes(&dec));
		write_turn(&dec, true, 2, START_US);
		talk(most, true, START_US);
		CHECK(!owes(&enc) && !owes(&dec));
		for (uint16_t tag = 1; tag <= 3; tag++)
			control_close(&enc.control, tag);
		CHECK(talk(most, true, START_US) > 0);
		CHECK(!owes(&enc) && !owes(&dec));
	}
}

static void talk_of_closes(void)
{
	setup_sides();
	write_turn(&enc, true, 1, START_US);
	talk(SIZE_MAX, true, START_US);
	for (uint16_t tag = 0; tag < 1000; tag++)
		control_close(&enc.control, tag);
	CHECK_NUMBER(write_turn(&enc, false, 0, START_US), 1000 * CONTROL_CLOSE_SIZE);
	CHECK_NUMBER(read_turn(&dec, &enc, SIZE_MAX, START_US), 1000 * CONTROL_CLOSE_SIZE);
	CHECK_NUMBER(
		write_turn(&dec, false, 0, START_US), 1000 * CONTROL_CLOSE_SIZE + CONTROL_ACK_SIZE);
	CHECK(talk(SIZE_MAX, false, START_US) <= 3);
	CHECK(!owes(&enc) && !owes(&dec));
}

/* A frame every millisecond, for half a second, and its ACKs; then nothing more. */
static void talk_with_times(void)
{
	uint64_t now_us = START_US, read_us = 0;

	setup_sides();
	enc.control.time_wanted = dec.control.time_wanted = true;
	for (int i = 0; i < 1000; i++) {
		write_turn(&enc, false, i < 500, now_us);
		if (i < 500)
			read_us = now_us + 1;
		read_turn(&dec, &enc, SIZE_MAX, now_us + 1);
		write_turn(&dec, false, 0, now_us + 1);
		read_turn(&enc, &dec, SIZE_MAX, now_us + 2);
		CHECK_NUMBER(enc.control.has_far_time, true);
		now_us += US_PER_MS;
	}
	CHECK(!owes(&enc) && !owes(&dec));
	CHECK_NUMBER(enc.control.far_us, (uint32_t)read_us);
	CHECK(dec.written >= HELLO_SIZE + 100 * TIMED_ACK_SIZE);
	CHECK(dec.written <= HELLO_SIZE + 102 * TIMED_ACK_SIZE);
	CHECK(enc.written <= 500 * 100 + HELLO_SIZE + 4 * TIMED_ACK_SIZE);
	CHECK(enc.written > 500 * 100 + HELLO_SIZE + TIMED_ACK_SIZE);
	CHECK(control_deadline_us(&enc.control, false, false) == UINT64_MAX);
	CHECK(control_deadline_us(&dec.control, false, false) == UINT64_MAX);
}

/* With flows, and nothing to carry: a PING and its answer every 15 s, from each side at most. */
static void an_hour_of_flows(void)
{
	const uint64_t end_us = START_US + 3600 * (uint64_t)US_PER_SECOND;
	uint64_t now_us = START_US;
	size_t wakes = 0;

	setup_sides();
	write_turn(&enc, true, 1, now_us);
	talk(SIZE_MAX, true, now_us);
	for (; now_us < end_us; wakes++) {
		uint64_t deadline_us = min_u64(control_deadline_us(&enc.control, true, false),
			control_deadline_us(&dec.control, true, false));

		if (!CHECK(deadline_us > now_us) || !CHECK(deadline_us <= now_us + PING_US))
			return;
		now_us = deadline_us;
		CHECK(!control_is_dead(&enc.control, now_us));
		CHECK(!control_is_dead(&dec.control, now_us));
		CHECK(talk(SIZE_MAX, true, now_us) > 0);
	}
	CHECK(wakes <= 2 * 3600 / 15);
}

int main(void)
{
	test("before data comes there is nothing to say", nothing_before_data);
	test("dec says HELLO after a first data frame of tag 65535", dec_knows_by_the_first_tag);
	test("dec says nothing after a first data frame of another tag",
		dec_says_nothing_to_others);
	test("dec says nothing without a way back", dec_without_a_way_back);
	test("dec that may not say HELLO says nothing though it got one",
		dec_that_may_not_say_hello);
	test("dec that got HELLO first says it after tag 65535", dec_that_got_hello_first);
	test("a recording with ACK, CLOSE and PING is accepted and not answered", recording);
	test("dec says HELLO once", dec_says_hello_once);
	test("before HELLO is answered there is no PING and nobody is dead", dec_before_the_answer);
	test("enc says nothing before it got HELLO", enc_waits_for_hello);
	test("enc says HELLO once", enc_answers_once);
	test("enc says HELLO though data came right behind the one it got",
		data_right_behind_hello);
	test("enc says nothing without a way back", enc_without_a_way_back);
	test("HELLO of a later version with more in it is HELLO", hello_of_the_future);
	test("in a new stream all begins anew", new_stream);

	test("ACK says how many bytes were read, little-endian", ack_bytes);
	test("there is one ACK a turn, of all that was read", one_ack_a_turn);
	test("any frame but ACK and TIME, and a long part of one, is acknowledged",
		what_is_acknowledged);
	test("a part that may be that of TIME and ACK is not acknowledged",
		part_that_may_be_an_ack);
	test("a frame is acknowledged whatever part comes behind it", part_behind_a_frame);
	test("an ACK is not acknowledged", acks_are_not_acknowledged);
	test("1024 bytes are acknowledged, even if all were ACKs", many_acks);
	test("an ACK of what was not sent, or of less than before, is refused",
		ack_within_what_was_sent);
	test("an ACK may be of terabytes", ack_of_a_long_stream);

	test("TIME says when what ACK tells was read, little-endian", time_bytes);
	test("while frames wait there is an ACK every 5 ms at most", acks_wait_for_each_other);
	test("ACKs wait only while frames do", acks_wait_while_loaded);
	test("PING does not wait for an ACK", ping_does_not_wait);
	test("TIME and ACK are not owed", time_and_ack_are_not_owed);
	test("a far time is that of the ACK behind it, which has none without", far_time);
	test("a far time is forgotten with its stream", far_time_of_another_stream);

	test("CLOSE says which tag, in the order of closing", close_bytes);
	test("CLOSE is said once, however often it is due", close_once);
	test("CLOSE is due only once both have said HELLO", close_before_hello);
	test("CLOSE can be due again when it was said", close_again);
	test("tags next to each other are closed each for itself", close_neighbours);
	test("CLOSE is said 64 times at once", close_some_at_a_time);
	test("what is still due is not due twice", close_what_is_still_due);
	test("all tags can be closed at once", close_all);

	test("no control frame may come before HELLO", nothing_before_hello);
	test("a body that is too short is refused", short_bodies);
	test("what a body has too much is ignored", long_bodies);
	test("after HELLO unknown types are ignored", unknown_types);

	test("without flows, and nothing owed, there is no PING", nothing_owed_is_silence);
	test("with flows PING comes after 15 s", ping_with_flows);
	test("while something is owed PING comes after 15 s", ping_while_owed);
	test("the 15 s begin when something was sent last", ping_after_what_was_sent_last);
	test("HELLO, PING, TIME and ACK may be due at once", all_at_once);
	test("who owes something and is silent for 45 s is dead", dead_after_silence);
	test("the 45 s begin when something is owed", silence_begins_when_something_is_owed);
	test("the 45 s begin anew with each byte heard", anything_heard_ends_silence);
	test("who owes nothing is never dead", nothing_owed_is_never_dead);
	test("an ACK alone is not owed", acks_alone_do_not_count);
	test("an ACK behind another is not owed", acks_in_a_row);
	test("an ACK behind a PING is not owed", ack_behind_a_ping);
	test("what is as long as an ACK is owed", what_is_as_long_as_an_ack);
	test("what is owed is owed though ACKs follow", acks_after_what_is_owed);
	test("who has not said HELLO is never dead", never_dead_without_hello);
	test("while the pipe is blocked only death can come", blocked_pipe);

	test("a far side of flows that goes silent is found dead in time", dead_far_side_of_flows);
	test("a far side that owes something and goes silent is found dead in time",
		dead_far_side_that_owes);
	test("a far side that answers each PING lives for ever", far_side_that_answers_pings);
	test("a far side that does not read lives as long as it sends", far_side_that_only_sends);
	test("each deadline is later than now and finds something to do", random_lives);

	test("two sides fall silent when all is said", talk_comes_to_an_end);
	test("two sides that exchange data owe each other nothing in the end", talk_with_data);
	test("two sides fall silent when frames are cut into reads of any size", talk_in_pieces);
	test("every CLOSE is answered", talk_of_closes);
	test("two sides that tell each other times fall silent when all is said", talk_with_times);
	test("an hour of idle flows costs a PING and an ACK every 15 s", an_hour_of_flows);
	return tests_end();
}
