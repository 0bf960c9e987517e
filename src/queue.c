/*
 * How this works: the memory is cut into blocks, and a frame is a chain of them, copied in once.
 * From then on only indexes move:
 *
 *                 +-> lane of tag 7: frame, frame, ... --+
 *   queue_push() -+-> lane of tag 8: frame --------------+-> leaving --> queue_peek()
 *                 +-> ...            |                   |
 *                                    v DROP_QUEUE_FULL   v DROP_CODEL, DROP_STALE
 *
 * Lanes with frames stand in one of two lists. Whichever is first in the list of new lanes, or else
 * of old ones, may send as many bytes as its deficit says; then it goes to the end of the old ones
 * and gets another quantum. A lane that has run empty once stays among the old ones until its turn
 * comes, lest it be new with every frame.
 *
 * Each lane with frames also stands on a shelf with those that take as many blocks as it does. The
 * highest shelf that is not empty tells where to drop when there is no room. Nothing ever looks
 * through all lanes or frames.
 *
 * Blocks never used are handed out in their order, and freed ones first. A part of the blocks is
 * out of reach for whole frames, so that there is always room for the rest of one and for control.
 */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "tags.h"
#include "util.h"

#define BLOCKS(size) ((uint32_t)(((size) + BLOCK_SIZE - 1) / BLOCK_SIZE))

enum {
	BLOCK_SIZE = 512,
	RESERVE = BLOCKS(FRAME_SIZE_MAX) + 2 * BLOCKS(QUEUE_CONTROL_MAX),
	QUANTUM = 1514 + FRAME_HEADER_SIZE, /* as in RFC 8290, 5.2.4; about one datagram */
	INTERVAL_US = 100 * US_PER_MS,      /* CoDel, as RFC 8289 recommends, */
	MEMORY_INTERVALS = 16,              /* and how long it remembers how often it had to drop */
};

static_assert(QUEUE_PIECES_MAX >= RESERVE + BLOCKS(QUEUE_LEAVING_MAX),
	"one write takes the longest frame, control and some frames more");

struct block {
	uint32_t next_block; /* of the frame, or of the free list */
	/* Of the first block of a frame: */
	uint32_t last_block;
	uint32_t next_frame;
	uint32_t size;
	uint64_t queued_us;
	bool is_data;
};

struct lane {
	struct frame_list frames;
	uint32_t bytes, blocks; /* that these frames have, and take */
	int32_t deficit;        /* bytes that may leave in this round */
	bool is_listed;
	struct lane *next;         /* whose turn it is, in the list of new or of old lanes */
	struct lane *left, *right; /* those on the same shelf */

	/* CoDel: RFC 8289, 5.2 */
	bool is_dropping;
	uint32_t count, last_count; /* drops since dropping began, and as that began */
	uint64_t first_above_us, drop_next_us;

	uint32_t stream;
};

bool queue_init(struct queue *queue, size_t capacity)
{
	uint32_t limit = BLOCKS(capacity);
	size_t blocks = 1 + (size_t)limit + RESERVE;

	assert(capacity >= FRAME_SIZE_MAX);
	*queue = (struct queue){
		.interval_us = INTERVAL_US,
		.stale_us = UINT64_MAX,
		.arena = malloc(blocks * BLOCK_SIZE),
		.blocks = calloc(blocks, sizeof(struct block)),
		.lanes = calloc(TAGS, sizeof(struct lane)),
		.shelves = calloc(1 + (size_t)limit, sizeof(struct lane_list)),
		.block_limit = limit,
		.blocks_seen = 1,
	};
	if (queue->arena && queue->blocks && queue->lanes && queue->shelves)
		return true;
	queue_free(queue);
	return false;
}

void queue_free(struct queue *queue)
{
	free(queue->arena);
	free(queue->blocks);
	free(queue->lanes);
	free(queue->shelves);
	*queue = (struct queue){0};
}

bool queue_is_empty(const struct queue *queue)
{
	return queue->frames == 0 && !queue->leaving.first;
}

bool queue_is_inside_frame(const struct queue *queue)
{
	return queue->inside_frame;
}

bool queue_has_control(const struct queue *queue)
{
	return queue->controls > 0;
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
	assert(block <= queue->block_limit + RESERVE);
	queue->blocks_used++;
	return block;
}

/* Copies the bytes into a chain of blocks. Returns the first one, which stands for the frame. */
static uint32_t store(
	struct queue *queue, const uint8_t *bytes, size_t size, bool is_data, uint64_t now_us)
{
	uint32_t frame = take_block(queue), last = frame;
	struct block *block = &queue->blocks[frame];

	assert(size > 0 && size <= FRAME_SIZE_MAX);
	for (size_t at = 0; at < size; at += BLOCK_SIZE) {
		if (at > 0)
			last = queue->blocks[last].next_block = take_block(queue);
		memcpy(block_bytes(queue, last), bytes + at, min_size(size - at, BLOCK_SIZE));
	}
	block->last_block = last;
	block->size = (uint32_t)size;
	block->queued_us = now_us;
	block->is_data = is_data;
	queue->frames += is_data;
	return frame;
}

