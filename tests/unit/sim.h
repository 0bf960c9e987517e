/*
 * Two programs and the pipe between them, in virtual time: a minute takes a moment, and one SEED
 * always gives the same run. Each program has the real control, sender and receiver, and does what
 * stream.c does. What it writes takes this way:
 *
 *   local pipe --> ssh, 2 MiB --> TCP segments --> link: rate, delay, jitter --> other program
 *
 * The local pipe has 16 KiB, and more if the sender says so. ssh wraps what it reads at once. Each
 * segment has headers, and TCP acknowledges every second one over the link of the other direction.
 * A link loses nothing, and queues all that ssh takes. Who has something to do wakes up after 30 to
 * 120 us.
 *
 * End 0 sends 50 sparse datagrams a second, which end 1 echoes; both may send bulk.
 */
#ifndef SIM_H
#define SIM_H

#include "check.h"
#include "receiver.h"
#include "sender.h"
#include "sim_tcp.h"
#include "util.h"

enum {
	LATENCY_US = 5 * US_PER_MS,
	SPARSE_SIZE = 64,
	SPARSE_EVERY_MS = 20,
	BULK_SIZE = 1200,
	POLITE_WINDOW = 64, /* at first */
	WAKE_MIN_US = 30,
	WAKE_MAX_US = 120,
	PIPE_SHORT = 16 * 1024,
	PIPE_LONGEST = 256 * 1024,
	PIPE_ROOM_MIN = 4096,
	SSH_BUFFER = 2 * 1024 * 1024,
	SSH_READ = 16 * 1024,
	SSH_EXTRA = 36,
	STREAM_MAX = 4 * 1024 * 1024, /* bytes written and not read, at most */
	BATCH_MAX = 256 * 1024,
	TIMES_MAX = 4096,
};

struct sim_load {
	double times;   /* what is sent, in rates of the link, or */
	bool is_polite; /* with a congestion control, which halves its window after a drop */
	double from_s, on_s, off_s; /* from then on; alternately, if set */
	uint32_t size;              /* of a datagram, if it is not BULK_SIZE */
};

enum kind {
	SPARSE,
	ECHO,
	BULK,
	REPLY, /* to polite bulk */
	KINDS,
};

enum event {
	EVENT_SPARSE,
	EVENT_BULK,
	EVENT_TURN,
	EVENT_SSH,
	EVENT_TCP,
	EVENTS,
};

struct times {
	uint32_t us[TIMES_MAX];
	size_t count;
};

/* A program, and what it sends until the other one reads it. */
struct sim_end {
	struct counters counters;
	struct control control;
	struct sender sender;
	struct receiver receiver;
	struct sim_link link;
	struct tcp tcp;
	struct sim_load load;

	struct frame_run batch; /* datagrams received since the last turn, in one of ... */
	uint8_t frames[2][BATCH_MAX];
	uint64_t next[KINDS], next_heard[KINDS], lost[KINDS]; /* numbers of datagrams */
	double polite_window;
	uint64_t polite_out, polite_heard_ns, polite_halved_ns;

	bool is_blocked;
	size_t pipe_size;
	uint64_t written, in_ssh, read; /* offsets in the stream */
	uint8_t stream[STREAM_MAX];     /* a ring */

	struct times one_way, round_trip; /* of sparse datagrams */
	uint64_t first_second_ns;         /* the longest round trip of the first second */
	uint64_t bulk_bytes;              /* that have got there */
};

static struct {
	uint64_t now_ns, measured_from_ns;
	uint64_t ahead_us; /* the clock of end 1 */
	struct sim_end ends[2];
	uint64_t due_ns[2 * EVENTS];
} sim;

static struct sim_end *other(const struct sim_end *end)
{
	return &sim.ends[end == &sim.ends[0]];
}

static uint64_t *due_ns(const struct sim_end *end, enum event event)
{
	return &sim.due_ns[(end == &sim.ends[1] ? EVENTS : 0) + event];
}

static void plan(struct sim_end *end, enum event event, uint64_t after_ns)
{
	*due_ns(end, event) = min_u64(*due_ns(end, event), sim.now_ns + after_ns);
}

static void wake(struct sim_end *end, enum event event)
{
	plan(end, event, MICROSECONDS(WAKE_MIN_US + random_below(WAKE_MAX_US - WAKE_MIN_US + 1)));
}

/* The clock of end 1 goes a little faster. */
static uint64_t clock_us(const struct sim_end *end)
{
	uint64_t now_us = sim.now_ns / MICROSECONDS(1);

	return end == &sim.ends[0] ? now_us : now_us + now_us / 5000 + sim.ahead_us;
}

