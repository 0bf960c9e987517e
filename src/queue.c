/*
 * How this works: the memory is cut into blocks, and a frame is a chain of them, copied in once.
 * From then on only indexes move:
 *
 *                 +-> lane of tag 7: frame, frame, ... --+
 *   queue_push() -+-> lane of tag 8: frame --------------+-> leaving --> queue_gather()
 *                 +-> ...            |                   |
 *                                    v DROP_QUEUE_FULL   v DROP_CODEL, DROP_STALE
 *
 * Lanes with frames are in one of two lists. The first lane of the new ones, or else of the old
 * ones, may send as many bytes as its deficit says. Then it goes to the end of the old ones and
 * gets another quantum. A lane that has just run empty stays among the old ones until its turn
 * comes; otherwise it would be new, and first, with every frame.
 *
 * Each lane with frames is also in a list of lanes that use the same number of blocks. The list of
 * the largest lanes tells where to drop when there is no room. No step looks through all lanes or
 * frames.
 *
 * Freed blocks are used again first, then blocks never used, in their order.
 */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tags.h"
#include "util.h"

#define BLOCKS(size) ((uint32_t)(((size) + BLOCK_SIZE - 1) / BLOCK_SIZE))

enum {
	TAG_OFFSET = 4, /* in a data frame */
	BLOCK_SIZE = 512,
	QUANTUM = 1514 + FRAME_HEADER_SIZE, /* RFC 8290, 5.2.4: about one datagram */
	INTERVAL_US = 100 * US_PER_MS,      /* RFC 8289, 4.3 */
	MEMORY_INTERVALS = 16,              /* how long CoDel remembers how often it had to drop */
};

static_assert(QUEUE_PIECES_MAX >= BLOCKS(FRAME_SIZE_MAX), "the longest frame leaves in one write");
static_assert(QUEUE_PIECES_MAX >= BLOCKS(QUEUE_LEAVING_MAX), "all that leaves next is one write");

struct block {
	uint32_t next_block; /* of the frame, or of the free list */
	/* Of the first block of a frame: */
	uint32_t last_block;
	uint32_t next_frame;
	uint32_t size;
	uint64_t queued_us;
};

struct lane {
	struct frame_list frames;
	uint32_t bytes, blocks; /* that these frames have, and take */
	int32_t deficit;        /* bytes that may leave in this round */
	bool is_listed;
	struct lane *next;         /* whose turn it is, in the list of new or of old lanes */
	struct lane *left, *right; /* those that use as many blocks */

	/* CoDel: RFC 8289, 5.2 */
	bool is_dropping;
	uint32_t count, last_count; /* drops since dropping began, and as that began */
	uint64_t first_above_us, drop_next_us;

	uint32_t generation;
};

bool queue_init(struct queue *queue, size_t capacity)
{
	uint32_t limit = BLOCKS(capacity);
	size_t blocks = 1 + (size_t)limit;

	assert(capacity >= FRAME_SIZE_MAX);
	*queue = (struct queue){
		.interval_us = INTERVAL_US,
		.stale_us = UINT64_MAX,
		.arena = malloc(blocks * BLOCK_SIZE),
		.blocks = calloc(blocks, sizeof(struct block)),
		.lanes = calloc(TAGS, sizeof(struct lane)),
		.lanes_by_size = calloc(blocks, sizeof(struct lane_list)),
		.block_limit = limit,
		.blocks_seen = 1,
	};
	if (queue->arena && queue->blocks && queue->lanes && queue->lanes_by_size)
		return true;
	queue_free(queue);
	return false;
}

void queue_free(struct queue *queue)
{
	free(queue->arena);
	free(queue->blocks);
	free(queue->lanes);
	free(queue->lanes_by_size);
	*queue = (struct queue){0};
}

void queue_set_codel(struct queue *queue, uint64_t target_us, uint64_t interval_us)
{
	queue->target_us = target_us;
	queue->interval_us = interval_us;
}

void queue_set_stale(struct queue *queue, uint64_t stale_us)
{
	queue->stale_us = stale_us;
}

size_t queue_frames(const struct queue *queue)
{
	return queue->frames;
}

/* --- frames ------------------------------------------------------------------------------- */

static uint8_t *block_bytes(const struct queue *queue, uint32_t block)
{
	return queue->arena + (size_t)block * BLOCK_SIZE;
}

static uint32_t take_block(struct queue *queue)
{
	uint32_t block = queue->free_block;

	if (block)
		queue->free_block = queue->blocks[block].next_block;
	else
		block = queue->blocks_seen++;
	assert(block <= queue->block_limit);
	queue->blocks_used++;
	return block;
}

