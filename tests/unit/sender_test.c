/*
 * The sender writes to a real decoder. After each write, whatever was cut where, the decoder has
 * seen exactly the frames that are counted, whole and in the order of their flow, and is inside a
 * frame if the sender says so. Every frame that was added has left, waits or is counted as dropped.
 *
 * Most tests are transcripts. Their steps are between ';'. What is behind ':' is what the far side
 * has seen of the write: names of control frames (but TIME, which comes before each ACK), and tags
 * of data frames.
 *
 *	enc LATENCY       a sender with this latency, and a stream; so is dec
 *	stream, one-way   a new one
 *	meet RTT          enc; the far side acknowledges, and has acknowledged all
 *	add TAG SIZE N    a run of N frames
 *	write: SEEN       one write
 *	cut BYTES: SEEN   the same, of which only that much leaves
 *	writes: SEEN      writes until there is nothing to write
 *	data TAG          such a frame has come; so have hello and ping
 *	ack BYTES         the far side acknowledges all but that much
 *	room BYTES        the pipe seems to have so much room
 *	close TAG, hold, drop, hurry, wait US
 *	NAME NUMBER       what value_of() tells
 */
#include "sender.h"

#include "check.h"
#include "util.h"

#define NEVER UINT64_MAX
#define ALL SIZE_MAX
#define FLOWS_MAX 8
#define IS(name) (strcmp(word, name) == 0)

static struct control control;
static struct counters counters;
static struct sender sender;
static struct decoder decoder; /* of the far side */
static uint64_t now_us;
static size_t pipe_room, frames_size;
static uint8_t frames[8 << 20]; /* that the sender borrows */
static char seen[4096];

static struct {
	uint64_t frames, seen_frames, seen_bytes;
	uint64_t next[FLOWS_MAX], next_seen[FLOWS_MAX]; /* numbers of frames in their flow */
} count;

static void see(const struct frame *frame)
{
	static const char *const names[] = {"?", "HELLO", "ACK", "CLOSE", "PING"};
	size_t used = strlen(seen);
	uint64_t number = le64_load(frame->payload);

	if (frame->kind == FRAME_CONTROL && frame->type == CONTROL_TIME)
		return;
	if (frame->kind == FRAME_CONTROL) {
		snprintf(seen + used, sizeof(seen) - used, " %s", names[frame->type]);
		return;
	}
	snprintf(seen + used, sizeof(seen) - used, " %u", frame->tag);
	for (uint16_t i = 8; i < frame->length; i++)
		check_that(frame->payload[i] == (uint8_t)(number + i), "byte %u is damaged", i);
	CHECK(number >= count.next_seen[frame->tag]);
	count.next_seen[frame->tag] = number + 1;
	count.seen_frames++;
}

static void read_bytes(const uint8_t *bytes, size_t size)
{
	struct frame frame;

	count.seen_bytes += size;
	for (size_t part, room; size > 0; bytes += part, size -= part) {
		uint8_t *to = decoder_room(&decoder, &room);

		part = min_size(size, room);
		memcpy(to, bytes, part);
		decoder_filled(&decoder, part);
		while (decoder_next(&decoder, &frame) == DECODER_FRAME)
			see(&frame);
	}
}

static void hear(uint16_t type, uint64_t number)
{
	char error[CONTROL_ERROR_SIZE];
	uint8_t payload[8];

	le64_store(payload, number);
	control_bytes_read(&control, now_us);
	CHECK(control_accept(&control,
		&(struct frame){FRAME_CONTROL, {type}, sizeof(payload), payload, 0}, error));
}

static void begin_stream(bool is_dec, bool has_way_back)
{
	control_init(&control, is_dec, 1, has_way_back, now_us);
	decoder_init(&decoder);
	sender_begin_stream(&sender);
	counters.value[STREAM_OUT_BYTES] = count.seen_bytes = 0;
}

static void begin(bool is_dec, uint64_t latency_us)
{
	sender_free(&sender);
	memset(&sender, 0, sizeof(sender));
	memset(&counters, 0, sizeof(counters));
	memset(&count, 0, sizeof(count));
	frames_size = 0;
	now_us = 5 * US_PER_SECOND;
	pipe_room = ALL;
	CHECK(sender_init(&sender, &control, &counters, latency_us));
	begin_stream(is_dec, true);
}

