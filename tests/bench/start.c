/*
 * How long a program takes from its start until the first datagram has gone through it: runs it
 * COUNT times and prints the median and the 99th percentile in milliseconds.
 *
 *   start enc COUNT PROGRAM ARGUMENT... PORT   a datagram to PORT comes out as a frame
 *   start dec COUNT PROGRAM ARGUMENT...        a frame that waits comes out as a datagram; the port
 *                                              that it goes to is added to the arguments
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tools/tool.h"

enum {
	PATIENCE_S = 5,
	COUNT_MAX = 10000,
	ARGUMENTS_MAX = 32,
};

static const char frame[] = "UOTT\1\0\2\0hi"; /* tag 1, 2 bytes */

static pid_t run(char **arguments, int input, int output)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	dup2(input, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	execvp(arguments[0], arguments);
	err(127, "%s", arguments[0]);
}

/* Nobody says when enc listens, so it is tried again and again. */
static bool send_until_framed(int udp, int output)
{
	struct pollfd framed = {.fd = output, .events = POLLIN};
	int64_t limit = now_ns() + PATIENCE_S * SECOND;
	struct timespec no_time = {.tv_nsec = 20000};

	while (now_ns() < limit) {
		(void)send(udp, "hi", 2, 0);
		if (ppoll(&framed, 1, &no_time, NULL) == 1)
			return true;
	}
	return false;
}

static void end(pid_t pid, int udp)
{
	char bytes[64];

	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	while (recv(udp, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0)
		;
}

/* The time that one run takes. */
static int64_t measure(bool is_enc, int udp, char **arguments)
{
	struct pollfd arrived = {.fd = udp, .events = POLLIN};
	int there[2], back[2];
	int64_t began, took;
	bool went_through;
	pid_t pid;

	if (pipe2(there, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0)
		err(1, "pipe");
	if (!is_enc && write(there[1], frame, sizeof(frame) - 1) < 0)
		err(1, "write");
	began = now_ns();
	pid = run(arguments, there[0], back[1]);
	went_through = is_enc ? send_until_framed(udp, back[0])
			      : poll(&arrived, 1, PATIENCE_S * 1000) == 1;
	took = now_ns() - began;
	end(pid, udp);
	if (!went_through)
		errx(1, "%s: nothing came through", arguments[0]);
	for (int i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	return took;
}

int main(int argc, char **argv)
{
	bool is_enc = argc > 4 && strcmp(argv[1], "enc") == 0;
	int count = argc > 3 ? atoi(argv[2]) : 0;
	static int64_t samples[COUNT_MAX];
	char *arguments[ARGUMENTS_MAX] = {NULL}, port[16];
	int udp;

	if (count < 1 || count > COUNT_MAX || argc > ARGUMENTS_MAX)
		errx(2, "start enc | dec COUNT PROGRAM ARGUMENT...");
	memcpy(arguments, argv + 3, (size_t)(argc - 3) * sizeof(char *));
	udp = is_enc ? connect_to("127.0.0.1", argv[argc - 1]) : bind_to("127.0.0.1", "0");
	snprintf(port, sizeof(port), "%u", port_of(udp));
	if (!is_enc)
		arguments[argc - 3] = port;
	for (int i = 0; i < count; i++)
		samples[i] = measure(is_enc, udp, arguments);
	qsort(samples, (size_t)count, sizeof(samples[0]), compare_times);
	printf("p50_ms=%.3f p99_ms=%.3f\n", milliseconds(samples[count / 2]),
		milliseconds(samples[count * 99 / 100]));
}
