#include "tags.h"

#include "check.h"

enum {
	SECOND_US = 1000 * 1000,
	IDLE_US = 300 * SECOND_US,
	START_US = 1000,
};

static struct tags tags;

/* --- helpers ------------------------------------------------------------------------------- */

static void setup(bool counts_down)
{
	memset(&tags, 0, sizeof(tags));
	tags_init(&tags, counts_down);
}

static uint16_t nth_tag(bool counts_down, uint32_t n)
{
	return (uint16_t)(counts_down ? UINT16_MAX - n : n);
}

/* All tags are in use, having been given out in order. */
static bool all_are_new(bool counts_down)
{
	for (uint32_t i = 0; i < TAGS; i++)
		if (!CHECK_NUMBER(tags_take(&tags, START_US), nth_tag(counts_down, i)))
			return false;
	return CHECK_NUMBER(tags_take(&tags, UINT64_MAX), -1);
}

static void setup_all_in_use(void)
{
	setup(true);
	if (!all_are_new(true))
		exit(EXIT_FAILURE);
}

static void free_tags(const uint16_t *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		tags_free(&tags, list[i]);
}

/* Whether those that can be taken now are these, in that order, and no other. */
static void check_taken(uint64_t now_us, const uint16_t *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		CHECK_NUMBER(tags_take(&tags, now_us), list[i]);
	CHECK_NUMBER(tags_take(&tags, now_us), -1);
}

#define LIST(...) (const uint16_t[]){__VA_ARGS__}, sizeof((uint16_t[]){__VA_ARGS__}) / 2
#define CHECK_TAKEN(now_us, ...) check_taken(now_us, LIST(__VA_ARGS__))
#define CHECK_NONE(now_us) check_taken(now_us, NULL, 0)

/* --- numbering ----------------------------------------------------------------------------- */

static void counts_down(void)
{
	setup(true);
	CHECK_NUMBER(tags_take(&tags, START_US), 65535);
	CHECK_NUMBER(tags_take(&tags, START_US), 65534);
	CHECK_NUMBER(tags_take(&tags, START_US), 65533);
}

static void counts_up(void)
{
	setup(false);
	CHECK_NUMBER(tags_take(&tags, START_US), 0);
	CHECK_NUMBER(tags_take(&tags, START_US), 1);
	CHECK_NUMBER(tags_take(&tags, START_US), 2);
}

static void every_tag_is_given_out_once(void)
{
	setup(true);
	all_are_new(true);
	setup(false);
	all_are_new(false);
}

static void none_while_all_are_in_use(void)
{
	setup_all_in_use();
	CHECK_NONE(START_US);
	CHECK_NONE(START_US + 100 * (uint64_t)IDLE_US);
	CHECK_NONE(UINT64_MAX);
}

static void new_tags_first(void)
{
	setup(false);
	for (uint32_t i = 0; i < TAGS; i++) {
		if (!CHECK_NUMBER(tags_take(&tags, START_US), i))
			return;
		tags_free(&tags, (uint16_t)i);
	}
	CHECK_NUMBER(tags_take(&tags, START_US), 0);
	CHECK_NUMBER(tags_take(&tags, START_US), 1);
}

/* --- free tags ----------------------------------------------------------------------------- */

static void longest_free_first(void)
{
	setup_all_in_use();
	free_tags(LIST(7, 65535, 0, 300));
	CHECK_TAKEN(START_US, 7, 65535, 0, 300);
}

static void freeing_between_takes(void)
{
	setup_all_in_use();
	free_tags(LIST(1, 2));
	CHECK_NUMBER(tags_take(&tags, START_US), 1);
	free_tags(LIST(3, 1));
	CHECK_TAKEN(START_US, 2, 3, 1);
	free_tags(LIST(2));
	CHECK_TAKEN(START_US, 2);
}

static void all_free_and_taken_again(void)
{
	setup_all_in_use();
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < TAGS; i++)
			tags_free(&tags, (uint16_t)(i * 40503)); /* odd, so that it meets all */
		for (uint32_t i = 0; i < TAGS; i++)
			if (!CHECK_NUMBER(tags_take(&tags, START_US), (uint16_t)(i * 40503)))
				return;
		CHECK_NONE(START_US);
	}
}

