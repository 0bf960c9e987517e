/*
 * A clock that the test moves. It is preloaded, and adds to the monotonic clock the number of
 * seconds that stands in the file named by TEST_CLOCK. Waits are cut short to notice a move. The
 * file is mapped at the start: later the sandbox lets the program open none.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	WAIT_MAX_MS = 20
};

static const char *text = "";

__attribute__((constructor)) static void map_file(void)
{
	const char *path = getenv("TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);

	if (mapped != MAP_FAILED)
		text = mapped;
	if (fd >= 0)
		close(fd);
}

static long moved_s(void)
{
	return strtol(text, NULL, 10);
}

static int cut_short(int timeout_ms)
{
	return timeout_ms < 0 || timeout_ms > WAIT_MAX_MS ? WAIT_MAX_MS : timeout_ms;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, clock, now);

	if (clock == CLOCK_MONOTONIC)
		now->tv_sec += moved_s();
	return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms)
{
	int (*real)(int, struct epoll_event *, int, int) = dlsym(RTLD_NEXT, "epoll_wait");

	return real(epoll, events, count, cut_short(timeout_ms));
}

int poll(struct pollfd *polls, nfds_t count, int timeout_ms)
{
	int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");

	return real(polls, count, cut_short(timeout_ms));
}
