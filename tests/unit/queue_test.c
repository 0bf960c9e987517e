#include "queue.h"

#include "check.h"
#include "frame.h"
#include "util.h"

enum {
	CAPACITY = FRAME_SIZE_MAX,
	HEADER = FRAME_HEADER_SIZE,
	MODEL_FRAMES_MAX = CAPACITY / HEADER + 1,
};

static struct queue queue;
static uint8_t frame[FRAME_SIZE_MAX];

/* --- helpers ------------------------------------------------------------------------------- */

/* Builds in `frame` one whose bytes tell it from others. Returns its size. */
static size_t make_frame(uint8_t mark, size_t size)
{
	if (!CHECK(size >= HEADER && size <= sizeof(frame)))
		exit(EXIT_FAILURE);
	frame_put_header(frame, mark, (uint16_t)(size - HEADER));
	for (size_t i = HEADER; i < size; i++)
		frame[i] = (uint8_t)(mark + i * 7);
	return size;
}

static bool push(uint8_t mark, size_t size)
{
	make_frame(mark, size);
	return queue_push(&queue, frame, size);
}

/* All queued bytes, put together. Returns how many. */
static size_t peek(uint8_t bytes[static CAPACITY])
{
	struct iovec pieces[2];
	int count = queue_peek(&queue, pieces);
	size_t used = 0;

	for (int i = 0; i < count; i++) {
		CHECK(pieces[i].iov_len > 0 && pieces[i].iov_len <= CAPACITY - used);
		memcpy(bytes + used, pieces[i].iov_base, pieces[i].iov_len);
		used += pieces[i].iov_len;
	}
	CHECK_NUMBER(queue_is_empty(&queue), used == 0);
	return used;
}

/* Whether the oldest bytes are `size` of the frame with that mark and whole size, from `from` on.
 */
static bool begins_with(uint8_t mark, size_t whole, size_t from, size_t size)
{
	static uint8_t bytes[CAPACITY];

	make_frame(mark, whole);
	return CHECK(peek(bytes) >= size) && CHECK(memcmp(bytes, frame + from, size) == 0);
}

/* Takes off a whole frame, which is to be that one. */
static void pop(uint8_t mark, size_t size)
{
	begins_with(mark, size, 0, size);
	CHECK_NUMBER(queue_consume(&queue, size), 1);
	CHECK(!queue_is_inside_frame(&queue));
}

static void setup(void)
{
	if (!CHECK(queue_init(&queue, CAPACITY)))
		exit(EXIT_FAILURE);
}

/* Makes the next byte pushed stand at that index of the ring. */
static void setup_at(size_t index)
{
	setup();
	if (index >= HEADER) {
		push(0, index);
		queue_consume(&queue, index);
	}
}

/* --- tests --------------------------------------------------------------------------------- */

static void empty_queue(void)
{
	struct iovec pieces[2];

	setup();
	CHECK(queue_is_empty(&queue));
	CHECK(!queue_is_inside_frame(&queue));
	CHECK_NUMBER(queue.frames, 0);
	CHECK_NUMBER(queue_peek(&queue, pieces), 0);
	CHECK_NUMBER(queue_consume(&queue, 0), 0);
	queue_free(&queue);
}

static void freed_queue(void)
{
	setup();
	push(1, 100);
	queue_free(&queue);
	CHECK(queue_is_empty(&queue));
	CHECK(!queue.ring);
	queue_free(&queue); /* nothing left to free */
}

static void first_in_first_out(void)
{
	setup();
	for (uint8_t mark = 1; mark <= 50; mark++)
		CHECK(push(mark, HEADER + mark));
	CHECK_NUMBER(queue.frames, 50);
	for (uint8_t mark = 1; mark <= 50; mark++)
		pop(mark, HEADER + mark);
	CHECK_NUMBER(queue.frames, 0);
	CHECK(queue_is_empty(&queue));
	queue_free(&queue);
}

static void frames_are_copied(void)
{
	setup();
	push(1, 100);
	memset(frame, 0xee, sizeof(frame));
	pop(1, 100);
	queue_free(&queue);
}

static void empty_payloads(void)
{
	setup();
	for (uint8_t mark = 0; mark < 100; mark++)
		CHECK(push(mark, HEADER));
	for (uint8_t mark = 0; mark < 100; mark++)
		pop(mark, HEADER);
	queue_free(&queue);
}

static void longest_frame(void)
{
	setup();
	CHECK(push(1, FRAME_SIZE_MAX));
	begins_with(1, FRAME_SIZE_MAX, 0, FRAME_SIZE_MAX);
	CHECK_NUMBER(queue_consume(&queue, FRAME_SIZE_MAX - 1), 0);
	CHECK_NUMBER(queue_consume(&queue, 1), 1);
	CHECK(queue_is_empty(&queue));
	queue_free(&queue);
}

