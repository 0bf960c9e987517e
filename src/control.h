/*
 * What two of ours say to each other besides datagrams: HELLO, ACK, CLOSE, PING and TIME; see
 * uott(5). Knows what is due and what is owed. Pure: time is an argument, bytes go through the
 * caller.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"
#include "tags.h"

enum {
	CONTROL_URGENT_MAX = 4 * FRAME_HEADER_SIZE + 2 + 4 + 8, /* HELLO, PING, TIME and ACK */
	CONTROL_ACK_SIZE = FRAME_HEADER_SIZE + 8,
	CONTROL_TIME_SIZE = FRAME_HEADER_SIZE + 4,
	CONTROL_CLOSE_SIZE = FRAME_HEADER_SIZE + 2,
	CONTROL_CLOSES_MAX = 64 * CONTROL_CLOSE_SIZE,
	CONTROL_ERROR_SIZE = 128,
};

struct control {
	bool is_dec, has_way_back;
	bool data_seen; /* the first data frame was read */
	bool hello_due, hello_sent, hello_received;
	bool input_ended; /* the far side says nothing any more */
	bool ack_due;
	bool time_wanted;       /* frames wait here, and ACKs with them */
	uint64_t told, told_us; /* what the last ACK said, and when */
	uint64_t consumed;      /* bytes read of the other stream, */
	uint64_t heard_us;      /* the last of them then */
	uint64_t sent;          /* bytes of our stream that have left, */
	uint64_t owed;          /* up to where the far side has to say that it has read them, */
	uint64_t acked;         /* and has said so */
	bool has_far_time;      /* and when, */
	uint32_t far_us;        /* by its own clock */
	bool time_came;         /* for the ACK that follows: */
	uint32_t time_us;
	uint64_t quiet_us;  /* since when nothing was sent, */
	uint64_t silent_us; /* nothing heard, or nothing owed before */
	uint32_t close_first, close_count;
	uint8_t close_due[TAGS / 8]; /* a bit for each tag */
	uint16_t closes[TAGS];       /* a ring of those that are due */
};

/* A stream begins, in which control frames may be sent only if it has a way back. */
void control_init(struct control *control, bool is_dec, bool has_way_back, uint64_t now_us);

/* Whether the far side understands control frames, and knows that we do. */
bool control_is_on(const struct control *control);

/* The other stream has ended: nothing will be acknowledged any more. */
void control_input_ended(struct control *control);

/* Something was read. */
void control_heard(struct control *control, uint64_t now_us);

/*
 * All frames that were read whole have been dealt with; `consumed` bytes of the stream have come,
 * the last `part` of them of an unfinished frame. The far side is to be told of a part, unless it
 * may be that of an ACK; and of many ACKs, lest it wait for that.
 */
void control_consumed(struct control *control, uint64_t consumed, size_t part);

/* A data frame was read: the far side is to be told. The tag of the first one tells who it is. */
void control_data_frame(struct control *control, uint16_t tag);

/*
 * Takes a control frame. Returns false if it may not come here or is not as it should be, and says
 * what is wrong in `error`. What CLOSE means is the caller's.
 */
bool control_accept(
	struct control *control, const struct frame *frame, char error[static CONTROL_ERROR_SIZE]);

/* CLOSE is due for the tag, as a question or an answer; if control_is_on(). */
void control_close(struct control *control, uint16_t tag);

/*
 * Writes the frames that are due and go before all data. Returns how many bytes, 0 when nothing is
 * due. They count as said. *ack_size of the bytes, at the end, are an ACK, with a TIME before it
 * if that is wanted: where ACKs wait for other bytes, it tells how long these were under way, and
 * one ACK every 5 ms must do.
 */
size_t control_urgent(struct control *control, bool has_flows, uint64_t now_us,
	uint8_t bytes[static CONTROL_URGENT_MAX], size_t *ack_size);

/* The same for CLOSE frames, which must not overtake the data frames of their flows. */
size_t control_closes(struct control *control, uint8_t bytes[static CONTROL_CLOSES_MAX]);

/*
 * `count` bytes of the stream have left. The last `unanswered` of them are an ACK, for which alone
 * the far side sends none.
 */
void control_sent(struct control *control, size_t count, size_t unanswered, uint64_t now_us);

/*
 * Whether the transport is dead: for 45 s nothing came, though something is owed.
 */
bool control_is_dead(const struct control *control, uint64_t now_us);

/*
 * When to look at control_urgent() and control_is_dead() again if nothing else happens, or
 * UINT64_MAX. While the pipe is `blocked`, nothing can be sent.
 */
uint64_t control_deadline_us(const struct control *control, bool has_flows, bool blocked);

#endif
