/*
 * The stream of frames, one each way, over one pipe: what uott-enc and uott-dec call. Datagrams are
 * received into a batch and leave from there; frames are taken off one by one. The fields are
 * private. Times are in microseconds on the clock of clock_now_us(), read once a turn.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "counters.h"
#include "pipe.h"
#include "receiver.h"
#include "sender.h"
#include "udp.h"

enum stream_result {
	STREAM_OK,
	STREAM_END, /* of the input, between two frames; of the output, since its reader is gone */
	STREAM_FAILED, /* a message has said why */
};

struct stream {
	struct counters *counters; /* borrowed */
	struct pipe pipe;
	struct control control;
	struct sender sender;
	struct receiver receiver;
	struct batch batch; /* datagrams received in this turn */
	bool is_blocked;    /* the pipe is full */
	enum stream_result output;
	bool has_flows;
	bool has_come; /* a frame from the far side, since the stream began */
};

/*
 * Makes a stream of zeroed memory, some megabytes of which little is touched. Bytes are to wait in
 * the pipe for about `latency_us`; 0 leaves the pipe alone. Returns false without memory.
 */
bool stream_init(struct stream *stream, struct counters *counters, uint64_t latency_us);
void stream_free(struct stream *stream);

/* The pipe, to be opened before stream_begin(), to be watched, and to be closed at the end. */
struct pipe *stream_pipe(struct stream *stream);

/*
 * The pipe is open: a stream begins in each direction that it has. Frames of the former stream
 * still wait under their former tags: see stream_waiting().
 */
void stream_begin(
	struct stream *stream, bool is_dec, uint16_t services, bool has_way_back, uint64_t now_us);

/* The pipe is about to be closed; until stream_begin() everything waits. */
void stream_pause(struct stream *stream, uint64_t now_us);

/* --- datagrams to frames ------------------------------------------------------------------- */

/*
 * Receives a batch from the socket, without waiting. *first is the first of the datagrams returned;
 * they are valid until the next call or the next stream_flush(). *kernel_drops as for
 * udp_receive().
 */
size_t stream_receive(struct stream *stream, int socket, uint32_t *kernel_drops,
	struct datagram **first, uint64_t now_us);

/* Sends a datagram (or a run) just received as a frame (or frames) of the flow `tag`. */
void stream_send(struct stream *stream, uint16_t tag, struct datagram *datagram);

/*
 * A flow is over: drops its frames that wait (DROP_STALE), and says CLOSE if the far side
 * understands that. No more may be sent under its tag.
 */
void stream_close_flow(struct stream *stream, uint16_t tag, uint64_t now_us);

/* Whether the far side will answer a CLOSE. */
bool stream_has_control(const struct stream *stream);

/* Whether this program has flows: then it proves its life to the far side, in each stream. */
void stream_set_has_flows(struct stream *stream, bool has_flows);

/* The frames that wait, to be numbered anew (queue_recall()) after stream_begin(). */
struct queue *stream_waiting(struct stream *stream);

/* --- frames to datagrams ------------------------------------------------------------------- */

/*
 * Reads the pipe once. stream_next() has returned RECEIVER_MORE before; after STREAM_OK it says
 * what there is.
 */
enum stream_result stream_read(struct stream *stream, uint64_t now_us);

/*
 * Takes the next frame of what was read, valid until the next stream_read(). RECEIVER_CORRUPT and
 * RECEIVER_MISMATCH: a message has said what is wrong.
 */
enum receiver_result stream_next(struct stream *stream, struct frame *frame);

/* dec: returns the service of a tag. */
uint16_t stream_service(const struct stream *stream, uint16_t tag);

/* Whether the far side has acknowledged anything. */
bool stream_was_acked(const struct stream *stream);

/* --- turns --------------------------------------------------------------------------------- */

/* The end of a turn: writes what may leave, while the pipe has room. */
void stream_flush(struct stream *stream, uint64_t now_us);

/* Whether anything can still be written. */
enum stream_result stream_output(const struct stream *stream);

/* Whether stream_resume() is to be called when the pipe has room. */
bool stream_is_blocked(const struct stream *stream);
void stream_resume(struct stream *stream);

/* The reader of the pipe is gone: stream_output() is STREAM_END. */
void stream_reader_is_gone(struct stream *stream);

/* When to flush again, and to ask whether the transport is dead, if nothing else happens. */
uint64_t stream_deadline_us(const struct stream *stream, uint64_t now_us);

/* Whether the far side has said nothing for 45 s, though it should have. */
bool stream_is_dead(const struct stream *stream, uint64_t now_us);

/* --- the end ------------------------------------------------------------------------------- */

/* From now on all that waits leaves as soon as the pipe takes it. */
void stream_hurry(struct stream *stream);

/* Whether anything waits that can still leave. */
bool stream_has_work(const struct stream *stream);

/* Drops what still waits. Returns NULL, or what to say of a frame that was cut. */
const char *stream_end(struct stream *stream, uint64_t now_us);

#endif
