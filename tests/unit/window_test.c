/*
 * How this works: two ends, each with a window, a queue that is fair in that sparse frames go
 * first, and a pipe to the other, live in simulated time. A pipe is a buffer that cuts writes when
 * it is full, a link that takes segments out of it at its rate, and a delay, which may vary, until
 * they arrive. The far end reads all that has arrived at once and answers with an ACK if not all of
 * it were ACKs. What each test reached is shown in a comment.
 */
#include "window.h"

#include "check.h"
#include "util.h"

enum {
	ACK_SIZE = 24,
	SPARSE_SIZE = 72,
	BULK_SIZE = 1208,
	SPARSE_EVERY_US = 20 * US_PER_MS,
	TARGET_US = 5 * US_PER_MS,
	POLITE_ROUND_US = 100 * US_PER_MS,
	MARKS = 1 << 16,    /* frames in a pipe, at most */
	SEGMENTS = 1 << 13, /* the same, under way */
	WAITING = 1 << 10,  /* sparse frames */
	DELAYS = 1 << 13,   /* of sparse frames, measured */
};

#define SECONDS(n) ((uint64_t)(n)*US_PER_SECOND)

static const uint64_t ns_per_us = 1000;
static const uint64_t never = UINT64_MAX;

struct path {
	double mbit; /* the link's rate */
	uint64_t delay_us;
	uint64_t jitter_us;       /* more delay, 0 to that, in order ... */
	uint64_t jitter_every_us; /* ... another one that often; 0: for each segment */
	uint64_t buffer;          /* 0: 2 MiB */
	uint64_t segment;         /* 0: as TCP has it */
	double step_mbit;         /* in every other of the times below the rate is this ... */
	uint64_t step_delay_us;   /* ... or the delay */
	uint64_t step_us;
	uint64_t pause_us, pause_every_us; /* nothing is read for that long, that often */
	uint64_t first_us;                 /* nothing arrives before */
};

enum source {
	SILENT,
	OVERLOAD, /* three times what the link carries */
	ENDLESS,  /* as much as there is room for */
	POLITE,   /* halves its own window when a frame is dropped */
	REQUESTS, /* one frame a time: the next 20 ms after it has arrived */
};

struct load {
	enum source source;
	uint64_t from_us;
	uint64_t on_us, off_us; /* alternately, if set */
	uint64_t size;          /* of a frame; 0: BULK_SIZE */
	uint64_t batch;         /* at most in one write; 0: frame by frame */
	uint64_t queue;         /* bytes; 0: 256 KiB */
	bool has_sparse;
	bool has_no_window;
};

struct scenario {
	const char *name;
	struct path there, back;
	struct load load, load_back;
	uint64_t run_us;
	bool has_no_times; /* ACKs do not say when */
};

enum kind {
	BULK,
	SPARSE,
	ACK,
};

/* A frame in the pipe. */
struct mark {
	uint64_t end; /* offset */
	uint64_t created_ns;
	uint64_t consumed, read_us; /* what an ACK says */
	enum kind kind;
};

struct segment {
	uint64_t end, arrival_ns;
};

struct end {
	struct window window;
	struct path path; /* to the other end */
	struct load load;

	uint64_t next_bulk_ns, bulk_gap_ns, bulk_waiting;
	uint64_t next_sparse_ns, sparse_first, sparse_count;
	uint64_t sparse_created_ns[WAITING];
	double polite_window;
	uint64_t polite_out, polite_halved_ns;
	bool owes_ack;
	uint64_t ack_us, read, read_us;
	uint64_t wake_us;

	uint64_t written, rest; /* of a frame that was cut */
	struct mark marks[MARKS];
	uint64_t mark_first, mark_count;
	uint64_t served, serving, served_ns; /* by the link; until when how much */
	struct segment segments[SEGMENTS];
	uint64_t segment_first, segment_count, arrival_ns;
	uint64_t jitter_ns, jitter_until_ns;

	uint64_t bulk_bytes, wakes;
	uint32_t delays_us[DELAYS];
	size_t delay_count;
	uint64_t first_second_us; /* longest delay of a sparse frame of the first second */
};

static struct {
	uint64_t now_ns, until_ns, measured_from_ns;
	bool has_no_times;
	struct end ends[2];
} sim;

static uint64_t now_us(void)
{
	return sim.now_ns / ns_per_us;
}

/* Another clock, which goes a little faster. */
static uint64_t far_now_us(void)
{
	return now_us() + now_us() / 5000 - 123456789;
}

static struct end *other(const struct end *end)
{
	return &sim.ends[end == &sim.ends[0]];
}

/* --- the pipe ------------------------------------------------------------------------------ */

static bool is_stepped(const struct path *path)
{
	return path->step_us > 0 && now_us() / path->step_us % 2 == 1;
}

static double bytes_per_ns(const struct path *path)
{
	return (is_stepped(path) && path->step_mbit > 0 ? path->step_mbit : path->mbit) / 8000;
}

static uint64_t delay_ns(struct end *end)
{
	const struct path *path = &end->path;
	bool is_other = is_stepped(path) && path->step_delay_us > 0;

	if (path->jitter_us > 0 && sim.now_ns >= end->jitter_until_ns) {
		end->jitter_ns = (uint64_t)random_below((uint32_t)path->jitter_us + 1) * ns_per_us;
		end->jitter_until_ns = sim.now_ns + path->jitter_every_us * ns_per_us;
	}
	return (is_other ? path->step_delay_us : path->delay_us) * ns_per_us + end->jitter_ns;
}

