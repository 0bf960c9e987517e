/*
 * How long a program takes from its start until the first datagram has gone through it: runs it
 * COUNT times and prints the median and the 99th percentile in microseconds.
 *
 *   start enc COUNT PROGRAM ARGUMENT... PORT   a datagram to PORT comes out as a frame
 *   start dec COUNT PROGRAM ARGUMENT...        a frame that waits comes out as a datagram; the port
 *                                              it must go to is appended to the arguments
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PATIENCE_MS = 5000,
	COUNT_MAX = 10000,
};

static const char frame[] = "UOTT\1\0\2\0hi"; /* tag 1, 2 bytes */

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static pid_t run(char **arguments, int input, int output)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	dup2(input, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	for (int fd = 3; fd < 20; fd++) /* the other ends of the pipes, lest they never close */
		close(fd);
	execvp(arguments[0], arguments);
	err(127, "%s", arguments[0]);
}

/* Nobody says when enc listens, so it is tried again and again. */
static bool send_until_framed(int udp, int output)
{
	struct pollfd framed = {.fd = output, .events = POLLIN};
	double limit_us = now_us() + PATIENCE_MS * 1e3;
	struct timespec no_time = {.tv_nsec = 20000};

	while (now_us() < limit_us) {
		(void)send(udp, "hi", 2, 0);
		if (ppoll(&framed, 1, &no_time, NULL) == 1)
			return true;
	}
	return false;
}

static double measure(bool is_enc, int udp, char **arguments)
{
	struct pollfd arrived = {.fd = udp, .events = POLLIN};
	int there[2], back[2];
	char bytes[64];
	double began_us, took_us;
	bool went_through;
	pid_t pid;

	if (pipe(there) != 0 || pipe(back) != 0)
		err(1, "pipe");
	if (!is_enc && write(there[1], frame, sizeof(frame) - 1) < 0)
		err(1, "write");
	began_us = now_us();
	pid = run(arguments, there[0], back[1]);
	went_through = is_enc ? send_until_framed(udp, back[0])
			      : poll(&arrived, 1, PATIENCE_MS) == 1;
	took_us = now_us() - began_us;
	if (!went_through)
		errx(1, "%s: nothing came through", arguments[0]);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	while (recv(udp, bytes, sizeof(bytes), MSG_DONTWAIT) >= 0)
		;
	for (int i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	return took_us;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* For enc a socket connected to its port, for dec one bound to any. */
static int open_udp(bool is_enc, const char *enc_port, char dec_port[static 16])
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t size = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (is_enc)
		address.sin_port = htons((uint16_t)atoi(enc_port));
	if ((is_enc ? connect(fd, (struct sockaddr *)&address, size)
		    : bind(fd, (struct sockaddr *)&address, size)) != 0)
		err(1, "socket");
	getsockname(fd, (struct sockaddr *)&address, &size);
	snprintf(dec_port, 16, "%u", ntohs(address.sin_port));
	return fd;
}

int main(int argc, char **argv)
{
	bool is_enc = argc > 4 && strcmp(argv[1], "enc") == 0;
	int count = argc > 3 ? atoi(argv[2]) : 0;
	static double samples_us[COUNT_MAX];
	char *arguments[32] = {NULL}, dec_port[16];
	int udp;

	if (count < 1 || count > COUNT_MAX || argc > 32)
		errx(2, "start enc COUNT PROGRAM ARGUMENT... PORT | start dec COUNT PROGRAM "
			"ARGUMENT...");
	memcpy(arguments, argv + 3, (size_t)(argc - 3) * sizeof(char *));
	udp = open_udp(is_enc, argv[argc - 1], dec_port);
	if (!is_enc)
		arguments[argc - 3] = dec_port;
	for (int i = 0; i < count; i++)
		samples_us[i] = measure(is_enc, udp, arguments);
	qsort(samples_us, (size_t)count, sizeof(double), compare);
	printf("p50_us=%.0f p99_us=%.0f\n", samples_us[count / 2], samples_us[count * 99 / 100]);
}
