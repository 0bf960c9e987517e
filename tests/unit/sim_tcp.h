/*
 * TCP over a packet link, one direction of it, in virtual time. What is written arrives in order.
 *
 * The link has a rate, which may step or fade, a delay, which may vary, and a buffer; it may lose
 * packets. Each segment has headers. TCP acknowledges every second one, and packets of the other
 * direction do, too. The congestion window is that of RFC 5681, with the factors of RFC 9438, 4.3.
 * What is lost is sent again after a round trip, and what came meanwhile waits for it.
 */
#ifndef SIM_TCP_H
#define SIM_TCP_H

#include "check.h"
#include "util.h"

#define NEVER UINT64_MAX
#define SECONDS(n) ((uint64_t)((n)*1e9))
#define MILLISECONDS(n) ((uint64_t)((n)*1e6))
#define MICROSECONDS(n) ((uint64_t)(n)*1000)

enum {
	TCP_PAYLOAD = 1448,
	TCP_HEADER = 52,
	TCP_ACK_MS = 40,
	TCP_WINDOW = 10, /* at first, in segments */
	SEGMENTS_MAX = 1 << 16,
	FADE_MS = 20,
};

/* One direction. What is 0 does not happen. */
struct sim_link {
	double mbit, delay_ms;
	double jitter_ms, jitter_every_ms;       /* 0 to that is added, anew that often, in order */
	double step_s, step_mbit, step_delay_ms; /* so it is in every second one of such times */
	double fade;       /* the rate is between twice and 1 of so many, and changes every 20 ms */
	double loss;       /* of a hundred packets */
	bool ignores_loss; /* the congestion window is what fits the link, as with BBR */
	double buffer, burst; /* bytes; a burst passes at once after idleness */
	double login_s;       /* ssh reads nothing before */
	size_t segment;       /* bytes, if it is not TCP_PAYLOAD */
};

struct segment {
	size_t payload;
	uint64_t end; /* when all up to it have come, so much of the stream can be read */
	uint64_t sent_ns;
	bool has_come;
};

struct packet {
	uint64_t segment; /* NEVER: none, TCP acknowledges only */
	uint64_t acks;    /* so many segments of the other direction have come */
	uint64_t arrival_ns;
	bool is_lost;
};

struct lost {
	uint64_t segment, known_ns; /* by the sender */
};

struct tcp {
	struct sim_link link;
	struct tcp *back; /* the other direction */

	struct segment segments[SEGMENTS_MAX]; /* a ring; the counts go on */
	uint64_t written, sent, delivered;
	uint64_t come, acked; /* as the receiver, the sender knows */
	uint64_t stream;      /* bytes that can be read */

	double window, threshold;
	uint64_t in_flight, cut_ns;
	struct lost lost[SEGMENTS_MAX]; /* a ring, to be sent again */
	uint64_t lost_first, lost_end;

	struct packet packets[SEGMENTS_MAX]; /* a ring, under way */
	uint64_t arriving, packets_end;
	uint64_t free_ns, arrival_ns, jitter_ns, jitter_until_ns, fade_until_ns;
	double fade;
	unsigned int unacked; /* segments that have come, and were not acknowledged */
	uint64_t ack_ns;
};

static void tcp_begin(struct tcp *tcp, struct tcp *back, const struct sim_link *link)
{
	memset(tcp, 0, sizeof(*tcp));
	tcp->link = *link;
	tcp->back = back;
	tcp->window = TCP_WINDOW;
	tcp->threshold = 1e9;
	tcp->ack_ns = NEVER;
	tcp->fade = 1;
	if (link->ignores_loss)
		tcp->window = 4 * link->mbit * link->delay_ms * 1e3 / 8 / TCP_PAYLOAD;
}

/* --- the link ------------------------------------------------------------------------------ */

static bool is_stepped(const struct sim_link *link, uint64_t at_ns)
{
	return link->step_s > 0 && at_ns / SECONDS(link->step_s) % 2 == 1;
}