static uint64_t buffer_room(const struct end *end)
{
	return end->path.buffer - (end->written - end->served);
}

static void serve(struct end *end)
{
	uint64_t every_ns = end->path.pause_every_us * ns_per_us;

	if (end->serving > 0 || end->written == end->served)
		return;
	end->serving = min_u64(end->written - end->served, end->path.segment);
	end->served_ns = sim.now_ns + 1 +
			 (uint64_t)((double)end->serving / bytes_per_ns(&end->path));
	if (every_ns > 0 && sim.now_ns / every_ns != end->served_ns / every_ns)
		end->served_ns += end->path.pause_us * ns_per_us;
}

/* Writes as much of a frame as the pipe takes, and returns how much that is. */
static uint64_t put(struct end *end, enum kind kind, uint64_t size, uint64_t created_ns)
{
	uint64_t taken = min_u64(size, buffer_room(end));

	if (end->mark_count == MARKS)
		abort();
	end->marks[(end->mark_first + end->mark_count++) % MARKS] = (struct mark){
		.end = end->written + size,
		.created_ns = created_ns,
		.consumed = end->read,
		.read_us = end->read_us,
		.kind = kind,
	};
	end->written += taken;
	end->rest = size - taken;
	return taken;
}

/* --- sending ------------------------------------------------------------------------------- */

static bool is_on(const struct load *load)
{
	return now_us() >= load->from_us &&
	       (load->on_us == 0 || now_us() % (load->on_us + load->off_us) < load->on_us);
}

static bool has_frame(const struct end *end)
{
	return end->sparse_count > 0 || end->bulk_waiting > 0 ||
	       (end->load.source == ENDLESS && is_on(&end->load));
}

static uint64_t put_frame(struct end *end)
{
	if (end->sparse_count > 0) {
		end->sparse_count--;
		return put(end, SPARSE, SPARSE_SIZE,
			end->sparse_created_ns[end->sparse_first++ % WAITING]);
	}
	if (end->load.source != ENDLESS)
		end->bulk_waiting--;
	return put(end, BULK, end->load.size, sim.now_ns);
}

static uint64_t room(const struct end *end)
{
	return end->load.has_no_window ? never : window_room(&end->window, now_us());
}

static bool may_begin_frame(const struct end *end)
{
	return has_frame(end) && end->rest == 0 && buffer_room(end) > 0;
}

static void send_rest(struct end *end)
{
	uint64_t taken = min_u64(end->rest, buffer_room(end));

	if (taken == 0)
		return;
	end->written += taken;
	end->rest -= taken;
	window_sent(&end->window, taken, now_us(), end->rest > 0 || has_frame(end));
}

static bool may_ack_now(const struct end *end)
{
	return end->rest == 0 && buffer_room(end) >= ACK_SIZE &&
	       (!has_frame(end) || room(end) > 0 ||
		       now_us() >= end->ack_us + WINDOW_ACK_INTERVAL_US);
}

static void send_ack(struct end *end)
{
	if (!end->owes_ack || !may_ack_now(end))
		return;
	put(end, ACK, ACK_SIZE, sim.now_ns);
	window_sent_ack(&end->window, ACK_SIZE);
	end->owes_ack = false;
	end->ack_us = now_us();
}

static void send_frames(struct end *end)
{
	while (may_begin_frame(end) && room(end) > 0) {
		uint64_t batch = min_u64(end->load.batch, room(end));
		uint64_t taken = 0;

		do
			taken += put_frame(end);
		while (taken < batch && may_begin_frame(end));
		window_sent(&end->window, taken, now_us(), end->rest > 0 || has_frame(end));
	}
}

/* Does what a program does when it wakes up. */
static void run_sender(struct end *end)
{
	send_rest(end);
	send_ack(end);
	send_frames(end);
	if (buffer_room(end) == 0)
		window_blocked(&end->window);
	serve(end);
	end->wake_us = never;
	if (!may_begin_frame(end) || end->load.has_no_window)
		return;
	check_that(window_in_flight(&end->window) > 0, "stalled after %llu us",
		(unsigned long long)now_us());
	end->wake_us = window_opens_us(&end->window, now_us());
	check_that(end->wake_us > now_us(), "opens at once after %llu us",
		(unsigned long long)now_us());
	if (end->owes_ack)
		end->wake_us = min_u64(end->wake_us, end->ack_us + WINDOW_ACK_INTERVAL_US);
}

/* --- receiving ----------------------------------------------------------------------------- */

static void measure_sparse(struct end *from, uint64_t created_ns)
{
	uint64_t created_us = created_ns / ns_per_us;
	uint64_t delay_us = now_us() - created_us;
	uint64_t step_us = from->path.step_us;

	if (created_us < US_PER_SECOND)
		from->first_second_us = max_u64(from->first_second_us, delay_us);
	if (step_us > 0 && created_us % step_us < US_PER_SECOND)
		return; /* a step has its second too */
	if (created_ns >= sim.measured_from_ns && from->delay_count < DELAYS)
		from->delays_us[from->delay_count++] = (uint32_t)delay_us;
}

static void receive(struct end *from, const struct mark *mark)
{
	if (mark->kind == ACK) {
		window_acked(&other(from)->window, mark->consumed,
			sim.has_no_times ? WINDOW_NO_TIME : mark->read_us, now_us());
	} else if (mark->kind == SPARSE) {
		measure_sparse(from, mark->created_ns);
	} else {
		if (sim.now_ns >= sim.measured_from_ns)
			from->bulk_bytes += from->load.size;
		if (from->load.source == POLITE) {
			from->polite_window += 1 / from->polite_window;
			from->polite_out--;
		} else if (from->load.source == REQUESTS) {
			from->next_bulk_ns = sim.now_ns + SPARSE_EVERY_US * ns_per_us;
		}
	}
}

