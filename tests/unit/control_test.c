/*
 * Most tests are transcripts: what one side reads, what it is to say then, and what it knows.
 * These are the steps, with ';' between them:
 *
 *	enc, dec, enc one-way...  a stream begins in each direction; enc 3: for three services
 *	ready                     enc, and both have said HELLO; 26 bytes were read, 26 have left
 *	< FRAME...                these frames come; all that has come is read at once
 *	<N FRAME...               these frames come; N bytes are read
 *	< FRAME... !TEXT          the last of them is refused with this error
 *	> FRAME...                control_gather() puts exactly these, and they leave at once; data
 *	                          frames leave behind them. ACK stands for TIME, as it has to be,
 *and ACK. An ACK that is not the first leaves 0.1 s later.
 *	>> FRAME...               the same without the 0.1 s
 *	put FRAME...              the same, but nothing leaves
 *	leave N/M                 N bytes leave, the last M of them an ACK with nothing behind it
 *	flows 1                   there are flows
 *	close TAG, end, +SECONDS  CLOSE becomes due, the input ends, time goes by
 *
 * Any other step is a part of what check_known() tells. FRAME is NAME[:LENGTH] [NUMBER]: LENGTH is
 * that of an unusual body; NUMBER is what the body says, the tag of DATA, or the type of TYPE.
 */
#include "control.h"

#include <inttypes.h>

#include "check.h"
#include "util.h"

enum {
	STREAM_MAX = 1 << 20,
	SILENCE_US = 45 * US_PER_SECOND,
};

/* A time of which TIME says 0, as it has 32 bits only. */
#define START_US (5ULL << 32)

/* Who reads `stream`. The first `read` bytes were read, `come` are there. */
struct side {
	struct control control;
	struct decoder decoder;
	size_t come, read;
	uint64_t read_us; /* when it read last */
	bool has_acked;
	uint8_t stream[STREAM_MAX];
};

static struct side me;        /* of a transcript */
static struct side enc, dec;  /* they talk to each other */
static bool is_closing[TAGS]; /* enc has asked, dec has not answered */
static uint64_t now_us;

/* --- the interpreter ------------------------------------------------------------------------ */

static const struct name {
	const char *name;
	uint16_t type, length;
} names[] = {
	{"HELLO", 1, 2}, {"ACK", 2, 8}, {"CLOSE", 3, 2}, {"PING", 4, 0}, {"TIME", 5, 8},
	{"TYPE", 0, 0}, /* any other */
	{"DATA", 0, 5}, /* with that tag */
	{NULL, 0, 0},   /* no such frame */
};

/* Writes the frames of `text`. Returns their size. */
static size_t encode(const char *text, uint8_t *bytes)
{
	size_t size = 0;
	char name[8], *end;
	int used;

	while (sscanf(text, " %7[A-Z]%n", name, &used) == 1) {
		const struct name *known = names;
		unsigned long long length, number;

		while (known->name && strcmp(known->name, name) != 0)
			known++;
		CHECK(known->name);
		length = text[used] == ':' ? strtoull(text + used + 1, &end, 10) : known->length;
		number = strtoull(text[used] == ':' ? end : text + used, &end, 10);
		frame_put_header(bytes + size, *name == 'D' ? FRAME_DATA : FRAME_CONTROL,
			known->type > 0 ? known->type : (uint16_t)number, (uint16_t)length);
		le64_store(bytes + size + FRAME_HEADER_SIZE, number);
		size += FRAME_HEADER_SIZE + (size_t)length;
		text = end;
	}
	return size;
}

static void begin(struct side *side, bool is_dec, unsigned int services, bool has_way_back)
{
	side->come = side->read = 0;
	side->has_acked = false;
	decoder_init(&side->decoder);
	control_init(&side->control, is_dec, (uint16_t)services, has_way_back, now_us);
}

static void hear_close(struct side *side, uint16_t tag)
{
	if (side == &dec)
		control_close(&dec.control, tag);
	if (side == &enc && CHECK(is_closing[tag]))
		is_closing[tag] = false;
}

