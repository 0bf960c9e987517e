/*
 * The way in: reads the transport, takes its stream apart, and says what is wrong with it.
 */
#ifndef RECEIVER_H
#define RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "counters.h"
#include "frame.h"
#include "transport.h"

struct receiver {
	const struct transport *transport;
	struct control *control;
	struct counters *counters;
	struct decoder decoder;
	bool noise_reported;
};

enum receiver_result {
	RECEIVER_OK,    /* something was read, or nothing was there; a frame was taken */
	RECEIVER_MORE,  /* no whole frame is left of what was read */
	RECEIVER_END,   /* of the stream, between two frames */
	RECEIVER_ERROR, /* the stream is cut, corrupt or unreadable; a message has said why */
};

/* Makes a receiver whose other objects are borrowed. */
void receiver_init(struct receiver *receiver, const struct transport *transport,
	struct control *control, struct counters *counters);

/* A stream begins. */
void receiver_begin_stream(struct receiver *receiver);

/* Reads once. Returns RECEIVER_OK, RECEIVER_END or RECEIVER_ERROR. */
enum receiver_result receiver_read(struct receiver *receiver, uint64_t now_us);

/*
 * Takes the next frame of what was read, valid until the next receiver_read(): a data frame, or
 * CLOSE, which is checked. Other control frames have been dealt with. Returns RECEIVER_OK,
 * RECEIVER_MORE or RECEIVER_ERROR.
 */
enum receiver_result receiver_next(struct receiver *receiver, struct frame *frame);

#endif