/* --- closing tags -------------------------------------------------------------------------- */

static void closing_waits_for_the_answer(void)
{
	setup_all_in_use();
	tags_close(&tags, 77);
	CHECK_NONE(START_US);
	CHECK_NONE(UINT64_MAX);
	tags_closed(&tags, 77);
	CHECK_TAKEN(START_US, 77);
}

static void closed_in_the_order_of_the_answers(void)
{
	setup_all_in_use();
	tags_close(&tags, 1);
	tags_close(&tags, 2);
	tags_close(&tags, 3);
	tags_closed(&tags, 3);
	tags_free(&tags, 4);
	tags_closed(&tags, 1);
	CHECK_TAKEN(START_US, 3, 4, 1);
	tags_closed(&tags, 2);
	CHECK_TAKEN(START_US, 2);
}

static void second_answer(void)
{
	setup_all_in_use();
	tags_close(&tags, 5);
	tags_closed(&tags, 5);
	tags_closed(&tags, 5);
	CHECK_TAKEN(START_US, 5);
	tags_closed(&tags, 5); /* in use again */
	CHECK_NONE(UINT64_MAX);
}

static void answer_for_a_new_tag(void)
{
	setup(true);
	tags_closed(&tags, 65535);
	tags_closed(&tags, 0);
	all_are_new(true);
}

static void answer_for_a_used_tag(void)
{
	setup_all_in_use();
	for (uint32_t tag = 0; tag < TAGS; tag++)
		tags_closed(&tags, (uint16_t)tag);
	CHECK_NONE(UINT64_MAX);
}

static void answer_for_a_free_tag(void)
{
	setup_all_in_use();
	free_tags(LIST(1, 2, 3));
	tags_closed(&tags, 1);
	tags_closed(&tags, 2);
	tags_closed(&tags, 3);
	CHECK_TAKEN(START_US, 1, 2, 3);
}

static void answer_for_a_waiting_tag(void)
{
	setup_all_in_use();
	tags_free(&tags, 1);
	tags_late_frame(&tags, 1, START_US + IDLE_US);
	tags_closed(&tags, 1);
	CHECK_NONE(START_US + IDLE_US - 1);
	CHECK_TAKEN(START_US + IDLE_US, 1);
}

/* --- late frames --------------------------------------------------------------------------- */

static void late_frame_makes_a_free_tag_wait(void)
{
	setup_all_in_use();
	tags_free(&tags, 9);
	tags_late_frame(&tags, 9, START_US + IDLE_US);
	CHECK_NONE(START_US);
	CHECK_NONE(START_US + IDLE_US - 1);
	CHECK_TAKEN(START_US + IDLE_US, 9);
}

static void waited_long_enough(void)
{
	setup_all_in_use();
	tags_free(&tags, 9);
	tags_late_frame(&tags, 9, START_US + IDLE_US);
	CHECK_TAKEN(UINT64_MAX, 9);
	tags_free(&tags, 9); /* it does not wait once more */
	CHECK_TAKEN(START_US, 9);
}

static void late_frame_for_a_closed_tag(void)
{
	setup_all_in_use();
	tags_close(&tags, 9);
	tags_closed(&tags, 9);
	tags_late_frame(&tags, 9, START_US + IDLE_US);
	CHECK_NONE(START_US + IDLE_US - 1);
	CHECK_TAKEN(START_US + IDLE_US, 9);
}

static void late_frame_for_a_closing_tag(void)
{
	setup_all_in_use();
	tags_close(&tags, 9);
	tags_late_frame(&tags, 9, START_US);
	CHECK_NONE(UINT64_MAX);
	tags_closed(&tags, 9); /* behind which nothing more comes */
	CHECK_TAKEN(START_US, 9);
}

static void late_frame_for_a_new_or_used_tag(void)
{
	setup(true);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		tags_late_frame(&tags, (uint16_t)tag, START_US);
	all_are_new(true);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		tags_late_frame(&tags, (uint16_t)tag, START_US);
	CHECK_NONE(UINT64_MAX);
}