/* --- the pipe ------------------------------------------------------------------------------ */

static void step_tcp(struct sim_end *end)
{
	uint64_t before = end->tcp.stream;

	tcp_step(&end->tcp, sim.now_ns);
	if (end->tcp.stream == before)
		return;
	wake(other(end), EVENT_TURN);
	wake(end, EVENT_SSH); /* it may have room again */
}

static void run_ssh(struct sim_end *end)
{
	uint64_t login_ns = SECONDS(end->link.login_s);

	if (sim.now_ns < login_ns) {
		plan(end, EVENT_SSH, login_ns - sim.now_ns);
		return;
	}
	while (end->in_ssh < end->written && end->in_ssh < end->tcp.stream + SSH_BUFFER) {
		size_t size = (size_t)min_u64(end->written - end->in_ssh, SSH_READ);
		uint64_t before = end->in_ssh;

		end->in_ssh += size;
		tcp_write(&end->tcp, size + SSH_EXTRA, before, end->in_ssh, sim.now_ns);
		if (end->is_blocked)
			wake(end, EVENT_TURN);
		end->is_blocked = false;
	}
}

/* --- a program: datagrams -------------------------------------------------------------------- */

/* One comes. Its frame says when it was sent, when that was sent which it answers, and a number. */
static void receive(struct sim_end *end, enum kind kind, size_t size, uint64_t origin_ns)
{
	uint8_t *frame = (uint8_t *)(uintptr_t)end->batch.frames + end->batch.size;

	if (end->batch.size > BATCH_MAX - FRAME_SIZE_MAX)
		return;
	frame_put_header(frame, FRAME_DATA, (uint16_t)(UINT16_MAX - kind), (uint16_t)size);
	le64_store(frame + FRAME_HEADER_SIZE, sim.now_ns);
	le64_store(frame + FRAME_HEADER_SIZE + 8, origin_ns);
	le64_store(frame + FRAME_HEADER_SIZE + 16, end->next[kind]++);
	end->batch.size += FRAME_HEADER_SIZE + size;
	end->batch.count++;
	wake(end, EVENT_TURN);
}

static void send_batch(struct sim_end *end)
{
	bool is_first = end->batch.frames == end->frames[0];

	if (end->batch.count > 0)
		sender_add(&end->sender, &end->batch, FRAME_HEADER_SIZE + end->load.size);
	end->batch = (struct frame_run){.frames = end->frames[is_first]};
}

static void offer_sparse(struct sim_end *end)
{
	plan(end, EVENT_SPARSE, MILLISECONDS(SPARSE_EVERY_MS));
	receive(end, SPARSE, SPARSE_SIZE, 0);
}

static void offer_bulk(struct sim_end *end)
{
	const struct sim_load *load = &end->load;
	uint64_t period_ns = SECONDS(load->on_s + load->off_s);

	plan(end, EVENT_BULK, MILLISECONDS(load->size * 8e-3 / (load->times * end->link.mbit)));
	if (period_ns == 0 || sim.now_ns % period_ns < SECONDS(load->on_s))
		receive(end, BULK, load->size, 0);
}

/* One more in each round trip. */
static void hear_reply(struct sim_end *end, uint64_t sent_ns)
{
	end->polite_window += 1 / end->polite_window;
	end->polite_out -= end->polite_out > 0;
	end->polite_heard_ns = sent_ns;
}

/* In each round trip the window is halved once at most. */
static void run_polite(struct sim_end *end, uint64_t drops)
{
	end->polite_out -= min_u64(drops, end->polite_out);
	if (drops > 0 && end->polite_heard_ns >= end->polite_halved_ns) {
		end->polite_halved_ns = sim.now_ns;
		end->polite_window /= end->polite_window > 4 ? 2 : 1;
	}
	for (; (double)end->polite_out < end->polite_window; end->polite_out++)
		receive(end, BULK, end->load.size, 0);
}

static uint64_t drops(const struct sim_end *end)
{
	uint64_t sum = 0;

	for (enum counter cause = FIRST_DROP; cause < COUNTERS; cause++)
		sum += end->counters.value[cause];
	return sum;
}

/* --- a program: the pipe ---------------------------------------------------------------------- */

/* Not of the first seconds, and not of the second after a step: a queue has to go first. */
static void add_time(const struct sim_end *from, struct times *times, uint64_t sent_ns)
{
	uint64_t step_ns = SECONDS(from->link.step_s);

	if (sent_ns >= sim.measured_from_ns && (step_ns == 0 || sent_ns % step_ns > SECONDS(1)) &&
		times->count < TIMES_MAX)
		times->us[times->count++] = (uint32_t)((sim.now_ns - sent_ns) / MICROSECONDS(1));
}

