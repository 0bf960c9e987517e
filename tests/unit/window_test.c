/*
 * The window alone, where a few calls show what it does; and with all that stands between it and
 * the pipe, in the simulation of sim.h.
 */
#include "window.h"

#include "sim.h"

enum {
	ACK_SIZE = 24,
	FROM_S = 2,
	FIRST_MS = 300,
};

/* --- the window alone ------------------------------------------------------------------------ */

static struct window window;
static uint64_t sent, written, now_us; /* bytes, ACKs included; frames in course() */

static void begin(void)
{
	window_init(&window, LATENCY_US);
	sent = 0;
	now_us = US_PER_SECOND;
}

static void send(size_t bytes, bool more_waits)
{
	window_sent(&window, bytes, now_us, more_waits);
	sent += bytes;
}

static void ack(uint64_t consumed, uint64_t read_us, uint64_t after_us)
{
	now_us += after_us;
	window_acked(&window, consumed, read_us, now_us);
}

static void check_times(uint64_t us)
{
	CHECK_NUMBER(window_rtt_us(&window), us);
	CHECK(window_path_us(&window) >= us && window_path_us(&window) <= us * 21 / 20);
}

static void first_frame(void)
{
	begin();
	check_times(0);
	CHECK_NUMBER(window_in_flight(&window), 0);
	CHECK_NUMBER(window_rate(&window), 0);
	CHECK_NUMBER(window_room(&window, 0), 8192);
	send(65543, true); /* more than the room */
	CHECK_NUMBER(window_in_flight(&window), 65543);
	CHECK_NUMBER(window_room(&window, now_us + 100 * US_PER_SECOND), 0);
	CHECK(window_opens_us(&window, now_us) == NEVER);
	ack(65543, 77, 20000);
	check_times(20000);
	CHECK_NUMBER(window_in_flight(&window), 0);
	CHECK(window_room(&window, now_us) > 0);
}

/* One write in flight at a time, a hundred times; the far clock is ahead, or says nothing. */
static void one_by_one(size_t bytes, bool more_waits, uint64_t ahead_us)
{
	for (int i = 0; i < 100; i++) {
		send(bytes, more_waits);
		ack(sent, ahead_us == WINDOW_NO_TIME ? ahead_us : now_us + 10000 + ahead_us, 20000);
	}
	check_times(20000);
	CHECK(window_rate(&window) > 1900000 && window_rate(&window) < 2100000);
}

static void times(void)
{
	static const uint64_t ahead_s[] = {5000, 0, 5001, 5000, 1};

	begin();
	one_by_one(40000, true, WINDOW_NO_TIME);
	for (size_t i = 0; i < ARRAY_SIZE(ahead_s); i++)
		one_by_one(40000, true, ahead_s[i] * US_PER_SECOND);
	one_by_one(40000, true, WINDOW_NO_TIME);
	one_by_one(100, false, 0);
}

static void write_that_waited(void)
{
	begin();
	send(1000, false);
	window_forget_times(&window);
	ack(400, 77, 3 * US_PER_SECOND);
	CHECK_NUMBER(window_in_flight(&window), 600);
	ack(1000, 77, 0);
	CHECK_NUMBER(window_in_flight(&window), 0);
	check_times(0);
	CHECK_NUMBER(window_rate(&window), 0);
	send(1000, false);
	ack(2000, 77, 20000);
	check_times(20000);
	CHECK(window_rate(&window) <= 50000);
}

static void writes_after_one_that_waited(void)
{
	for (int is_alone = 0; is_alone < 2; is_alone++) {
		begin();
		send(1000, true);
		window_forget_times(&window);
		now_us += 3 * US_PER_SECOND;
		send(500, true);
		if (is_alone)
			ack(1000, 77, 10000);
		check_times(0);
		ack(1001, 77, 10000); /* the first byte that counts */
		CHECK_NUMBER(window_rtt_us(&window), is_alone ? 20000 : 10000);
		CHECK_NUMBER(window_in_flight(&window), 499);
	}
}

/* It doubles in each round trip, as long as all of it is used. */
static void limit(void)
{
	begin();
	for (size_t room = 8192; room <= 8192 << 5; room *= 2) {
		CHECK_NUMBER(window_room(&window, now_us), room);
		CHECK_NUMBER(window_limit(&window), room);
		send(room, true);
		CHECK_NUMBER(window_in_flight(&window), room);
		CHECK_NUMBER(window_room(&window, now_us + 1000 * US_PER_SECOND), 0);
		ack(sent, now_us, 20000);
	}
	send(100, false);
	ack(sent, now_us, 20000);
	CHECK_NUMBER(window_limit(&window), 8192 << 6);
}

