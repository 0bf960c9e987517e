/*
 * What the fuzz targets share. A target is LLVMFuzzerTestOneInput(). It takes small numbers from
 * its input, which say what to do, and aborts when something does not hold. `make fuzz` looks for
 * such inputs; the tests only run those in tests/fuzz/seeds.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "util.h"

#define CHECK(expression) ((expression) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

_Noreturn static inline void check_failed(const char *file, int line, const char *expression)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, expression);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
	const uint8_t *bytes;
	size_t left;
};

/* Takes a number below `limit`, of one byte or as many as that needs. 0 when the input is over. */
static inline uint32_t take(struct input *input, uint32_t limit)
{
	uint32_t number = 0;

	for (uint32_t rest = limit - 1, shift = 0; shift == 0 || rest > 0; rest >>= 8, shift += 8) {
		if (input->left == 0)
			break;
		number |= (uint32_t)*input->bytes++ << shift;
		input->left--;
	}
	return number % limit;
}

/* Takes so many bytes, or 0s, into memory of exactly this size, which the caller frees. */
static inline uint8_t *take_bytes(struct input *input, size_t size)
{
	uint8_t *bytes = malloc(size);

	CHECK(bytes || size == 0);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)take(input, 256);
	return bytes;
}

/* Takes a line, without its end, as text that the caller frees. There is one while something is
 * left. */
static inline char *take_line(struct input *input)
{
	const uint8_t *end = memchr(input->bytes, '\n', input->left);
	size_t length = end ? (size_t)(end - input->bytes) : input->left;
	char *line = strndup((const char *)input->bytes, length);

	CHECK(line);
	length += end != NULL;
	input->bytes += length;
	input->left -= length;
	return line;
}

/* Data frames that can be told apart: the payload tells their flow, their number and their bytes.
 */
enum {
	NUMBERED_MIN = FRAME_HEADER_SIZE + 8
};

static inline void put_numbered(
	uint8_t *frame, uint16_t tag, uint32_t flow, uint32_t number, size_t size)
{
	frame_put_header(frame, FRAME_DATA, tag, (uint16_t)(size - FRAME_HEADER_SIZE));
	le16_store(frame + 8, (uint16_t)flow);
	le16_store(frame + 10, (uint16_t)(size - FRAME_HEADER_SIZE));
	le16_store(frame + 12, (uint16_t)number);
	le16_store(frame + 14, (uint16_t)(number >> 16));
	memset(frame + NUMBERED_MIN, (int)(number % 251), size - NUMBERED_MIN);
}

/* Checks the payload, and that it comes later in its flow than number *last, which it becomes. */
static inline void check_numbered(
	const uint8_t *payload, size_t length, uint32_t flow, uint32_t *last)
{
	uint32_t number = le32_load(payload + 4);

	CHECK(length >= 8 && le16_load(payload) == flow && le16_load(payload + 2) == length);
	CHECK(number > *last);
	if (length > 8) /* all of the rest is one byte */
		CHECK(payload[8] == number % 251 && !memcmp(payload + 8, payload + 9, length - 9));
	*last = number;
}

#endif