/* Of five free tags, the one at each place in turn; and then the only one that is left. */
static void late_frame_anywhere_in_the_free_list(void)
{
	static const uint16_t all[] = {10, 11, 12, 13, 14};

	for (size_t late = 0; late < 5; late++) {
		setup_all_in_use();
		free_tags(all, 5);
		tags_late_frame(&tags, all[late], START_US + IDLE_US);
		for (size_t i = 0; i < 5; i++)
			if (i != late)
				CHECK_NUMBER(tags_take(&tags, START_US), all[i]);
		CHECK_NONE(START_US);
		CHECK_TAKEN(START_US + IDLE_US, all[late]);
	}
}

static void list_goes_on_after_a_late_frame(void)
{
	for (uint16_t late = 10; late <= 12; late++) {
		setup_all_in_use();
		free_tags(LIST(10, 11, 12));
		tags_late_frame(&tags, late, START_US + IDLE_US);
		free_tags(LIST(13, 14));
		for (uint16_t tag = 10; tag <= 14; tag++)
			if (tag != late)
				CHECK_NUMBER(tags_take(&tags, START_US), tag);
		CHECK_NONE(START_US);
	}
}

static void waiting_tags_in_order(void)
{
	setup_all_in_use();
	free_tags(LIST(1, 2, 3, 4));
	tags_late_frame(&tags, 3, START_US + IDLE_US);
	tags_late_frame(&tags, 1, START_US + IDLE_US + 10);
	tags_late_frame(&tags, 4, START_US + IDLE_US + 10);
	tags_late_frame(&tags, 2, START_US + IDLE_US + 20);
	CHECK_NONE(START_US + IDLE_US - 1);
	CHECK_TAKEN(START_US + IDLE_US + 9, 3);
	CHECK_TAKEN(START_US + IDLE_US + 10, 1, 4);
	CHECK_NONE(START_US + IDLE_US + 19);
	CHECK_TAKEN(START_US + IDLE_US + 20, 2);
}

/* Of five waiting tags, the one at each place in turn. */
static void one_more_late_frame(void)
{
	for (uint16_t late = 10; late <= 14; late++) {
		setup_all_in_use();
		free_tags(LIST(10, 11, 12, 13, 14));
		for (uint16_t tag = 10; tag <= 14; tag++)
			tags_late_frame(&tags, tag, START_US + IDLE_US);
		tags_late_frame(&tags, late, START_US + 2 * IDLE_US);
		for (uint16_t tag = 10; tag <= 14; tag++)
			if (tag != late)
				CHECK_NUMBER(tags_take(&tags, START_US + IDLE_US), tag);
		CHECK_NONE(START_US + 2 * IDLE_US - 1);
		CHECK_TAKEN(START_US + 2 * IDLE_US, late);
	}
}

static void frames_that_go_on_coming(void)
{
	uint64_t now_us = START_US;

	setup_all_in_use();
	tags_free(&tags, 8);
	for (int i = 0; i < 1000; i++, now_us += IDLE_US - 1) {
		tags_late_frame(&tags, 8, now_us + IDLE_US);
		CHECK_NONE(now_us + IDLE_US - 1);
	}
	CHECK_TAKEN(now_us + 1, 8);
}

static void free_before_waiting(void)
{
	setup_all_in_use();
	free_tags(LIST(1, 2));
	tags_late_frame(&tags, 1, START_US);
	CHECK_TAKEN(START_US + 1, 2, 1);
}

static void new_before_waiting(void)
{
	setup(false);
	CHECK_NUMBER(tags_take(&tags, START_US), 0);
	tags_free(&tags, 0);
	tags_late_frame(&tags, 0, START_US);
	CHECK_NUMBER(tags_take(&tags, START_US + 1), 1);
}

/* --- a new stream -------------------------------------------------------------------------- */

/* A few tags in each state, of `given` that have been used. */
static void make_a_mess(uint32_t given, bool down)
{
	for (uint32_t i = 0; i < given; i++)
		tags_take(&tags, START_US);
	for (uint32_t i = 0; i < given; i += 7)
		tags_close(&tags, nth_tag(down, i));
	for (uint32_t i = 1; i < given; i += 7)
		tags_free(&tags, nth_tag(down, i));
	for (uint32_t i = 2; i < given; i += 7) {
		tags_free(&tags, nth_tag(down, i));
		tags_late_frame(&tags, nth_tag(down, i), START_US + i);
	}
}