static void acks_are_not_owed(void)
{
	begin();
	for (uint64_t round = 0; round < 2; round++) {
		for (int i = 0; i < 1000000; i++)
			window_sent_ack(&window, ACK_SIZE);
		sent += 1000000 * ACK_SIZE;
		CHECK_NUMBER(window_in_flight(&window), 0);
		send(100, false);
		window_sent_ack(&window, ACK_SIZE);
		CHECK_NUMBER(window_in_flight(&window), 100);
		ack(sent, now_us, 10000);
		CHECK_NUMBER(window_in_flight(&window), 0);
		check_times(10000);
		CHECK(window_rate(&window) <= 20000);
		sent += ACK_SIZE;
		now_us += US_PER_SECOND;
	}
}

/* The far side has read our ACK, and nothing of the write behind it. */
static void ack_of_an_ack(void)
{
	begin();
	window_sent(&window, 100, 0, true);
	window_sent_ack(&window, ACK_SIZE);
	window_sent(&window, 100, US_PER_SECOND, true);
	window_acked(&window, 100, WINDOW_NO_TIME, US_PER_SECOND + 1000);
	CHECK_NUMBER(window_rtt_us(&window), US_PER_SECOND + 1000);
	window_acked(&window, 100 + ACK_SIZE, WINDOW_NO_TIME, US_PER_SECOND + 2000);
	CHECK_NUMBER(window_rtt_us(&window), US_PER_SECOND + 1000);
	CHECK_NUMBER(window_in_flight(&window), 100);
}

/* Whatever is sent and acknowledged when: nothing overflows, and the window never stalls. */
static void soak(void)
{
	uint64_t acked = 0;

	for (int i = 0; i < 300000; i++) {
		if (i % 50000 == 0) {
			window_init(&window, (uint64_t)random_below(2) * random_below(100000));
			sent = acked = now_us = 0;
		}
		now_us += random_below(4) > 0 ? 0 : 1ULL << random_below(i % 1000 == 0 ? 40 : 20);
		if (random_below(100) == 0) {
			window_forget_times(&window);
		} else if (random_below(2) == 0) {
			acked += random_below((uint32_t)min_u64(sent - acked, UINT32_MAX - 1) + 1);
			ack(acked, random_below(9) > 0 ? now_us / 3 : random_state, 0);
		} else if (random_below(2) == 0) {
			window_sent_ack(&window, ACK_SIZE);
			sent += ACK_SIZE;
		} else if (window_room(&window, now_us) > 0) {
			send(1 + random_below(1U << random_below(17)), random_below(2) > 0);
		}
		CHECK(window_in_flight(&window) <= sent - acked);
		CHECK(window_in_flight(&window) > 0 || window_room(&window, now_us) > 0);
		CHECK(window_opens_us(&window, now_us) > now_us);
		CHECK(window_limit(&window) >= 1500);
	}
}

/*
 * What the window makes of a pipe, step by step. The figures are those of today: who changes the
 * algorithm sees what changes, and takes the new ones if that is meant.
 */
static const struct phase {
	uint64_t ms, rate, there_us, jitter_us, ahead_us; /* rate: bytes in a ms */
	uint64_t frames;                                  /* in 20 ms; 0: all that may be sent */
	uint64_t limit, learned_rate, written;
} phases[] = {
	{900, 1000, 10000, 0, 0, 0, 25493, 999763, 881},
	{3100, 1000, 10000, 0, 0, 0, 25498, 999980, 3963},
	{300, 300, 10000, 0, 0, 0, 7339, 300000, 4052},
	{2500, 2000, 10000, 0, 0, 0, 52408, 1999999, 8326},
	{300, 2000, 60000, 0, 0, 0, 17624, 685121, 8489},
	{2500, 2000, 60000, 0, 0, 0, 152634, 2000000, 13390},
	{2500, 2000, 10000, 4000, 0, 0, 56090, 1999995, 18362},
	{2500, 2000, 10000, 20000, 0, 0, 81416, 2000000, 22426},
	{2500, 2000, 10000, 0, 0, 1, 50500, 2000000, 22550},
	{2500, 2000, 20000, 0, 0, 9, 74500, 2000000, 23675},
	{1500, 20000, 9000, 0, 0, 0, 491720, 20000000, 33851},
	{2500, 2000, 9000, 0, 0, 60, 488980, 20000000, 39116},
	{2500, 2000, 9000, 0, 11000, 0, 379090, 2000000, 44162},
	{2500, 2000, 9000, 0, 42000, 0, 49055, 1999921, 48815},
	{3500, 10, 9000, 0, 0, 0, 1500, 10000, 48885},
};

