/*
 * Frames that the pipe has not taken yet: a bounded queue of whole frames, of which only the first
 * may be partly gone. Pure: no descriptor, no clock, no message.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct queue {
	uint8_t *ring; /* owned */
	size_t capacity;
	size_t head;       /* index of the first byte */
	size_t used;       /* bytes queued */
	size_t frames;     /* that these bytes belong to */
	size_t frame_left; /* bytes to come of a frame whose first byte has left; else 0 */
};

/*
 * Makes a queue of `capacity` bytes, at least FRAME_SIZE_MAX. Returns false without memory.
 */
bool queue_init(struct queue *queue, size_t capacity);
void queue_free(struct queue *queue);

bool queue_is_empty(const struct queue *queue);

/* Whether the first bytes of a frame have left and the last ones have not. */
bool queue_is_inside_frame(const struct queue *queue);

/*
 * Appends one whole frame, copying its `size` bytes. Returns false, and takes nothing, when it
 * does not fit.
 */
bool queue_push(struct queue *queue, const uint8_t *frame, size_t size);

/*
 * Appends what is left of a frame whose first bytes are gone already. The queue must be empty.
 */
void queue_push_rest(struct queue *queue, const uint8_t *rest, size_t size);

/* The queued bytes, oldest first, in up to two pieces; returns how many. */
int queue_peek(const struct queue *queue, struct iovec pieces[static 2]);

/*
 * Takes off the `size` oldest bytes, which have left. Returns how many frames were completed.
 */
size_t queue_consume(struct queue *queue, size_t size);

#endif