static void add(uint16_t tag, size_t size, size_t frame_count)
{
	struct frame_run run = {frames + frames_size, size * frame_count, frame_count};

	for (; frame_count-- > 0; frames_size += size) {
		uint8_t *frame = frames + frames_size;
		uint64_t number = count.next[tag]++;

		frame_put_header(frame, FRAME_DATA, tag, (uint16_t)(size - FRAME_HEADER_SIZE));
		le64_store(frame + FRAME_HEADER_SIZE, number);
		for (size_t i = 8; i < size - FRAME_HEADER_SIZE; i++)
			frame[FRAME_HEADER_SIZE + i] = (uint8_t)(number + i);
		count.frames++;
	}
	sender_add(&sender, &run, size);
}

/* At most that many bytes leave. Returns whether there may be more to write. */
static bool write_once(size_t most)
{
	struct iovec pieces[SENDER_PIECES_MAX];
	int piece_count = sender_gather(&sender, pipe_room, now_us, pieces);
	size_t size = 0, left = 0;
	uint64_t gone = 0;

	for (int i = 0; i < piece_count; i++) {
		size_t part = min_size(pieces[i].iov_len, most - left);

		read_bytes(pieces[i].iov_base, part);
		size += pieces[i].iov_len;
		left += part;
	}
	if (piece_count > 0)
		sender_settle(&sender, left, now_us);
	frames_size = 0;
	sender_update_counters(&sender);
	for (enum counter cause = FIRST_DROP; cause < COUNTERS; cause++)
		gone += counters.value[cause];
	CHECK_NUMBER(gone + counters.value[FRAMES_OUT] + counters.value[QUEUED], count.frames);
	CHECK_NUMBER(counters.value[FRAMES_OUT], count.seen_frames);
	CHECK_NUMBER(counters.value[STREAM_OUT_BYTES], count.seen_bytes);
	CHECK_NUMBER(sender_has_queue(&sender), queue_frames(sender_queue(&sender)) > 0);
	CHECK_NUMBER(sender_is_inside_frame(&sender), decoder_part(&decoder) > 0);
	return piece_count > 0 && left == size;
}

/* --- the interpreter -------------------------------------------------------------------------- */

static uint64_t value_of(const char *word)
{
	uint64_t deadline_us = sender_deadline_us(&sender, now_us);
	enum counter counter = UDP_IN;

	if (IS("deadline")) /* so far away; 0: there is none */
		return deadline_us < NEVER ? deadline_us - now_us : 0;
	if (IS("owed")) /* the far side is to acknowledge something */
		return control_deadline_us(&control, false) < NEVER;
	if (IS("pipe"))
		return sender_pipe_size(&sender);
	if (IS("window"))
		return sender_has_window(&sender);
	if (IS("empty"))
		return sender_is_empty(&sender);
	sender_update_counters(&sender);
	while (!IS(counter_key(counter)))
		counter++;
	return counters.value[counter];
}

static void run(const char *transcript);

static void meet(uint64_t rtt_us)
{
	run("enc 5000; add 0 1000 1; writes: 0; hello; writes: HELLO ACK; ack; writes:; rtt_us 0;"
	    "wait 1000000; add 0 1000 1; writes: 0");
	now_us += rtt_us;
	run("ack; writes:; in_flight 0");
	CHECK_NUMBER(value_of("rtt_us"), rtt_us);
}

static bool act(const char *word, const unsigned long long n[3])
{
	if (IS("enc") || IS("dec"))
		begin(IS("dec"), n[0]);
	else if (IS("meet"))
		meet(n[0]);
	else if (IS("stream") || IS("one-way"))
		begin_stream(false, IS("stream"));
	else if (IS("cut"))
		write_once((size_t)n[0]);
	else if (IS("write"))
		write_once(ALL);
	else if (IS("writes"))
		while (write_once(ALL))
			continue;
	else if (IS("add"))
		add((uint16_t)n[0], (size_t)n[1], (size_t)n[2]);
	else if (IS("data"))
		control_data_frame(&control, (uint16_t)n[0]);
	else if (IS("hello") || IS("ping"))
		hear(IS("hello") ? CONTROL_HELLO : CONTROL_PING, 1);
	else if (IS("ack"))
		hear(CONTROL_ACK, control_sent_bytes(&control) - n[0]);
	else if (IS("room"))
		pipe_room = (size_t)n[0];
	else if (IS("close"))
		sender_close_flow(&sender, (uint16_t)n[0], now_us);
	else if (IS("hold"))
		sender_hold(&sender, now_us);
	else if (IS("drop"))
		sender_drop_all(&sender, now_us);
	else if (IS("hurry"))
		sender_disable_window(&sender);
	else if (IS("wait"))
		now_us += n[0];
	else
		return false;
	return true;
}

