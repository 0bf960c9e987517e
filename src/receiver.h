/*
 * The way in, as decisions: bytes of the stream in, data frames out. Control frames are dealt with
 * here. The fields are private. Pure: no descriptor, no clock, no log.
 */
#ifndef RECEIVER_H
#define RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "counters.h"
#include "frame.h"

enum {
	RECEIVER_TEXT_SIZE = 1024 /* for the longest message, of noise */
};

struct receiver {
	struct control *control;   /* borrowed */
	struct counters *counters; /* borrowed */
	struct decoder decoder;
	bool noise_is_over, noise_told;
};

enum receiver_result {
	RECEIVER_DATA,     /* *frame is a data frame */
	RECEIVER_CLOSE,    /* the flow of frame->tag is over on the far side */
	RECEIVER_MORE,     /* no whole frame is left */
	RECEIVER_CORRUPT,  /* final; `error` says what is wrong, and where */
	RECEIVER_MISMATCH, /* final; `error` says how many services each side has */
};

/* Both borrowed objects must outlive the receiver. */
void receiver_init(struct receiver *receiver, struct control *control, struct counters *counters);

/* A stream begins, after control_init(). */
void receiver_begin_stream(struct receiver *receiver);

/*
 * Returns where the next bytes of the stream go and stores in *room how many fit, at least
 * DECODER_ROOM_MIN. receiver_next() has returned RECEIVER_MORE before.
 */
uint8_t *receiver_room(struct receiver *receiver, size_t *room);

/* `length` bytes were put there at `now_us`. */
void receiver_filled(struct receiver *receiver, size_t length, uint64_t now_us);

/* Takes the next frame. *frame is valid until the next receiver_room(). */
enum receiver_result receiver_next(
	struct receiver *receiver, struct frame *frame, char error[static RECEIVER_TEXT_SIZE]);

/* The stream has ended. Returns false, with `error`, if it ended inside a frame. */
bool receiver_end(struct receiver *receiver, char error[static RECEIVER_TEXT_SIZE]);

/*
 * Whether noise came before the first frame (or before the end) that was not told yet. If so,
 * stores a message that shows it, escaped. To be called after receiver_next() and receiver_end().
 */
bool receiver_tells_noise(struct receiver *receiver, char text[static RECEIVER_TEXT_SIZE]);

#endif
