/*
 * Any control frames at any time, and what is gathered in between. The input says which program
 * this is, and then what happens step by step.
 */
#include "control.h"

#include "fuzz.h"

static struct control control;
static uint64_t now_us, consumed;
static bool is_dec, has_way_back, hello_received, hello_said, counts_down, has_data;
static bool is_close_due[TAGS];
static size_t closes_due;
static const uint16_t body_min[] = {0, 2, 8, 2, 0, 4};

static void read_control(struct input *input)
{
	char error[CONTROL_ERROR_SIZE] = "";
	uint32_t choice = take(input, 8);
	uint16_t type = choice == 6 ? CONTROL_ACK : choice == 7 ? 0xffff : (uint16_t)choice;
	uint16_t length = choice == 6 ? 8 : (uint16_t)take(input, 12);
	uint64_t sent = control_sent_bytes(&control), acked = control_acked_bytes(&control);
	uint8_t *body = take_bytes(input, length);
	bool is_right = (type == CONTROL_HELLO || hello_received) &&
			length >= body_min[type < 6 ? type : 0];

	if (choice == 6) /* an ACK that is likely to be right */
		le64_store(body, sent - min_u64(sent, le16_load(body) % 64));
	if (is_right && type == CONTROL_ACK && has_way_back)
		is_right = le64_load(body) >= acked && le64_load(body) <= sent;
	consumed += FRAME_HEADER_SIZE + (uint64_t)length;
	CHECK(control_accept(&control, &(struct frame){FRAME_CONTROL, {type}, length, body, 0},
		      error) == is_right);
	CHECK(is_right == (error[0] == '\0'));
	hello_received |= is_right && type == CONTROL_HELLO;
	CHECK(control_is_mismatch(&control, error) == (error[0] == 't'));
	control_consumed(&control, consumed, 0);
	free(body);
}

/* All is frames, HELLO is the first one and the only one, and nothing is said that may not be. */
static void check_said(const uint8_t *bytes, size_t size, size_t ack_size)
{
	CHECK(size <= CONTROL_BYTES_MAX && (ack_size == 0 || ack_size == 32) && ack_size <= size);
	for (size_t at = 0; at < size; at += frame_size(bytes + at)) {
		const uint8_t *body = bytes + at + FRAME_HEADER_SIZE;
		uint16_t type = le16_load(bytes + at + 4);

		CHECK(size - at >= FRAME_HEADER_SIZE && memcmp(bytes + at, "UOTC", 4) == 0);
		CHECK(frame_size(bytes + at) <= size - at && type >= 1 && type <= 5);
		CHECK(frame_size(bytes + at) >= FRAME_HEADER_SIZE + (size_t)body_min[type]);
		CHECK((type == CONTROL_HELLO) != hello_said);
		hello_said = true;
		CHECK(has_way_back && (is_dec ? counts_down : hello_received));
		CHECK(hello_received || (type != CONTROL_CLOSE && type != CONTROL_PING));
		CHECK(type != CONTROL_ACK || le64_load(body) == consumed);
		CHECK(type != CONTROL_CLOSE || is_close_due[le16_load(body)]);
		if (type == CONTROL_CLOSE) {
			is_close_due[le16_load(body)] = false;
			closes_due--;
		}
		if (ack_size > 0 && at + 16 == size)
			CHECK(type == CONTROL_ACK);
	}
}

/* Gathers once and sends in two parts, or with `data` bytes of data frames. */
static size_t say(bool is_alone, size_t cut, size_t data)
{
	static uint8_t bytes[CONTROL_BYTES_MAX];
	size_t ack_size, size = control_gather(&control, is_alone, now_us, bytes, &ack_size);

	check_said(bytes, size, ack_size);
	cut = min_size(cut, size);
	control_sent(&control, cut, cut == size && data == 0 ? ack_size : 0, now_us);
	size -= cut;
	control_sent(&control, size + data, data > 0 ? 0 : min_size(size, ack_size), now_us);
	return cut + size;
}

static void step(struct input *input)
{
	static const uint32_t waits_us[] = {1, 1000, 5000, 95000, 1000000, 15000000, 45000000};
	uint32_t factor = take(input, 80), size, cut, data;
	uint16_t tag = (uint16_t)(TAGS - 1 - factor * take(input, 40));

	control_bytes_read(&control, now_us);
	switch (take(input, 8)) {
	case 0:
		now_us += waits_us[take(input, 7)];
		break;
	case 1:
		if (!has_data)
			counts_down = tag >= 64512;
		has_data = true;
		consumed += FRAME_HEADER_SIZE + take(input, 65536);
		control_data_frame(&control, tag);
		control_consumed(&control, consumed, 0);
		CHECK(control_service(&control, tag) < control.services);
		break;
	case 2:
		size = take(input, 100);
		control_consumed(&control, consumed += size, size);
		break;
	case 3:
		closes_due += control_is_on(&control) && !is_close_due[tag];
		is_close_due[tag] |= control_is_on(&control);
		control_close(&control, tag);
		break;
	case 4:
		control_set_has_flows(&control, take(input, 2));
		break;
	case 5:
		cut = take(input, 256);
		data = take(input, 256);
		(void)say(take(input, 2), cut, data);
		break;
	case 6: /* when all is said, nothing is due at once */
		while (say(true, 0, 0) > 0)
			continue;
		CHECK(closes_due == 0);
		CHECK(control_is_dead(&control, now_us) ||
			control_deadline_us(&control, false) > now_us);
		break;
	default:
		read_control(input);
	}
	CHECK(control_acked_bytes(&control) <= control_sent_bytes(&control));
	CHECK(has_way_back || control_peer(&control) == PEER_PLAIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};
	uint32_t flags = take(&input, 8);

	is_dec = flags & 1;
	has_way_back = !(flags & 2);
	hello_received = hello_said = counts_down = has_data = false;
	memset(is_close_due, 0, sizeof(is_close_due));
	now_us = 1;
	consumed = closes_due = 0;
	control_init(&control, is_dec, flags & 4 ? 3 : 1, has_way_back, now_us);
	while (input.left > 0)
		step(&input);
	return 0;
}