static void run(const char *transcript)
{
	char step[128], word[24];

	for (int used; sscanf(transcript, "%127[^;]%n", step, &used) == 1; transcript += used) {
		const char *wanted = strchr(step, ':');
		unsigned long long n[3] = {0};

		sscanf(step, " %23[a-z_-] %llu %llu %llu", word, &n[0], &n[1], &n[2]);
		seen[0] = '\0';
		if (!act(word, n))
			check_number(value_of(word), n[0], step, __FILE__, __LINE__);
		if (wanted)
			check_text(seen, wanted + 1, step, __FILE__, __LINE__);
		used += transcript[used] == ';';
	}
}

static const struct example {
	const char *name, *transcript;
} examples[] = {
	{"the rest of a frame leaves first, then control frames, then others",
		"meet 20000; add 1 1000 2; add 2 1000 1; cut 1500: 1; ping; close 7; add 3 1000 1;"
		"cut 499:; cut 20: 1; wait 5000; write: ACK CLOSE 2 3; empty 1;"
		"enc 0; add 1 1000 3; cut 500:; room 1500; write: 1 1; write: 1"},
	{"control frames that were cut leave before new ones are made",
		"meet 20000; ping; wait 100000; cut 5:; empty 0; queued 0; ping; add 1 1000 1;"
		"write: ACK 1; write:; wait 99999; write:; wait 1; write: ACK; empty 1"},
	{"an ACK waits for frames to leave with, also for those that wait themselves",
		"meet 20000; ping; write:; add 1 1000 1; write: ACK 1; wait 5000; ping; write:;"
		"add 1 1000 1; hold; write: ACK 1; ping; wait 99999; write:; wait 1; write: ACK"},
	{"an ACK is not acknowledged itself, unless something follows it",
		"meet 20000; ping; wait 100000; write: ACK; in_flight 0; owed 0; ping;"
		"add 1 1000 1; wait 5000; write: ACK 1; in_flight 1032; owed 1; ack; writes:;"
		"in_flight 0; owed 0; ping; wait 100000; write: ACK; add 1 1000 1; write: 1; ack "
		"10; writes:; in_flight 10;"
		"meet 20000; close 7; write: CLOSE; in_flight 10; owed 1"},
	{"a far side that may acknowledge gets 4 KiB and a little, and after 0.9 s all",
		"enc 5000; window 1; deadline 0; add 1 1000 4; writes: 1 1 1 1; pipe 0;"
		"add 1 2600 2; wait 1000; writes: 1; add 2 96 2; writes: 2; deadline 899000; wait "
		"898999;"
		"writes:; wait 1; writes: 2 1; deadline 0; add 3 1000 10;"
		"writes: 3 3 3 3 3 3 3 3 3 3; in_flight 0; rate 0; rtt_us 0;"
		"enc 5000; add 1 1024 4; room 3000; write: 1 1 1 1;"
		"enc 5000; add 1 1025 4; room 3000; write: 1 1;"
		"enc 5000; add 1 4096 2; cut 0:; wait 50000; write: 1; deadline 900000"},
	{"a far side that never acknowledges gets all at once",
		"dec 5000; data 0; pipe 65536; add 1 1000 9; writes: 1 1 1 1 1 1 1 1 1; deadline 0;"
		"enc 0; window 0; pipe 0; add 1 1000 9; writes: 1 1 1 1 1 1 1 1 1; in_flight 0;"
		"enc 5000; one-way; window 0; pipe 0"},
	{"what may not be written waits in a queue of 4 MiB; meanwhile ACKs are heard",
		"enc 0; add 1 1000 1; add 2 1000 2; hold; empty 0; queued 3; room 2000; write: 1 2;"
		"write: 2; empty 1; add 1 1000 3; cut 1000: 1; queued 2; writes: 1 1;"
		"add 1 60000 70; hold; queued 69; drop_queue_full 1; meet 20000; add 1 1000 1;"
		"write: 1; wait 40000; ack; hold; wait 90000; writes:; rtt_us 22500"},
	{"of a flow that is closed only the frame that has begun still leaves",
		"meet 20000; add 1 1000 2; cut 500:; add 1 1000 3; add 2 1000 1; close 1;"
		"drop_stale 4; writes: 1 CLOSE 2; enc 0; close 1; add 2 1000 1; writes: 2"},
	{"a new stream keeps the frames that wait, and nothing else",
		"enc 0; add 1 1000 4; cut 500:; queued 4; stream; drop_pipe_closed 1; queued 3;"
		"writes: 1 1 1; meet 20000; ping; cut 5:; stream; drop_pipe_closed 0; writes:;"
		"meet 20000; stream; pipe 0; add 1 4096 4; writes: 1; deadline 900000; hello;"
		"ack; writes: HELLO ACK 1; rtt_us 0; meet 20000; stream; room 1;"
		"add 1 2000 9; hold; wait 5000; write: 1; wait 500000; write: 1; drop_codel 0"},
	{"what waits at the end is dropped and counted",
		"enc 0; add 1 1000 4; cut 500:; add 2 1000 2; wait 9000000; drop;"
		"drop_pipe_closed 6; empty 1; queued 0"},
	{"frames get stale after a second, unless nothing limits the pipe",
		"enc 5000; add 1 2000 3; hold; wait 1000000; room 1; write: 1; wait 1; write:;"
		"drop_stale 2; enc 0; add 1 1000 3; hold; wait 9000000; write: 1 1 1; meet 20000;"
		"add 1 1000 3; hold; hurry; window 0; deadline 0; wait 9000000; write: 1 1 1"},
	{"CoDel's target is 5 ms for 100 ms, or a twentieth of two round trips",
		"meet 20000; room 1; add 1 2000 9; hold; wait 5000; write: 1; wait 99999; write: 1;"
		"drop_codel 0; wait 1; write: 1; drop_codel 1;"
		"meet 20000; room 1; add 1 2000 9; hold; wait 4999; write: 1; wait 100000;"
		"write: 1; drop_codel 0;"
		"meet 200000; room 1; add 1 2000 9; hold; wait 20000; write: 1; wait 399999;"
		"write: 1; drop_codel 0; wait 1; write: 1; drop_codel 1;"
		"meet 200000; room 1; add 1 2000 9; hold; wait 19999; write: 1; wait 400000;"
		"write: 1; drop_codel 0"},
	{"a flow that sends little may use a quarter and 1500 bytes more than the window",
		"meet 20000; add 1 1000 30; writes: 1 1 1 1 1; in_flight 5000; deadline 0;"
		"add 2 1619 1; writes: 2; add 3 16 1; writes: 3; add 4 16 1; writes:;"
		"meet 20000; add 1 1000 30; writes: 1 1 1 1 1; add 2 1620 1; writes: 2;"
		"add 3 16 1; writes:; enc 5000; add 1 1000 9; writes: 1 1 1 1 1; add 2 16 1;"
		"writes: 2"},
};