static void forget(struct queue *queue, uint32_t frame)
{
	const struct block *block = &queue->blocks[frame];

	queue->frames -= block->is_data;
	queue->blocks_used -= BLOCKS(block->size);
	queue->blocks[block->last_block].next_block = queue->free_block;
	queue->free_block = frame;
}

static void drop(struct queue *queue, uint32_t frame, struct counters *counters, enum counter cause)
{
	counters->value[cause] += queue->blocks[frame].is_data;
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

/* Moves a lane from the shelf of those with as many blocks as it had to that for what it has. */
static void shelve(struct queue *queue, struct lane *lane, uint32_t blocks)
{
	struct lane_list *shelf = &queue->shelves[lane->blocks];

	if (lane->blocks > 0) {
		*(lane->left ? &lane->left->right : &shelf->first) = lane->right;
		*(lane->right ? &lane->right->left : &shelf->last) = lane->left;
	}
	lane->blocks = blocks;
	if (blocks == 0)
		return;
	shelf = &queue->shelves[blocks];
	lane->left = shelf->last;
	lane->right = NULL;
	*(shelf->last ? &shelf->last->right : &shelf->first) = lane;
	shelf->last = lane;
	if (queue->fattest < blocks)
		queue->fattest = blocks;
}

static void lane_append(struct queue *queue, uint16_t tag, uint32_t frame)
{
	struct lane *lane = &queue->lanes[tag];

	if (lane->stream != queue->stream)
		*lane = (struct lane){.stream = queue->stream};
	append(queue, &lane->frames, frame);
	lane->bytes += queue->blocks[frame].size;
	shelve(queue, lane, lane->blocks + BLOCKS(queue->blocks[frame].size));
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
	shelve(queue, lane, lane->blocks - BLOCKS(queue->blocks[frame].size));
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
		while (queue->fattest > 0 && !queue->shelves[queue->fattest].first)
			queue->fattest--;
		if (queue->fattest == 0)
			return false;
		drop(queue, lane_take(queue, queue->shelves[queue->fattest].first), counters,
			DROP_QUEUE_FULL);
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
	const struct queue *queue, struct lane *lane, uint64_t waited_us, uint64_t now_us)
{
	if (queue->target_us == 0 || waited_us < queue->target_us || lane->bytes <= QUANTUM) {
		lane->first_above_us = 0;
		return false;
	}
	if (lane->first_above_us == 0)
		lane->first_above_us = now_us + queue->interval_us;
	return now_us >= lane->first_above_us;
}

/* Whether the frame just taken from that lane is to be dropped. */
static bool codel_drops(
	const struct queue *queue, struct lane *lane, uint64_t waited_us, uint64_t now_us)
{
	uint64_t memory_us = MEMORY_INTERVALS * queue->interval_us;
	uint32_t before = lane->count - lane->last_count;

	if (!is_above_target(queue, lane, waited_us, now_us)) {
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
	if (!make_room(queue, BLOCKS(size), counters)) {
		counters->value[DROP_QUEUE_FULL]++;
		return;
	}
	lane_append(queue, le16_load(frame + 4), store(queue, frame, size, true, now_us));
}

void queue_push_rest(struct queue *queue, const uint8_t *rest, size_t size, bool is_data)
{
	assert(!queue->leaving.first);
	append(queue, &queue->leaving, store(queue, rest, size, is_data, 0));
	queue->inside_frame = true;
	if (is_data)
		queue->leaving_bytes = size;
	else
		queue->controls++;
}

void queue_push_control(struct queue *queue, const uint8_t *bytes, size_t size)
{
	uint32_t frame = store(queue, bytes, size, false, 0);
	uint32_t *link = &queue->leaving.first;

	assert(queue->controls == 0 && size <= QUEUE_CONTROL_MAX);
	if (queue->inside_frame)
		link = &queue->blocks[*link].next_frame;
	if (!*link)
		queue->leaving.last = frame;
	queue->blocks[frame].next_frame = *link;
	*link = frame;
	queue->controls++;
}

void queue_push_last(struct queue *queue, const uint8_t *bytes, size_t size)
{
	assert(queue->controls < 2 && size <= QUEUE_CONTROL_MAX);
	append(queue, &queue->leaving, store(queue, bytes, size, false, 0));
	queue->controls++;
}

void queue_drop_tag(
	struct queue *queue, uint16_t tag, struct counters *counters, enum counter cause)
{
	struct lane *lane = &queue->lanes[tag];

	if (lane->stream != queue->stream)
		return;
	while (lane->frames.first)
		drop(queue, lane_take(queue, lane), counters, cause);
}

/* --- out of the queue ----------------------------------------------------------------------- */

static bool may_leave(const struct queue *queue, uint32_t frame, size_t budget)
{
	size_t bytes = queue->leaving_bytes + queue->blocks[frame].size;

	if (queue->new_lanes.first)
		budget += min_size(queue->sparse_extra, SIZE_MAX - budget);
	if (queue->leaving_bytes == 0)
		return budget > 0;
	return bytes <= min_size(budget, QUEUE_LEAVING_MAX);
}

static void leave(struct queue *queue, struct lane *lane, uint32_t frame)
{
	lane->deficit -= (int32_t)queue->blocks[frame].size;
	queue->leaving_bytes += queue->blocks[frame].size;
	append(queue, &queue->leaving, frame);
}

static void choose_leaving(
	struct queue *queue, size_t budget, uint64_t now_us, struct counters *counters)
{
	struct lane *lane;

	while ((lane = next_lane(queue)) && may_leave(queue, lane->frames.first, budget)) {
		uint32_t frame = lane_take(queue, lane);
		uint64_t waited_us = now_us - queue->blocks[frame].queued_us;

		if (waited_us > queue->stale_us) {
			drop(queue, frame, counters, DROP_STALE);
		} else if (codel_drops(queue, lane, waited_us, now_us)) {
			drop(queue, frame, counters, DROP_CODEL);
		} else {
			leave(queue, lane, frame);
		}
	}
}

/* Adds the bytes of a frame but for the first `gone`. Returns the new number of pieces. */
static int add_pieces(const struct queue *queue, uint32_t frame, size_t gone, int count,
	struct iovec pieces[static QUEUE_PIECES_MAX])
{
	size_t size = queue->blocks[frame].size;
	uint32_t block = frame;

	for (size_t at = 0; at < size && count < QUEUE_PIECES_MAX; at += BLOCK_SIZE) {
		struct iovec *last = count > 0 ? &pieces[count - 1] : NULL;
		size_t end = min_size(size - at, BLOCK_SIZE);
		size_t start = min_size(gone, end);
		uint8_t *bytes = block_bytes(queue, block);

		gone -= start;
		if (last && (uint8_t *)last->iov_base + last->iov_len == bytes + start)
			last->iov_len += end - start;
		else if (start < end)
			pieces[count++] = (struct iovec){bytes + start, end - start};
		block = queue->blocks[block].next_block;
	}
	return count;
}

int queue_peek(struct queue *queue, size_t budget, uint64_t now_us, struct counters *counters,
	struct iovec pieces[static QUEUE_PIECES_MAX])
{
	size_t gone = queue->gone;
	uint32_t frame;
	int count = 0;

	choose_leaving(queue, budget, now_us, counters);
	for (frame = queue->leaving.first; frame; frame = queue->blocks[frame].next_frame) {
		count = add_pieces(queue, frame, gone, count, pieces);
		if (count == QUEUE_PIECES_MAX)
			break;
		gone = 0;
	}
	return count;
}

/* The first entry of `leaving` is over. Returns it; it is still to be forgotten. */
static uint32_t take_leaving(struct queue *queue)
{
	uint32_t frame = take_first(queue, &queue->leaving);

	if (queue->blocks[frame].is_data)
		queue->leaving_bytes -= queue->blocks[frame].size - queue->gone;
	else
		queue->controls--;
	queue->gone = 0;
	queue->inside_frame = false;
	return frame;
}

size_t queue_consume(struct queue *queue, size_t size)
{
	size_t before = queue->frames;

	while (size > 0) {
		const struct block *first = &queue->blocks[queue->leaving.first];
		size_t step = min_size(size, first->size - queue->gone);

		assert(queue->leaving.first);
		size -= step;
		queue->gone += step;
		queue->inside_frame = true;
		if (first->is_data)
			queue->leaving_bytes -= step;
		if (queue->gone == first->size)
			forget(queue, take_leaving(queue));
	}
	return before - queue->frames;
}

/* --- a new stream --------------------------------------------------------------------------- */

void queue_recall(
	struct queue *queue, uint64_t now_us, uint64_t stale_us, struct counters *counters)
{
	struct lane *lane;

	assert(!queue->recalled.first);
	while ((lane = next_lane(queue)))
		leave(queue, lane, lane_take(queue, lane));
	while (queue->leaving.first) {
		bool has_begun = queue->inside_frame;
		uint32_t frame = take_leaving(queue);
		const struct block *block = &queue->blocks[frame];

		if (has_begun)
			drop(queue, frame, counters, DROP_PIPE_CLOSED);
		else if (!block->is_data || now_us - block->queued_us > stale_us)
			drop(queue, frame, counters, DROP_STALE);
		else
			append(queue, &queue->recalled, frame);
	}
	queue->stream++;
}

bool queue_next_recalled(const struct queue *queue, uint16_t *tag)
{
	uint32_t frame = queue->recalled.first;

	if (frame)
		*tag = le16_load(block_bytes(queue, frame) + 4);
	return frame != 0;
}

void queue_requeue_recalled(struct queue *queue, uint16_t tag)
{
	uint32_t frame = take_first(queue, &queue->recalled);

	le16_store(block_bytes(queue, frame) + 4, tag);
	lane_append(queue, tag, frame);
}

void queue_drop_recalled(struct queue *queue, struct counters *counters)
{
	drop(queue, take_first(queue, &queue->recalled), counters, DROP_PIPE_CLOSED);
}
