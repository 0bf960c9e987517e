#include "pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "util.h"

enum {
	SHORT_OUTPUT = 16 * 1024,
	ROOM_GUESS = 16 * 1024,
	PIPE_SIZE_MAX = 256 * 1024, /* more brings nothing, and leaves the cache */
};

static bool is_closed(int fd)
{
	return fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

static bool is_same_file(int a, int b)
{
	struct stat stat_a, stat_b;

	return fstat(a, &stat_a) == 0 && fstat(b, &stat_b) == 0 && stat_a.st_dev == stat_b.st_dev &&
	       stat_a.st_ino == stat_b.st_ino;
}

void stdio_claim(struct stdio *stdio)
{
	bool error_closed = is_closed(STDERR_FILENO);
	struct stat output;

	stdio->input_closed = is_closed(STDIN_FILENO);
	stdio->output_closed = is_closed(STDOUT_FILENO);
	/* open() takes the lowest free number, so this order gives each its own. */
	if (stdio->input_closed)
		(void)!open("/dev/null", O_RDONLY);
	if (stdio->output_closed)
		(void)!open("/dev/null", O_WRONLY);
	if (error_closed)
		(void)!open("/dev/null", O_WRONLY);
	/* inetd and systemd start us like that: even a usage error would be taken for frames. */
	if (fstat(STDOUT_FILENO, &output) == 0 && S_ISSOCK(output.st_mode) &&
		is_same_file(STDOUT_FILENO, STDERR_FILENO))
		log_mute();
}

bool stdio_has_input(const struct stdio *stdio)
{
	struct stat input, null;

	if (stdio->input_closed || isatty(STDIN_FILENO))
		return false;
	return fstat(STDIN_FILENO, &input) != 0 || stat("/dev/null", &null) != 0 ||
	       !S_ISCHR(input.st_mode) || input.st_rdev != null.st_rdev;
}

/*
 * O_NONBLOCK belongs to the open file description, which others share (2>&1, the next filter). A
 * pipe opened once more has a description of its own.
 */
static bool reopen_output_nonblocking(void)
{
#if defined(__linux__) && !defined(UOTT_PORTABLE)
	int own = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (own < 0)
		return false;
	dup2(own, STDOUT_FILENO);
	close(own);
	return true;
#else
	return false;
#endif
}

static void measure(struct pipe *pipe)
{
#if defined(F_GETPIPE_SZ) && !defined(UOTT_PORTABLE)
	int size = fcntl(pipe->output, F_GETPIPE_SZ);

	if (size > 0)
		pipe->size = (size_t)size;
#else
	(void)pipe;
#endif
}

static enum output_way choose_output_way(void)
{
	struct stat status;

	if (fstat(STDOUT_FILENO, &status) != 0)
		return OUTPUT_PLAIN;
	if (S_ISSOCK(status.st_mode)) {
		/* No small frame waits until the one before is acknowledged (Nagle). */
		(void)setsockopt(STDOUT_FILENO, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		return OUTPUT_SOCKET;
	}
	if (S_ISFIFO(status.st_mode) && !reopen_output_nonblocking())
		return OUTPUT_STEPS;
	return OUTPUT_PLAIN;
}

const char *pipe_use_stdio(struct pipe *pipe, const struct stdio *stdio, bool reads, bool writes)
{
	*pipe = (struct pipe){.input = -1, .output = -1, .size_max = PIPE_SIZE_MAX};
	if (reads && stdio->input_closed)
		return "standard input is closed: expected frames from there, or -- COMMAND";
	if (reads && isatty(STDIN_FILENO))
		return "standard input is a terminal: expected a pipe, a socket or a file with "
		       "frames, or -- COMMAND (and " NO_TERMINAL ")";
	if (writes && stdio->output_closed)
		return "standard output is closed: frames go there, or to -- COMMAND";
	if (writes && isatty(STDOUT_FILENO))
		return "standard output is a terminal: expected a pipe, a socket or a file for "
		       "frames, or -- COMMAND (and " NO_TERMINAL ")";
	if (reads)
		pipe->input = STDIN_FILENO;
	if (!writes)
		return NULL;
	pipe->output = STDOUT_FILENO;
	if (is_same_file(STDOUT_FILENO, STDERR_FILENO))
		log_mute();
	pipe->output_way = choose_output_way();
	measure(pipe);
	return NULL;
}

void pipe_use(struct pipe *pipe, int input, int output)
{
	*pipe = (struct pipe){
		.input = input, .output = output, .is_ours = true, .size_max = PIPE_SIZE_MAX};
	measure(pipe);
}

int pipe_input(const struct pipe *pipe)
{
	return pipe->input;
}

int pipe_output(const struct pipe *pipe)
{
	return pipe->output;
}

bool pipe_has_input_waiting(const struct pipe *pipe)
{
	return poll(&(struct pollfd){.fd = pipe->input, .events = POLLIN}, 1, 0) == 1;
}

ssize_t pipe_read(const struct pipe *pipe, void *buffer, size_t size)
{
	return read(pipe->input, buffer, size);
}

/* POSIX: after poll() said POLLOUT, a pipe takes PIPE_BUF bytes without blocking. */
static ssize_t write_in_steps(int fd, const struct iovec *pieces, int count)
{
	ssize_t total = 0;

	for (int i = 0; i < count; i++) {
		const char *p = pieces[i].iov_base;
		size_t left = pieces[i].iov_len;

		while (left > 0) {
			struct pollfd room = {.fd = fd, .events = POLLOUT};
			ssize_t written = -1;

			errno = EAGAIN;
			if (poll(&room, 1, 0) == 1)
				written = write(fd, p, min_size(left, PIPE_BUF));
			if (written < 0)
				return total > 0 ? total : -1;
			p += written;
			left -= (size_t)written;
			total += written;
		}
	}
	return total;
}

ssize_t pipe_write(const struct pipe *pipe, const struct iovec *pieces, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces};

	message.msg_iovlen =
		(__typeof__(message.msg_iovlen))count; /* int in POSIX, size_t in glibc */
	switch (pipe->output_way) {
	case OUTPUT_SOCKET:
		return sendmsg(pipe->output, &message, MSG_DONTWAIT);
	case OUTPUT_STEPS:
		return write_in_steps(pipe->output, pieces, count);
	case OUTPUT_PLAIN:
		break;
	}
	return writev(pipe->output, pieces, count);
}

size_t pipe_room(const struct pipe *pipe)
{
	size_t size = pipe->size;
	int used = 0;

	if (size > 0 && ioctl(pipe->output, FIONREAD, &used) == 0)
		return (size_t)used < size - PIPE_BUF ? size - (size_t)used : PIPE_BUF;
	return ROOM_GUESS;
}

void pipe_keep_short(struct pipe *pipe)
{
	if (pipe->output_way == OUTPUT_SOCKET) {
#ifdef TCP_NOTSENT_LOWAT
		(void)setsockopt(pipe->output, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){SHORT_OUTPUT},
			sizeof(int));
#endif
		return;
	}
#ifdef F_SETPIPE_SZ
	if (pipe->is_ours && pipe->size > SHORT_OUTPUT &&
		fcntl(pipe->output, F_SETPIPE_SZ, SHORT_OUTPUT) >= 0)
		pipe->size = SHORT_OUTPUT;
#endif
}

void pipe_widen(struct pipe *pipe, size_t bytes)
{
#ifdef F_SETPIPE_SZ
	size_t wanted = min_size(bytes, pipe->size_max);
	size_t size;

	if (pipe->size == 0 || pipe->size >= wanted)
		return;
	measure(pipe); /* its reader may have widened it */
	for (size = pipe->size; size < wanted;)
		size *= 2;
	if (size == pipe->size || fcntl(pipe->output, F_SETPIPE_SZ, (int)size) >= 0)
		pipe->size = size;
	else /* not allowed: do not try again */
		pipe->size_max = pipe->size;
#else
	(void)pipe;
	(void)bytes;
#endif
}

void pipe_close_input(struct pipe *pipe)
{
	if (pipe->input >= 0)
		close(pipe->input);
	pipe->input = -1;
}

void pipe_close_output(struct pipe *pipe)
{
	if (pipe->output >= 0)
		close(pipe->output);
	pipe->output = -1;
}