static void deliver(struct sim_end *to, const struct frame *frame)
{
	struct sim_end *from = other(to);
	enum kind kind = (enum kind)(UINT16_MAX - frame->tag);
	uint64_t sent_ns = le64_load(frame->payload), origin_ns = le64_load(frame->payload + 8);
	uint64_t number = le64_load(frame->payload + 16);

	check_that(number >= from->next_heard[kind], "a frame has overtaken one of its flow");
	from->lost[kind] += number - from->next_heard[kind];
	from->next_heard[kind] = number + 1;
	if (kind == SPARSE) {
		receive(to, ECHO, frame->length, sent_ns);
		add_time(from, &from->one_way, sent_ns);
	} else if (kind == ECHO) {
		add_time(to, &to->round_trip, origin_ns);
		if (origin_ns - SECONDS(to->link.login_s) < SECONDS(1))
			to->first_second_ns = max_u64(to->first_second_ns, sim.now_ns - origin_ns);
	} else if (kind == REPLY) {
		hear_reply(to, origin_ns);
	} else {
		if (from->load.is_polite)
			receive(to, REPLY, SPARSE_SIZE, sent_ns);
		if (sim.now_ns >= sim.measured_from_ns)
			from->bulk_bytes += FRAME_HEADER_SIZE + (size_t)frame->length;
	}
}

static void read_pipe(struct sim_end *end, uint64_t now_us)
{
	struct sim_end *from = other(end);
	enum receiver_result result = RECEIVER_MORE;
	char error[RECEIVER_TEXT_SIZE] = "CLOSE";
	struct frame frame;

	while (from->read < from->tcp.stream && result == RECEIVER_MORE) {
		size_t at = (size_t)(from->read % STREAM_MAX), room;
		uint8_t *to = receiver_room(&end->receiver, &room);
		size_t size = (size_t)min_u64(from->tcp.stream - from->read, STREAM_MAX - at);

		size = min_size(size, room);
		memcpy(to, from->stream + at, size);
		from->read += size;
		receiver_filled(&end->receiver, size, now_us);
		while ((result = receiver_next(&end->receiver, &frame, error)) == RECEIVER_DATA)
			deliver(end, &frame);
	}
	check_that(result == RECEIVER_MORE, "what came is wrong: %s", error);
}

static size_t pipe_room(const struct sim_end *end)
{
	return end->pipe_size - min_size((size_t)(end->written - end->in_ssh), end->pipe_size);
}

/* Writes what the local pipe takes, and returns how much that is. */
static size_t write_pieces(struct sim_end *end, const struct iovec *pieces, int count)
{
	uint64_t before = end->written;

	for (int i = 0; i < count && !end->is_blocked; i++) {
		size_t size = min_size(pieces[i].iov_len, pipe_room(end));
		size_t at = (size_t)(end->written % STREAM_MAX);
		size_t part = min_size(size, STREAM_MAX - at);

		memcpy(end->stream + at, pieces[i].iov_base, part);
		memcpy(end->stream, (uint8_t *)pieces[i].iov_base + part, size - part);
		end->written += size;
		end->is_blocked = size < pieces[i].iov_len;
	}
	wake(end, EVENT_SSH);
	return (size_t)(end->written - before);
}

static void flush(struct sim_end *end, uint64_t now_us)
{
	struct sender *sender = &end->sender;
	struct iovec pieces[SENDER_PIECES_MAX];
	int count = 1;

	while (count > 0 && !end->is_blocked) {
		size_t room = max_size(pipe_room(end), PIPE_ROOM_MIN), written;

		room = sender_has_queue(sender) ? room : SIZE_MAX;
		count = sender_gather(sender, room, now_us, pieces);
		written = write_pieces(end, pieces, count);
		if (count > 0)
			sender_settle(sender, written, now_us);
	}
	sender_hold(sender, now_us);
	sender_update_counters(sender);
	end->pipe_size = max_size(end->pipe_size, min_size(sender_pipe_size(sender), PIPE_LONGEST));
}

static void turn(struct sim_end *end)
{
	uint64_t now_us = clock_us(end), before = drops(end), deadline_us;

	send_batch(end);
	read_pipe(end, now_us);
	flush(end, now_us);
	if (end->load.is_polite)
		run_polite(end, drops(end) - before);
	deadline_us = control_deadline_us(&end->control, end->is_blocked);
	if (!end->is_blocked)
		deadline_us = min_u64(deadline_us, sender_deadline_us(&end->sender, now_us));
	CHECK(deadline_us > now_us);
	if (deadline_us < NEVER)
		plan(end, EVENT_TURN, MICROSECONDS(deadline_us - now_us + WAKE_MIN_US));
}