/* Copies the bytes into a chain of blocks. Returns the first one, which stands for the frame. */
static uint32_t store(struct queue *queue, const uint8_t *bytes, size_t size, uint64_t now_us)
{
	uint32_t frame = take_block(queue), last = frame;
	struct block *block = &queue->blocks[frame];

	assert(size >= FRAME_HEADER_SIZE && size <= FRAME_SIZE_MAX);
	for (size_t at = 0; at < size; at += BLOCK_SIZE) {
		if (at > 0)
			last = queue->blocks[last].next_block = take_block(queue);
		memcpy(block_bytes(queue, last), bytes + at, min_size(size - at, BLOCK_SIZE));
	}
	block->last_block = last;
	block->size = (uint32_t)size;
	block->queued_us = now_us;
	queue->frames++;
	return frame;
}

static uint16_t tag_of(const struct queue *queue, uint32_t frame)
{
	return le16_load(block_bytes(queue, frame) + TAG_OFFSET);
}

static void forget(struct queue *queue, uint32_t frame)
{
	const struct block *block = &queue->blocks[frame];

	queue->frames--;
	queue->blocks_used -= BLOCKS(block->size);
	queue->blocks[block->last_block].next_block = queue->free_block;
	queue->free_block = frame;
}

static void drop(struct queue *queue, uint32_t frame, struct counters *counters, enum counter cause)
{
	counters_drop(counters, cause, tag_of(queue, frame), 1);
	forget(queue, frame);
}

static void append(struct queue *queue, struct frame_list *list, uint32_t frame)
{
	queue->blocks[frame].next_frame = 0;
	if (list->first)
		queue->blocks[list->last].next_frame = frame;
	else
		list->first = frame;
	list->last = frame;
}

static uint32_t take_first(const struct queue *queue, struct frame_list *list)
{
	uint32_t frame = list->first;

	list->first = queue->blocks[frame].next_frame;
	return frame;
}

/* --- lanes: deficit round robin (RFC 8290, section 4) --------------------------------------- */

static void list_lane(struct lane_list *list, struct lane *lane)
{
	lane->next = NULL;
	if (list->first)
		list->last->next = lane;
	else
		list->first = lane;
	list->last = lane;
}

/* The lane now uses that many blocks: moves it to the list of such lanes. */
static void sort_lane(struct queue *queue, struct lane *lane, uint32_t blocks)
{
	struct lane_list *list = &queue->lanes_by_size[lane->blocks];

	if (lane->blocks > 0) {
		*(lane->left ? &lane->left->right : &list->first) = lane->right;
		*(lane->right ? &lane->right->left : &list->last) = lane->left;
	}
	lane->blocks = blocks;
	if (blocks == 0)
		return;
	list = &queue->lanes_by_size[blocks];
	lane->left = list->last;
	lane->right = NULL;
	*(list->last ? &list->last->right : &list->first) = lane;
	list->last = lane;
	if (queue->most_blocks < blocks)
		queue->most_blocks = blocks;
}

static void lane_append(struct queue *queue, uint16_t tag, uint32_t frame)
{
	struct lane *lane = &queue->lanes[tag];

	if (lane->generation != queue->generation)
		*lane = (struct lane){.generation = queue->generation};
	append(queue, &lane->frames, frame);
	lane->bytes += queue->blocks[frame].size;
	sort_lane(queue, lane, lane->blocks + BLOCKS(queue->blocks[frame].size));
	if (lane->is_listed)
		return;
	lane->is_listed = true;
	lane->deficit = QUANTUM;
	list_lane(&queue->new_lanes, lane);
}

static uint32_t lane_take(struct queue *queue, struct lane *lane)
{
	uint32_t frame = take_first(queue, &lane->frames);

	lane->bytes -= queue->blocks[frame].size;
	sort_lane(queue, lane, lane->blocks - BLOCKS(queue->blocks[frame].size));
	if (!lane->frames.first) {
		lane->first_above_us = 0;
		lane->is_dropping = false;
	}
	return frame;
}

/* Returns the lane whose turn it is, which has a frame; NULL when none has. */
static struct lane *next_lane(struct queue *queue)
{
	for (;;) {
		bool is_new = queue->new_lanes.first != NULL;
		struct lane_list *list = is_new ? &queue->new_lanes : &queue->old_lanes;
		struct lane *lane = list->first;

		if (!lane || (lane->deficit > 0 && lane->frames.first))
			return lane;
		list->first = lane->next;
		if (lane->deficit > 0 && !is_new) {
			lane->is_listed = false;
			continue;
		}
		if (lane->deficit <= 0)
			lane->deficit += QUANTUM;
		list_lane(&queue->old_lanes, lane);
	}
}

