/*
 * The tags of one stream, as enc gives them out and takes them back. A tag goes to another flow
 * only when no frame of its former flow can come any more. Of n services, each has every n-th tag,
 * so that a tag alone tells its service: see uott(5).
 *
 * Times are in microseconds on a clock that never goes back. Pure: no clock, no heap, no log.
 */
#ifndef TAGS_H
#define TAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TAGS = UINT16_MAX + 1,
	SERVICES_MAX = 1024, /* over one stream */
};

enum tag_state {
	TAG_NEW_OR_USED,
	TAG_CLOSING, /* until the far side answers; then free */
	TAG_FREE,
	TAG_WAITING, /* until its time has come; then as good as free */
	TAG_STATES,
};

struct tag {
	uint8_t state;
	uint16_t previous, next; /* in the list of its state */
	uint64_t free_at_us;     /* TAG_WAITING */
};

/* Private. */
struct tags {
	bool counts_down; /* given out from 65535 down, else from 0 up */
	uint16_t services;
	size_t touched; /* entries of `of`, in the order of giving out */
	struct service_tags {
		uint32_t given; /* so many have been used at least once */
		struct tag_list {
			uint32_t count;
			uint16_t first, last;
		} lists[TAG_STATES]; /* of TAG_FREE and TAG_WAITING, in the order of joining */
	} by_service[SERVICES_MAX];
	struct tag of[TAGS];
};

/*
 * Returns the service (0 to services - 1) of a tag, in a stream whose tags count down from 65535 or
 * up from 0. services: 1 to SERVICES_MAX.
 */
uint16_t tags_service(bool counts_down, uint16_t services, uint16_t tag);

/* All tags are new. The memory is zeroed before. Arguments as for tags_service(). */
void tags_init(struct tags *tags, bool counts_down, uint16_t services);

/* A new stream begins: all tags are new again. */
void tags_begin_anew(struct tags *tags);

/*
 * Gives out a tag of the service: one never used before, else the one that has been free longest,
 * else the first that began to wait if its time has come. Returns -1 if there is none.
 */
int32_t tags_take(struct tags *tags, uint16_t service, uint64_t now_us);

/* Frees a tag in use. No more frames of its flow are expected. */
void tags_free(struct tags *tags, uint16_t tag);

/* The far side is asked to close the flow of a tag in use. The tag is free after tags_closed(). */
void tags_close(struct tags *tags, uint16_t tag);

/* The far side has answered CLOSE. Does nothing to a tag that is not closing. */
void tags_closed(struct tags *tags, uint16_t tag);

/* Whether the tag was ever given out in this stream. */
bool tags_was_given(const struct tags *tags, uint16_t tag);

/*
 * A frame came whose tag has no flow. If the tag is free or waits, it now waits until `free_at_us`,
 * since more may come. No call has an earlier `free_at_us` than the one before in this stream.
 */
void tags_late_frame(struct tags *tags, uint16_t tag, uint64_t free_at_us);

#endif