static uint64_t size_of(const struct end *from, enum kind kind)
{
	return kind == ACK ? ACK_SIZE : kind == SPARSE ? SPARSE_SIZE : from->load.size;
}

static void run_reader(struct end *from)
{
	struct end *to = other(from);

	while (from->segment_count > 0 &&
		from->segments[from->segment_first % SEGMENTS].arrival_ns <= sim.now_ns) {
		to->read = from->segments[from->segment_first++ % SEGMENTS].end;
		from->segment_count--;
	}
	to->read_us = far_now_us();
	while (from->mark_count > 0) {
		const struct mark *mark = &from->marks[from->mark_first % MARKS];

		if (mark->kind != ACK && mark->end - size_of(from, mark->kind) < to->read)
			to->owes_ack = true;
		if (mark->end > to->read)
			break;
		receive(from, mark);
		from->mark_first++;
		from->mark_count--;
	}
	run_sender(to);
	run_sender(from);
}

static void end_service(struct end *end)
{
	end->served += end->serving;
	end->serving = 0;
	end->arrival_ns = max_u64(sim.now_ns + delay_ns(end), end->arrival_ns);
	if (end->segment_count == SEGMENTS)
		abort();
	end->segments[(end->segment_first + end->segment_count++) % SEGMENTS] = (struct segment){
		end->served, end->arrival_ns};
	run_sender(end);
}

/* --- sources ------------------------------------------------------------------------------- */

static void offer_bulk(struct end *end)
{
	const struct load *load = &end->load;

	end->next_bulk_ns = load->source == REQUESTS ? never : sim.now_ns + end->bulk_gap_ns;
	if (!is_on(load) ||
		(load->source == POLITE && (double)end->polite_out >= end->polite_window))
		return;
	if ((end->bulk_waiting + 1) * load->size <= load->queue) {
		end->bulk_waiting++;
		end->polite_out++;
		run_sender(end);
	} else if (sim.now_ns > end->polite_halved_ns + POLITE_ROUND_US * ns_per_us) {
		end->polite_halved_ns = sim.now_ns;
		end->polite_window = end->polite_window > 4 ? end->polite_window / 2 : 2;
	}
}

static void offer_sparse(struct end *end)
{
	end->next_sparse_ns = sim.now_ns + SPARSE_EVERY_US * ns_per_us;
	if (end->sparse_count == WAITING)
		return;
	end->sparse_created_ns[(end->sparse_first + end->sparse_count++) % WAITING] = sim.now_ns;
	run_sender(end);
}

/* --- the simulation ------------------------------------------------------------------------ */

static uint64_t next_event_ns(const struct end *end)
{
	uint64_t ns = min_u64(end->next_bulk_ns, end->next_sparse_ns);

	if (end->wake_us < never)
		ns = min_u64(ns, end->wake_us * ns_per_us);
	if (end->serving > 0)
		ns = min_u64(ns, end->served_ns);
	if (end->segment_count > 0)
		ns = min_u64(ns, end->segments[end->segment_first % SEGMENTS].arrival_ns);
	return ns;
}

static void run_end(struct end *end)
{
	if (end->wake_us <= now_us()) {
		end->wakes++;
		run_sender(end);
	}
	if (end->serving > 0 && end->served_ns <= sim.now_ns)
		end_service(end);
	if (end->segment_count > 0 &&
		end->segments[end->segment_first % SEGMENTS].arrival_ns <= sim.now_ns)
		run_reader(end);
	if (end->next_bulk_ns <= sim.now_ns)
		offer_bulk(end);
	if (end->next_sparse_ns <= sim.now_ns)
		offer_sparse(end);
}

static void begin_end(struct end *end, const struct path *path, const struct load *load)
{
	window_init(&end->window, TARGET_US);
	end->path = *path;
	end->path.buffer = path->buffer > 0 ? path->buffer : 2 << 20;
	end->path.segment = path->segment > 0 ? path->segment : 1448;
	end->arrival_ns = path->first_us * ns_per_us;
	end->load = *load;
	end->load.size = load->size > 0 ? load->size : BULK_SIZE;
	end->load.queue = max_u64(load->queue > 0 ? load->queue : 256 << 10, end->load.size);
	end->bulk_gap_ns = (uint64_t)((double)end->load.size / bytes_per_ns(&end->path) / 3);
	end->next_bulk_ns = load->source == SILENT || load->source == ENDLESS
				    ? never
				    : load->from_us * ns_per_us;
	end->next_sparse_ns = load->has_sparse ? 3 * ns_per_us * US_PER_MS : never;
	end->polite_window = 4;
	end->wake_us = never;
}

static void go_on(void)
{
	for (;;) {
		sim.now_ns = min_u64(next_event_ns(&sim.ends[0]), next_event_ns(&sim.ends[1]));
		if (sim.now_ns >= sim.until_ns)
			break;
		run_end(&sim.ends[0]);
		run_end(&sim.ends[1]);
	}
}

static void simulate(const struct scenario *scenario)
{
	const struct path *back = scenario->back.mbit > 0 ? &scenario->back : &scenario->there;

	memset(&sim, 0, sizeof(sim));
	sim.has_no_times = scenario->has_no_times;
	sim.until_ns = scenario->run_us * ns_per_us;
	sim.measured_from_ns = min_u64(SECONDS(2) + scenario->load.from_us, scenario->run_us / 4) *
			       ns_per_us;
	begin_end(&sim.ends[0], &scenario->there, &scenario->load);
	begin_end(&sim.ends[1], back, &scenario->load_back);
	run_sender(&sim.ends[0]);
	run_sender(&sim.ends[1]);
	go_on();
}

