/*
 * Preloaded, makes system calls fail, and says so on standard error. The environment tells which:
 *
 *   FAULT_IN      the program that is concerned
 *   FAULT_CALL    the calls that fail, as read,posix_spawnp
 *   FAULT_ERRNO   why, as EIO; at random, if there is none
 *   FAULT_AFTER   that many succeed first
 *   FAULT_COUNT   that many fail, and then all succeed again; 0: all fail
 *   FAULT_RATE    of 1000 of these calls, about that many fail, at random
 *   FAULT_SHORT   1: reads, writes and batches are cut to a random part
 *   FAULT_SEED    for all that is random
 *
 * Messages on standard error come through.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const int errors[] = {EINTR, EAGAIN, ENOBUFS, ENOMEM, EMFILE, EPERM, EIO};
enum {
	ERRORS = sizeof(errors) / sizeof(errors[0])
};

static bool is_on, is_short;
static const char *wanted_calls;
static int wanted_error;
static unsigned long after, count, rate, calls, failed;
static unsigned int seed;

static unsigned long number(const char *name)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 10) : 0;
}

/* Before this nothing fails. */
__attribute__((constructor)) static void begin(void)
{
	const char *program = getenv("FAULT_IN"), *error = getenv("FAULT_ERRNO");

	wanted_calls = getenv("FAULT_CALL");
	for (size_t i = 0; error && i < ERRORS; i++)
		if (strcmp(strerrorname_np(errors[i]), error) == 0)
			wanted_error = errors[i];
	after = number("FAULT_AFTER");
	count = number("FAULT_COUNT");
	rate = number("FAULT_RATE");
	seed = (unsigned int)number("FAULT_SEED");
	is_short = number("FAULT_SHORT") == 1;
	is_on = program && strcmp(program, program_invocation_short_name) == 0;
}

static bool is_wanted(const char *call)
{
	size_t length = strlen(call);

	for (const char *p = wanted_calls; p && (p = strstr(p, call)); p += length)
		if ((p == wanted_calls || p[-1] == ',') && (p[length] == ',' || !p[length]))
			return true;
	return false;
}

/* Returns whether the call is to fail, with errno. Some calls fail in one way only. */
static bool fails(const char *call)
{
	char text[128];
	int length, error = wanted_error;

	if (!is_on || !is_wanted(call) || calls++ < after || (count > 0 && failed >= count) ||
		(rate > 0 && (unsigned long)rand_r(&seed) % 1000 >= rate))
		return false;
	failed++;
	if (error == 0)
		error = errors[(unsigned int)rand_r(&seed) % ERRORS];
	if (wanted_error == 0 && error == EPERM && strcmp(call, "epoll_ctl") == 0)
		error = EIO; /* EPERM would mean a regular file */
	if (strcmp(call, "close") == 0)
		error = EINTR;
	if (strstr(call, "alloc"))
		error = ENOMEM;
	length = snprintf(text, sizeof(text), "fault: %s: %s\n", call, strerror(error));
	syscall(SYS_write, STDERR_FILENO, text, length);
	errno = error;
	return true;
}

/* A part of the length, and not nothing. */
static size_t part(size_t length)
{
	return is_on && is_short && length > 1 ? 1 + (size_t)rand_r(&seed) % length : length;
}

