/*
 * The stream format: frames, one after the other, with nothing between them. See uott(5).
 *
 *   data      "UOTT"  tag:u16   length:u16  payload[length]
 *   control   "UOTC"  type:u16  length:u16  body[length]
 *
 * Pure: no descriptor, no clock, no message.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FRAME_HEADER_SIZE = 8,
	FRAME_PAYLOAD_MAX = UINT16_MAX,
	FRAME_SIZE_MAX = FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX,
	NOISE_MAX = 64 * 1024,    /* bytes skipped before the first frame, at most */
	NOISE_SAMPLE_SIZE = 160,  /* how many of them are kept to be shown */
	DECODER_ROOM_MIN = 65536, /* what one read can put into a decoder, at least */
	/* The last frame, an incomplete one and a read must fit. */
	DECODER_BUFFER_SIZE = 2 * FRAME_SIZE_MAX + DECODER_ROOM_MIN,
};

enum frame_kind {
	FRAME_DATA,
	FRAME_CONTROL,
};

/* Types of control frames. */
enum {
	CONTROL_HELLO = 1, /* version:u16; more is ignored */
	CONTROL_ACK = 2,   /* consumed:u64 */
	CONTROL_CLOSE = 3, /* tag:u16 */
	CONTROL_PING = 4,
	CONTROL_TIME = 5, /* read_us:u32 */
};

/* A frame as it stands in the decoder's buffer: valid until decoder_room() is called next. */
struct frame {
	enum frame_kind kind;
	union {
		uint16_t tag;  /* FRAME_DATA: the flow */
		uint16_t type; /* FRAME_CONTROL */
	};
	uint16_t length;
	const uint8_t *payload;
	uint64_t offset; /* of its first byte in the stream */
};

/* Writes the header of a frame for `length` bytes: `number` is its tag or type. */
void frame_put_header(uint8_t header[static FRAME_HEADER_SIZE], enum frame_kind kind,
	uint16_t number, uint16_t length);

/* The size of a whole frame, of which the header is there. */
size_t frame_size(const uint8_t header[static FRAME_HEADER_SIZE]);

enum decoder_result {
	DECODER_FRAME,   /* *frame is set */
	DECODER_MORE,    /* what has come so far is right; more is needed */
	DECODER_CORRUPT, /* final: no frame begins where one must; see decoder_describe() */
};

/* Takes the stream apart, however it was cut into reads. Owned by one reader; no heap. */
struct decoder {
	size_t previous; /* where the last frame given out begins */
	size_t start;    /* the first byte not given out yet */
	size_t end;      /* one past the last byte read */
	size_t wrong;    /* after DECODER_CORRUPT: where a frame should begin and does not */
	uint64_t base;   /* offset in the stream of buffer[0] */
	bool synchronized;
	size_t noise;
	uint8_t noise_sample[NOISE_SAMPLE_SIZE];
	uint8_t buffer[DECODER_BUFFER_SIZE];
};

void decoder_init(struct decoder *decoder);

/*
 * Returns where the next bytes of the stream are to be put and stores in *room how many fit, never
 * less than DECODER_ROOM_MIN. decoder_next() must have returned DECODER_MORE before.
 */
uint8_t *decoder_room(struct decoder *decoder, size_t *room);

/* Says that `length` bytes have been put there. */
void decoder_filled(struct decoder *decoder, size_t length);

/* Takes the next whole frame, if there is one. */
enum decoder_result decoder_next(struct decoder *decoder, struct frame *frame);

/* How many bytes of the stream have been put in so far. */
uint64_t decoder_bytes(const struct decoder *decoder);

/* Whether the stream is inside a frame, so that its end here would cut one. */
bool decoder_is_inside_frame(const struct decoder *decoder);

/*
 * After DECODER_CORRUPT: writes what is wrong, where, and the likely cause, into `text`.
 */
void decoder_describe(const struct decoder *decoder, char *text, size_t size);

#endif
