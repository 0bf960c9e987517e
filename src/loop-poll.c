#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "loop.h"
#include "util.h"

#if !defined(__linux__) || defined(UOTT_PORTABLE)

bool loop_open(struct loop *loop)
{
	*loop = (struct loop){0};
	return true;
}

void loop_close(struct loop *loop)
{
	free(loop->polls);
	free(loop->events);
}

static bool grow(struct loop *loop)
{
	size_t capacity = loop->capacity ? 2 * loop->capacity : LOOP_EVENTS_MAX;
	struct pollfd *polls = realloc(loop->polls, capacity * sizeof(*polls));
	struct event *events = realloc(loop->events, capacity * sizeof(*events));

	loop->polls = polls ? polls : loop->polls;
	loop->events = events ? events : loop->events;
	if (polls && events)
		loop->capacity = capacity;
	return polls && events;
}

bool loop_add(struct loop *loop, int fd, enum source source, uint16_t id)
{
	if (loop->count == loop->capacity && !grow(loop)) {
		errno = ENOMEM;
		return false;
	}
	loop->polls[loop->count] = (struct pollfd){
		.fd = fd,
		.events = source == SOURCE_OUTPUT ? 0 : POLLIN,
	};
	loop->events[loop->count++] = (struct event){.source = source, .id = id};
	return true;
}

/* poll() looks at all of them each time anyway. */
static size_t find(const struct loop *loop, int fd)
{
	size_t i = 0;

	while (i < loop->count && loop->polls[i].fd != fd)
		i++;
	return i;
}

void loop_want_room(struct loop *loop, int fd, bool wanted)
{
	size_t index = find(loop, fd);

	if (index < loop->count)
		loop->polls[index].events = wanted ? POLLOUT : 0;
}

void loop_remove(struct loop *loop, int fd, enum source source)
{
	size_t index = find(loop, fd);
	size_t last;

	(void)source;
	if (index == loop->count)
		return;
	last = --loop->count;
	loop->polls[index] = loop->polls[last];
	loop->events[index] = loop->events[last];
}

/*
 * When more is ready than fits, the next call goes on where this one stopped, so that nobody
 * starves.
 */
size_t loop_wait(struct loop *loop, int64_t timeout_us, struct event events[static LOOP_EVENTS_MAX])
{
	size_t stored = 0;

	if (poll(loop->polls, (nfds_t)loop->count, timeout_ms(timeout_us)) <= 0)
		return 0;
	for (size_t seen = 0; seen < loop->count && stored < LOOP_EVENTS_MAX; seen++) {
		size_t i = loop->next++ % loop->count;
		short ready = loop->polls[i].revents;

		if (ready == 0)
			continue;
		events[stored] = loop->events[i];
		events[stored++].broken = (ready & (POLLERR | POLLHUP | POLLNVAL)) != 0;
	}
	return stored;
}

#endif
