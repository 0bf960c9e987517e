/*
 * The window alone, where a few calls show what it does; and with all that stands between it and
 * the pipe, in the simulation of sim.h.
 */
#include "window.h"

#include "sim.h"

enum {
	START = 4096,
	ACK_SIZE = 24,
	FROM_S = 2,
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
	window_acked(&window, consumed, read_us, 0, now_us);
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
	CHECK_NUMBER(window_room(&window, 0), START);
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
	for (size_t room = START; room <= START << 5; room *= 2) {
		CHECK_NUMBER(window_room(&window, now_us), room);
		CHECK_NUMBER(window_limit(&window), room);
		send(room, true);
		CHECK_NUMBER(window_in_flight(&window), room);
		CHECK_NUMBER(window_room(&window, now_us + 1000 * US_PER_SECOND), 0);
		ack(sent, now_us, 20000);
	}
	send(100, false);
	ack(sent, now_us, 20000);
	CHECK_NUMBER(window_limit(&window), START << 6);
}

static void held_ack(void)
{
	begin();
	for (int i = 0; i < 20; i++) {
		send(100, false);
		now_us += 120000;
		window_acked(&window, sent, now_us - 110000, 100000, now_us);
		check_times(20000);
	}
	send(100, false);
	window_acked(&window, sent, now_us, UINT32_MAX, now_us + 10); /* it cannot be */
	CHECK(window_rtt_us(&window) < 20000);
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
	window_acked(&window, 100, WINDOW_NO_TIME, 0, US_PER_SECOND + 1000);
	CHECK_NUMBER(window_rtt_us(&window), US_PER_SECOND + 1000);
	window_acked(&window, 100 + ACK_SIZE, WINDOW_NO_TIME, 0, US_PER_SECOND + 2000);
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
	{900, 1000, 10000, 0, 0, 0, 26122, 1000000, 856},
	{3100, 1000, 10000, 0, 0, 0, 26457, 1000000, 3946},
	{300, 300, 10000, 0, 0, 0, 8180, 299948, 4037},
	{2500, 2000, 10000, 0, 0, 0, 52214, 2000135, 8359},
	{300, 2000, 60000, 0, 0, 0, 15554, 607693, 8503},
	{2500, 2000, 60000, 0, 0, 0, 151857, 2000139, 13350},
	{2500, 2000, 10000, 4000, 0, 0, 62363, 2010069, 18333},
	{2500, 2000, 10000, 20000, 0, 0, 101860, 2239040, 23216},
	{2500, 2000, 10000, 0, 0, 1, 56208, 2239040, 23340},
	{2500, 2000, 20000, 0, 0, 9, 87959, 2478219, 24465},
	{1500, 20000, 9000, 0, 0, 0, 541288, 20001050, 44708},
	{2500, 2000, 9000, 0, 0, 60, 424284, 1999860, 46970},
	{2500, 2000, 9000, 0, 11000, 0, 49618, 2000138, 51905},
	{2500, 2000, 9000, 0, 42000, 0, 49006, 2000138, 56867},
	{3500, 10, 9000, 0, 0, 0, 1500, 9126, 56928},
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
		send(1000, phase->frames == 0 || phase->frames > 9);
		free_us = max_u64(free_us, now_us) + 1000000 / phase->rate;
		read_us = max_u64(read_us,
			free_us + phase->there_us + (written % 7 == 0 ? phase->jitter_us : 0));
		frames[written].end = sent;
		frames[written++].read_us = read_us;
	}
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
 * The figures are those of the worst of 40 runs with different seeds, and a little more.
 */
