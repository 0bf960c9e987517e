/*
 * The way out, as decisions: which bytes of the stream leave next, and when. Data frames leave
 * straight from where they were received, or wait in the queue while the delivery window or the
 * pipe has no room. Control frames leave first. The fields are private.
 *
 * One write is three steps: sender_gather() says what may leave, the caller writes it, and
 * sender_settle() hears how much has left.
 *
 * Times are in microseconds on a clock that never goes back. Pure: no descriptor, no clock, no log.
 */
#ifndef SENDER_H
#define SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "control.h"
#include "counters.h"
#include "queue.h"
#include "window.h"

enum {
	SENDER_RUNS_MAX = 64, /* between two sender_gather() or sender_hold() */
	SENDER_PIECES_MAX = 1 + QUEUE_PIECES_MAX,
};

/* Whole data frames, back to back. */
struct frame_run {
	const uint8_t *frames;
	size_t size, count;
};

struct sender {
	struct control *control;   /* borrowed */
	struct counters *counters; /* borrowed */

	struct frame_run runs[SENDER_RUNS_MAX]; /* new frames, borrowed */
	size_t run_count, run_bytes;
	size_t largest_frame; /* of this stream */
	struct queue queue;   /* frames that wait */

	/* What leaves before all frames: the rest of a cut data frame, and control frames. */
	uint8_t head[FRAME_SIZE_MAX + CONTROL_BYTES_MAX];
	size_t head_start, rest_end, head_end;
	size_t ack_size; /* so many bytes at its end are an ACK */
	bool takes_runs; /* the last sender_gather() took the runs, not the queue */

	uint64_t latency_us;
	bool has_window;
	struct window window;
	uint64_t acked, far_us;  /* what the window was told last */
	uint64_t probe_since_us; /* when the first byte left; 0: none has */
};

/*
 * Makes a sender of zeroed memory; both borrowed objects must outlive it. Bytes are to wait in the
 * pipe for about `latency_us`; 0 leaves the pipe alone. Returns false without memory.
 */
bool sender_init(struct sender *sender, struct control *control, struct counters *counters,
	uint64_t latency_us);
void sender_free(struct sender *sender);

/*
 * A stream begins, after control_init(). The queue stays as it is; what the former stream had begun
 * to send is dropped (DROP_PIPE_CLOSED).
 */
void sender_begin_stream(struct sender *sender);

/*
 * Adds a run, of frames that are no larger than `largest_frame`. The bytes are borrowed until the
 * next sender_settle() or sender_hold().
 */
void sender_add(struct sender *sender, const struct frame_run *run, size_t largest_frame);

/* Whether frames wait that were added in earlier turns. */
bool sender_has_queue(const struct sender *sender);

/*
 * Stores the bytes that may leave now, and returns the number of pieces; 0: nothing may.
 * `pipe_room` is how many bytes the pipe can be expected to take. The pieces are valid until the
 * next call. sender_settle() follows, if the number is not 0.
 */
int sender_gather(struct sender *sender, size_t pipe_room, uint64_t now_us,
	struct iovec pieces[static SENDER_PIECES_MAX]);

/* The first `written` bytes of the pieces have left; the rest waits. */
void sender_settle(struct sender *sender, size_t written, uint64_t now_us);

/* For a turn in which nothing may be written: moves the runs to the queue. */
void sender_hold(struct sender *sender, uint64_t now_us);

/* When to gather again if nothing else happens; UINT64_MAX: never. For a pipe that has room. */
uint64_t sender_deadline_us(const struct sender *sender, uint64_t now_us);

/* Whether the window may come to limit what is under way, so that the pipe should hold little. */
bool sender_has_window(const struct sender *sender);

/* How many bytes the pipe should be able to hold; 0: it may stay as it is. */
size_t sender_pipe_size(const struct sender *sender);

/* Drops all frames of a flow that is over (DROP_STALE), and says CLOSE if the far side listens. */
void sender_close_flow(struct sender *sender, uint16_t tag, uint64_t now_us);

/* The end is near: from now on everything may leave that the pipe takes. */
void sender_disable_window(struct sender *sender);

/* The frames that wait, for queue_recall() and what follows it. */
struct queue *sender_queue(struct sender *sender);

/* Whether anything waits. */
bool sender_is_empty(const struct sender *sender);

/* Whether the last byte that has left is not the last one of its frame. */
bool sender_is_inside_frame(const struct sender *sender);

/* Drops all that waits (DROP_PIPE_CLOSED). */
void sender_drop_all(struct sender *sender, uint64_t now_us);

/* Brings the counters of the present up to date: QUEUED, IN_FLIGHT, RATE, RTT_US. */
void sender_update_counters(const struct sender *sender);

#endif