static const struct example *example;

static void run_example(void)
{
	run(example->transcript);
}

/* So many round trips, in a pipe with this rate. Returns when there is more to write. */
static uint64_t pass(int times, size_t frame_size, uint64_t bytes_per_us)
{
	uint64_t deadline_us = NEVER;

	for (; times > 0 && deadline_us == NEVER; times--) {
		add(1, frame_size, 1000000 / frame_size);
		run("writes");
		now_us += 200 + counters.value[IN_FLIGHT] / bytes_per_us;
		run("ack; writes");
		deadline_us = sender_deadline_us(&sender, now_us);
	}
	return deadline_us;
}

static void pipe_size(void)
{
	run("meet 20000; pipe 8192");
	pass(50, 1000, 100);
	CHECK_NUMBER(sender_pipe_size(&sender), 64 * 1024);
	pass(1, 2200, 100);
	CHECK_NUMBER(sender_pipe_size(&sender), 32 * 2200);
	pass(1, 60000, 100);
	CHECK_NUMBER(sender_pipe_size(&sender), counters.value[RATE] / 1000);
	run("meet 20000");
	now_us = pass(200, 1000, 10) - 1;
	run("writes:; wait 1; writes");
	CHECK(seen[0]);
}

static void soak(void)
{
	static const char *const steps[] = {"ack", "data 65535", "close %u", "hold", "ping",
		"add %u %u 1", "add %u %u 3", "add %u 6%04u 1", "wait %u%03u", "room %u%04u",
		"cut %u%03u", "cut %u", "write", "write", "writes"};

	for (int i = 0; i < 50000; i++) {
		char step[64];

		if (i % 1000 == 0) {
			begin(i % 2000 == 0, random_below(2) * 5000);
			run("hello");
		}
		snprintf(step, sizeof(step), steps[random_below(ARRAY_SIZE(steps))],
			random_below(FLOWS_MAX), 16 + random_below(2000));
		run(step);
	}
}

int main(void)
{
	for (example = examples; example < examples + ARRAY_SIZE(examples); example++)
		test(example->name, run_example);
	test("the pipe is to hold what is read in a millisecond, and frames leave at a pace",
		pipe_size);
	test("wherever writes are cut, frames arrive whole, in order, and are counted", soak);
	return tests_end();
}