/* NAME of the next library, as real_NAME. */
#define REAL(type, name, parameters)                                                               \
	static type(*real_##name) parameters;                                                      \
	if (!real_##name)                                                                          \
	real_##name = (type(*) parameters)dlsym(RTLD_NEXT, #name)

/* A call that returns `wrong` if it is to fail. The last argument may say when it may. */
#define CALL(type, name, parameters, wrong, arguments, ...)                                        \
	type name parameters                                                                       \
	{                                                                                          \
		REAL(type, name, parameters);                                                      \
		return __VA_ARGS__ fails(#name) ? (wrong) : real_##name arguments;                 \
	}

/* The same for calls whose third argument may be missing. */
#define CALL_MORE(name, type1, type2)                                                              \
	int name(type1 first, type2 second, ...)                                                   \
	{                                                                                          \
		REAL(int, name, (type1, type2, ...));                                              \
		va_list more;                                                                      \
		void *third;                                                                       \
		va_start(more, second);                                                            \
		third = va_arg(more, void *);                                                      \
		va_end(more);                                                                      \
		return fails(#name) ? -1 : real_##name(first, second, third);                      \
	}

typedef const struct sockaddr *const_address;

CALL(ssize_t, read, (int fd, void *to, size_t size), -1, (fd, to, part(size)))
CALL(ssize_t, write, (int fd, const void *from, size_t size), -1,
	(fd, from, fd == STDERR_FILENO ? size : part(size)), fd != STDERR_FILENO &&)
CALL(int, poll, (struct pollfd * polls, nfds_t n, int timeout_ms), -1, (polls, n, timeout_ms),
	polls->fd != STDERR_FILENO &&)
CALL(ssize_t, recv, (int fd, void *to, size_t size, int flags), -1, (fd, to, size, flags))
CALL(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), -1, (fd, message, flags))
CALL(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned int n, int flags, struct timespec *t), -1,
	(fd, m, (unsigned int)part(n), flags, t))
CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), -1, (fd, m, flags))
CALL(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned int n, int flags), -1,
	(fd, m, (unsigned int)part(n), flags))
CALL(ssize_t, sendto, (int fd, const void *p, size_t n, int flags, const_address to, socklen_t l),
	-1, (fd, p, n, flags, to, l))
CALL(int, epoll_create1, (int flags), -1, (flags))
CALL(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *e), -1, (epoll, what, fd, e))
CALL(int, epoll_wait, (int epoll, struct epoll_event *events, int n, int timeout_ms), -1,
	(epoll, events, (int)part((size_t)n), timeout_ms))
CALL(int, socket, (int domain, int type, int protocol), -1, (domain, type, protocol))
CALL(int, bind, (int fd, const_address to, socklen_t length), -1, (fd, to, length))
CALL(int, connect, (int fd, const_address to, socklen_t length), -1, (fd, to, length))
CALL(int, getsockname, (int fd, struct sockaddr *to, socklen_t *length), -1, (fd, to, length))
CALL(int, getsockopt, (int fd, int level, int option, void *to, socklen_t *size), -1,
	(fd, level, option, to, size))
CALL(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t size), -1,
	(fd, level, option, value, size))
CALL(int, pipe, (int ends[2]), -1, (ends))
CALL(int, dup2, (int fd, int to), -1, (fd, to))
CALL(int, fstat, (int fd, struct stat *status), -1, (fd, status))
CALL(int, getentropy, (void *to, size_t size), -1, (to, size))
CALL(pid_t, waitpid, (pid_t pid, int *status, int options), -1, (pid, status, options))
CALL(int, posix_spawnp,
	(pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions,
		const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]),
	errno, (pid, file, actions, attributes, argv, envp))
CALL(int, getaddrinfo,
	(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **to),
	EAI_SYSTEM, (host, port, hints, to))
CALL(void *, malloc, (size_t size), NULL, (size))
CALL(void *, calloc, (size_t n, size_t size), NULL, (n, size))
CALL(void *, realloc, (void *memory, size_t size), NULL, (memory, size))
CALL_MORE(open, const char *, int)
CALL_MORE(fcntl, int, int)
CALL_MORE(ioctl, int, unsigned long)

/* Cut to some of the pieces, or to a part of the first one. */
ssize_t writev(int fd, const struct iovec *pieces, int n)
{
	REAL(ssize_t, writev, (int, const struct iovec *, int));
	struct iovec first = {pieces->iov_base, part(pieces->iov_len)};
	int left = (int)part((size_t)n);

	return fails("writev") ? -1 : real_writev(fd, left == 1 ? &first : pieces, left);
}

/* Closed all the same, as Linux does. */
int close(int fd)
{
	REAL(int, close, (int));
	int result = real_close(fd);

	return fails("close") ? -1 : result;
}
