/*
 * Datagrams that can be judged, and what arrives of them. Each carries its flow, a sequence number,
 * the time it was sent and a pattern, so that lost, doubled, reordered, corrupt and misdelivered
 * ones are known. Both ends must run on one machine: they share its clock.
 */
#ifndef JUDGE_H
#define JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DATAGRAM_MAX = 65507,
	FLOWS_MAX = 65535,
	SECONDS_MAX = 3600,
};

enum kind {
	BULK,
	SPARSE,
	KINDS
};

/* In front of every datagram. check depends on all the rest. */
struct stamp {
	uint32_t check;
	uint16_t kind, flow;
	uint64_t sequence;
	int64_t start; /* when its sender began; 0: before that, and such a one is not counted */
	int64_t sent;
};

/* Seconds count from the start of the first sender that is heard. Reports leave out what was sent
 * (latencies) or arrived (counts) outside of the window. */
void judge_start(double window_start_s, double window_end_s);

/* size is at least that of the stamp. */
void judge_write(uint8_t *datagram, struct stamp stamp, size_t size);

/* The name of a flow: never 0. */
uint32_t judge_name(enum kind kind, uint16_t flow);

/* owner names the flow whose datagrams belong where this one came to; if it is 0, this one sets it.
 * False: corrupt or misdelivered. */
bool judge_arrival(
	const uint8_t *datagram, size_t size, uint32_t *owner, int64_t now, struct stamp *stamp);

/* A line for each kind that arrived, and one for all. */
void judge_report(void);

#endif