static void init_after(uint32_t given, bool was_down, bool is_down)
{
	setup(was_down);
	make_a_mess(given, was_down);
	tags_init(&tags, is_down);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		tags_closed(&tags, (uint16_t)tag); /* answers of the old stream */
	all_are_new(is_down);
	tags_free(&tags, 5);
	CHECK_TAKEN(START_US, 5);
}

static void init_makes_all_new(void)
{
	static const uint32_t given[] = {0, 1, 3, 100, 40000, TAGS - 1, TAGS};

	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		for (int directions = 0; directions < 4; directions++)
			init_after(given[i], directions & 1, directions & 2);
	}
}

static void init_leaves_nothing_behind(void)
{
	static const struct tag unused;

	setup(true);
	make_a_mess(50000, true);
	tags_init(&tags, false);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		CHECK(memcmp(&tags.of[tag], &unused, sizeof(unused)) == 0);
	make_a_mess(3000, false);
	tags_init(&tags, true);
	for (uint32_t tag = 0; tag < TAGS; tag++)
		CHECK(memcmp(&tags.of[tag], &unused, sizeof(unused)) == 0);
}

/* --- against a model ----------------------------------------------------------------------- */

enum {
	MODEL_TAGS = 60 /* all others stay in use */
};

enum model_state {
	USED,
	CLOSING,
	FREE,
	WAITING,
};

/* What is known of each tag, without any list: what is oldest is searched. */
static struct {
	enum model_state state;
	uint64_t joined; /* a number that grows */
	uint64_t free_at_us;
} model[MODEL_TAGS];
static uint64_t joins;

static void model_join(uint32_t i, enum model_state state)
{
	model[i].state = state;
	model[i].joined = joins++;
}

static int32_t model_oldest(enum model_state state)
{
	int32_t oldest = -1;

	for (int32_t i = 0; i < MODEL_TAGS; i++)
		if (model[i].state == state &&
			(oldest < 0 || model[i].joined < model[oldest].joined))
			oldest = i;
	return oldest;
}

static int32_t model_take(uint64_t now_us)
{
	int32_t found = model_oldest(FREE);

	if (found < 0) {
		found = model_oldest(WAITING);
		if (found >= 0 && model[found].free_at_us > now_us)
			found = -1;
	}
	if (found >= 0)
		model[found].state = USED;
	return found;
}

static void random_step(uint64_t now_us)
{
	uint32_t i = random_below(MODEL_TAGS);
	uint16_t tag = (uint16_t)i;

	switch (random_below(6)) {
	case 0:
	case 1:
		CHECK_NUMBER(tags_take(&tags, now_us), model_take(now_us));
		break;
	case 2:
		if (model[i].state != USED)
			break;
		tags_free(&tags, tag);
		model_join(i, FREE);
		break;
	case 3:
		if (model[i].state != USED)
			break;
		tags_close(&tags, tag);
		model[i].state = CLOSING;
		break;
	case 4:
		tags_closed(&tags, tag);
		if (model[i].state == CLOSING)
			model_join(i, FREE);
		break;
	default:
		tags_late_frame(&tags, tag, now_us + 50);
		if (model[i].state != FREE && model[i].state != WAITING)
			break;
		model_join(i, WAITING);
		model[i].free_at_us = now_us + 50;
	}
}

static void random_use(void)
{
	uint64_t now_us = START_US;

	memset(model, 0, sizeof(model));
	setup_all_in_use();
	for (int round = 0; round < 300000 && checks_failed == 0; round++) {
		now_us += random_below(4);
		/* Times in which nearly all are in use, and others in which nearly all wait. */
		if (round / 1000 % 3 > 0 || random_below(3) == 0)
			random_step(now_us);
		else
			CHECK_NUMBER(tags_take(&tags, now_us), model_take(now_us));
	}
}

/* --- all tags at random -------------------------------------------------------------------- */