/* Reads `count` of the bytes that have come, at most. Returns the error, "" if there is none. */
static const char *hear(struct side *side, size_t count)
{
	static char error[CONTROL_ERROR_SIZE] = "no error";
	struct frame frame;
	size_t room, size = min_size(count, side->come - side->read);

	if (size == 0)
		return "";
	memcpy(decoder_room(&side->decoder, &room), side->stream + side->read, size);
	decoder_filled(&side->decoder, size);
	side->read += size;
	side->read_us = now_us;
	control_bytes_read(&side->control, now_us);
	while (decoder_next(&side->decoder, &frame) == DECODER_FRAME) {
		if (frame.kind == FRAME_DATA)
			control_data_frame(&side->control, frame.tag);
		else if (!control_accept(&side->control, &frame, error) ||
			 control_is_mismatch(&side->control, error))
			return error;
		else if (frame.type == CONTROL_CLOSE)
			hear_close(side, le16_load(frame.payload));
	}
	control_consumed(&side->control, side->read, decoder_part(&side->decoder));
	return "";
}

static void hear_text(char *text)
{
	char *wanted = strchr(text, '!'), *frames;
	size_t count = strtoul(text, &frames, 10);

	if (wanted)
		*wanted++ = '\0';
	me.come += encode(frames, me.stream + me.come);
	CHECK_TEXT(hear(&me, frames > text ? count : SIZE_MAX), wanted ? wanted : "");
}

/* Puts the TIME in front of an ACK of `text`. */
static void add_time(const char *text, char *full, size_t size)
{
	const char *ack = strstr(text, "ACK");
	uint64_t held_us = now_us - me.read_us;

	snprintf(full, size, "%.*s TIME %" PRIu64 " %s", (int)(ack - text), text,
		held_us << 32 | (uint32_t)me.read_us, ack);
}

static void say_text(char *text, bool leaves)
{
	uint8_t bytes[CONTROL_BYTES_MAX], wanted[CONTROL_BYTES_MAX];
	char full[256], *data = strstr(text, "DATA");
	size_t data_size = data ? encode(data, wanted) : 0;
	size_t size, ack_size = SIZE_MAX;

	if (data)
		*data = '\0';
	snprintf(full, sizeof(full), "%s", text);
	if (strstr(text, "ACK")) {
		me.has_acked = true;
		add_time(text, full, sizeof(full));
	}
	size = control_gather(&me.control, !data, now_us, bytes, &ack_size);
	if (CHECK_NUMBER(size, encode(full, wanted)))
		CHECK(memcmp(bytes, wanted, size) == 0);
	CHECK_NUMBER(ack_size, strstr(text, "ACK") && !strstr(text, "CLOSE") ? 32 : 0);
	if (leaves)
		control_sent(&me.control, size + data_size, data ? 0 : ack_size, now_us);
}

/* Before an ACK that is not the first. */
static void wait_for_ack(const char *text)
{
	if (me.has_acked && strstr(text, "ACK"))
		now_us += US_PER_SECOND / 10;
}

static const char *show_deadline(bool is_blocked, char text[static 32])
{
	uint64_t deadline_us = control_deadline_us(&me.control, is_blocked);

	if (deadline_us == UINT64_MAX)
		return "never";
	if (deadline_us <= now_us)
		return "now";
	snprintf(text, 32, "%.9g", (double)(deadline_us - now_us) / US_PER_SECOND);
	return text;
}

