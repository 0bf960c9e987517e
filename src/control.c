/*
 * How this works: dec speaks first, with HELLO, once it knows by tag 65535 that it talks to one of
 * ours; enc answers with HELLO. From then on, each side says how much it has read (ACK), at most
 * once a turn and only if that was more than an ACK: so ACKs do not answer each other for ever, and
 * an idle tunnel is silent. Who has flows and has sent nothing for 15 s sends PING; the ACK that
 * answers it is the proof of life. Where frames wait, and ACKs among them, ACKs are fewer and tell
 * by TIME how long they were on their way.
 */
#include "control.h"

#include <stdio.h>
#include <string.h>

#include "util.h"
#include "window.h"

enum {
	HELLO_VERSION = 1,
	PING_INTERVAL_US = 15 * US_PER_SECOND,
	SILENCE_MAX_US = 45 * US_PER_SECOND,
	ACKS_UNANSWERED_MAX = 1024, /* bytes */
};

void control_init(struct control *control, bool is_dec, bool has_way_back, uint64_t now_us)
{
	memset(control, 0, offsetof(struct control, closes));
	control->is_dec = is_dec;
	control->has_way_back = has_way_back;
	control->quiet_us = control->silent_us = now_us;
}

bool control_is_on(const struct control *control)
{
	return control->hello_received && (control->hello_sent || control->hello_due) &&
	       !control->input_ended;
}

void control_input_ended(struct control *control)
{
	control->input_ended = true;
}

void control_heard(struct control *control, uint64_t now_us)
{
	control->heard_us = control->silent_us = now_us;
}

void control_consumed(struct control *control, uint64_t consumed, size_t part)
{
	control->consumed = consumed;
	control->ack_due |= consumed - control->told >= ACKS_UNANSWERED_MAX;
	control->ack_due |= part > CONTROL_TIME_SIZE + CONTROL_ACK_SIZE;
}

void control_data_frame(struct control *control, uint16_t tag)
{
	if (!control->data_seen)
		control->hello_due |= control->is_dec && control->has_way_back && tag == UINT16_MAX;
	control->data_seen = true;
	control->ack_due = true;
}

/* What is known of each type; of others, which are skipped, nothing. */
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
		return true; /* a recording: this is not about our stream */
	if (consumed < control->acked || consumed > control->sent)
		return false;
	control->acked = consumed;
	control->has_far_time = control->time_came;
	control->far_us = control->time_us;
	control->time_came = false;
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
		control->time_came = true;
		control->time_us = le32_load(frame->payload);
		return true;
	}
	if (frame->type != CONTROL_ACK)
		control->ack_due = true;
	else if (!accept_ack(control, frame)) {
		snprintf(error, CONTROL_ERROR_SIZE,
			"ACK of bytes that were not sent, or less than before");
		return false;
	}
	if (frame->type == CONTROL_HELLO && !control->hello_received) {
		control->hello_received = true;
		control->hello_due |= !control->is_dec && control->has_way_back;
	}
	return true;
}

void control_close(struct control *control, uint16_t tag)
{
	uint8_t *due = &control->close_due[tag / 8];
	uint8_t bit = (uint8_t)(1 << tag % 8);

	if (!control_is_on(control) || *due & bit)
		return;
	*due |= bit;
	control->closes[(control->close_first + control->close_count++) % TAGS] = tag;
}

/* Returns the size of the frame, whose body is still to be written. */
static size_t put_header(uint8_t *frame, uint16_t type, uint16_t length)
{
	frame_put_header(frame, FRAME_CONTROL, type, length);
	return FRAME_HEADER_SIZE + (size_t)length;
}

static bool is_ping_due(const struct control *control, bool has_flows, uint64_t now_us)
{
	return control_is_on(control) && (has_flows || control->acked < control->owed) &&
	       now_us - control->quiet_us >= PING_INTERVAL_US;
}

/* When an ACK that is due may leave. */
static uint64_t ack_time_us(const struct control *control)
{
	return control->time_wanted ? control->told_us + WINDOW_ACK_INTERVAL_US : 0;
}

size_t control_urgent(struct control *control, bool has_flows, uint64_t now_us,
	uint8_t bytes[static CONTROL_URGENT_MAX], size_t *ack_size)
{
	size_t used = 0;

	*ack_size = 0;
	if (control->hello_due) {
		used += put_header(bytes, CONTROL_HELLO, 2);
		le16_store(bytes + FRAME_HEADER_SIZE, HELLO_VERSION);
		control->hello_due = false;
		control->hello_sent = true;
	}
	if (!control->hello_sent)
		return 0;
	if (is_ping_due(control, has_flows, now_us))
		used += put_header(bytes + used, CONTROL_PING, 0);
	if (!control->ack_due || now_us < ack_time_us(control))
		return used;
	*ack_size = CONTROL_ACK_SIZE;
	if (control->time_wanted) {
		le32_store(bytes + used + FRAME_HEADER_SIZE, (uint32_t)control->heard_us);
		used += put_header(bytes + used, CONTROL_TIME, 4);
		*ack_size += CONTROL_TIME_SIZE;
	}
	le64_store(bytes + used + FRAME_HEADER_SIZE, control->consumed);
	used += put_header(bytes + used, CONTROL_ACK, 8);
	control->ack_due = false;
	control->told = control->consumed;
	control->told_us = now_us;
	return used;
}

size_t control_closes(struct control *control, uint8_t bytes[static CONTROL_CLOSES_MAX])
{
	size_t used = 0;

	while (control->close_count > 0 && used < CONTROL_CLOSES_MAX) {
		uint16_t tag = control->closes[control->close_first];

		le16_store(bytes + used + FRAME_HEADER_SIZE, tag);
		used += put_header(bytes + used, CONTROL_CLOSE, 2);
		control->close_due[tag / 8] &= (uint8_t) ~(1 << tag % 8);
		control->close_first = (control->close_first + 1) % TAGS;
		control->close_count--;
	}
	return used;
}

void control_sent(struct control *control, size_t count, size_t unanswered, uint64_t now_us)
{
	if (count == 0)
		return;
	control->quiet_us = now_us;
	control->sent += count;
	if (count <= unanswered)
		return;
	if (control->acked >= control->owed)
		control->silent_us = now_us;
	control->owed = control->sent - unanswered;
}

bool control_is_dead(const struct control *control, uint64_t now_us)
{
	return control_is_on(control) && control->acked < control->owed &&
	       now_us - control->silent_us >= SILENCE_MAX_US;
}

uint64_t control_deadline_us(const struct control *control, bool has_flows, bool blocked)
{
	bool owed = control->acked < control->owed;
	uint64_t deadline_us = UINT64_MAX;

	if (!control_is_on(control))
		return UINT64_MAX;
	if (owed)
		deadline_us = control->silent_us + SILENCE_MAX_US;
	if (control->ack_due && !blocked)
		deadline_us = min_u64(deadline_us, ack_time_us(control));
	if (!blocked && (owed || has_flows))
		deadline_us = min_u64(deadline_us, control->quiet_us + PING_INTERVAL_US);
	return deadline_us;
}
