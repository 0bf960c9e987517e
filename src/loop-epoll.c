#include "loop.h"

#if defined(__linux__) && !defined(UOTT_PORTABLE)

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "util.h"

static uint64_t pack(enum source source, uint16_t id)
{
	return (uint64_t)source << 16 | id;
}

bool loop_open(struct loop *loop)
{
	*loop = (struct loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
	return loop->epoll >= 0;
}

void loop_close(struct loop *loop)
{
	close(loop->epoll);
}

static void set_always_ready(struct loop *loop, enum source source, bool ready)
{
	loop->always_ready_count += ready - (size_t)loop->always_ready[source];
	loop->always_ready[source] = ready;
}

bool loop_add(struct loop *loop, int fd, enum source source, uint16_t id)
{
	struct epoll_event event = {
		.events = source == SOURCE_OUTPUT ? 0 : EPOLLIN,
		.data.u64 = pack(source, id),
	};

	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
		return true;
	if (errno != EPERM)
		return false;
	/* A regular file or /dev/null: always ready, and never broken. */
	if (source != SOURCE_OUTPUT)
		set_always_ready(loop, source, true);
	return true;
}

void loop_want_room(struct loop *loop, int fd, bool wanted)
{
	struct epoll_event event = {
		.events = wanted ? EPOLLOUT : 0,
		.data.u64 = pack(SOURCE_OUTPUT, 0),
	};

	set_always_ready(loop, SOURCE_OUTPUT,
		epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &event) != 0 && wanted);
}

void loop_remove(struct loop *loop, int fd, enum source source)
{
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
	set_always_ready(loop, source, false);
}

size_t loop_wait(struct loop *loop, int64_t timeout_us, struct event events[static LOOP_EVENTS_MAX])
{
	struct epoll_event ready[LOOP_EVENTS_MAX];
	size_t stored = 0;
	int count;

	if (loop->always_ready_count > 0)
		timeout_us = 0;
	count = epoll_wait(loop->epoll, ready, LOOP_EVENTS_MAX - SOURCES, timeout_ms(timeout_us));
	for (int i = 0; i < count; i++)
		events[stored++] = (struct event){
			.source = (enum source)(ready[i].data.u64 >> 16),
			.id = (uint16_t)ready[i].data.u64,
			.broken = (ready[i].events & (EPOLLERR | EPOLLHUP)) != 0,
		};
	for (enum source source = 0; source < SOURCES && loop->always_ready_count > 0; source++)
		if (loop->always_ready[source])
			events[stored++] = (struct event){.source = source};
	return stored;
}

#endif
