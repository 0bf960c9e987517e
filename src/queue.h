/*
 * Data frames that the pipe has not taken yet: a queue bounded for all flows together, fair between
 * flows (deficit round robin, flows that send little first: RFC 8290) and kept short within each
 * (CoDel: RFC 8289). It holds whole frames only, and drops whole frames only; each drop is counted.
 * Frames of one flow stay in their order; frames of different flows do not.
 *
 * Frames wait in two stages. In the lanes, one for each tag, they may still be overtaken or
 * dropped. queue_gather() moves those that leave next to `leaving`, where their order is fixed.
 *
 * Times are in microseconds on a clock that never goes back. Pure: no descriptor, no clock, no log.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "counters.h"
#include "frame.h"

enum {
	QUEUE_LEAVING_MAX = 64 * 1024, /* bytes that leave next, at most; or one larger frame */
	QUEUE_PIECES_MAX = 384,
};

/* Frames in their order, by the index of their first block; 0 is none. */
struct frame_list {
	uint32_t first, last;
};

struct lane_list {
	struct lane *first, *last;
};

/*
 * Private. Blocks and lanes that were never needed are not touched. The lanes use 6 MB when a frame
 * of each of the 65,536 tags has waited once, and no more.
 */
struct queue {
	uint64_t target_us, interval_us, stale_us; /* of queue_set_codel(), queue_set_stale() */

	uint8_t *arena;                  /* owned: the blocks */
	struct block *blocks;            /* owned: what is known about each of them */
	struct lane *lanes;              /* owned: by tag */
	struct lane_list *lanes_by_size; /* owned: the lanes with frames, by the blocks they use */
	uint32_t most_blocks;            /* no lane uses more */
	uint32_t block_limit;            /* number of blocks */
	uint32_t blocks_used, blocks_seen; /* now, and ever (block 0, which is none, included) */
	uint32_t free_block;               /* the first of a list of those seen and free; 0: none */

	struct lane_list new_lanes, old_lanes;
	struct frame_list leaving, recalled;
	size_t leaving_bytes;
	uint32_t leaving_blocks;
	size_t frames;       /* that wait, in all stages */
	uint32_t generation; /* number of queue_recall() so far; older lanes are void */
};

/*
 * Makes a queue for `capacity` bytes of frames, at least FRAME_SIZE_MAX; each frame uses a multiple
 * of 512. CoDel is off and no frame gets stale. Returns false without memory.
 */
bool queue_init(struct queue *queue, size_t capacity);

/* Frees the memory; the queue is not used any more. */
void queue_free(struct queue *queue);

/*
 * Sets CoDel's target (the sojourn time to aim for; 0 turns CoDel off) and interval (how long the
 * time is watched before a drop, 1 us to 1 h). May be called at any time.
 */
void queue_set_codel(struct queue *queue, uint64_t target_us, uint64_t interval_us);

/* A frame that has waited longer than `stale_us` does not leave. UINT64_MAX: no limit. */
void queue_set_stale(struct queue *queue, uint64_t stale_us);

/* The number of frames that wait. */
size_t queue_frames(const struct queue *queue);

/*
 * Appends one whole data frame to the lane of its tag. Copies its `size` bytes, at most
 * FRAME_SIZE_MAX. Without room the lane that uses most of it loses frames from its head
 * (DROP_QUEUE_FULL). The new frame itself is dropped only when frames that leave next fill the
 * queue.
 */
void queue_push(struct queue *queue, const uint8_t *frame, size_t size, uint64_t now_us,
	struct counters *counters);

/* Drops all frames of a tag, in all stages, and counts them under `cause`. */
void queue_drop_tag(
	struct queue *queue, uint16_t tag, struct counters *counters, enum counter cause);

/*
 * Chooses the frames that leave next: at most `budget` and QUEUE_LEAVING_MAX bytes together with
 * those chosen before, or one frame of any size if there is none and the budget is not 0. A flow
 * that sends little may use `sparse_extra` bytes more. Drops what CoDel takes out (DROP_CODEL) and
 * what has waited too long (DROP_STALE). Stores the bytes to write and returns the number of
 * pieces; 0 if nothing may leave. The pieces point into the queue and are valid until the next call
 * of any other function.
 */
int queue_gather(struct queue *queue, size_t budget, size_t sparse_extra, uint64_t now_us,
	struct counters *counters, struct iovec pieces[static QUEUE_PIECES_MAX]);

/*
 * Takes off the frames of which the first `written` bytes have left, at most what the pieces had.
 * If a frame was cut, moves its rest to `rest` and stores the size in *rest_size; else stores 0.
 * Returns the number of frames that have left whole.
 */
size_t queue_settle(struct queue *queue, size_t written, uint8_t rest[static FRAME_SIZE_MAX],
	size_t *rest_size);

/*
 * A new stream begins, with new tags. Takes out all frames, in the order in which they would have
 * left; the caller puts them back one by one (below) before it pushes any. Drops those older than
 * `stale_us` (DROP_STALE). No frame of an earlier recall may be left.
 */
void queue_recall(
	struct queue *queue, uint64_t now_us, uint64_t stale_us, struct counters *counters);

/* Stores the old tag of the next recalled frame. Returns false if there is none. */
bool queue_next_recalled(const struct queue *queue, uint16_t *tag);

/* Puts the next recalled frame into the lane of its new tag. It keeps its age. */
void queue_requeue_recalled(struct queue *queue, uint16_t tag);

/* Drops the next recalled frame (DROP_PIPE_CLOSED). */
void queue_drop_recalled(struct queue *queue, struct counters *counters);

#endif
