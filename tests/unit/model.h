/*
 * A model of the tags, slow and plain: the state of each tag, and one line of those that are free
 * or wait, which is searched from its front. give_back(), answer_close() and late_frame() do the
 * same to the real tags. The tests compare which tags are taken.
 */
#ifndef MODEL_H
#define MODEL_H

#include "check.h"
#include "tags.h"

enum model_state {
	NEW,
	USED,
	CLOSING,
	FREE,
	WAITING,
};

static struct model {
	struct tags *real;
	bool counts_down;
	uint16_t services;
	uint32_t given;            /* how many are not new, */
	uint32_t of[SERVICES_MAX]; /* and how many of a service */
	enum model_state state[TAGS];
	uint64_t free_at_us[TAGS];
	uint16_t line[TAGS]; /* in the order of joining */
	size_t length;
} model;

/* The tag that is given out after `n` others; or how many are given out before the tag `n`. */
static inline uint16_t nth_tag(uint32_t n)
{
	return (uint16_t)(model.counts_down ? UINT16_MAX - n : n);
}

/* A stream begins. The caller does the same to the real tags. */
static inline void model_init(struct tags *real, bool counts_down, uint16_t services)
{
	memset(&model, 0, sizeof(model));
	model.real = real;
	model.counts_down = counts_down;
	model.services = services;
}

/* Takes the tag out of the line, if it is there, and puts it at the end if it is free or waits. */
static inline void model_set(uint16_t tag, enum model_state state, uint64_t free_at_us)
{
	uint16_t *line = model.line;
	size_t i = 0;

	while (i < model.length && line[i] != tag)
		i++;
	if (i < model.length)
		memmove(&line[i], &line[i + 1], (--model.length - i) * sizeof(*line));
	if (state == FREE || state == WAITING)
		line[model.length++] = tag;
	model.state[tag] = state;
	model.free_at_us[tag] = free_at_us;
}

/* Returns the first tag of the service in the line that is in this state, or -1. */
static inline int32_t model_first(enum model_state state, uint16_t service)
{
	for (size_t i = 0; i < model.length; i++)
		if (model.state[model.line[i]] == state &&
			nth_tag(model.line[i]) % model.services == service)
			return model.line[i];
	return -1;
}

/* Returns what tags_take() of the real tags is to return. */
static inline int32_t model_take(uint16_t service, uint64_t now_us)
{
	uint32_t next = service + model.of[service] * model.services;
	int32_t tag = next < TAGS ? nth_tag(next) : model_first(FREE, service);

	if (tag < 0)
		tag = model_first(WAITING, service);
	if (tag < 0 || model.free_at_us[tag] > now_us)
		return -1;
	model.given += next < TAGS;
	model.of[service] += next < TAGS;
	model_set((uint16_t)tag, USED, 0);
	return tag;
}

/* The flow of a tag in use is over. */
static inline void give_back(uint16_t tag, bool asks_far_side)
{
	if (asks_far_side)
		tags_close(model.real, tag);
	else
		tags_free(model.real, tag);
	model_set(tag, asks_far_side ? CLOSING : FREE, 0);
}

/* The far side answers CLOSE, or sends an answer for any other tag. */
static inline void answer_close(uint16_t tag)
{
	tags_closed(model.real, tag);
	if (model.state[tag] == CLOSING)
		model_set(tag, FREE, 0);
}

static inline void late_frame(uint16_t tag, uint64_t free_at_us)
{
	tags_late_frame(model.real, tag, free_at_us);
	if (model.state[tag] == FREE || model.state[tag] == WAITING)
		model_set(tag, WAITING, free_at_us);
}

#endif