static double link_mbit(struct tcp *tcp, uint64_t at_ns)
{
	const struct sim_link *link = &tcp->link;
	double mbit = is_stepped(link, at_ns) && link->step_mbit > 0 ? link->step_mbit : link->mbit;

	for (; link->fade > 0 && at_ns >= tcp->fade_until_ns;
		tcp->fade_until_ns += MILLISECONDS(FADE_MS)) {
		double factor = 1 + random_below(101) / 200.0;

		tcp->fade *= random_below(2) > 0 ? factor : 1 / factor;
		tcp->fade = tcp->fade > 2 ? 2 : tcp->fade;
		tcp->fade = tcp->fade * link->fade < 1 ? 1 / link->fade : tcp->fade;
	}
	return mbit * tcp->fade;
}

static uint64_t link_delay_ns(struct tcp *tcp)
{
	const struct sim_link *link = &tcp->link;
	double ms = is_stepped(link, tcp->free_ns) && link->step_delay_ms > 0 ? link->step_delay_ms
									      : link->delay_ms;

	if (link->jitter_ms > 0 && tcp->free_ns >= tcp->jitter_until_ns) {
		tcp->jitter_ns = random_below((uint32_t)MILLISECONDS(link->jitter_ms));
		tcp->jitter_until_ns = tcp->free_ns + MILLISECONDS(link->jitter_every_ms);
	}
	return MILLISECONDS(ms) + tcp->jitter_ns;
}

/* A packet leaves when those before it have left, and says too what has come. */
static void link_send(struct tcp *tcp, uint64_t segment, size_t payload, uint64_t now_ns)
{
	const struct sim_link *link = &tcp->link;
	double mbit = link_mbit(tcp, max_u64(now_ns, tcp->free_ns));
	uint64_t burst_ns = MILLISECONDS(link->burst * 8e-3 / mbit);
	uint64_t free_ns = max_u64(tcp->free_ns, now_ns - min_u64(burst_ns, now_ns));
	uint64_t buffer_ns = link->buffer > 0 ? MILLISECONDS(link->buffer * 8e-3 / mbit)
					      : NEVER / 2;
	bool is_full = free_ns > now_ns + buffer_ns;
	bool is_lost = is_full || (link->loss > 0 && random_below(10000) < link->loss * 100);

	if (tcp->packets_end - tcp->arriving == SEGMENTS_MAX)
		abort();
	if (!is_full)
		tcp->free_ns = free_ns + MILLISECONDS((double)(payload + TCP_HEADER) * 8e-3 / mbit);
	tcp->arrival_ns = max_u64(
		tcp->arrival_ns, max_u64(tcp->free_ns, now_ns) + link_delay_ns(tcp));
	tcp->packets[tcp->packets_end++ % SEGMENTS_MAX] = (struct packet){
		segment, tcp->back->come, tcp->arrival_ns, is_lost};
	tcp->back->unacked = 0;
	tcp->back->ack_ns = NEVER;
	if (is_lost && segment != NEVER)
		tcp->lost[tcp->lost_end++ % SEGMENTS_MAX] = (struct lost){
			segment, tcp->arrival_ns + MILLISECONDS(tcp->back->link.delay_ms + 1)};
}

/* --- the sender ---------------------------------------------------------------------------- */

static struct segment *segment_at(struct tcp *tcp, uint64_t number)
{
	return &tcp->segments[number % SEGMENTS_MAX];
}

static void tcp_send(struct tcp *tcp, uint64_t number, uint64_t now_ns)
{
	segment_at(tcp, number)->sent_ns = now_ns;
	tcp->in_flight++;
	link_send(tcp, number, segment_at(tcp, number)->payload, now_ns);
}

/* In each round trip the window becomes smaller once at most. */
static void tcp_lost(struct tcp *tcp, uint64_t sent_ns, uint64_t now_ns)
{
	tcp->in_flight--;
	if (tcp->link.ignores_loss || sent_ns < tcp->cut_ns)
		return;
	tcp->cut_ns = now_ns;
	tcp->window = tcp->threshold = tcp->window * 0.7 > 2 ? tcp->window * 0.7 : 2;
}

