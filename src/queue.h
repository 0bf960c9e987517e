/*
 * Frames that the pipe has not taken yet: a queue bounded for all flows together, fair between them
 * (deficit round robin, flows that send little first: RFC 8290) and kept short within each (CoDel:
 * RFC 8289). Only whole frames are dropped, never one whose first byte has left, and each one is
 * counted. Frames of a flow stay in their order; those of different flows do not.
 *
 * Frames wait in two stages. In the lanes, one per tag, they may still be dropped or overtaken. The
 * few that leave next are in `leaving`, and will be written as they stand there.
 *
 * Time is an argument and never goes back. Pure: no descriptor, no clock, no message.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "counters.h"

enum {
	QUEUE_LEAVING_MAX = 64 * 1024, /* bytes of data frames that are to leave next */
	QUEUE_CONTROL_MAX = 1024,      /* bytes of one queue_push_control() */
	QUEUE_PIECES_MAX = 384,
};

/* Frames in their order, by the indexes of their first blocks; 0 is none. */
struct frame_list {
	uint32_t first, last;
};

struct lane_list {
	struct lane *first, *last;
};

struct queue {
	/* Set by queue_init(), and by the user at any time. */
	uint64_t target_us;   /* CoDel: the waiting time to aim for; 0 turns CoDel off */
	uint64_t interval_us; /* CoDel: how long to watch it before a drop; at most an hour */
	uint64_t stale_us;    /* what has waited longer does not leave; UINT64_MAX: no limit */
	size_t sparse_extra;  /* bytes that flows with little may take beyond the budget */

	/* To be read only. */
	size_t frames; /* data frames that wait, in all stages */

	/* Private. */
	uint8_t *arena;            /* owned: block_limit blocks and the reserve */
	struct block *blocks;      /* owned: what is known about each of them */
	struct lane *lanes;        /* owned: by tag */
	struct lane_list *shelves; /* owned: the lanes with frames, by the blocks these take */
	uint32_t fattest;          /* the highest shelf in use is not above */
	uint32_t block_limit;      /* so many blocks may be used by whole data frames, */
	uint32_t blocks_used;      /* so many are in use now, */
	uint32_t blocks_seen;      /* and so many have ever been, block 0 included */
	uint32_t free_block;       /* the first of a list of those seen and free again; 0: none */

	struct lane_list new_lanes, old_lanes;
	struct frame_list leaving, recalled;
	size_t leaving_bytes; /* of data frames in `leaving` that have not left */
	size_t gone;          /* bytes of the first entry of `leaving` that have left its blocks */
	bool inside_frame;    /* that entry has begun to leave, even if not from its blocks */
	int controls;         /* entries of control frames in `leaving`, two at most */
	uint32_t stream;      /* how many queue_recall() there were; older lanes are void */
};

/*
 * Makes a queue for `capacity` bytes of whole frames, at least FRAME_SIZE_MAX; each frame takes a
 * multiple of 512. CoDel is off, its interval 100 ms, and nothing ever stale. Memory that is never
 * needed is never touched. Returns false without memory.
 */
bool queue_init(struct queue *queue, size_t capacity);
void queue_free(struct queue *queue);

/* Whether nothing waits, in any stage: neither frames nor control bytes. */
bool queue_is_empty(const struct queue *queue);

/* Whether the first bytes of a frame have left and the last ones have not. */
bool queue_is_inside_frame(const struct queue *queue);

/* Whether bytes of control frames wait: then no more may be put in. */
bool queue_has_control(const struct queue *queue);

/*
 * Appends one whole data frame to the lane of its tag, copying its `size` bytes, at most
 * FRAME_SIZE_MAX. Where room is short, the lane that takes most of it loses frames from its head
 * (DROP_QUEUE_FULL); the new frame is lost only when all room is taken by frames that leave next.
 */
void queue_push(struct queue *queue, const uint8_t *frame, size_t size, uint64_t now_us,
	struct counters *counters);

/*
 * Appends what is left of a frame whose first bytes are gone already: `size` bytes, fewer than
 * FRAME_SIZE_MAX, at the end of a data frame or of a control frame. Nothing may be about to leave
 * (queue_peek() found nothing, or all of it was consumed). There is always room.
 */
void queue_push_rest(struct queue *queue, const uint8_t *rest, size_t size, bool is_data);

/*
 * Puts `size` bytes, at most QUEUE_CONTROL_MAX, of whole control frames before all that waits,
 * except for the rest of a frame that has begun to leave. queue_has_control() must be false. There
 * is always room.
 */
void queue_push_control(struct queue *queue, const uint8_t *bytes, size_t size);

/*
 * The same behind all frames that are to leave next, so that they come first; and once more after a
 * queue_push_control().
 */
void queue_push_last(struct queue *queue, const uint8_t *bytes, size_t size);

/* Drops, with that cause, all frames of a tag that may still be dropped. */
void queue_drop_tag(
	struct queue *queue, uint16_t tag, struct counters *counters, enum counter cause);

/*
 * Chooses which frames leave next, at most `budget` and QUEUE_LEAVING_MAX bytes with those chosen
 * before; but one frame of any size if there is none and budget > 0. Flows that send little have
 * `sparse_extra` bytes more. Frames that CoDel takes out (DROP_CODEL) and that have waited too long
 * (DROP_STALE) are dropped here. Stores what is to be written, as far as the pieces suffice, and
 * returns their number; 0 when nothing may leave. The pieces are valid until queue_consume() or
 * queue_recall().
 */
int queue_peek(struct queue *queue, size_t budget, uint64_t now_us, struct counters *counters,
	struct iovec pieces[static QUEUE_PIECES_MAX]);

/*
 * Takes off `size` bytes, which have left; no more than the pieces had. Returns how many data
 * frames were completed.
 */
size_t queue_consume(struct queue *queue, size_t size);

/*
 * A new stream begins, with new tags. All whole frames are taken out, in the order in which they
 * would have left, to be put back one by one (below) before anything is pushed. Those older than
 * `stale_us` are dropped (DROP_STALE), and a data frame that has begun to leave, too
 * (DROP_PIPE_CLOSED); control bytes vanish. No frame recalled earlier may be left.
 */
void queue_recall(
	struct queue *queue, uint64_t now_us, uint64_t stale_us, struct counters *counters);

/* Stores the tag, of the stream before, of the next recalled frame. Returns false without one. */
bool queue_next_recalled(const struct queue *queue, uint16_t *tag);

/* Puts the next recalled frame into the lane of its new tag. Its age stays what it is. */
void queue_requeue_recalled(struct queue *queue, uint16_t tag);

/* Drops the next recalled frame (DROP_PIPE_CLOSED). */
void queue_drop_recalled(struct queue *queue, struct counters *counters);

#endif
