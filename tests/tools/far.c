/*
 * A far side that is late. It answers as uott-dec with an echo service does, with one difference:
 * the reply to the first frame comes when its tag may already belong to another client.
 *
 *   far plain    knows data frames only and ends at a control frame: the reply comes when nearly
 *                all tags have been used, and again with the first tag that is used again
 *   far hello    understands control frames: the reply comes with the first tag that is used again,
 *                and then the answer to the CLOSE of its tag
 */
#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEADER = 8,
	FRAME_MAX = HEADER + 65535,
	TAGS = 65536,
	SOON = 1000, /* more than are ever under way at once */
	CLOSE_SIZE = HEADER + 2,
};

enum {
	HELLO = 1,
	ACK = 2,
	CLOSE = 3,
};

static uint8_t frame[FRAME_MAX], late[FRAME_MAX + CLOSE_SIZE];
static size_t size, late_size;

static unsigned int le16(const uint8_t *p)
{
	return p[0] | (unsigned int)p[1] << 8;
}

static void put(const void *bytes, size_t length)
{
	fwrite(bytes, length, 1, stdout);
	fflush(stdout);
}

static void acknowledge(size_t consumed)
{
	uint8_t ack[HEADER + 8] = {'U', 'O', 'T', 'C', ACK, 0, 8, 0};

	for (int i = 0; i < 8; i++)
		ack[HEADER + i] = (uint8_t)(consumed >> 8 * i);
	put(ack, sizeof(ack));
}

static bool read_frame(void)
{
	if (fread(frame, HEADER, 1, stdin) != 1)
		return false;
	size = HEADER + le16(frame + 6);
	return size == HEADER || fread(frame + HEADER, size - HEADER, 1, stdin) == 1;
}

/* The answer for the late one's tag waits until that reply is out. */
static void answer_control(void)
{
	if (le16(frame + 4) == CLOSE && le16(frame + HEADER) == le16(late + 4))
		memcpy(late + late_size, frame, size);
	else if (le16(frame + 4) == CLOSE)
		put(frame, size);
}

static void answer_data(bool says_hello)
{
	static const uint8_t hello[] = {'U', 'O', 'T', 'C', HELLO, 0, 2, 0, 1, 0};
	static unsigned int count;

	if (++count == 1) {
		memcpy(late, frame, size);
		late_size = size;
		if (says_hello)
			put(hello, sizeof(hello));
		return;
	}
	if (says_hello && count == TAGS + 1)
		put(late, late_size + CLOSE_SIZE);
	else if (!says_hello && (count == TAGS - SOON || count == TAGS + 1))
		put(late, late_size);
	put(frame, size);
}

int main(int argc, char **argv)
{
	size_t consumed = 0;
	bool says_hello = argc == 2 && strcmp(argv[1], "hello") == 0;

	while (read_frame()) {
		consumed += size;
		if (frame[3] == 'C' && !says_hello)
			errx(1, "a control frame of type %u", le16(frame + 4));
		else if (frame[3] == 'C')
			answer_control();
		else
			answer_data(says_hello);
		if (says_hello && (frame[3] != 'C' || le16(frame + 4) != ACK))
			acknowledge(consumed);
	}
	return EXIT_SUCCESS;
}