/* Half a ms. ACKs come after 10 ms, and one of three does not say when. */
static void step(const struct phase *phase)
{
	static struct {
		uint64_t end, read_us;
	} frames[1 << 17];
	static uint64_t first, free_us, read_us;
	uint64_t due = first, opens_us;

	while (due < written && frames[due].read_us + 10000 <= now_us)
		due++;
	if (due > first)
		ack(frames[due - 1].end,
			now_us % 300000 < 99000 ? WINDOW_NO_TIME
						: frames[due - 1].read_us + phase->ahead_us,
			0);
	first = due;
	for (uint64_t i = 0; window_room(&window, now_us) > 0; i++) {
		if (phase->frames > 0 && (i == phase->frames || now_us % 20000 > 0))
			break;
		send(1000, phase->frames == 0);
		free_us = max_u64(free_us, now_us) + 1000000 / phase->rate;
		read_us = max_u64(read_us,
			free_us + phase->there_us + (written % 7 == 0 ? phase->jitter_us : 0));
		frames[written].end = sent;
		frames[written++].read_us = read_us;
	}
	if (phase->frames > 9)
		window_blocked(&window);
	opens_us = window_opens_us(&window, now_us);
	CHECK(opens_us == NEVER ||
		(window_room(&window, opens_us - 1) == 0 && window_room(&window, opens_us) > 0));
}

static void course(void)
{
	begin();
	for (const struct phase *phase = phases; phase < phases + ARRAY_SIZE(phases); phase++) {
		for (uint64_t i = 0; i < 2 * phase->ms; i++, now_us += 500)
			step(phase);
		CHECK_NUMBER(window_limit(&window), phase->limit);
		CHECK_NUMBER(window_rate(&window), phase->learned_rate);
		CHECK_NUMBER(written, phase->written);
	}
}

/* --- both programs and a pipe ----------------------------------------------------------------- */

/*
 * A row says which link, what is measured, and what is asserted: 99 of 100 sparse datagrams get
 * there within late_ms, 95 are back within echo_ms, all of the first second within first_ms; bulk
 * has that share of the link, in percent, and no more sparse datagrams are lost. Where nothing else
 * is said, the link is the same in both directions, but for what there and back say, and bulk of
 * three times its rate is offered to end 0.
 *
 * Rows of the first part have the figures that are wanted. Those of the second part have what was
 * reached in the worst of 40 runs with different seeds, less a little. That is not enough, and the
 * comments say what is wanted.
 */