static void tcp_run(struct tcp *tcp, uint64_t now_ns)
{
	while (tcp->lost_first < tcp->lost_end) {
		const struct lost *lost = &tcp->lost[tcp->lost_first % SEGMENTS_MAX];

		if (lost->known_ns > now_ns)
			break;
		tcp->lost_first++;
		tcp_lost(tcp, segment_at(tcp, lost->segment)->sent_ns, now_ns);
		tcp_send(tcp, lost->segment, now_ns);
	}
	while (tcp->sent < tcp->written && (double)tcp->in_flight < tcp->window)
		tcp_send(tcp, tcp->sent++, now_ns);
}

static void tcp_append(struct tcp *tcp, size_t payload, uint64_t end)
{
	if (tcp->written - tcp->delivered == SEGMENTS_MAX)
		abort();
	*segment_at(tcp, tcp->written++) = (struct segment){.payload = payload, .end = end};
}

/* Nobody can read it before all has come: `before` is the offset in front of it. */
static void tcp_write(struct tcp *tcp, size_t size, uint64_t before, uint64_t end, uint64_t now_ns)
{
	size_t most = tcp->link.segment > 0 ? tcp->link.segment : TCP_PAYLOAD;

	for (; size > most; size -= most)
		tcp_append(tcp, most, before);
	tcp_append(tcp, size, end);
	tcp_run(tcp, now_ns);
}

static void tcp_hear(struct tcp *tcp, uint64_t come)
{
	double more = (double)(come - tcp->acked);
	bool is_limited = (double)tcp->in_flight * 2 > tcp->window;

	tcp->acked = come;
	tcp->in_flight -= min_u64((uint64_t)more, tcp->in_flight);
	if (!tcp->link.ignores_loss && is_limited)
		tcp->window += tcp->window < tcp->threshold ? more : 0.53 * more / tcp->window;
}

/* --- the receiver --------------------------------------------------------------------------- */

static void tcp_take(struct tcp *tcp, uint64_t number, uint64_t now_ns)
{
	segment_at(tcp, number)->has_come = true;
	tcp->come++;
	while (tcp->delivered < tcp->sent && segment_at(tcp, tcp->delivered)->has_come)
		tcp->stream = segment_at(tcp, tcp->delivered++)->end;
	if (++tcp->unacked == 2)
		link_send(tcp->back, NEVER, 0, now_ns);
	else
		tcp->ack_ns = min_u64(tcp->ack_ns, now_ns + MILLISECONDS(TCP_ACK_MS));
}

static void tcp_arrive(struct tcp *tcp, uint64_t now_ns)
{
	const struct packet *packet = &tcp->packets[tcp->arriving++ % SEGMENTS_MAX];

	if (packet->is_lost)
		return;
	if (packet->segment != NEVER)
		tcp_take(tcp, packet->segment, now_ns);
	if (packet->acks > tcp->back->acked)
		tcp_hear(tcp->back, packet->acks);
	tcp_run(tcp->back, now_ns);
}

static uint64_t tcp_due_ns(const struct tcp *tcp)
{
	uint64_t due_ns = tcp->ack_ns;

	if (tcp->arriving < tcp->packets_end)
		due_ns = min_u64(due_ns, tcp->packets[tcp->arriving % SEGMENTS_MAX].arrival_ns);
	if (tcp->lost_first < tcp->lost_end)
		due_ns = min_u64(due_ns, tcp->lost[tcp->lost_first % SEGMENTS_MAX].known_ns);
	return due_ns;
}

static void tcp_step(struct tcp *tcp, uint64_t now_ns)
{
	if (tcp->arriving < tcp->packets_end &&
		tcp->packets[tcp->arriving % SEGMENTS_MAX].arrival_ns <= now_ns)
		tcp_arrive(tcp, now_ns);
	if (tcp->ack_ns <= now_ns)
		link_send(tcp->back, NEVER, 0, now_ns);
	tcp_run(tcp, now_ns);
}

#endif