/* Measures anew, for that long, from a second on. */
static void simulate_more(uint64_t run_us)
{
	sim.measured_from_ns = sim.until_ns + US_PER_SECOND * ns_per_us;
	sim.until_ns += run_us * ns_per_us;
	sim.ends[0].delay_count = 0;
	sim.ends[0].bulk_bytes = 0;
	go_on();
}

/* --- what it reached ----------------------------------------------------------------------- */

struct figures {
	double p50_ms, p99_ms, max_ms; /* of sparse frames, one way, after the first two seconds */
	double first_ms;               /* the longest of the first second */
	double percent;                /* bulk, of what the link carries; then too */
};

static int by_size(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static struct figures figures_of(const char *name, struct end *end)
{
	size_t last = end->delay_count - (end->delay_count > 0);
	size_t half = last / 2, most = last * 99 / 100;
	double mbit = end->path.mbit;
	struct figures figures;

	if (end->path.step_mbit > 0)
		mbit = (mbit + end->path.step_mbit) / 2;
	qsort(end->delays_us, end->delay_count, sizeof(uint32_t), by_size);
	figures = (struct figures){
		.p50_ms = end->delays_us[half] / 1e3,
		.p99_ms = end->delays_us[most] / 1e3,
		.max_ms = end->delays_us[last] / 1e3,
		.first_ms = (double)end->first_second_us / 1e3,
		.percent = (double)end->bulk_bytes * 8e5 /
			   ((double)(sim.until_ns - sim.measured_from_ns) * mbit),
	};
	printf("# %-44s p50 %6.1f  p99 %6.1f  max %6.1f  first second %6.1f ms  %5.1f %%"
	       "  %4.0f timers/s\n",
		name, figures.p50_ms, figures.p99_ms, figures.max_ms, figures.first_ms,
		figures.percent, (double)end->wakes * 1e9 / (double)sim.until_ns);
	return figures;
}

static void check_figures(
	const struct figures *got, double p99_ms, double percent, const char *name)
{
	check_that(got->p99_ms <= p99_ms, "%s: p99 is %.1f ms, not up to %.1f", name, got->p99_ms,
		p99_ms);
	check_that(got->percent >= percent, "%s: %.1f %% of the link, not %.1f", name, got->percent,
		percent);
	check_that(got->first_ms <= 300, "%s: %.1f ms in the first second", name, got->first_ms);
}

static struct figures run(const struct scenario *scenario, double p99_ms, double percent)
{
	struct figures figures, back;

	simulate(scenario);
	figures = figures_of(scenario->name, &sim.ends[0]);
	check_figures(&figures, p99_ms, percent, scenario->name);
	if (scenario->load_back.source == OVERLOAD) {
		back = figures_of("  and back", &sim.ends[1]);
		check_figures(&back, p99_ms, percent, "  and back");
	}
	return figures;
}

/* --- slow pipes ---------------------------------------------------------------------------- */

#define OVERLOADED                                                                                 \
	{                                                                                          \
		.source = OVERLOAD, .has_sparse = true                                             \
	}
#define SECONDS(n) ((uint64_t)(n)*US_PER_SECOND)

static void ssh_10_mbit(void)
{
	run(&(struct scenario){"10 Mbit/s, 0.5 ms", .there = {.mbit = 10, .delay_us = 500},
		    .load = OVERLOADED, .run_us = SECONDS(15)},
		20, 95);
}

static void slow_and_far(void)
{
	run(&(struct scenario){"2 Mbit/s, 40 ms", .there = {.mbit = 2, .delay_us = 40000},
		    .load = OVERLOADED, .run_us = SECONDS(15)},
		60, 95);
}

static void fast_and_far(void)
{
	run(&(struct scenario){"20 Mbit/s, 50 ms", .there = {.mbit = 20, .delay_us = 50000},
		    .load = OVERLOADED, .run_us = SECONDS(15)},
		65, 95);
	run(&(struct scenario){"100 Mbit/s, 50 ms",
		    .there = {.mbit = 100, .delay_us = 50000, .buffer = 8 << 20},
		    .load = OVERLOADED, .run_us = SECONDS(15)},
		65, 93);
}

static void jitter(void)
{
	struct scenario scenario = {
		.there = {.mbit = 20, .delay_us = 20000, .jitter_us = 30000},
		.load = OVERLOADED,
		.run_us = SECONDS(15),
	};

	scenario.name = "20 Mbit/s, 20 to 50 ms, for each segment";
	run(&scenario, 90, 90);
	scenario.name = "20 Mbit/s, 20 to 50 ms, changing every 5 ms";
	scenario.there.jitter_every_us = 5000;
	run(&scenario, 90, 90);
	scenario.name = "20 Mbit/s, 20 to 50 ms, changing every 50 ms";
	scenario.there.jitter_every_us = 50000;
	run(&scenario, 100, 90);
	scenario.name = "20 Mbit/s, 20 to 50 ms there only";
	scenario.there.jitter_every_us = 20000;
	scenario.back = (struct path){.mbit = 20, .delay_us = 20000};
	run(&scenario, 90, 90);
	scenario.name = "20 Mbit/s, 20 to 50 ms back only";
	scenario.back = scenario.there;
	scenario.there = (struct path){.mbit = 20, .delay_us = 20000};
	run(&scenario, 70, 90);
}

static void run_over(struct scenario *scenario, const char *name, double mbit, double back_mbit,
	uint64_t delay_us, double wanted_p99_ms, double wanted_share)
{
	scenario->name = name;
	scenario->there = (struct path){.mbit = mbit, .delay_us = delay_us};
	scenario->back = (struct path){.mbit = back_mbit, .delay_us = delay_us};
	run(scenario, wanted_p99_ms, wanted_share);
}

static void both_ways(void)
{
	struct scenario scenario = {
		.load = OVERLOADED,
		.load_back = OVERLOADED,
		.run_us = SECONDS(15),
	};

	run_over(&scenario, "1 Mbit/s, 5 ms, both ways", 1, 1, 5000, 45, 90);
	scenario.load_back.from_us = 100000;
	run_over(&scenario, "1 Mbit/s, 5 ms, back 0.1 s later", 1, 1, 5000, 50, 90);
	run_over(&scenario, "10 Mbit/s, 5 ms, back 0.1 s later", 10, 10, 5000, 25, 95);
	run_over(&scenario, "20 and 1 Mbit/s, 10 ms, back 0.1 s later", 20, 1, 10000, 60, 80);
}

static void slow_way_back(void)
{
	run(&(struct scenario){"20 Mbit/s, 10 ms, 1 Mbit/s back",
		    .there = {.mbit = 20, .delay_us = 10000},
		    .back = {.mbit = 1, .delay_us = 10000}, .load = OVERLOADED,
		    .run_us = SECONDS(15)},
		25, 95);
}

/* --- what is not known ---------------------------------------------------------------------- */

static void no_times(void)
{
	run(&(struct scenario){"10 Mbit/s, 0.5 ms, no times",
		    .there = {.mbit = 10, .delay_us = 500}, .load = OVERLOADED,
		    .run_us = SECONDS(15), .has_no_times = true},
		20, 95);
	run(&(struct scenario){"2 Mbit/s, 40 ms, no times", .there = {.mbit = 2, .delay_us = 40000},
		    .load = OVERLOADED, .run_us = SECONDS(15), .has_no_times = true},
		60, 95);
	run(&(struct scenario){"20 Mbit/s, 50 ms, no times",
		    .there = {.mbit = 20, .delay_us = 50000}, .load = OVERLOADED,
		    .run_us = SECONDS(15), .has_no_times = true},
		65, 95);
}

/* Then a queue on the way back looks like one on the way there, so that each end makes room. */
static void no_times_both_ways(void)
{
	struct scenario scenario = {
		.load = OVERLOADED,
		.load_back = OVERLOADED,
		.run_us = SECONDS(15),
		.has_no_times = true,
	};

	run_over(&scenario, "1 Mbit/s, 5 ms, both ways, no times", 1, 1, 5000, 100, 50);
	scenario.load_back.from_us = 100000;
	run_over(&scenario, "10 Mbit/s, 5 ms, back 0.1 s later, no times", 10, 10, 5000, 100, 50);
	run_over(&scenario, "20 and 1 Mbit/s, 10 ms, both ways, no times", 20, 1, 10000, 100, 30);
}

/* The far side is there after 3 s: what waited for it was not under way for that long. */
static void late_far_side(void)
{
	static const double mbits[] = {2, 20};
	struct scenario scenario = {"far side that comes after 3 s",
		.there = {.delay_us = 20000, .first_us = SECONDS(3)}, .load = OVERLOADED,
		.run_us = SECONDS(3)};
	struct end *end = &sim.ends[0];
	struct figures figures;

	for (size_t i = 0; i < ARRAY_SIZE(mbits); i++) {
		scenario.there.mbit = mbits[i];
		scenario.back = (struct path){.mbit = mbits[i], .delay_us = 20000};
		simulate(&scenario);
		CHECK_NUMBER(window_in_flight(&end->window), end->written);
		CHECK(end->written >= window_limit(&end->window));
		window_forget_times(&end->window);
		simulate_more(SECONDS(6));
		end->first_second_us = 0;
		figures = figures_of(scenario.name, end);
		check_figures(&figures, 50, 95, scenario.name);
		CHECK(window_path_us(&end->window) >= 40000);
		CHECK(window_path_us(&end->window) < 55000);
	}
}

/* --- what changes -------------------------------------------------------------------------- */

static void rate_steps(void)
{
	struct path path = {.mbit = 10, .delay_us = 5000, .step_mbit = 1, .step_us = SECONDS(5)};

	run(&(struct scenario){"10, 1, 10 ... Mbit/s, 5 ms", .there = path, .load = OVERLOADED,
		    .run_us = SECONDS(30)},
		45, 85);
}

static void round_trip_steps(void)
{
	struct path path = {
		.mbit = 20, .delay_us = 5000, .step_delay_us = 50000, .step_us = SECONDS(5)};

	run(&(struct scenario){"20 Mbit/s, 5, 50, 5 ... ms", .there = path, .load = OVERLOADED,
		    .run_us = SECONDS(30)},
		110, 92);
}

static void on_and_off(void)
{
	struct load load = OVERLOADED;

	load.on_us = SECONDS(1);
	load.off_us = SECONDS(2);
	run(&(struct scenario){"20 Mbit/s, 50 ms, 1 s of 3", .there = {20, .delay_us = 50000},
		    .load = load, .run_us = SECONDS(15)},
		80, 30);
}

/* One request a time says nothing about what the pipe carries; then both ends are overloaded. */
static void requests_only(void)
{
	struct scenario scenario = {"10 Mbit/s, 5 ms, requests", .there = {10, .delay_us = 5000},
		.load = {.source = REQUESTS, .has_sparse = true}, .run_us = SECONDS(60)};

	simulate(&scenario);
	figures_of(scenario.name, &sim.ends[0]);
	CHECK(window_room(&sim.ends[0].window, now_us()) >= 8000);
	scenario.name = "10 Mbit/s, 5 ms, overload after 60 s of pings";
	scenario.load = (struct load)OVERLOADED;
	scenario.load.from_us = SECONDS(60);
	scenario.run_us = SECONDS(70);
	run(&scenario, 30, 11.5);
}

/* Short bursts that fill a quarter of the link say that little was sent, not that it is slow. */
static void short_bursts(void)
{
	struct scenario scenario = {"10 Mbit/s, 5 ms, short bursts",
		.there = {10, .delay_us = 5000}, .load = OVERLOADED, .run_us = SECONDS(5)};
	struct end *end = &sim.ends[0];

	simulate(&scenario);
	end->load.on_us = 2000;
	end->load.off_us = 20000;
	simulate_more(SECONDS(20));
	figures_of(scenario.name, end);
	CHECK(window_rate(&end->window) > 1100000);
}

static void polite(void)
{
	struct load load = {.source = POLITE, .has_sparse = true, .queue = 60000};

	run(&(struct scenario){"20 Mbit/s, 10 ms, polite", .there = {20, .delay_us = 10000},
		    .load = load, .run_us = SECONDS(20)},
		25, 85);
	load.queue = 250000;
	run(&(struct scenario){"20 Mbit/s, 50 ms, polite", .there = {20, .delay_us = 50000},
		    .load = load, .run_us = SECONDS(30)},
		150, 85);
}

/* --- sizes --------------------------------------------------------------------------------- */

static void frame_sizes(void)
{
	static const uint64_t sizes[] = {72, 8980, 60008};
	static const uint64_t batches[] = {4096, 16384, 65536};
	struct scenario scenario = {
		.there = {.mbit = 20, .delay_us = 10000},
		.load = OVERLOADED,
		.run_us = SECONDS(8),
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		scenario.name = "20 Mbit/s, 10 ms, frames of 72, 8980, 60008";
		scenario.load.size = sizes[i];
		run(&scenario, i == 2 ? 90 : 25, 95);
	}
	for (size_t i = 0; i < ARRAY_SIZE(batches); i++) {
		scenario.name = "20 Mbit/s, 10 ms, writes of 4, 16, 64 KiB";
		scenario.load.size = BULK_SIZE;
		scenario.load.batch = batches[i];
		run(&scenario, 25, 95);
	}
}

static void large_steps(void)
{
	run(&(struct scenario){"10 Mbit/s, 0.5 ms, in 32 KiB",
		    .there = {10, .delay_us = 500, .segment = 32768}, .load = OVERLOADED,
		    .run_us = SECONDS(8)},
		40, 95);
	run(&(struct scenario){"20 Mbit/s, 20 ms, in 64 KiB",
		    .there = {20, .delay_us = 20000, .segment = 65536}, .load = OVERLOADED,
		    .run_us = SECONDS(8)},
		80, 95);
}

/* --- fast pipes ---------------------------------------------------------------------------- */

static double local_percent(const struct path *path, bool has_no_window)
{
	struct scenario scenario = {"local", .there = *path,
		.load = {.source = ENDLESS, .batch = 65536, .has_no_window = has_no_window},
		.run_us = SECONDS(3) / 10};

	simulate(&scenario);
	return (double)sim.ends[0].bulk_bytes;
}

static void local_pipes(void)
{
	for (int i = 0; i < 24; i++) {
		struct path path = {
			.mbit = 8000U << random_below(4),
			.delay_us = 1 + random_below(25),
			.buffer = i % 2 == 0 ? 64 << 10 : 1 << 20,
			.segment = 4096U << random_below(5),
			.pause_us = (uint64_t)random_below(3) * random_below(10000),
			.pause_every_us = 5000 + random_below(100000),
		};
		double percent = 100 * local_percent(&path, false) / local_percent(&path, true);

		check_that(percent >= 97, "%.0f Mbit/s, %d us, buffer %d: %.1f %% of none",
			path.mbit, (int)path.delay_us, (int)path.buffer, percent);
	}
}

/* --- one window ---------------------------------------------------------------------------- */

static struct window window;

static void first_frame(void)
{
	window_init(&window, TARGET_US);
	CHECK_NUMBER(window_in_flight(&window), 0);
	CHECK_NUMBER(window_rate(&window), 0);
	CHECK(window_room(&window, 0) > 0);
	window_sent(&window, 65543, 10, true); /* more than the room */
	CHECK_NUMBER(window_in_flight(&window), 65543);
	CHECK_NUMBER(window_room(&window, SECONDS(100)), 0);
	CHECK(window_opens_us(&window, 10) == never);
	window_acked(&window, 65543, 77, 20010);
	CHECK_NUMBER(window_in_flight(&window), 0);
	CHECK_NUMBER(window_path_us(&window), 20000);
	CHECK_NUMBER(window_rtt_us(&window), 20000);
	CHECK(window_room(&window, 20010) > 0);
}

/* One frame in flight at a time, for want of room: that is a rate too. */
static void frame_by_frame(void)
{
	uint64_t sent = 0, time_us = SECONDS(1);

	window_init(&window, TARGET_US);
	for (int i = 0; i < 100; i++) {
		window_sent(&window, 40000, time_us, true);
		sent += 40000;
		time_us += 20000;
		window_acked(&window, sent, time_us - 10000, time_us);
	}
	CHECK(window_rate(&window) > 1900000 && window_rate(&window) < 2100000);
	CHECK_NUMBER(window_path_us(&window), 20000);
}

static void write_that_waited(void)
{
	window_init(&window, TARGET_US);
	window_sent(&window, 1000, 10, false);
	window_forget_times(&window);
	window_acked(&window, 400, 77, SECONDS(3));
	CHECK_NUMBER(window_in_flight(&window), 600);
	window_acked(&window, 1000, 77, SECONDS(3));
	CHECK_NUMBER(window_in_flight(&window), 0);
	CHECK_NUMBER(window_rtt_us(&window), 0);
	CHECK_NUMBER(window_path_us(&window), 0);
	CHECK_NUMBER(window_rate(&window), 0);
	CHECK(window_room(&window, SECONDS(3)) > 0);
	window_sent(&window, 1000, SECONDS(4), false);
	window_acked(&window, 2000, 77, SECONDS(4) + 20000);
	CHECK_NUMBER(window_rtt_us(&window), 20000);
	CHECK_NUMBER(window_path_us(&window), 20000);
	CHECK(window_rate(&window) <= 50000);
}

static void writes_after_one_that_waited(void)
{
	window_init(&window, TARGET_US);
	window_sent(&window, 1000, 10, true);
	window_forget_times(&window);
	window_sent(&window, 500, SECONDS(3), true);
	window_acked(&window, 1000, 77, SECONDS(3) + 10000);
	CHECK_NUMBER(window_rtt_us(&window), 0);
	window_acked(&window, 1001, 77, SECONDS(3) + 20000); /* the first byte that counts */
	CHECK_NUMBER(window_rtt_us(&window), 20000);
	CHECK_NUMBER(window_in_flight(&window), 499);

	window_init(&window, TARGET_US);
	window_sent(&window, 1000, 10, true);
	window_forget_times(&window);
	window_sent(&window, 500, SECONDS(3), true);
	window_acked(&window, 1500, 77, SECONDS(3) + 30000); /* with the one before */
	CHECK_NUMBER(window_rtt_us(&window), 30000);
}

static void limit(void)
{
	uint64_t sent = 0, time_us = SECONDS(1);

	window_init(&window, TARGET_US);
	for (int i = 0; i < 20; i++) {
		CHECK(window_limit(&window) > 0);
		CHECK(window_room(&window, time_us) == window_limit(&window));
		sent += window_limit(&window);
		window_sent(&window, (size_t)window_limit(&window), time_us, true);
		CHECK_NUMBER(window_in_flight(&window), sent - window.acked);
		CHECK_NUMBER(window_room(&window, SECONDS(1000)), 0);
		time_us += 20000;
		window_acked(&window, sent, time_us, time_us);
		if (i == 0)
			CHECK_NUMBER(window_limit(&window), 2 * sent); /* twice as fast each time */
	}
}

/* Without times a round trip is all there is. */
static void no_time(void)
{
	uint64_t sent = 0, time_us = SECONDS(1), clock_us;

	window_init(&window, TARGET_US);
	for (int i = 0; i < 100; i++) {
		window_sent(&window, 40000, time_us, true);
		sent += 40000;
		time_us += 20000;
		window_acked(&window, sent, WINDOW_NO_TIME, time_us);
	}
	CHECK(window_rate(&window) > 1900000 && window_rate(&window) < 2100000);
	CHECK_NUMBER(window_path_us(&window), 20000);
	CHECK_NUMBER(window_rtt_us(&window), 20000);
	for (int i = 0; i < 100; i++) { /* now it says when, or not */
		window_sent(&window, 40000, time_us, true);
		sent += 40000;
		time_us += 20000;
		clock_us = window.clock_us;
		window_acked(&window, sent,
			i % 3 == 0 ? WINDOW_NO_TIME : SECONDS(5000) + time_us - 10000, time_us);
		if (i % 3 == 0)
			CHECK_NUMBER(window.clock_us, clock_us);
	}
	CHECK(window_rate(&window) > 1900000 && window_rate(&window) < 2100000);
	CHECK(window_path_us(&window) > 19000 && window_path_us(&window) < 21000);
}

/* Round trips are those of the byte read last, however many writes are on their way. */
static void many_writes(void)
{
	window_init(&window, TARGET_US);
	for (uint64_t i = 0; i < 1000; i++)
		window_sent(&window, 10, 1000 * i, true);
	CHECK_NUMBER(window_in_flight(&window), 10000);
	for (uint64_t i = 0; i < 1000; i++) {
		window_acked(&window, 10 * i + 5, 0, 1000000 + 1000 * i);
		if (i == WINDOW_WRITES - 2) /* the last that is not taken together with others */
			CHECK_NUMBER(window_rtt_us(&window), 1000000);
	}
	CHECK_NUMBER(window_in_flight(&window), 5);
	CHECK_NUMBER(window.write_count, 1);
}

/* ACKs are never acknowledged by themselves. */
static void acks_are_not_owed(void)
{
	window_init(&window, TARGET_US);
	for (int i = 0; i < 1000000; i++)
		window_sent_ack(&window, ACK_SIZE);
	CHECK_NUMBER(window_in_flight(&window), 0);
	window_sent(&window, 100, SECONDS(9), false);
	CHECK_NUMBER(window_in_flight(&window), 100);
	window_sent_ack(&window, ACK_SIZE);
	CHECK_NUMBER(window_in_flight(&window), 100);
	window_acked(&window, 1000000 * ACK_SIZE + 100, 5, SECONDS(9) + 10000);
	CHECK_NUMBER(window_in_flight(&window), 0);
	CHECK_NUMBER(window_path_us(&window), 10000);
	window_sent(&window, 100, SECONDS(10), false);
	window_acked(&window, 1000001 * ACK_SIZE + 200, 6, SECONDS(10) + 10000);
	CHECK(window_rate(&window) <= 20000);
}

/* The far clock may do anything, and both may be suspended; the window goes on. */
static void far_clock_is_set(void)
{
	struct scenario scenario = {
		"", .there = {10, .delay_us = 5000}, .load = OVERLOADED, .run_us = SECONDS(6)};
	struct end *end = &sim.ends[0];
	uint64_t jump_us[] = {SECONDS(3600), 0 - SECONDS(3600), SECONDS(1), 0 - SECONDS(1)};

	struct figures figures;

	for (size_t i = 0; i < ARRAY_SIZE(jump_us); i++) {
		simulate(&scenario);
		end->window.clock_us += jump_us[i];
		simulate_more(SECONDS(6));
		figures = figures_of("10 Mbit/s, 5 ms, the far clock jumps", end);
		check_figures(&figures, 20, 95, "after the far clock was set");
	}
}

/* However it came about. */
static void wrong_rate(void)
{
	static const uint64_t rates[] = {0, 1000, 100000, 10000000};
	struct scenario scenario = {
		"", .there = {10, .delay_us = 5000}, .load = OVERLOADED, .run_us = SECONDS(6)};
	struct end *end = &sim.ends[0];
	struct figures figures;

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		simulate(&scenario);
		end->window.rate = rates[i];
		simulate_more(SECONDS(5));
		figures = figures_of("10 Mbit/s, 5 ms, the rate is set", end);
		check_figures(&figures, 20, 95, "after the rate was set");
		CHECK(window_rate(&end->window) > 1200000 && window_rate(&end->window) < 1300000);
	}
}