/* Whether `words` is a part of what is known; `blocked` is the deadline of a blocked pipe. */
static void check_known(const char *words)
{
	static const char *const peers[] = {"unknown", "plain", "acknowledges"};
	char known[256], spaced[256], time[32] = "none", open[32], blocked[32];
	uint32_t read_us, held_us;

	if (control_ack_time(&me.control, &read_us, &held_us))
		snprintf(time, sizeof(time), "%" PRIu32 "+%" PRIu32, read_us, held_us);
	snprintf(known, sizeof(known),
		" %s %s %s acked %" PRIu64 "/%" PRIu64 " time %s deadline %s blocked %s %s ",
		control_is_on(&me.control) ? "on" : "off", peers[control_peer(&me.control)],
		control_is_dead(&me.control, now_us) ? "dead" : "alive",
		control_acked_bytes(&me.control), control_sent_bytes(&me.control), time,
		show_deadline(false, open), show_deadline(true, blocked),
		control_waits_in_vain(&me.control) ? "waits-in-vain" : "fine");
	snprintf(spaced, sizeof(spaced), " %s ", words);
	CHECK_CONTAINS(known, spaced);
}

/* In pieces, as a size may have 32 bits only. */
static void leave(unsigned long long number, size_t unanswered)
{
	for (; number > INT32_MAX; number -= INT32_MAX)
		control_sent(&me.control, INT32_MAX, 0, now_us);
	control_sent(&me.control, (size_t)number, unanswered, now_us);
}

static void run_step(char *step)
{
	unsigned long long number, unanswered;
	unsigned int services = 1;
	double seconds;

	if (strncmp(step, "enc", 3) == 0 || strncmp(step, "dec", 3) == 0) {
		sscanf(step + 3, "%u", &services);
		begin(&me, *step == 'd', services, strstr(step, "one-way") == NULL);
	} else if (strcmp(step, "end") == 0)
		control_input_ended(&me.control);
	else if (*step == '<')
		hear_text(step + 1);
	else if (*step == '>') {
		if (step[1] != '>')
			wait_for_ack(step);
		say_text(step + 1 + (step[1] == '>'), true);
	} else if (strncmp(step, "put ", 4) == 0)
		say_text(step + 4, false);
	else if (sscanf(step, "leave %llu/%llu", &number, &unanswered) == 2)
		leave(number, (size_t)unanswered);
	else if (sscanf(step, "close %llu", &number) == 1)
		control_close(&me.control, (uint16_t)number);
	else if (sscanf(step, "flows %llu", &number) == 1)
		control_set_has_flows(&me.control, number);
	else if (sscanf(step, "+%lf", &seconds) == 1)
		now_us += (uint64_t)(seconds * US_PER_SECOND + 0.5);
	else
		check_known(step);
}

/* Ends at the first step that does not hold, and shows it. */
static void play(const char *steps)
{
	char step[128];
	int used;

	now_us = START_US;
	while (checks_failed == 0 && sscanf(steps, " %127[^;]%n", step, &used) == 1) {
		if (strcmp(step, "ready") == 0)
			play("enc; < HELLO 1; > HELLO 1 ACK 10; < ACK 26");
		else
			run_step(step);
		if (checks_failed > 0)
			printf("# at: %s\n", steps);
		steps += used + (steps[used] == ';');
	}
}

/* --- transcripts ---------------------------------------------------------------------------- */