static const struct row {
	double mbit, back_mbit, delay_ms;
	const char *name;
	double late_ms, echo_ms, share, to_s;
	double from_s, first_ms, share_back; /* 0: FROM_S after the login, FIRST_MS */
	struct sim_link there, back;
	struct sim_load load, load_back;
	double jump_s; /* half-way, of the clock of end 1 */
	uint64_t lost;
} rows[] = {
	{10, 10, 0.5, "", 20, 20, 95, .to_s = 10},
	{100, 100, 50, "", 70, 115, 95, .to_s = 10},
	{1000, 1000, 0.1, "", 8, 8, 98, .to_s = 3},
	{100, 100, 1, ", lan", 9, 10, 98, .to_s = 6},
	{50, 5, 10, ", cable", 20, 32, 95, .to_s = 10},
	{20, 20, 2, ", offered 1.05 times", 12, 15, 95, .to_s = 10, .load = {.times = 1.05}},
	{2, 2, 20, ", login of 0.5 s", 60, 74, 88, .to_s = 10, .there = {.login_s = 0.5}},
	{20, 20, 20, ", login of 0.5 s", 36, 58, 94, .to_s = 10, .there = {.login_s = 0.5}},
	{20, 20, 5, " and up to 30 more", 60, 92, 95, .to_s = 40, .from_s = 20,
		.there = {.jitter_ms = 30}, .back = {.jitter_ms = 30}},
	{10, 10, 5, ", no bulk", 6, 12, 0, .to_s = 10, .load = {.from_s = 99}},
	{20, 20, 10, ", polite bulk", 27, 37, 89, .to_s = 20, .load = {.is_polite = true}},
	{20, 20, 10, ", bulk of 64 bytes", 25, 33, 93, .to_s = 5, .load = {.size = 64}},
	{20, 20, 10, ", bulk of 8972 bytes", 27, 38, 97, .to_s = 10, .load = {.size = 8972}},
	{20, 20, 10, ", bulk of 60000 bytes", 90, 95, 97, .to_s = 10, .load = {.size = 60000}},
	{10, 10, 0.5, ", in steps of 32 KiB", 18, 18, 95, .to_s = 8, .there = {.segment = 32768}},
	{20, 20, 20, ", in steps of 64 KiB", 37, 59, 95, .to_s = 8, .there = {.segment = 65536}},

	/* Wanted: 60 and 65 ms; bulk of 95 %, here and below where nothing else is said. */
	{2, 2, 40, "", 75, 115, 88, .to_s = 10},
	{20, 20, 50, "", 70, 118, 93, .to_s = 10},
	{16, 1, 15, ", dsl", 27, 54, 72, .to_s = 10},
	{20, 1, 10, "", 25, 43, 58, .to_s = 10},
	/* Wanted: echoes within 75, 230, 750 ms, all of the first second within 300, 300, 900 ms,
	 * 88, 75, 90 %. */
	{1, 16, 15, ", dsl the other way", 105, 110, 82, .to_s = 10, .first_ms = 330},
	{0.25, 0.25, 50, ", modem", 750, 680, 65, .to_s = 20, .first_ms = 1350},
	{10, 2, 300, ", satellite", 1300, 1300, 72, .to_s = 20, .first_ms = 1300, .lost = 5},
	/* Wanted: 90, 100, 90, 70 ms; and all that from the start, where jitter counts as a queue.
	 */
	{20, 20, 20, " and up to 30 more, for 5 ms each", 115, 140, 82, .to_s = 40, .from_s = 20,
		.there = {.jitter_ms = 30, .jitter_every_ms = 5},
		.back = {.jitter_ms = 30, .jitter_every_ms = 5}, .first_ms = 400},
	{20, 20, 20, " and up to 30 more, for 50 ms each", 155, 155, 70, .to_s = 40, .from_s = 20,
		.there = {.jitter_ms = 30, .jitter_every_ms = 50},
		.back = {.jitter_ms = 30, .jitter_every_ms = 50}, .first_ms = 400},
	{20, 20, 20, " and up to 30 more there", 98, 112, 87, .to_s = 40, .from_s = 20,
		.there = {.jitter_ms = 30, .jitter_every_ms = 20}},
	{20, 20, 20, " and up to 30 more back", 88, 112, 83, .to_s = 40, .from_s = 20,
		.back = {.jitter_ms = 30, .jitter_every_ms = 20}},
	/* Wanted: 45, 50, 25 ms; of cable 88 and 76 %; 60 ms; 25 ms. */
	{1, 1, 5, ", both ways", 420, 490, 60, .to_s = 20, .load_back = {.times = 3},
		.share_back = 60, .first_ms = 1200},
	{1, 1, 5, ", both ways, one later", 370, 370, 38, .to_s = 20,
		.load_back = {.times = 3, .from_s = 0.1}, .share_back = 66},
	{10, 10, 5, ", both ways, one later", 60, 58, 86, .to_s = 10,
		.load_back = {.times = 3, .from_s = 0.1}, .share_back = 88},
	{50, 5, 10, ", both ways, one later", 52, 60, 83, .to_s = 10,
		.load_back = {.times = 3, .from_s = 0.1}, .share_back = 73},
	{20, 1, 10, ", both ways, one later", 290, 320, 74, .to_s = 20,
		.load_back = {.times = 3, .from_s = 0.1}, .share_back = 35},
	{10, 10, 5, ", both ways, the far clock jumps by 1 s", 180, 340, 62, .to_s = 12,
		.load_back = {.times = 3, .from_s = 0.1}, .share_back = 66, .from_s = 7,
		.jump_s = 1},
	/* Wanted: 50 ms; what ssh takes at once after the login is a queue and not the path. */
	{2, 2, 20, ", login of 3 s", 10000, 11000, 94, .to_s = 30, .there = {.login_s = 3},
		.first_ms = 4000, .lost = 600},
	{20, 20, 20, ", login of 3 s", 1000, 1000, 97, .to_s = 20, .there = {.login_s = 3},
		.first_ms = 1000, .lost = 60},
	/* Wanted: 45 ms and 88 %; 60 ms, echoes within 65 ms and 88 %; 110 ms and 92 %. */
	{10, 10, 5, ", then 1, 10 ... Mbit/s", 280, 135, 83, .to_s = 35, .from_s = 5,
		.there = {.step_s = 5, .step_mbit = 1}},
	{20, 10, 20, ", then 2, 20 ... Mbit/s", 1200, 250, 85, .to_s = 40, .from_s = 8,
		.there = {.step_s = 8, .step_mbit = 2}, .lost = 60},
	{20, 20, 5, ", then 50, 5 ... ms", 245, 250, 55, .to_s = 35, .from_s = 5,
		.there = {.step_s = 5, .step_delay_ms = 50},
		.back = {.step_s = 5, .step_delay_ms = 50}},
	/* Wanted: 80, 30 ms; 85 %. */
	{20, 20, 50, ", bulk in 1 s of 3", 160, 165, 60, .to_s = 14,
		.load = {.on_s = 1, .off_s = 2}},
	{10, 10, 5, ", both ways after 30 s without bulk", 52, 55, 83, .to_s = 35, .from_s = 30,
		.load = {.from_s = 30}, .load_back = {.times = 3, .from_s = 30}, .share_back = 83},
	{20, 20, 50, ", polite bulk", 115, 165, 65, .to_s = 30, .load = {.is_polite = true}},
};

