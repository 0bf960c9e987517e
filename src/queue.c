/*
 * How this works: the bytes of all frames stand in one ring, as they will stand in the stream, so
 * that one write takes as much as the pipe has room for. Where a frame ends is read from its header
 * when its first byte leaves.
 */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "util.h"

bool queue_init(struct queue *queue, size_t capacity)
{
	assert(capacity >= FRAME_SIZE_MAX);
	*queue = (struct queue){.ring = malloc(capacity), .capacity = capacity};
	return queue->ring != NULL;
}

void queue_free(struct queue *queue)
{
	free(queue->ring);
	*queue = (struct queue){0};
}

bool queue_is_empty(const struct queue *queue)
{
	return queue->used == 0;
}

bool queue_is_inside_frame(const struct queue *queue)
{
	return queue->frame_left > 0;
}

static size_t ring_index(const struct queue *queue, size_t offset)
{
	size_t index = queue->head + offset;

	return index < queue->capacity ? index : index - queue->capacity;
}

bool queue_push(struct queue *queue, const uint8_t *frame, size_t size)
{
	size_t tail = ring_index(queue, queue->used);
	size_t first = min_size(size, queue->capacity - tail);

	if (size > queue->capacity - queue->used)
		return false;
	memcpy(queue->ring + tail, frame, first);
	memcpy(queue->ring, frame + first, size - first);
	queue->used += size;
	queue->frames++;
	return true;
}

void queue_push_rest(struct queue *queue, const uint8_t *rest, size_t size)
{
	assert(queue_is_empty(queue) && !queue_is_inside_frame(queue));
	queue_push(queue, rest, size);
	queue->frame_left = size;
}

int queue_peek(const struct queue *queue, struct iovec pieces[static 2])
{
	size_t first = min_size(queue->used, queue->capacity - queue->head);

	pieces[0] = (struct iovec){.iov_base = queue->ring + queue->head, .iov_len = first};
	pieces[1] = (struct iovec){.iov_base = queue->ring, .iov_len = queue->used - first};
	return (first > 0) + (queue->used > first);
}

/* The size of the frame that begins at the head. */
static size_t head_frame_size(const struct queue *queue)
{
	uint8_t length[2] = {queue->ring[ring_index(queue, 6)], queue->ring[ring_index(queue, 7)]};

	return FRAME_HEADER_SIZE + (size_t)le16_load(length);
}

size_t queue_consume(struct queue *queue, size_t size)
{
	size_t completed = 0;

	assert(size <= queue->used);
	while (size > 0) {
		size_t step;

		if (queue->frame_left == 0)
			queue->frame_left = head_frame_size(queue);
		step = min_size(size, queue->frame_left);
		queue->head = ring_index(queue, step);
		queue->used -= step;
		queue->frame_left -= step;
		size -= step;
		completed += queue->frame_left == 0;
	}
	queue->frames -= completed;
	return completed;
}