static const struct scene {
	const char *name, *steps;
} scenes[] = {
	{"the example of uott(5) as enc sees it",
		"enc; > DATA 65535; < HELLO 1 TIME 0 ACK 13; > HELLO 1 ACK 42;"
		"< TIME 0 ACK 55 DATA 65535; > ACK 87; close 65535; > CLOSE 65535;"
		"< TIME 0 ACK 97 CLOSE 65535; > ACK 129; < TIME 0 ACK 97; >;"
		"on acknowledges alive acked 97/129 time 0+0 deadline never blocked never"},
	{"the example of uott(5) as dec sees it",
		"dec; < DATA 65535; > HELLO 1 ACK 13; < HELLO 1 TIME 0 ACK 42; > ACK 55 DATA 65535;"
		"< TIME 0 ACK 87; >; < CLOSE 65535; close 65535; > ACK 97 CLOSE 65535;"
		"< TIME 0 ACK 129; >;"
		"on acknowledges alive acked 129/129 time 0+0 deadline never blocked never"},
	{"dec says HELLO once, after a first data frame of tag 65535",
		"dec; off unknown; flows 1; >; < DATA 65535; off unknown; > HELLO 1 ACK 13;"
		"< DATA 0; > ACK 26; off; < HELLO 1; on unknown; > ACK 36; < HELLO 1; > ACK 46"},
	{"enc says HELLO once, when it has read one",
		"enc; flows 1; > DATA 65535; +60; >; off unknown alive; deadline never;"
		"< HELLO 1 DATA 65535; on unknown; > HELLO 1 PING ACK 23; < HELLO 1; > ACK 33"},
	{"a far side that is not one of ours hears nothing",
		"dec; < DATA 64511 DATA 65535; flows 1; close 1; +60; >; off plain alive;"
		"deadline never blocked never; dec; < DATA 0; off plain; >; dec; < DATA 255; >;"
		"enc; < DATA 65535; off plain; >; dec; < HELLO 1 DATA 0;"
		"flows 1; close 1; +60; >; off; deadline never"},
	{"who has several services says how many, in HELLO",
		"dec 3; < DATA 65533; > HELLO:4 196609 ACK 13; < HELLO:4 196609; on unknown;"
		"enc 3; < HELLO:4 196609; > HELLO:4 196609 ACK 12; on unknown;"
		"enc; < HELLO:4 65537; > HELLO 1 ACK 12; on unknown"},
	{"another number of services is a mismatch, and the far side hears of it",
		"dec 3; < DATA 65535; > HELLO:4 196609 ACK 13;"
		"< HELLO:4 131073 !the far side has 2 ports, this side 3 targets;"
		"enc 2; < HELLO:4 196609 !the far side has 3 targets, this side 2 ports;"
		"> HELLO:4 131073 ACK 0; dec; < DATA 64512; > HELLO 1 ACK 13;"
		"< HELLO:4 67108865 !the far side has 1024 ports, this side 1 target;"
		"enc 3; < HELLO 1 !the far side has 1 target, this side 3 ports; enc;"
		"< HELLO:4 1 !the far side has 0 targets, this side 1 port"},
	{"HELLO may come before or after data",
		"dec; < HELLO 1; off unknown; >; < DATA 65535; on unknown; close 3;"
		"> HELLO 1 ACK 23 CLOSE 3; dec; < DATA 65535 HELLO 1; > HELLO 1 ACK 23; enc;"
		"< DATA 65535; < HELLO 1; on unknown; > HELLO 1 ACK 23"},
	{"nothing is said without a way back",
		"dec one-way; < DATA 65535; flows 1; +60; >; off plain; < HELLO 1; >; off plain;"
		"deadline never; enc one-way; off plain; > DATA 65535; < HELLO 1; >; off plain"},
	{"a recording is read and not answered",
		"dec one-way; < DATA 65535 HELLO 1 TIME 7 ACK 26 CLOSE 5 PING ACK 3 TYPE 9;"
		"close 5; +60; >; off plain alive acked 0/0 time none;"
		"< ACK:7 !ACK of length 7, expected 8 or more"},
	{"an enc that waits for replies is noticed by a dec that sends none",
		"dec one-way; fine; < DATA 65535 DATA 0; waits-in-vain; dec one-way; < DATA 0; "
		"fine;"
		"dec; < DATA 65535; fine; enc one-way; < DATA 65535; fine"},
	{"until its HELLO is answered dec says ACK only, and is patient",
		"dec; flows 1; < DATA 65535; close 4; > HELLO 1 ACK 13 DATA 65535; +15; >; +45;"
		"off unknown alive; deadline never blocked never; < DATA 1; > ACK 26;"
		"< HELLO 1 ACK 39; > ACK 52; on acknowledges"},
	{"in a new stream all begins anew",
		"dec; < DATA 65535; enc; >; ready; flows 1; < DATA 1 TIME 7 ACK 26 TIME 8;"
		"close 5; end; dec; >; off unknown alive acked 0/0 time none deadline never;"
		"< DATA 65535; > HELLO 1 ACK 13; < HELLO 1 ACK 26; > ACK 39;"
		"on acknowledges alive acked 26/74 time none deadline never; close 5; > CLOSE 5"},
	{"no control frame may come before HELLO",
		"enc; < ACK 0 !a control frame of type 2 (ACK) before HELLO;"
		"< CLOSE 1 !a control frame of type 3 (CLOSE) before HELLO;"
		"< PING !a control frame of type 4 (PING) before HELLO;"
		"< TIME 1 !a control frame of type 5 (TIME) before HELLO;"
		"< TYPE 6 !a control frame of type 6 (unknown) before HELLO;"
		"< TYPE 65535 !a control frame of type 65535 (unknown) before HELLO; off"},
	{"a body that is too short is refused",
		"enc; < HELLO:1 1 !HELLO of length 1, expected 2 or more; off; ready;"
		"< ACK:7 26 !ACK of length 7, expected 8 or more;"
		"< CLOSE:1 1 !CLOSE of length 1, expected 2 or more;"
		"< TIME:3 1 !TIME of length 3, expected 4 or more; acked 26/42 time none"},
	{"what a body has too much is ignored, and so are later versions and unknown types",
		"enc; < HELLO:6 65538; > HELLO 1 ACK 14; on unknown; ready;"
		"< TIME:5 7 ACK:20 26 CLOSE:3 1 PING:1 TYPE 0 TYPE:9 6 TYPE 65535;"
		"on acknowledges alive acked 26/42 time 7+0; > ACK 120"},
	{"an ACK of what was not sent, or of less than before, is refused",
		"enc; < HELLO 1; > HELLO 1 ACK 10; < ACK 0; on unknown; < ACK 1; on acknowledges;"
		"< ACK 26; < ACK 43 !ACK of bytes that were not sent, or less than before;"
		"< ACK 25 !ACK of bytes that were not sent, or less than before; acked 26/42;"
		"leave 1099511627776/0; < ACK 1099511627818; acked 1099511627818/1099511627818"},
	{"any frame but ACK and TIME is answered by ACK",
		"ready; >; < PING; > ACK 34; >; < CLOSE 2; > ACK 44; < TYPE 6; > ACK 52; < DATA 1;"
		"> ACK 65; < HELLO 1; > ACK 75; < ACK 42; >; < TIME 1 ACK 42; >; < TIME 9;"
		"deadline never; >; < PING ACK 42 DATA 1 ACK 42; deadline 0.1; > ACK 192"},
	{"a part of a frame is answered if it is longer than TIME and ACK",
		"ready; <32 DATA:100 1; >; deadline never; <1; deadline 0.1; > ACK 59; <;"
		"> ACK 134; <10 TIME 5 ACK 58; >; <; >; time 5+0; <9 PING DATA 5; > ACK 175"},
	{"ACKs of 1024 bytes together are answered",
		"ready; < ACK:999 26; >; <1 ACK 26; deadline 0.005; > ACK 1034; <; >"},
	{"TIME belongs to the ACK behind it",
		"ready; time none; < TIME 7; time none; < ACK 26; time 7+0;"
		"< TIME 4294967295 ACK 26; time 4294967295+0; < TIME 21474836487 ACK 26; time 7+5;"
		"< TIME:7 21474836487 ACK 26; time 7+0; < ACK 26; time none"},
	{"an ACK leaves with frames, and alone 100 ms later",
		"ready; +1; < DATA 1; deadline 0.1 blocked never; >> ACK 39 DATA 1; < DATA 1;"
		"+0.099999; >>; deadline 1e-06; +0.000001; deadline now; >> ACK 52"},
	{"an ACK leaves alone 5 ms after 1000 bytes",
		"ready; +1; < DATA:974 1; deadline 0.1; +0.01; < PING; deadline now; >> ACK 1016;"
		"+1; < DATA:992 1; deadline 0.005; +0.004999; >>; +0.000001; >> ACK 2016"},
	{"an ACK leaves at most every 5 ms, but after 16 KiB at once",
		"ready; < DATA 1; +0.004999; >> DATA 1; +0.000001; >> ACK 39 DATA 1; < DATA:16375 "
		"1;"
		">> DATA 1; deadline 0.005; < PING; deadline now; >> ACK 16430"},
	{"HELLO, PING, TIME, ACK and CLOSE may be due at once, and come in this order",
		"enc; flows 1; +15; < HELLO 1; close 5; close 6;"
		"> HELLO 1 PING ACK 10 CLOSE 5 CLOSE 6; >"},
	{"CLOSE is said once, in the order of closing, if both have said HELLO",
		"enc; close 1; < HELLO 1; close 2; > HELLO 1 ACK 10 CLOSE 2; close 5; close 65535;"
		"close 5; close 4; > CLOSE 5 CLOSE 65535 CLOSE 4; >; close 5; > CLOSE 5; >"},
	{"when the input has ended nothing is owed, and only what was due is said",
		"ready; < DATA 1; > ACK 39 DATA 1; < PING; close 7; end; off plain alive; close 8;"
		"deadline never blocked never; > ACK 47 CLOSE 7; flows 1; +60; >; off plain alive"},
	{"with flows PING comes 15 s after anything has left",
		"ready; flows 1; deadline 15 blocked never; +14.999999; >; +0.000001;"
		"deadline now blocked never; > PING; >; deadline 15 blocked 45; < ACK 50; +10;"
		"leave 0/0; deadline 5 blocked never; > DATA 1; +14; < PING; > ACK 50; +14.999999;"
		">; flows 0; < ACK 63; deadline never; +1; >"},
	{"who owes an ACK is asked by PING, and is dead after 45 s of silence",
		"ready; > DATA 1; deadline 15 blocked 45; +15; > PING; +15; > PING; +10;"
		"deadline 5 blocked 5; +4.999999; on acknowledges alive; +0.000001;"
		"on acknowledges dead; deadline now blocked now; < ACK 39; on acknowledges alive"},
	{"the silence begins when an ACK is owed, or with the last byte read",
		"ready; +100; > DATA 1; deadline 15 blocked 45; +10; > DATA 1;"
		"deadline 15 blocked 35; +30; <1 DATA 1; blocked 45; +44.999999; alive; +0.000001;"
		"dead; < ACK 55; acked 55/68; blocked 45; < ACK 68; blocked never; +1000; alive"},
	{"an ACK is not owed, but all in front of it and behind it is",
		"ready; < PING; > ACK 34; blocked never; < PING; > ACK 42;"
		"deadline never blocked never; > DATA 1; blocked 45; < ACK 119; blocked never;"
		"< PING; > ACK 66 DATA 1; blocked 45; < PING; > ACK 74; blocked 44.9;"
		"< ACK 163; blocked 45; < ACK 164; blocked never; < PING; close 1;"
		"> ACK 114 CLOSE 1; blocked 45; < ACK 237; blocked 45; < ACK 238; blocked never"},
	{"only what has left counts, even if HELLO leaves before the ACK behind it",
		"enc; flows 1; +14.999999; < HELLO 1; put HELLO 1 ACK 10; acked 0/0; +0.000001;"
		"deadline now; leave 10/0; deadline 15 blocked 45; leave 32/32; blocked 45;"
		"< ACK 9; blocked 45; < ACK 10; blocked never"},
};

