/*
 * How this works: dec speaks first. When the tag of the first data frame tells it that the far side
 * is one of ours, it sends HELLO; enc answers with HELLO. If both have as many services, each side
 * says from then on how much it has read (ACK), and when (TIME). An ACK is due for all frames but
 * ACK and TIME; so ACKs do not answer each other for ever, and an idle tunnel is silent. A side
 * that has flows and has sent nothing for 15 s sends PING; the ACK that answers it is the proof of
 * life.
 *
 * Each ACK is a packet in the other direction, which may be ten times slower (RFC 3449), and one
 * that leaves alone makes a pipe with Nagle's algorithm (RFC 896) hold back the reply behind it. So
 * an ACK leaves at once only after 16 KiB. Otherwise there is one in 5 ms, and it waits for frames
 * to travel with: for 5 ms, or 100 ms after a few bytes, for which the far side does not wait.
 */
#include "control.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

enum {
	HELLO_VERSION = 1,
	PING_INTERVAL_US = 15 * US_PER_SECOND,
	SILENCE_MAX_US = 45 * US_PER_SECOND,
	ACK_INTERVAL_US = 5 * US_PER_MS,
	ACK_BYTES = 16 * 1024,
	FEW_BYTES = 1000,
	FEW_BYTES_ACK_US = 100 * US_PER_MS,
	ACKS_UNANSWERED_MAX = 1024, /* bytes */
};

static_assert(PING_INTERVAL_US < SILENCE_MAX_US / 2, "one lost PING is no dead transport");
static_assert(ACKS_UNANSWERED_MAX > CONTROL_TIME_SIZE + CONTROL_ACK_SIZE, "ACKs die out");

void control_init(
	struct control *control, bool is_dec, uint16_t services, bool has_way_back, uint64_t now_us)
{
	memset(control, 0, offsetof(struct control, closes));
	control->is_dec = is_dec;
	control->services = control->far_services = services;
	control->has_way_back = has_way_back;
	control->last_sent_us = control->silence_since_us = now_us;
}

/* --- what is read --------------------------------------------------------------------------- */

void control_bytes_read(struct control *control, uint64_t now_us)
{
	control->last_read_us = control->silence_since_us = now_us;
}

static void set_ack_due(struct control *control)
{
	if (!control->ack_due)
		control->ack_due_since_us = control->last_read_us;
	control->ack_due = true;
}

void control_data_frame(struct control *control, uint16_t tag)
{
	if (!control->data_seen) {
		control->counts_down = tag >= TAGS - SERVICES_MAX;
		control->hello_due |= control->is_dec && control->has_way_back &&
				      control->counts_down;
	}
	control->data_seen = true;
	set_ack_due(control);
}

void control_consumed(struct control *control, uint64_t consumed, size_t part)
{
	control->consumed = consumed;
	if (consumed - control->last_ack >= ACKS_UNANSWERED_MAX ||
		part > CONTROL_TIME_SIZE + CONTROL_ACK_SIZE)
		set_ack_due(control);
}

void control_input_ended(struct control *control)
{
	control->input_ended = true;
}

/* Each type of control frame; index 0 is any other one, which is skipped. */
static const struct type {
	const char *name;
	uint16_t body_min;
} types[] = {
	{"unknown", 0},
	[CONTROL_HELLO] = {"HELLO", 2},
	[CONTROL_ACK] = {"ACK", 8},
	[CONTROL_CLOSE] = {"CLOSE", 2},
	[CONTROL_PING] = {"PING", 0},
	[CONTROL_TIME] = {"TIME", 4},
};

static bool accept_ack(struct control *control, const struct frame *frame)
{
	uint64_t consumed = le64_load(frame->payload);

	if (!control->has_way_back)
		return true; /* the recording of a stream that had an answer: not about us */
	if (consumed < control->acked || consumed > control->sent)
		return false;
	control->acked = consumed;
	control->has_ack_time = control->has_next_time;
	control->ack_time_us = control->next_time_us;
	control->ack_held_us = control->has_next_time ? control->next_held_us : 0;
	control->has_next_time = false;
	return true;
}

