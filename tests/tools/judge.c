#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "tool.h"

enum {
	PATTERNS = 1024
};

/* What arrives of one flow. */
struct heard {
	uint64_t next; /* one more than the highest sequence number */
	uint64_t seen; /* bit i: that of next - 1 - i was there */
	uint64_t received, window_bytes;
};

/* What arrives of one kind. */
struct tally {
	struct heard flows[FLOWS_MAX + 1];
	uint64_t received, duplicated, reordered;
	uint64_t window_received, window_bytes;
	int64_t *latencies; /* of those sent in the window */
	size_t count, capacity;
	int64_t worst[SECONDS_MAX]; /* the highest latency of those sent in each second */
	size_t seconds;
};

static uint8_t pattern[PATTERNS + DATAGRAM_MAX];
static struct tally tallies[KINDS];
static uint64_t corrupt, misdelivered;
static int64_t window_start, window_end;
static int64_t start; /* of the other end */

static uint64_t scramble(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void judge_start(double window_start_s, double window_end_s)
{
	window_start = (int64_t)(window_start_s * (double)SECOND);
	window_end = (int64_t)(window_end_s * (double)SECOND);
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)scramble(i + 1);
}

/* Neighbours in sequence and flow differ in every byte, so that a mixture of two is noticed. */
static const uint8_t *pattern_of(const struct stamp *stamp)
{
	return pattern + (stamp->sequence * 7 + stamp->flow * UINT64_C(13)) % PATTERNS;
}

uint32_t judge_name(enum kind kind, uint16_t flow)
{
	return ((uint32_t)kind << 16 | flow) + 1;
}

static uint32_t check_of(const struct stamp *stamp)
{
	uint64_t flow = scramble(judge_name(stamp->kind, stamp->flow));

	return (uint32_t)scramble(scramble(flow ^ stamp->sequence) ^ (uint64_t)stamp->sent ^
				  (uint64_t)stamp->start << 1);
}

void judge_write(uint8_t *datagram, struct stamp stamp, size_t size)
{
	stamp.check = check_of(&stamp);
	memcpy(datagram, &stamp, sizeof(stamp));
	memcpy(datagram + sizeof(stamp), pattern_of(&stamp), size - sizeof(stamp));
}

static bool read_datagram(const uint8_t *datagram, size_t size, struct stamp *stamp)
{
	if (size < sizeof(*stamp))
		return false;
	memcpy(stamp, datagram, sizeof(*stamp));
	return stamp->check == check_of(stamp) && stamp->kind < KINDS &&
	       memcmp(datagram + sizeof(*stamp), pattern_of(stamp), size - sizeof(*stamp)) == 0;
}

/* False: that one was there before. */
static bool is_new(struct tally *tally, struct heard *flow, uint64_t sequence)
{
	uint64_t bit;

	if (sequence >= flow->next) {
		uint64_t step = sequence - flow->next + 1;

		flow->seen = step < 64 ? flow->seen << step | 1 : 1;
		flow->next = sequence + 1;
		return true;
	}
	bit = flow->next - 1 - sequence;
	if (bit < 64 && flow->seen & UINT64_C(1) << bit) {
		tally->duplicated++;
		return false;
	}
	if (bit < 64)
		flow->seen |= UINT64_C(1) << bit;
	tally->reordered++;
	return true;
}

static bool in_window(int64_t since_start)
{
	return since_start >= window_start && since_start < window_end;
}

static void note_latency(struct tally *tally, int64_t sent, int64_t latency)
{
	size_t second = (size_t)(sent / SECOND);

	if (second < SECONDS_MAX && latency > tally->worst[second])
		tally->worst[second] = latency;
	if (second < SECONDS_MAX && second >= tally->seconds)
		tally->seconds = second + 1;
	if (!in_window(sent))
		return;
	if (tally->count == tally->capacity) {
		tally->capacity = tally->capacity ? 2 * tally->capacity : 65536;
		tally->latencies = realloc(
			tally->latencies, tally->capacity * sizeof(*tally->latencies));
		if (!tally->latencies)
			err(1, "latencies");
	}
	tally->latencies[tally->count++] = latency;
}

bool judge_arrival(
	const uint8_t *datagram, size_t size, uint32_t *owner, int64_t now, struct stamp *stamp)
{
	struct tally *tally;
	struct heard *flow;

	if (!read_datagram(datagram, size, stamp)) {
		corrupt++;
		return false;
	}
	if (*owner == 0)
		*owner = judge_name(stamp->kind, stamp->flow);
	if (*owner != judge_name(stamp->kind, stamp->flow)) {
		misdelivered++;
		return false;
	}
	if (stamp->start == 0)
		return true;
	tally = &tallies[stamp->kind];
	flow = &tally->flows[stamp->flow];
	if (start == 0)
		start = stamp->start;
	if (!is_new(tally, flow, stamp->sequence))
		return true;
	tally->received++;
	flow->received++;
	if (in_window(now - start)) {
		tally->window_received++;
		tally->window_bytes += size;
		flow->window_bytes += size;
	}
	note_latency(tally, stamp->sent - start, now - stamp->sent);
	return true;
}

static double percentile_ms(const struct tally *tally, double share)
{
	if (tally->count == 0)
		return 0;
	return milliseconds(tally->latencies[(size_t)(share * (double)(tally->count - 1))]);
}

static uint64_t lost(const struct tally *tally)
{
	uint64_t count = 0;

	for (size_t i = 0; i <= FLOWS_MAX; i++)
		count += tally->flows[i].next - tally->flows[i].received;
	return count;
}

/* Jain's index: 1 where all flows got the same, 1/n where one got all. */
static double fairness(const struct tally *tally)
{
	double sum = 0, squares = 0, count = 0;

	for (size_t i = 0; i <= FLOWS_MAX; i++) {
		double share = (double)tally->flows[i].window_bytes;

		sum += share;
		squares += share * share;
		count += tally->flows[i].next > 0;
	}
	return squares > 0 ? sum * sum / (count * squares) : 0;
}

static void report_kind(const char *name, const struct tally *tally)
{
	if (tally->received == 0)
		return;
	qsort(tally->latencies, tally->count, sizeof(*tally->latencies), compare_times);
	printf("got class=%s received=%llu lost=%llu duplicated=%llu reordered=%llu "
	       "window_received=%llu window_bytes=%llu p50_ms=%.3f p99_ms=%.3f max_ms=%.3f "
	       "fairness=%.4f each_second_max_ms=",
		name, (unsigned long long)tally->received, (unsigned long long)lost(tally),
		(unsigned long long)tally->duplicated, (unsigned long long)tally->reordered,
		(unsigned long long)tally->window_received, (unsigned long long)tally->window_bytes,
		percentile_ms(tally, 0.5), percentile_ms(tally, 0.99), percentile_ms(tally, 1),
		fairness(tally));
	for (size_t i = 0; i < tally->seconds; i++)
		printf("%s%.3f", i > 0 ? "," : "", milliseconds(tally->worst[i]));
	printf("\n");
}

void judge_report(void)
{
	report_kind("bulk", &tallies[BULK]);
	report_kind("sparse", &tallies[SPARSE]);
	printf("all corrupt=%llu misdelivered=%llu\n", (unsigned long long)corrupt,
		(unsigned long long)misdelivered);
}