/* Whatever is sent and acknowledged when: nothing overflows, and the window never stalls. */
static void soak(void)
{
	uint64_t sent = 0, acked = 0, owed = 0, time_us = 0;

	window_init(&window, TARGET_US);
	for (int i = 0; i < 300000; i++) {
		if (i % 50000 == 0) {
			window_init(&window, (uint64_t)random_below(2) * random_below(100000));
			sent = acked = owed = 0;
		}
		time_us += random_below(4) > 0 ? 0 : 1ULL << random_below(i % 1000 == 0 ? 40 : 20);
		switch (random_below(4)) {
		case 0:
			if (owed > acked && window_room(&window, time_us) == 0)
				break;
			sent += 1 + random_below(1U << random_below(17));
			owed = sent;
			window_sent(&window, (size_t)(owed - (window.sent)), time_us,
				random_below(2) > 0);
			break;
		case 1:
			window_sent_ack(&window, ACK_SIZE);
			sent += ACK_SIZE;
			break;
		default:
			acked += random_below((uint32_t)min_u64(sent - acked, UINT32_MAX - 1) + 1);
			window_acked(&window, acked,
				random_below(9) > 0   ? time_us / 3
				: random_below(2) > 0 ? random_state
						      : WINDOW_NO_TIME,
				time_us);
			if (random_below(100) == 0)
				window_forget_times(&window);
		}
		CHECK(window_in_flight(&window) <= sent - acked);
		CHECK(window_in_flight(&window) > 0 || window_room(&window, time_us) > 0);
		CHECK(window_opens_us(&window, time_us) > time_us);
		CHECK(window.limit >= 1500);
		CHECK(window.write_count <= WINDOW_WRITES);
	}
}

