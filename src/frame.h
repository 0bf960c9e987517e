/*
 * The stream format of uott(5): frames with nothing between them. Integers are little-endian.
 *
 *   data      "UOTT"  tag:u16   length:u16  payload[length]
 *   control   "UOTC"  type:u16  length:u16  body[length]
 *
 * Sizes and offsets are in bytes. control.h knows the bodies. Pure: no descriptor, clock or log.
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
	NOISE_SAMPLE_SIZE = 160,  /* how many of them the decoder keeps, at most */
	DECODER_ROOM_MIN = 65536, /* room for one read, at least */
	/* The last frame, an unfinished one and a read fit. */
	DECODER_BUFFER_SIZE = 2 * FRAME_SIZE_MAX + DECODER_ROOM_MIN,
};

enum frame_kind {
	FRAME_DATA,
	FRAME_CONTROL,
};

/* Types of control frames. */
enum {
	CONTROL_HELLO = 1,
	CONTROL_ACK = 2,
	CONTROL_CLOSE = 3,
	CONTROL_PING = 4,
	CONTROL_TIME = 5,
};

/* A frame that was read. The fields are public; the payload is borrowed from the decoder. */
struct frame {
	enum frame_kind kind;
	union {
		uint16_t tag;  /* FRAME_DATA: the flow */
		uint16_t type; /* FRAME_CONTROL */
	};
	uint16_t length; /* of the payload */
	const uint8_t *payload;
	uint64_t offset; /* of the frame's first byte in the stream */
};

/* Writes the header of a frame with `length` bytes of payload. `number` is its tag or type. */
void frame_put_header(uint8_t header[static FRAME_HEADER_SIZE], enum frame_kind kind,
	uint16_t number, uint16_t length);

/* Returns the size of the whole frame that begins with this header. */
size_t frame_size(const uint8_t header[static FRAME_HEADER_SIZE]);

enum decoder_result {
	DECODER_FRAME,   /* *frame is set */
	DECODER_MORE,    /* all is right so far, and no whole frame is left: read more */
	DECODER_CORRUPT, /* a wrong byte, or too much noise; this is final */
};

/*
 * Takes one stream apart, however it is cut into reads. Call decoder_init() first; then, for each
 * read, decoder_room(), decoder_filled(), and decoder_next() until it returns DECODER_MORE. The
 * fields are private. The caller owns the decoder, which has no other memory.
 */
struct decoder {
	size_t previous; /* where the last frame given out begins in the buffer */
	size_t start;    /* the first byte not given out yet */
	size_t end;      /* one past the last byte read */
	size_t wrong;    /* where a frame has to begin */
	uint64_t base;   /* offset in the stream of buffer[0] */
	bool synchronized;
	size_t noise;
	uint8_t noise_sample[NOISE_SAMPLE_SIZE];
	uint8_t buffer[DECODER_BUFFER_SIZE];
};

/* A stream begins. Forgets all of the one before. */
void decoder_init(struct decoder *decoder);

/*
 * Returns where to put the next bytes of the stream, and stores in *room how many fit: at least
 * DECODER_ROOM_MIN. Frames taken before are no longer valid.
 */
uint8_t *decoder_room(struct decoder *decoder, size_t *room);

/* The next `length` bytes of the stream are there now, at most `room`. */
void decoder_filled(struct decoder *decoder, size_t length);

/* Takes the next whole frame. It is valid until decoder_room() or decoder_init() is called. */
enum decoder_result decoder_next(struct decoder *decoder, struct frame *frame);

/* The number of bytes read so far, noise included. */
uint64_t decoder_bytes(const struct decoder *decoder);

/* How many bytes were skipped before the first frame so far. */
size_t decoder_noise(const struct decoder *decoder);

/* Returns the first bytes of this noise, owned by the decoder; stores in *length how many. */
const uint8_t *decoder_noise_sample(const struct decoder *decoder, size_t *length);

/* After DECODER_MORE: how many bytes of an unfinished frame have come. */
size_t decoder_part(const struct decoder *decoder);

/* After DECODER_CORRUPT: writes into `text` what is wrong, where and why, cut to `size`. */
void decoder_describe(const struct decoder *decoder, char *text, size_t size);

#endif
