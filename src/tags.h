/*
 * The tags of one stream, as enc gives them out and takes them back. A tag that was used is used
 * again only when no frame of its old flow can come any more. Pure: time is an argument.
 */
#ifndef TAGS_H
#define TAGS_H

#include <stdbool.h>
#include <stdint.h>

enum {
	TAGS = UINT16_MAX + 1
};

enum tag_state {
	TAG_NEW_OR_USED,
	TAG_CLOSING, /* until the far side answers */
	TAG_FREE,
	TAG_WAITING, /* until a certain time */
	TAG_STATES,
};

struct tag {
	uint8_t state;
	uint16_t previous, next; /* in the list of its state */
	uint64_t free_at_us;     /* TAG_WAITING */
};

struct tags {
	bool counts_down; /* given out from 65535 down, else from 0 up */
	uint32_t given;   /* so many have been used at least once */
	struct tag_list {
		uint32_t count;
		uint16_t first, last;
	} lists[TAG_STATES]; /* of TAG_FREE and TAG_WAITING, in the order of joining */
	struct tag of[TAGS];
};

/* All tags are new. `tags` is zeroed memory, or what was in use before. */
void tags_init(struct tags *tags, bool counts_down);

/*
 * Gives out a tag: one never used before, else the one that has been free longest, else the first
 * whose wait is over. Returns -1 when there is none.
 */
int32_t tags_take(struct tags *tags, uint64_t now_us);

/* The tag may be given out again. */
void tags_free(struct tags *tags, uint16_t tag);

/* The tag may be given out again when the far side has said so: see tags_closed(). */
void tags_close(struct tags *tags, uint16_t tag);

/* The far side has answered CLOSE. Ignored for a tag that it was not asked about. */
void tags_closed(struct tags *tags, uint16_t tag);

/*
 * A frame came whose tag has no flow. If the tag was free, it has to wait until `free_at_us`, since
 * more may come.
 */
void tags_late_frame(struct tags *tags, uint16_t tag, uint64_t free_at_us);

#endif