static const struct scene *scene = scenes;

static void play_scene(void)
{
	play(scene->steps);
}

/* --- all tags, and two sides that talk to each other ---------------------------------------- */

/* Closes each tag, and again while the ring is full. Starts at tag 4, the middle of 8 bits. */
static void close_all(void)
{
	uint8_t bytes[CONTROL_BYTES_MAX];
	size_t ack_size;

	play("ready; close 9; > CLOSE 9");
	for (int tag = 4; tag < 4 + 2 * TAGS; tag++)
		control_close(&me.control, (uint16_t)tag);
	for (int tag = 4; tag < 4 + 2 * TAGS; tag += 64) {
		size_t size = control_gather(&me.control, true, now_us, bytes, &ack_size);

		if (!CHECK_NUMBER(size, 64 * CONTROL_CLOSE_SIZE) || !CHECK_NUMBER(ack_size, 0))
			return;
		for (int i = 0; i < 64; i++)
			CHECK_NUMBER(le16_load(bytes + 10 * i + 8), (uint16_t)(tag + i));
		for (int i = 0; i <= 64 && tag < TAGS; i++)
			control_close(&me.control, (uint16_t)(tag + i));
	}
	play(">");
}

static size_t say(struct side *side, struct side *other, bool has_data)
{
	uint8_t *bytes = other->stream + other->come;
	size_t ack_size, size = control_gather(&side->control, !has_data, now_us, bytes, &ack_size);

	if (has_data) {
		size += encode("DATA:100 65535", bytes + size);
		ack_size = 0;
	}
	control_sent(&side->control, size, ack_size, now_us);
	other->come += size;
	return size;
}