int main(void)
{
	test("the first frame may be of any size, and the next waits for its ACK", first_frame);
	test("a window that lets one frame go at a time learns the rate from that", frame_by_frame);
	test("a first write that waits for the far side is no round trip", write_that_waited);
	test("the next write is one, acknowledged alone or with it", writes_after_one_that_waited);
	test("the limit is what may be in flight", limit);
	test("without times of the far side a round trip is known, and the rate", no_time);
	test("more writes than are remembered are taken together", many_writes);
	test("ACKs are not waited for and do not count as what the pipe delivers",
		acks_are_not_owed);
	test("whatever happens when, the window goes on", soak);
	test("through ssh at 10 Mbit/s a sparse frame takes 20 ms beside an overload", ssh_10_mbit);
	test("at 2 Mbit/s and 40 ms it takes 20 ms more", slow_and_far);
	test("at 20 and 100 Mbit/s and 50 ms it takes 15 ms more", fast_and_far);
	test("where delays vary by 30 ms the link stays busy", jitter);
	test("overload in both directions leaves both busy and short", both_ways);
	test("ACKs that come back slowly do no harm", slow_way_back);
	test("without times of the far side an overload is as short", no_times);
	test("without them overload in both directions still gets through", no_times_both_ways);
	test("a far side that comes late finds the window as if it came at once", late_far_side);
	test("within a second after the rate fell to a tenth the queue is gone", rate_steps);
	test("a round trip ten times as long, or short, costs little", round_trip_steps);
	test("an overload after a pause finds the window ready", on_and_off);
	test("a flow that never fills the window does not make it small", requests_only);
	test("bursts with pauses do not make it small", short_bursts);
	test("a flow with congestion control of its own gets the link", polite);
	test("the sizes of frames and writes do not matter", frame_sizes);
	test("a pipe that moves data in large steps stays busy", large_steps);
	test("a local pipe does not notice the window", local_pipes);
	test("the far clock may be set", far_clock_is_set);
	test("a wrong rate is put right within seconds", wrong_rate);
	return tests_end();
}