static void one_consume_of_many_frames(void)
{
	setup();
	for (uint8_t mark = 1; mark <= 10; mark++)
		push(mark, 20);
	CHECK_NUMBER(queue_consume(&queue, 45), 2);
	CHECK_NUMBER(queue.frames, 8);
	CHECK(queue_is_inside_frame(&queue));
	begins_with(3, 20, 5, 15);
	CHECK_NUMBER(queue_consume(&queue, 155), 8);
	CHECK_NUMBER(queue.frames, 0);
	CHECK(!queue_is_inside_frame(&queue));
	queue_free(&queue);
}

static void byte_by_byte(void)
{
	setup();
	push(1, 10);
	push(2, HEADER);
	push(3, 300);
	for (size_t left = 317; left <= 317; left--) {
		bool ends = left == 308 || left == 300 || left == 0;

		CHECK_NUMBER(queue_consume(&queue, 1), ends);
		CHECK(queue_is_inside_frame(&queue) == !ends);
		CHECK_NUMBER(queue.used, left);
	}
	CHECK(queue_is_empty(&queue));
	queue_free(&queue);
}

static void consume_of_nothing(void)
{
	setup();
	push(1, 100);
	CHECK_NUMBER(queue_consume(&queue, 0), 0);
	CHECK(!queue_is_inside_frame(&queue));
	queue_consume(&queue, 50);
	CHECK_NUMBER(queue_consume(&queue, 0), 0);
	CHECK(queue_is_inside_frame(&queue));
	queue_free(&queue);
}

static void full_queue(void)
{
	setup();
	CHECK(push(1, 30000));
	CHECK(push(2, CAPACITY - 30000 - HEADER));
	CHECK(!push(3, HEADER + 1));
	CHECK_NUMBER(queue.frames, 2);
	CHECK_NUMBER(queue.used, CAPACITY - HEADER);
	CHECK(push(4, HEADER));
	CHECK(!push(5, HEADER));
	pop(1, 30000);
	pop(2, CAPACITY - 30000 - HEADER);
	pop(4, HEADER);
	CHECK(queue_is_empty(&queue));
	queue_free(&queue);
}

static void room_comes_back_byte_by_byte(void)
{
	setup();
	push(1, CAPACITY - 100);
	push(2, 100);
	queue_consume(&queue, 99);
	CHECK(!push(3, 100));
	queue_consume(&queue, 1);
	CHECK(push(3, 100));
	CHECK_NUMBER(queue.frames, 3);
	begins_with(1, CAPACITY - 100, 100, CAPACITY - 200);
	CHECK_NUMBER(queue_consume(&queue, CAPACITY - 200), 1);
	pop(2, 100);
	pop(3, 100);
	queue_free(&queue);
}

/* Around the end of the ring, each byte of a frame and of its header is the first one behind it. */
static void wraparound_at_every_byte(void)
{
	struct iovec pieces[2];

	for (size_t before = 1; before <= 50; before++) {
		setup_at(CAPACITY - before);
		CHECK(push(1, 40));
		CHECK(push(2, 30));
		CHECK_NUMBER(queue_peek(&queue, pieces), 2);
		CHECK_NUMBER(pieces[0].iov_len, before);
		CHECK_NUMBER(pieces[1].iov_len, 70 - before);
		pop(1, 40);
		pop(2, 30);
		CHECK(queue_is_empty(&queue));
		queue_free(&queue);
	}
}

static void wraparound_when_full(void)
{
	setup_at(1000);
	CHECK(push(1, CAPACITY));
	CHECK(!push(2, HEADER));
	begins_with(1, CAPACITY, 0, CAPACITY);
	CHECK_NUMBER(queue_consume(&queue, CAPACITY), 1);
	CHECK(push(2, CAPACITY));
	pop(2, CAPACITY);
	queue_free(&queue);
}

/* An exact fit up to the ring's end leaves one piece, and the next frame begins at the front. */
static void end_of_ring(void)
{
	struct iovec pieces[2];

	setup_at(CAPACITY - 100);
	push(1, 100);
	CHECK_NUMBER(queue_peek(&queue, pieces), 1);
	push(2, 50);
	CHECK_NUMBER(queue_peek(&queue, pieces), 2);
	pop(1, 100);
	CHECK_NUMBER(queue_peek(&queue, pieces), 1);
	CHECK(pieces[0].iov_base == queue.ring);
	pop(2, 50);
	queue_free(&queue);
}

/* The rest does not begin with a header, and must not be taken for one. */
static void rest_of_a_frame(void)
{
	setup();
	make_frame(1, 1000);
	queue_push_rest(&queue, frame + 3, 997);
	CHECK(queue_is_inside_frame(&queue));
	CHECK(!queue_is_empty(&queue));
	CHECK_NUMBER(queue.frames, 1);
	CHECK(push(2, 60));
	begins_with(1, 1000, 3, 997);
	CHECK_NUMBER(queue_consume(&queue, 996), 0);
	CHECK(queue_is_inside_frame(&queue));
	CHECK_NUMBER(queue_consume(&queue, 1), 1);
	CHECK(!queue_is_inside_frame(&queue));
	CHECK_NUMBER(queue.frames, 1);
	pop(2, 60);
	queue_free(&queue);
}

