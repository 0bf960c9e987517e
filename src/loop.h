/*
 * Waiting for descriptors and for time to pass. Knows nothing about datagrams or frames. Two
 * implementations: loop-epoll.c on Linux, loop-poll.c everywhere.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum source {
	SOURCE_SIGNAL,
	SOURCE_INPUT,  /* frames arrive */
	SOURCE_OUTPUT, /* frames leave: room again, or the reader is gone */
	SOURCE_UDP,
	SOURCES,
};

struct event {
	enum source source;
	uint16_t id; /* of SOURCE_UDP: as given to loop_add() */
	bool broken; /* of SOURCE_OUTPUT: the reader is gone, or an error waits */
};

enum {
	LOOP_EVENTS_MAX = 64
};

#if defined(__linux__) && !defined(UOTT_PORTABLE)
struct loop {
	int epoll;
	bool always_ready[SOURCES]; /* regular files and the like, which epoll refuses */
	size_t always_ready_count;
};
#else
struct loop {
	struct pollfd *polls; /* owned, */
	struct event *events; /* and what to report for each of them */
	size_t count, capacity, next;
};
#endif

/* Returns false with errno. */
bool loop_open(struct loop *loop);
void loop_close(struct loop *loop);

/*
 * Watches `fd` for something to read. SOURCE_OUTPUT: for a broken pipe only, until
 * loop_want_room(). Returns false with errno.
 */
bool loop_add(struct loop *loop, int fd, enum source source, uint16_t id);

/* SOURCE_OUTPUT: whether to report that `fd` has room. */
void loop_want_room(struct loop *loop, int fd, bool wanted);

/* Stops watching; to be called before `fd` is closed. */
void loop_remove(struct loop *loop, int fd, enum source source);

/*
 * Waits until something is ready or `timeout_us` have passed (negative: for ever), never shorter.
 * Returns how many events it stored; 0 after a timeout or an interruption.
 */
size_t loop_wait(
	struct loop *loop, int64_t timeout_us, struct event events[static LOOP_EVENTS_MAX]);

#endif