/* --- the simulation ------------------------------------------------------------------------- */

static void sim_run_until(double until_s)
{
	static void (*const handlers[EVENTS])(struct sim_end *) = {
		[EVENT_SPARSE] = offer_sparse,
		[EVENT_BULK] = offer_bulk,
		[EVENT_TURN] = turn,
		[EVENT_SSH] = run_ssh,
		[EVENT_TCP] = step_tcp,
	};

	for (;;) {
		size_t next = 0;

		for (int i = 0; i < 2; i++)
			*due_ns(&sim.ends[i], EVENT_TCP) = tcp_due_ns(&sim.ends[i].tcp);
		for (size_t i = 1; i < 2 * EVENTS; i++)
			next = sim.due_ns[i] < sim.due_ns[next] ? i : next;
		if (sim.due_ns[next] >= SECONDS(until_s))
			break;
		sim.now_ns = sim.due_ns[next];
		sim.due_ns[next] = NEVER;
		handlers[next % EVENTS](&sim.ends[next / EVENTS]);
	}
	sim.now_ns = SECONDS(until_s);
}

static void begin_end(struct sim_end *end, const struct sim_link *link, const struct sim_load *load)
{
	bool is_dec = end == &sim.ends[1];

	end->link = *link;
	tcp_begin(&end->tcp, &other(end)->tcp, link);
	end->load = *load;
	end->load.size = load->size > 0 ? load->size : BULK_SIZE;
	end->batch.frames = end->frames[0];
	end->polite_window = POLITE_WINDOW;
	end->pipe_size = PIPE_SHORT;
	if (!is_dec)
		plan(end, EVENT_SPARSE, 0);
	if (load->times > 0)
		plan(end, EVENT_BULK, SECONDS(load->from_s));
	if (!sender_init(&end->sender, &end->control, &end->counters, LATENCY_US))
		abort();
	receiver_init(&end->receiver, &end->control, &end->counters);
	control_init(&end->control, is_dec, 1, true, clock_us(end));
	receiver_begin_stream(&end->receiver);
	sender_begin_stream(&end->sender);
}

/* Begins; each end has its own link and load. sim_finish() is to follow. */
static void sim_begin(
	const struct sim_link links[2], const struct sim_load loads[2], double measured_from_s)
{
	memset(&sim, 0, sizeof(sim));
	memset(sim.due_ns, 0xff, sizeof(sim.due_ns)); /* NEVER */
	sim.measured_from_ns = SECONDS(measured_from_s);
	sim.ahead_us = UINT32_MAX - 5 * US_PER_SECOND; /* TIME has 32 bits, which soon overflow */
	for (int i = 0; i < 2; i++)
		begin_end(&sim.ends[i], &links[i], &loads[i]);
}

/* Every datagram is in exactly one place. */
static void sim_finish(void)
{
	for (int i = 0; i < 2; i++) {
		struct sim_end *end = &sim.ends[i];
		const uint64_t *value = end->counters.value, *next = end->next;
		uint64_t gone = value[FRAMES_OUT] + value[QUEUED] + drops(end);

		CHECK_NUMBER(gone + end->batch.count,
			next[SPARSE] + next[ECHO] + next[BULK] + next[REPLY]);
		CHECK_NUMBER(value[STREAM_OUT_BYTES], end->written);
		CHECK(!control_is_dead(&end->control, clock_us(end)));
		sender_free(&end->sender);
	}
}

static int by_size(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* So many of a hundred took no more than the ms returned. */
static double sim_percentile(struct times *times, size_t percent)
{
	qsort(times->us, times->count, sizeof(times->us[0]), by_size);
	return times->count > 0 ? times->us[(times->count - 1) * percent / 100] / 1e3 : 1e9;
}

/* Frames of bulk that were read, in percent of what TCP carries over the link. */
static double sim_share(const struct sim_end *end)
{
	const struct sim_link *link = &end->link;
	double mbit = link->step_mbit > 0 ? (link->mbit + link->step_mbit) / 2 : link->mbit;
	double most = mbit / 8e3 * TCP_PAYLOAD / (TCP_PAYLOAD + TCP_HEADER); /* bytes a ns */

	return 100 * (double)end->bulk_bytes / (most * (double)(sim.now_ns - sim.measured_from_ns));
}

#endif