static uint8_t states[TAGS]; /* enum model_state; FREE also for a tag that is new */
static uint64_t free_at_us[TAGS];

static void take_one(uint64_t now_us)
{
	int32_t tag = tags_take(&tags, now_us);

	if (tag < 0)
		return;
	CHECK(states[tag] == FREE || (states[tag] == WAITING && free_at_us[tag] <= now_us));
	states[tag] = USED;
}

static void give_back_one(uint16_t tag, uint64_t now_us)
{
	if (states[tag] == CLOSING) {
		tags_closed(&tags, tag);
		states[tag] = FREE;
	} else if (states[tag] != USED) {
		if (tags.given == TAGS)
			states[tag] = WAITING;
		free_at_us[tag] = now_us + 1000;
		tags_late_frame(&tags, tag, now_us + 1000);
	} else if (random_below(2) == 0) {
		tags_free(&tags, tag);
		states[tag] = FREE;
	} else {
		tags_close(&tags, tag);
		states[tag] = CLOSING;
	}
}

static void never_twice_at_once(void)
{
	uint64_t now_us = START_US;

	memset(states, FREE, sizeof(states));
	setup(true);
	for (uint32_t round = 0; round < 2000000 && checks_failed == 0; round++) {
		uint16_t tag = (uint16_t)random_below(TAGS);

		now_us += random_below(2);
		if (round == 1000000) {
			tags_init(&tags, true);
			memset(states, FREE, sizeof(states));
		}
		/* In use are now few, now many. */
		if (random_below(8) < (round / 250000 % 2 > 0 ? 3 : 6))
			take_one(now_us);
		else if (tags.given == TAGS || states[tag] == USED || states[tag] == CLOSING)
			give_back_one(tag, now_us);
	}
	CHECK_NUMBER(tags.given, TAGS); /* or this would not test much */
}

int main(void)
{
	test("with a way back tags count from 65535 down", counts_down);
	test("without one tags count from 0 up", counts_up);
	test("every tag is given out once", every_tag_is_given_out_once);
	test("while all tags are in use there is none", none_while_all_are_in_use);
	test("tags never used come before free ones", new_tags_first);

	test("the tag that has been free longest comes first", longest_free_first);
	test("tags can be freed while others are taken", freeing_between_takes);
	test("all tags can be freed and taken again", all_free_and_taken_again);

	test("a closing tag comes back only after the answer", closing_waits_for_the_answer);
	test("closed tags come back in the order of the answers",
		closed_in_the_order_of_the_answers);
	test("a second answer is ignored", second_answer);
	test("an answer for a tag never used is ignored", answer_for_a_new_tag);
	test("an answer for a tag in use is ignored", answer_for_a_used_tag);
	test("an answer for a free tag is ignored", answer_for_a_free_tag);
	test("an answer for a waiting tag does not end its wait", answer_for_a_waiting_tag);

	test("a late frame makes a free tag wait until its time", late_frame_makes_a_free_tag_wait);
	test("a tag that has waited is like any other", waited_long_enough);
	test("a late frame makes a closed tag wait", late_frame_for_a_closed_tag);
	test("a late frame changes nothing for a closing tag", late_frame_for_a_closing_tag);
	test("a late frame changes nothing for a tag never used or in use",
		late_frame_for_a_new_or_used_tag);
	test("a late frame may come for any place among the free tags",
		late_frame_anywhere_in_the_free_list);
	test("more tags can be freed after a late frame", list_goes_on_after_a_late_frame);
	test("waiting tags come back in the order of their late frames", waiting_tags_in_order);
	test("one more late frame makes a waiting tag the last, wherever it was",
		one_more_late_frame);
	test("a tag waits as long as late frames come", frames_that_go_on_coming);
	test("free tags come before those that have waited", free_before_waiting);
	test("tags never used come before those that have waited", new_before_waiting);

	test("in a new stream all tags are new, whatever they were", init_makes_all_new);
	test("a new stream keeps nothing of the old one", init_leaves_nothing_behind);

	test("tags used at random are what a plain list of them would give", random_use);
	test("no tag is given out twice at once", never_twice_at_once);
	return tests_end();
}