static void rest_and_next_frames_at_once(void)
{
	setup_at(CAPACITY - 10);
	make_frame(1, 100);
	queue_push_rest(&queue, frame + 99, 1);
	push(2, 20);
	push(3, 30);
	CHECK_NUMBER(queue_consume(&queue, 22), 2);
	CHECK_NUMBER(queue.frames, 1);
	CHECK(queue_is_inside_frame(&queue));
	begins_with(3, 30, 1, 29);
	CHECK_NUMBER(queue_consume(&queue, 29), 1);
	CHECK(queue_is_empty(&queue));
	queue_free(&queue);
}

static void rest_of_the_longest_frame(void)
{
	setup_at(30000);
	make_frame(1, FRAME_SIZE_MAX);
	queue_push_rest(&queue, frame + 1, FRAME_SIZE_MAX - 1);
	begins_with(1, FRAME_SIZE_MAX, 1, FRAME_SIZE_MAX - 1);
	CHECK_NUMBER(queue_consume(&queue, FRAME_SIZE_MAX - 1), 1);
	CHECK(!queue_is_inside_frame(&queue));
	queue_free(&queue);
}

/* --- against a model ----------------------------------------------------------------------- */

/* What a queue does, in the plainest way: all bytes at the front, and the end of each frame. */
static struct {
	uint8_t bytes[CAPACITY];
	size_t used;
	size_t left[MODEL_FRAMES_MAX]; /* bytes of each frame still to go */
	size_t frames;
	bool inside;
} model;

static void model_push(const uint8_t *bytes, size_t size)
{
	memcpy(model.bytes + model.used, bytes, size);
	model.used += size;
	model.left[model.frames++] = size;
}

static size_t model_consume(size_t size)
{
	size_t completed = 0;

	memmove(model.bytes, model.bytes + size, model.used - size);
	model.used -= size;
	while (size > 0 && size >= model.left[completed])
		size -= model.left[completed++];
	model.frames -= completed;
	memmove(model.left, model.left + completed, model.frames * sizeof(model.left[0]));
	if (completed > 0)
		model.inside = false;
	if (size > 0) {
		model.left[0] -= size;
		model.inside = true;
	}
	return completed;
}

static size_t random_size(void)
{
	static const uint32_t most[] = {1, 20, 300, 3000, 30000, FRAME_PAYLOAD_MAX + 1};

	return HEADER + random_below(most[random_below(ARRAY_SIZE(most))]);
}

static void random_push(void)
{
	size_t size = make_frame(random_byte(), random_size());
	size_t gone = 1 + random_below((uint32_t)size - 1);
	bool fits = size <= CAPACITY - model.used;

	if (model.used == 0 && random_below(2) == 0) {
		queue_push_rest(&queue, frame + gone, size - gone);
		model_push(frame + gone, size - gone);
		model.inside = true;
		return;
	}
	CHECK(queue_push(&queue, frame, size) == fits);
	if (fits)
		model_push(frame, size);
}

static void random_consume(void)
{
	size_t size = random_size() - HEADER;

	if (random_below(10) == 0)
		size = model.used;
	size = min_size(size, model.used);
	CHECK_NUMBER(queue_consume(&queue, size), model_consume(size));
}

static bool is_like_model(void)
{
	static uint8_t bytes[CAPACITY];

	return CHECK_NUMBER(peek(bytes), model.used) &&
	       CHECK(memcmp(bytes, model.bytes, model.used) == 0) &&
	       CHECK_NUMBER(queue.frames, model.frames) &&
	       CHECK(queue_is_inside_frame(&queue) == model.inside) &&
	       CHECK(queue_is_empty(&queue) == (model.used == 0));
}

static void random_use(void)
{
	setup();
	for (size_t round = 0; round < 50000; round++) {
		if (random_below(2) > 0)
			random_push();
		else
			random_consume();
		if (!is_like_model())
			break;
	}
	queue_free(&queue);
}

int main(void)
{
	test("an empty queue has nothing to write", empty_queue);
	test("a freed queue holds nothing", freed_queue);
	test("frames leave in the order in which they came", first_in_first_out);
	test("a frame is copied when it is queued", frames_are_copied);
	test("frames without payload are frames", empty_payloads);
	test("the longest frame fits a queue of the least capacity", longest_frame);
	test("one write can complete many frames", one_consume_of_many_frames);
	test("a frame is complete when its last byte has left", byte_by_byte);
	test("to consume nothing changes nothing", consume_of_nothing);
	test("a full queue takes nothing of a frame, and what fits it takes", full_queue);
	test("each byte that leaves makes room for one", room_comes_back_byte_by_byte);
	test("a frame may go around the end of the ring at any of its bytes",
		wraparound_at_every_byte);
	test("a full queue may begin anywhere in the ring", wraparound_when_full);
	test("frames up to the end of the ring are one piece", end_of_ring);
	test("the rest of a frame is completed like a frame", rest_of_a_frame);
	test("the rest of a frame may leave together with the next", rest_and_next_frames_at_once);
	test("the rest of the longest frame fits", rest_of_the_longest_frame);
	test("a queue used at random does what a plain one would", random_use);
	return tests_end();
}
