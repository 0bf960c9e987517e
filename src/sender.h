/*
 * The way out: datagrams received become frames and leave through the transport, straight from
 * where they were received or, what the pipe has no room for, through the queue.
 */
#ifndef SENDER_H
#define SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "counters.h"
#include "loop.h"
#include "queue.h"
#include "transport.h"
#include "udp.h"
#include "window.h"

/* Frames back to back, of datagrams that came in one message. */
struct frame_run {
	uint8_t *frames;
	size_t size, count;
};

struct sender {
	struct transport *transport;
	struct loop *loop;
	struct control *control;
	struct counters *counters;

	struct batch batch;               /* datagrams received in this turn, */
	struct frame_run runs[BATCH_MAX]; /* those of them that have become frames, */
	size_t run_count, run_bytes;
	size_t largest;     /* frame of this stream */
	struct queue queue; /* and frames of earlier turns that the pipe had no room for */

	uint64_t latency_us; /* 0: no window */
	bool has_window;     /* the far side acknowledges, or may do so yet */
	struct window window;
	uint64_t acked, far_us;   /* what the window was told last */
	uint64_t held_since_us;   /* since when it is unknown who reads; 0: nothing was sent yet */
	uint64_t loaded_until_us; /* frames have waited not long ago */

	bool blocked; /* the pipe is full: the loop tells when there is room */
	bool gone;    /* nothing can be written any more */
	int error;    /* why, if that was not the reader's end; an errno */
};

/*
 * Makes a sender of zeroed memory, whose other objects are borrowed. Bytes are to wait in the pipe
 * for about `latency_us`; 0 leaves the pipe alone. Returns false without memory.
 */
bool sender_init(struct sender *sender, struct transport *transport, struct loop *loop,
	struct control *control, struct counters *counters, uint64_t latency_us);
void sender_free(struct sender *sender);

/* A stream begins. What waits of the one before is the caller's to deal with. */
void sender_begin_stream(struct sender *sender);

/* The transport is gone for now: everything waits. */
void sender_pause(struct sender *sender);

/*
 * Receives a batch from the socket. *first is the first of the datagrams returned, which are valid
 * until the next call, or the next sender_flush(). *kernel_drops as for udp_receive().
 */
size_t sender_receive(struct sender *sender, int socket, uint32_t *kernel_drops,
	struct datagram **first, uint64_t now_us);

/* Sends a datagram (or a run) just received as a frame (or frames) of the flow `tag`. */
void sender_send(struct sender *sender, uint16_t tag, struct datagram *datagram);

/* Says CLOSE for a flow, of which nothing more may be sent; what waits of it is dropped. */
void sender_close_flow(struct sender *sender, uint16_t tag, uint64_t now_us);

/* Writes what there is, control frames first, as far as the pipe has room, and queues the rest. */
void sender_flush(struct sender *sender, uint64_t now_us);

/* The pipe has room again. */
void sender_resume(struct sender *sender);

/* The end is near: from now on all that the pipe takes is written. */
void sender_hurry(struct sender *sender);

/* When to flush again if nothing else happens, or UINT64_MAX. */
uint64_t sender_deadline_us(const struct sender *sender, uint64_t now_us);

/* Brings what the counters say of the present up to date. */
void sender_measure(struct sender *sender);

/* Whether anything waits that can still leave. */
bool sender_has_work(const struct sender *sender);

#endif