/* Whoever wakes at a deadline finds something to say, unless the far side is dead. */
static void sleep_a_while(struct side *side, struct side *other)
{
	uint64_t deadline_us = control_deadline_us(&side->control, false);
	uint64_t event_us = now_us + random_below(1U << random_below(25));

	now_us = max_u64(now_us, min_u64(deadline_us, event_us));
	if (control_is_dead(&side->control, now_us))
		CHECK(now_us - side->read_us >= SILENCE_US);
	else if (now_us >= deadline_us)
		CHECK(say(side, other, false) > 0);
}

static void do_anything(void)
{
	struct side *side = random_below(2) ? &enc : &dec, *other = side == &enc ? &dec : &enc;
	uint16_t tag = (uint16_t)random_below(16);
	unsigned int choice = random_below(7);

	if (choice == 0)
		sleep_a_while(side, other);
	else if (choice == 1)
		control_set_has_flows(&side->control, random_below(2));
	else if (choice == 2 && side == &enc && control_is_on(&enc.control) && !is_closing[tag]) {
		is_closing[tag] = true;
		control_close(&enc.control, tag);
	} else if (choice < 5)
		say(side, other, random_below(2));
	else
		CHECK_TEXT(hear(side, random_below(100)), "");
}

static bool is_silent(const struct side *side)
{
	return side->read == side->come && control_deadline_us(&side->control, false) == UINT64_MAX;
}

