/*
 * What two of our programs say to each other besides datagrams: HELLO, ACK, CLOSE, PING and TIME;
 * see uott(5). Knows what is due here and what the far side has said. Its fields are private.
 *
 * Times are in microseconds on a clock that never goes back; amounts are bytes of a stream since
 * its start. Pure: no descriptor, no clock, no log.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"
#include "tags.h"

enum {
	CONTROL_HELLO_SIZE = FRAME_HEADER_SIZE + 4,
	CONTROL_ACK_SIZE = FRAME_HEADER_SIZE + 8,
	CONTROL_CLOSE_SIZE = FRAME_HEADER_SIZE + 2,
	CONTROL_PING_SIZE = FRAME_HEADER_SIZE,
	CONTROL_TIME_SIZE = FRAME_HEADER_SIZE + 8,
	CONTROL_CLOSES_MAX = 64, /* in one control_gather() */
	CONTROL_BYTES_MAX = CONTROL_HELLO_SIZE + CONTROL_PING_SIZE + CONTROL_TIME_SIZE +
			    CONTROL_ACK_SIZE + CONTROL_CLOSES_MAX * CONTROL_CLOSE_SIZE,
	CONTROL_ERROR_SIZE = 128,
};

/* What is known of the far side. */
enum control_peer {
	PEER_UNKNOWN,      /* it may turn out to acknowledge */
	PEER_PLAIN,        /* it never acknowledges (any more) */
	PEER_ACKNOWLEDGES, /* it has done so */
};

struct control {
	bool is_dec, has_way_back;
	uint16_t services, far_services; /* as the far side's HELLO says */
	bool data_seen;                  /* the first data frame was read; */
	bool counts_down;                /* and its tag is one of ours */
	bool hello_due, hello_sent, hello_received;
	bool input_ended;
	bool ack_due;
	bool has_flows;
	uint64_t last_ack, last_ack_us; /* what our last ACK said, and when */
	uint64_t ack_due_since_us;
	uint64_t consumed, last_read_us;  /* of the other stream, and when the last byte came */
	uint64_t sent, last_sent_us;      /* of our stream; */
	uint64_t must_be_acked, acked;    /* what the far side must and did acknowledge of it */
	uint64_t silence_since_us;        /* nothing was read since, though something is owed */
	bool has_ack_time, has_next_time; /* the last ACK has a TIME; the next one has */
	uint32_t ack_time_us, next_time_us, ack_held_us, next_held_us;
	uint32_t close_first, close_count;
	uint8_t is_close_due[TAGS / 8]; /* a bit for each tag */
	uint16_t closes[TAGS];          /* a ring of those that are due */
};

/*
 * Begins a stream in each direction, for 1 to SERVICES_MAX services. Control frames are only sent
 * if there is a way back (`has_way_back`: this program reads one stream and writes the other).
 */
void control_init(struct control *control, bool is_dec, uint16_t services, bool has_way_back,
	uint64_t now_us);

/* --- what is read --------------------------------------------------------------------------- */

/* Bytes were read at `now_us`. To be called before the frames in them are accepted. */
void control_bytes_read(struct control *control, uint64_t now_us);

/* A data frame was read. The tag of the first one tells dec whether the far side is one of ours. */
void control_data_frame(struct control *control, uint16_t tag);

/*
 * Takes a control frame. Returns false if it may not come here or is malformed, and stores the
 * reason in `error`. A CLOSE is checked here; what it means is the caller's task.
 */
bool control_accept(
	struct control *control, const struct frame *frame, char error[static CONTROL_ERROR_SIZE]);

/*
 * Whether the far side has said that it has another number of services. Then stores a message that
 * tells both numbers; the streams are of no use.
 */
bool control_is_mismatch(const struct control *control, char error[static CONTROL_ERROR_SIZE]);

/*
 * All whole frames were accepted. `consumed` bytes of the stream have come, the last `part` of them
 * of an unfinished frame. An ACK is due for a part that cannot be an ACK itself, and for many ACKs.
 */
void control_consumed(struct control *control, uint64_t consumed, size_t part);

/* The stream that is read has ended. From now on the far side acknowledges nothing. */
void control_input_ended(struct control *control);

/* --- what is known -------------------------------------------------------------------------- */

/* Whether each side knows that the other one understands control frames. */
bool control_is_on(const struct control *control);

enum control_peer control_peer(const struct control *control);

/*
 * Returns the service of a tag of the stream that is read. They count down if they are of an enc
 * with a way back, else up: the first data frame tells, as no other enc begins with so high a tag.
 */
uint16_t control_service(const struct control *control, uint16_t tag);

/* Whether the far side waits for replies, though there is no way back to it (dec -u). */
bool control_waits_in_vain(const struct control *control);

/* How many bytes of our stream have left, and how many of them the far side has read, as it says.
 */
uint64_t control_sent_bytes(const struct control *control);
uint64_t control_acked_bytes(const struct control *control);

/*
 * When the last ACK's bytes were read, on the far clock modulo 2^32, and how long the far side held
 * the ACK back then; false: it does not say.
 */
bool control_ack_time(const struct control *control, uint32_t *read_us, uint32_t *held_us);

/* Whether the transport is dead: for 45 s nothing was read though something is owed. */
bool control_is_dead(const struct control *control, uint64_t now_us);

/*
 * When to call control_gather() and control_is_dead() again if nothing else happens; UINT64_MAX:
 * never. While the pipe `is_blocked`, nothing can be sent.
 */
uint64_t control_deadline_us(const struct control *control, bool is_blocked);

/* --- what is sent --------------------------------------------------------------------------- */

/* Whether this program has flows: without them it proves no life (PING). */
void control_set_has_flows(struct control *control, bool has_flows);

/*
 * CLOSE is due for the tag, as a question or an answer, if control_is_on(). No data frame of the
 * flow may be sent any more.
 */
void control_close(struct control *control, uint16_t tag);

/*
 * Writes the frames that are due into `bytes`, 64 CLOSEs at most: to be called until it returns 0.
 * is_alone: no data frame is to leave with them; then an ACK waits a little for one.
 * Returns their size. They count as said (a PING does from control_sent() on) and leave before all
 * data. The last *ack_size bytes are an ACK, with its TIME.
 */
size_t control_gather(struct control *control, bool is_alone, uint64_t now_us,
	uint8_t bytes[static CONTROL_BYTES_MAX], size_t *ack_size);

/*
 * `count` bytes of the stream have left. The last `unanswered` of them are an ACK (with its TIME)
 * behind which nothing has left; the far side does not acknowledge it.
 */
void control_sent(struct control *control, size_t count, size_t unanswered, uint64_t now_us);

#endif