bool control_accept(
	struct control *control, const struct frame *frame, char error[static CONTROL_ERROR_SIZE])
{
	const struct type *type = &types[frame->type < ARRAY_SIZE(types) ? frame->type : 0];

	if (frame->type != CONTROL_HELLO && !control->hello_received) {
		snprintf(error, CONTROL_ERROR_SIZE, "a control frame of type %u (%s) before HELLO",
			frame->type, type->name);
		return false;
	}
	if (frame->length < type->body_min) {
		snprintf(error, CONTROL_ERROR_SIZE, "%s of length %u, expected %u or more",
			type->name, frame->length, type->body_min);
		return false;
	}
	if (frame->type == CONTROL_TIME) {
		control->has_next_time = true;
		control->next_time_us = le32_load(frame->payload);
		control->next_held_us = frame->length < 8 ? 0 : le32_load(frame->payload + 4);
		return true;
	}
	if (frame->type != CONTROL_ACK)
		set_ack_due(control);
	else if (!accept_ack(control, frame)) {
		snprintf(error, CONTROL_ERROR_SIZE,
			"ACK of bytes that were not sent, or less than before");
		return false;
	}
	if (frame->type == CONTROL_HELLO && !control->hello_received) {
		control->hello_received = true;
		control->far_services = frame->length < 4 ? 1 : le16_load(frame->payload + 2);
		control->hello_due |= !control->is_dec && control->has_way_back;
	}
	return true;
}

static const char *service_name(bool is_target, uint16_t count)
{
	if (is_target)
		return count == 1 ? "target" : "targets";
	return count == 1 ? "port" : "ports";
}

bool control_is_mismatch(const struct control *control, char error[static CONTROL_ERROR_SIZE])
{
	uint16_t far = control->far_services, own = control->services;

	if (far == own)
		return false;
	snprintf(error, CONTROL_ERROR_SIZE, "the far side has %u %s, this side %u %s", far,
		service_name(!control->is_dec, far), own, service_name(control->is_dec, own));
	return true;
}

/* --- what is known -------------------------------------------------------------------------- */

bool control_is_on(const struct control *control)
{
	return control->hello_received && (control->hello_sent || control->hello_due) &&
	       !control->input_ended;
}

enum control_peer control_peer(const struct control *control)
{
	bool has_hello = control->hello_received || control->hello_sent || control->hello_due;

	if (control->input_ended || !control->has_way_back)
		return PEER_PLAIN;
	if (control_is_on(control) && control->acked > 0)
		return PEER_ACKNOWLEDGES;
	return control->data_seen && !has_hello ? PEER_PLAIN : PEER_UNKNOWN;
}

uint16_t control_service(const struct control *control, uint16_t tag)
{
	return tags_service(control->counts_down, control->services, tag);
}

bool control_waits_in_vain(const struct control *control)
{
	return control->is_dec && !control->has_way_back && control->counts_down;
}

uint64_t control_sent_bytes(const struct control *control)
{
	return control->sent;
}

uint64_t control_acked_bytes(const struct control *control)
{
	return control->acked;
}

bool control_ack_time(const struct control *control, uint32_t *read_us, uint32_t *held_us)
{
	*held_us = control->ack_held_us;
	*read_us = control->ack_time_us;
	return control->has_ack_time;
}

static bool is_owed(const struct control *control)
{
	return control->acked < control->must_be_acked;
}

bool control_is_dead(const struct control *control, uint64_t now_us)
{
	return control_is_on(control) && is_owed(control) &&
	       now_us - control->silence_since_us >= SILENCE_MAX_US;
}

/* When an ACK that is due leaves; is_alone: without frames. */
static uint64_t next_ack_us(const struct control *control, bool is_alone)
{
	uint64_t bytes = control->consumed - control->last_ack;
	uint64_t wait_us = bytes < FEW_BYTES ? FEW_BYTES_ACK_US : ACK_INTERVAL_US;

	if (control->last_ack_us == 0 || bytes >= ACK_BYTES)
		return 0; /* the far side may wait for it */
	return max_u64(control->last_ack_us + ACK_INTERVAL_US,
		control->ack_due_since_us + (is_alone ? wait_us : 0));
}