/* Drops the oldest frames of the flows that take most. Returns whether that gave enough blocks. */
static bool make_room(struct queue *queue, uint32_t blocks, struct counters *counters)
{
	while (queue->blocks_used + blocks > queue->block_limit) {
		while (queue->most_blocks > 0 && !queue->lanes_by_size[queue->most_blocks].first)
			queue->most_blocks--;
		if (queue->most_blocks == 0)
			return false;
		drop(queue, lane_take(queue, queue->lanes_by_size[queue->most_blocks].first),
			counters, DROP_QUEUE_FULL);
	}
	return true;
}

/* --- CoDel (RFC 8289, section 5) ------------------------------------------------------------ */

/* Rounded down. */
static uint64_t square_root(uint64_t number)
{
	uint64_t root = 0;

	for (uint64_t bit = UINT64_C(1) << 31; bit > 0; bit >>= 1)
		if ((root | bit) * (root | bit) <= number)
			root |= bit;
	return root;
}

/* The control law: interval / sqrt(count). */
static uint64_t drop_distance_us(const struct queue *queue, uint32_t count)
{
	return square_root(queue->interval_us * queue->interval_us / count);
}

/* Whether frames have waited too long for a whole interval, the one just taken being the last. */
static bool is_above_target(
	const struct queue *queue, struct lane *lane, uint64_t sojourn_us, uint64_t now_us)
{
	if (queue->target_us == 0 || sojourn_us < queue->target_us || lane->bytes <= QUANTUM) {
		lane->first_above_us = 0;
		return false;
	}
	if (lane->first_above_us == 0)
		lane->first_above_us = now_us + queue->interval_us;
	return now_us >= lane->first_above_us;
}

/* Whether the frame just taken from that lane is to be dropped. */
static bool codel_drops(
	const struct queue *queue, struct lane *lane, uint64_t sojourn_us, uint64_t now_us)
{
	uint64_t memory_us = MEMORY_INTERVALS * queue->interval_us;
	uint32_t before = lane->count - lane->last_count;

	if (!is_above_target(queue, lane, sojourn_us, now_us)) {
		lane->is_dropping = false;
		return false;
	}
	if (lane->is_dropping) {
		if (now_us < lane->drop_next_us)
			return false;
		lane->count++;
		lane->drop_next_us += drop_distance_us(queue, lane->count);
		return true;
	}
	lane->is_dropping = true;
	lane->count = before > 1 && now_us < lane->drop_next_us + memory_us ? before : 1;
	lane->last_count = lane->count;
	lane->drop_next_us = now_us + drop_distance_us(queue, lane->count);
	return true;
}

/* --- into the queue ------------------------------------------------------------------------- */

void queue_push(struct queue *queue, const uint8_t *frame, size_t size, uint64_t now_us,
	struct counters *counters)
{
	if (make_room(queue, BLOCKS(size), counters))
		lane_append(
			queue, le16_load(frame + TAG_OFFSET), store(queue, frame, size, now_us));
	else
		counters_drop(counters, DROP_QUEUE_FULL, le16_load(frame + TAG_OFFSET), 1);
}

/* --- out of the queue ----------------------------------------------------------------------- */

static void leaving_append(struct queue *queue, uint32_t frame)
{
	size_t size = queue->blocks[frame].size;

	queue->leaving_bytes += size;
	queue->leaving_blocks += BLOCKS(size);
	append(queue, &queue->leaving, frame);
}

static uint32_t leaving_take(struct queue *queue)
{
	uint32_t frame = take_first(queue, &queue->leaving);
	size_t size = queue->blocks[frame].size;

	assert(frame);
	queue->leaving_bytes -= size;
	queue->leaving_blocks -= BLOCKS(size);
	return frame;
}

void queue_drop_tag(
	struct queue *queue, uint16_t tag, struct counters *counters, enum counter cause)
{
	struct lane *lane = &queue->lanes[tag];
	struct frame_list leaving = queue->leaving;

	while (lane->generation == queue->generation && lane->frames.first)
		drop(queue, lane_take(queue, lane), counters, cause);
	queue->leaving.first = 0;
	while (leaving.first) {
		uint32_t frame = take_first(queue, &leaving);

		if (tag_of(queue, frame) != tag) {
			append(queue, &queue->leaving, frame);
			continue;
		}
		queue->leaving_bytes -= queue->blocks[frame].size;
		queue->leaving_blocks -= BLOCKS(queue->blocks[frame].size);
		drop(queue, frame, counters, cause);
	}
}

static bool may_leave(const struct queue *queue, uint32_t frame, size_t budget, size_t sparse_extra)
{
	size_t bytes = queue->leaving_bytes + queue->blocks[frame].size;

	if (queue->new_lanes.first)
		budget += min_size(sparse_extra, SIZE_MAX - budget);
	if (queue->leaving_bytes == 0)
		return budget > 0;
	return bytes <= min_size(budget, QUEUE_LEAVING_MAX) &&
	       queue->leaving_blocks + BLOCKS(queue->blocks[frame].size) <= QUEUE_PIECES_MAX;
}