static const struct row {
	double mbit, back_mbit, delay_ms;
	const char *name;
	double late_ms, echo_ms, first_ms, share;
	double share_back, to_s, from_s; /* 0: FROM_S after the login */
	struct sim_link there, back;
	struct sim_load load, load_back;
	double jump_s; /* half-way, of the clock of end 1 */
	uint64_t lost;
} rows[] = {
	{10, 10, 0.5, "", 45, 40, 51, 95, .to_s = 10},
	{100, 100, 50, "", 150, 145, 286, 91, .to_s = 10},
	{1000, 1000, 0.1, "", 15, 15, 15, 96, .to_s = 3},
	{100, 100, 1, ", lan", 17, 18, 23, 96, .to_s = 6},
	{50, 5, 10, ", cable", 29, 39, 120, 96, .to_s = 10},
	{20, 20, 2, ", offered 1.05 times", 32, 32, 55, 96, .to_s = 10, .load = {.times = 1.05}},
	{20, 20, 2, ", offered 1.2 times", 33, 32, 49, 95, .to_s = 10, .load = {.times = 1.2}},
	{2, 2, 40, "", 88, 125, 285, 88, .to_s = 10},
	{20, 20, 50, "", 155, 152, 330, 94, .to_s = 10},
	{16, 1, 15, ", dsl", 48, 63, 102, 95, .to_s = 10, .there = {.buffer = 300e3},
		.back = {.buffer = 100e3}},
	{20, 1, 10, "", 60, 55, 92, 95, .to_s = 10},
	{1, 16, 15, ", dsl the other way", 73, 88, 215, 86, .to_s = 10, .there = {.buffer = 256e3}},
	{0.25, 0.25, 50, ", modem", 344, 395, 1004, 69, .to_s = 20, .there = {.buffer = 64e3},
		.back = {.buffer = 64e3}},
	{10, 2, 300, ", satellite", 809, 939, 1840, 78, .lost = 70, .to_s = 40, .from_s = 10,
		.there = {.buffer = 1e6}},
	{10, 10, 5, ", no bulk", 9, 14, 15, 0, .to_s = 10, .load = {.from_s = 99}},
	{20, 20, 10, ", polite bulk", 37, 46, 44, 94, .to_s = 20, .load = {.is_polite = true}},
	{20, 20, 50, ", polite bulk", 133, 145, 216, 66, .to_s = 30, .load = {.is_polite = true}},
	{20, 20, 50, ", bulk in 1 s of 3", 157, 163, 330, 63, .to_s = 14,
		.load = {.on_s = 1, .off_s = 2}},
	{20, 20, 10, ", bulk of 64 bytes", 43, 52, 91, 95, .to_s = 5, .load = {.size = 64}},
	{20, 20, 10, ", bulk of 8972 bytes", 41, 49, 129, 95, .to_s = 10, .load = {.size = 8972}},
	{20, 20, 10, ", bulk of 60000 bytes", 69, 75, 137, 96, .to_s = 10, .load = {.size = 60000}},
	{10, 10, 0.5, ", in steps of 32 KiB", 45, 38, 56, 97, .to_s = 10,
		.there = {.segment = 32768}},
	{20, 20, 20, ", in steps of 64 KiB", 50, 70, 168, 98, .to_s = 10,
		.there = {.segment = 65536}},
	{2, 2, 20, ", login of 3 s", 851, 166, 4189, 88, .lost = 204, .to_s = 30,
		.there = {.login_s = 3}},
	{20, 20, 20, ", login of 3 s", 53, 71, 1141, 95, .lost = 63, .to_s = 20,
		.there = {.login_s = 3}},

	/* Links that vary. */
	{20, 20, 5, " and up to 30 more", 116, 109, 292, 94, .to_s = 40, .from_s = 20,
		.there = {.jitter_ms = 30}, .back = {.jitter_ms = 30}},
	{20, 20, 20, " and up to 30 more, for 5 ms each", 186, 169, 289, 91, .to_s = 40,
		.there = {.jitter_ms = 30, .jitter_every_ms = 5},
		.back = {.jitter_ms = 30, .jitter_every_ms = 5}},
	{20, 20, 20, " and up to 30 more, for 50 ms each", 176, 174, 310, 88, .to_s = 40,
		.there = {.jitter_ms = 30, .jitter_every_ms = 50},
		.back = {.jitter_ms = 30, .jitter_every_ms = 50}},
	{20, 20, 20, " and up to 30 more there", 160, 146, 300, 91, .to_s = 40,
		.there = {.jitter_ms = 30, .jitter_every_ms = 20}},
	{20, 20, 20, " and up to 30 more back", 77, 112, 306, 94, .to_s = 40,
		.back = {.jitter_ms = 30, .jitter_every_ms = 20}},
	{10, 10, 5, ", then 1, 10 ... Mbit/s", 377, 62, 63, 94, .to_s = 35,
		.there = {.step_s = 5, .step_mbit = 1}},
	{20, 10, 20, ", then 2, 20 ... Mbit/s", 64, 77, 160, 102, .to_s = 40,
		.there = {.step_s = 8, .step_mbit = 2, .buffer = 300e3}},
	{20, 20, 5, ", then 50, 5 ... ms", 144, 147, 79, 88, .to_s = 35,
		.there = {.step_s = 5, .step_delay_ms = 50},
		.back = {.step_s = 5, .step_delay_ms = 50}},
	{20, 20, 20, ", 1 % lost", 266, 200, 249, 10, .to_s = 25,
		.there = {.loss = 1, .buffer = 200e3}, .back = {.loss = 1, .buffer = 200e3}},
	{20, 20, 20, ", 1 % lost, BBR", 299, 227, 502, 83, .to_s = 25,
		.there = {.loss = 1, .buffer = 200e3, .ignores_loss = true},
		.back = {.loss = 1, .buffer = 200e3, .ignores_loss = true}},
	{8, 8, 20, ", mobile", 1205, 712, 599, 34, .lost = 27, .to_s = 40,
		.there = {.fade = 8, .buffer = 1.5e6}, .back = {.fade = 8, .buffer = 1.5e6}},
	{20, 20, 2, ", a shaper", 47, 37, 62, 96, .to_s = 20,
		.there = {.burst = 100e3, .buffer = 500e3},
		.back = {.burst = 100e3, .buffer = 500e3}},
	{20, 20, 2, ", a shaper, polite bulk", 46, 45, 31, 95, .to_s = 20,
		.there = {.burst = 100e3, .buffer = 500e3},
		.back = {.burst = 100e3, .buffer = 500e3}, .load = {.is_polite = true}},

	/* Bulk in both directions. */
	{1, 1, 5, ", both ways", 82, 124, 605, 77, .share_back = 77, .to_s = 20,
		.load_back = {.times = 3}},
	{1, 1, 5, ", both ways, one later", 109, 124, 521, 77, .share_back = 77, .to_s = 20,
		.load_back = {.times = 3, .from_s = 0.1}},
	{10, 10, 5, ", both ways, one later", 41, 68, 112, 91, .share_back = 91, .to_s = 10,
		.load_back = {.times = 3, .from_s = 0.1}},
	{50, 5, 10, ", both ways, one later", 39, 71, 237, 95, .share_back = 71, .to_s = 10,
		.load_back = {.times = 3, .from_s = 0.1}},
	{20, 1, 10, ", both ways, one later", 139, 545, 208, 93, .share_back = 37, .to_s = 20,
		.load_back = {.times = 3, .from_s = 0.1}},
	{10, 10, 5, ", both ways, the far clock jumps by 1 s", 133, 247, 112, 80, .share_back = 90,
		.to_s = 12, .from_s = 7, .jump_s = 1, .load_back = {.times = 3, .from_s = 0.1}},
	{10, 10, 5, ", both ways after 30 s without bulk", 42, 71, 15, 91, .share_back = 91,
		.to_s = 35, .from_s = 31, .load = {.from_s = 30},
		.load_back = {.times = 3, .from_s = 30}},
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
	check_at_most(first_ms, row->first_ms, "the first, in ms");
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
	test("the time for which an ACK was held back does not count", held_ack);
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