uint64_t control_deadline_us(const struct control *control, bool is_blocked)
{
	uint64_t deadline_us = UINT64_MAX;

	if (!control_is_on(control))
		return UINT64_MAX;
	if (is_owed(control))
		deadline_us = control->silence_since_us + SILENCE_MAX_US;
	if (control->ack_due && !is_blocked)
		deadline_us = min_u64(deadline_us, next_ack_us(control, true));
	if (!is_blocked && (is_owed(control) || control->has_flows))
		deadline_us = min_u64(deadline_us, control->last_sent_us + PING_INTERVAL_US);
	return deadline_us;
}

/* --- what is sent --------------------------------------------------------------------------- */

void control_set_has_flows(struct control *control, bool has_flows)
{
	control->has_flows = has_flows;
}

void control_close(struct control *control, uint16_t tag)
{
	uint8_t *due = &control->is_close_due[tag / 8];
	uint8_t bit = (uint8_t)(1 << tag % 8);

	if (!control_is_on(control) || *due & bit)
		return;
	*due |= bit;
	control->closes[(control->close_first + control->close_count++) % TAGS] = tag;
}

static bool is_ping_due(const struct control *control, uint64_t now_us)
{
	return control_is_on(control) && (control->has_flows || is_owed(control)) &&
	       now_us - control->last_sent_us >= PING_INTERVAL_US;
}

/* Appends the header of a frame with `length` bytes of body. Returns where the body goes. */
static uint8_t *put_frame(uint8_t *bytes, size_t *used, uint16_t type, uint16_t length)
{
	uint8_t *frame = bytes + *used;

	frame_put_header(frame, FRAME_CONTROL, type, length);
	*used += FRAME_HEADER_SIZE + (size_t)length;
	return frame + FRAME_HEADER_SIZE;
}

static void put_hello(struct control *control, uint8_t *bytes, size_t *used)
{
	bool has_several = control->services > 1;
	uint8_t *body = put_frame(bytes, used, CONTROL_HELLO, has_several ? 4 : 2);

	le16_store(body, HELLO_VERSION);
	if (has_several)
		le16_store(body + 2, control->services);
	control->hello_due = false;
	control->hello_sent = true;
}

static void put_ack(struct control *control, uint64_t now_us, uint8_t *bytes, size_t *used)
{
	uint8_t *body = put_frame(bytes, used, CONTROL_TIME, 8);

	le32_store(body, (uint32_t)control->last_read_us);
	le32_store(body + 4, (uint32_t)(now_us - control->last_read_us));
	le64_store(put_frame(bytes, used, CONTROL_ACK, 8), control->consumed);
	control->ack_due = false;
	control->last_ack = control->consumed;
	control->last_ack_us = now_us;
}

static void put_closes(struct control *control, uint8_t *bytes, size_t *used)
{
	for (int i = 0; i < CONTROL_CLOSES_MAX && control->close_count > 0; i++) {
		uint16_t tag = control->closes[control->close_first];

		le16_store(put_frame(bytes, used, CONTROL_CLOSE, 2), tag);
		control->is_close_due[tag / 8] &= (uint8_t) ~(1 << tag % 8);
		control->close_first = (control->close_first + 1) % TAGS;
		control->close_count--;
	}
}

size_t control_gather(struct control *control, bool is_alone, uint64_t now_us,
	uint8_t bytes[static CONTROL_BYTES_MAX], size_t *ack_size)
{
	size_t used = 0, before;

	*ack_size = 0;
	if (control->hello_due)
		put_hello(control, bytes, &used);
	if (!control->hello_sent)
		return 0;
	if (is_ping_due(control, now_us))
		(void)put_frame(bytes, &used, CONTROL_PING, 0);
	before = used;
	if (control->ack_due && now_us >= next_ack_us(control, is_alone))
		put_ack(control, now_us, bytes, &used);
	if (control->close_count > 0)
		put_closes(control, bytes, &used);
	else
		*ack_size = used - before;
	return used;
}

void control_sent(struct control *control, size_t count, size_t unanswered, uint64_t now_us)
{
	if (count == 0)
		return;
	control->last_sent_us = now_us;
	control->sent += count;
	if (count <= unanswered)
		return;
	if (!is_owed(control))
		control->silence_since_us = now_us;
	control->must_be_acked = control->sent - unanswered;
}