/* Without flows, both fall silent when all is read, and neither waits for anything. */
static void come_to_an_end(void)
{
	size_t turns = 0;

	control_set_has_flows(&enc.control, false);
	control_set_has_flows(&dec.control, false);
	while (!(is_silent(&enc) && is_silent(&dec)) && ++turns < 100) {
		now_us += 100 * US_PER_MS;
		CHECK_TEXT(hear(&enc, DECODER_ROOM_MIN), "");
		CHECK_TEXT(hear(&dec, DECODER_ROOM_MIN), "");
		say(&enc, &dec, false);
		say(&dec, &enc, false);
	}
	CHECK(turns <= 10);
	CHECK(!memchr(is_closing, true, sizeof(is_closing)));
	CHECK(control_is_on(&enc.control) && control_is_on(&dec.control));
}

static void talk(void)
{
	for (int life = 0; life < 200 && checks_failed == 0; life++) {
		now_us += US_PER_SECOND;
		begin(&enc, false, 1, true);
		begin(&dec, true, 1, true);
		say(&enc, &dec, true);
		for (uint32_t i = random_below(1000); i > 0; i--)
			do_anything();
		come_to_an_end();
	}
}

int main(void)
{
	for (; scene < scenes + ARRAY_SIZE(scenes); scene++)
		test(scene->name, play_scene);
	test("each tag of 65536 is closed once, 64 at a time", close_all);
	test("what one side says the other accepts, and at last both are silent", talk);
	return tests_end();
}