static const struct row *row;

static void check_at_most(double got, double most, const char *what)
{
	check_that(got <= most, "%s: %.1f, not up to %.1f", what, got, most);
}

static void check_row(void)
{
	struct sim_end *near = &sim.ends[0], *far = &sim.ends[1];
	double late_ms = sim_percentile(&near->one_way, 99);
	double echo_ms = sim_percentile(&near->round_trip, 95);
	double first_ms = (double)near->first_second_ns / (double)MILLISECONDS(1);
	double share = sim_share(near), share_back = sim_share(far);
	uint64_t lost = near->lost[SPARSE] + far->lost[ECHO];

	printf("# late %.1f ms, back %.1f, in the first second %.1f; bulk %.1f %%, back %.1f\n",
		late_ms, echo_ms, first_ms, share, share_back);
	check_at_most(late_ms, row->late_ms, "sparse datagrams, in ms");
	check_at_most(echo_ms, row->echo_ms, "their echoes, in ms");
	check_at_most(first_ms, row->first_ms > 0 ? row->first_ms : FIRST_MS, "the first, in ms");
	check_at_most(row->share, share, "bulk, in percent: wanted");
	check_at_most(row->share_back, share_back, "bulk back, in percent: wanted");
	check_at_most((double)lost, (double)row->lost, "sparse datagrams lost");
}

static void run_row(void)
{
	struct sim_link links[2] = {row->there, row->back};
	struct sim_load loads[2] = {row->load, row->load_back};

	links[0].mbit = row->mbit;
	links[1].mbit = row->back_mbit;
	links[0].delay_ms = links[1].delay_ms = row->delay_ms;
	if (loads[0].times == 0 && !loads[0].is_polite)
		loads[0].times = 3;
	sim_begin(links, loads, row->from_s > 0 ? row->from_s : FROM_S + links[0].login_s);
	sim_run_until(row->to_s / 2);
	sim.ahead_us += (uint64_t)(row->jump_s * US_PER_SECOND);
	sim_run_until(row->to_s);
	check_row();
	sim_finish();
}

int main(void)
{
	test("the first frame may be of any size, and the next waits for its ACK", first_frame);
	test("the rate and the path are known whatever the far clock says", times);
	test("a first write that waits for the far side is no round trip", write_that_waited);
	test("the next write is one, acknowledged alone or with it", writes_after_one_that_waited);
	test("the limit is what may be in flight", limit);
	test("ACKs are not waited for and are not what the pipe delivers", acks_are_not_owed);
	test("an ACK that tells of an ACK of ours alone measures nothing", ack_of_an_ack);
	test("whatever happens when, the window goes on", soak);
	test("a pipe that changes is followed step by step", course);
	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		char name[200];

		snprintf(name, sizeof(name),
			"%g Mbit/s, %g back, %g ms%s: bulk has %g %%, sparse datagrams are %g ms "
			"late",
			row->mbit, row->back_mbit, row->delay_ms, row->name, row->share,
			row->late_ms);
		test(name, run_row);
	}
	return tests_end();
}