static void choose_leaving(struct queue *queue, size_t budget, size_t sparse_extra, uint64_t now_us,
	struct counters *counters)
{
	struct lane *lane;

	while ((lane = next_lane(queue)) &&
		may_leave(queue, lane->frames.first, budget, sparse_extra)) {
		uint32_t frame = lane_take(queue, lane);
		uint64_t sojourn_us = now_us - queue->blocks[frame].queued_us;

		if (sojourn_us > queue->stale_us) {
			drop(queue, frame, counters, DROP_STALE);
		} else if (codel_drops(queue, lane, sojourn_us, now_us)) {
			drop(queue, frame, counters, DROP_CODEL);
		} else {
			lane->deficit -= (int32_t)queue->blocks[frame].size;
			leaving_append(queue, frame);
		}
	}
}

/* Adds the bytes of a frame; neighbours become one piece. Returns the new number of pieces. */
static int add_pieces(const struct queue *queue, uint32_t frame, int count,
	struct iovec pieces[static QUEUE_PIECES_MAX])
{
	size_t size = queue->blocks[frame].size;
	uint32_t block = frame;

	for (size_t at = 0; at < size; at += BLOCK_SIZE) {
		struct iovec *last = count > 0 ? &pieces[count - 1] : NULL;
		size_t length = min_size(size - at, BLOCK_SIZE);
		uint8_t *bytes = block_bytes(queue, block);

		if (last && (uint8_t *)last->iov_base + last->iov_len == bytes)
			last->iov_len += length;
		else
			pieces[count++] = (struct iovec){bytes, length};
		block = queue->blocks[block].next_block;
	}
	return count;
}

int queue_gather(struct queue *queue, size_t budget, size_t sparse_extra, uint64_t now_us,
	struct counters *counters, struct iovec pieces[static QUEUE_PIECES_MAX])
{
	uint32_t frame;
	int count = 0;

	choose_leaving(queue, budget, sparse_extra, now_us, counters);
	for (frame = queue->leaving.first; frame; frame = queue->blocks[frame].next_frame)
		count = add_pieces(queue, frame, count, pieces);
	return count;
}

/* Copies the frame but for its first `gone` bytes. Returns how many bytes that is. */
static size_t copy_rest(const struct queue *queue, uint32_t frame, size_t gone, uint8_t *rest)
{
	size_t size = queue->blocks[frame].size;
	uint32_t block = frame;

	for (size_t at = 0; at < size; at += BLOCK_SIZE) {
		size_t end = min_size(at + BLOCK_SIZE, size);
		size_t start = at < gone ? min_size(gone, end) : at;

		memcpy(rest + start - min_size(start, gone), block_bytes(queue, block) + start - at,
			end - start);
		block = queue->blocks[block].next_block;
	}
	return size - gone;
}

size_t queue_settle(
	struct queue *queue, size_t written, uint8_t rest[static FRAME_SIZE_MAX], size_t *rest_size)
{
	size_t left_whole = 0;

	*rest_size = 0;
	while (written > 0) {
		uint32_t frame = leaving_take(queue);
		size_t size = queue->blocks[frame].size;

		if (written < size)
			*rest_size = copy_rest(queue, frame, written, rest);
		else
			left_whole++;
		written -= min_size(written, size);
		forget(queue, frame);
	}
	return left_whole;
}

/* --- a new stream --------------------------------------------------------------------------- */

void queue_recall(
	struct queue *queue, uint64_t now_us, uint64_t stale_us, struct counters *counters)
{
	struct lane *lane;

	assert(!queue->recalled.first);
	while ((lane = next_lane(queue))) {
		uint32_t frame = lane_take(queue, lane);

		lane->deficit -= (int32_t)queue->blocks[frame].size;
		leaving_append(queue, frame);
	}
	while (queue->leaving.first) {
		uint32_t frame = leaving_take(queue);

		if (now_us - queue->blocks[frame].queued_us > stale_us)
			drop(queue, frame, counters, DROP_STALE);
		else
			append(queue, &queue->recalled, frame);
	}
	queue->generation++;
}

bool queue_next_recalled(const struct queue *queue, uint16_t *tag)
{
	uint32_t frame = queue->recalled.first;

	if (frame)
		*tag = tag_of(queue, frame);
	return frame != 0;
}

void queue_requeue_recalled(struct queue *queue, uint16_t tag)
{
	uint32_t frame = take_first(queue, &queue->recalled);

	le16_store(block_bytes(queue, frame) + TAG_OFFSET, tag);
	lane_append(queue, tag, frame);
}

void queue_drop_recalled(struct queue *queue, struct counters *counters)
{
	drop(queue, take_first(queue, &queue->recalled), counters, DROP_PIPE_CLOSED);
}
