/*
 * Congestion control in the manner of TCP: slow start, then one datagram more each round trip; half
 * on a loss, once for all the losses of one window. The path keeps the order, so a gap is a loss.
 */
#ifndef CONGESTION_H
#define CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

struct congestion {
	double window, threshold; /* in datagrams */
	double least, most;
	uint64_t answered; /* below that, all are answered or lost */
	uint64_t recovery; /* a loss below that has been heeded */
	int64_t round_trip, heard_at;
};

/* The window begins with first, and stays between least and most. */
void congestion_start(struct congestion *c, double first, double least, double most);

/* Whether one more may be sent. next is its sequence number. */
bool congestion_allows(struct congestion *c, uint64_t next, int64_t now);

/* The one with that sequence number, sent at that time, is answered. */
void congestion_answer(
	struct congestion *c, uint64_t sequence, uint64_t next, int64_t sent, int64_t now);

#endif
