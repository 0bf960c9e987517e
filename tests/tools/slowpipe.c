/*
 * A slow byte pipe for the tests. Runs COMMAND and carries standard input to it, and its output to
 * standard output. Each direction goes by itself through
 *
 *   a buffer    BUFFER bytes wait here, no more are taken (what ssh and the kernel hide)
 *   a link      bytes leave the buffer one after the other at RATE, in pieces of 1 ms
 *   a distance  each piece arrives DELAY ms after it left, plus a jitter; none overtakes another
 *
 *   slowpipe [-r RATE] [-d DELAY] [-j JITTER] [-b BUFFER] [-s SECONDS:RATE]... COMMAND [ARG]...
 *
 * RATE is in bits per second, 0 for no limit. -s changes it SECONDS after the first byte; the times
 * of several -s grow. JITTER is the most that is added to DELAY: a new value every JITTER ms, the
 * same ones in every run. Bytes on the distance do not count for the buffer; bytes that the far end
 * does not take do.
 *
 * Ends with the status of COMMAND when that has ended and its output is through. SIGTERM, SIGINT
 * and SIGHUP are handed on to COMMAND, and what is still held is dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"

enum {
	STEPS_MAX = 8,
	PIPE_SIZE_MIN = 4096, /* the least that Linux has */
	PIPE_SIZE_MAX = 65536,
	READ_MAX = 65536,
	USAGE = 2,
	NOT_RUN = 126,
	NOT_FOUND = 127,
};

#define MILLISECOND 1e6 /* ns */
#define NUMBER_MAX 1e15
#define NEVER INT64_MAX

static struct {
	int64_t rate, delay, jitter;
	size_t buffer;
	struct step {
		int64_t after, rate;
	} steps[STEPS_MAX];
	size_t step_count;
} options = {.buffer = (size_t)2 * 1024 * 1024};

/* Bytes that left the link together. */
struct piece {
	struct piece *next;
	int64_t due;
	size_t length;
};

struct lane {
	int in, out; /* -1: closed */

	/* Bytes from start to end: first those due, then those on the distance, then those held. */
	uint8_t *bytes;
	size_t start, end, capacity;
	size_t due, held;
	struct piece *first, *last; /* on the distance */

	size_t serving; /* so many of those held are on the link now */
	int64_t served_at;
	int64_t link_free;
	int64_t rate;
	size_t step; /* the next one */
	uint64_t seed;
};

static int64_t started = NEVER; /* when the first byte came */
static int signals;

static void *resize(void *memory, size_t size)
{
	memory = realloc(memory, size);
	if (!memory)
		err(1, "memory");
	return memory;
}

/* Makes room at the end for length bytes more. Moving is so rare that it costs nothing per byte. */
static void reserve(struct lane *lane, size_t length)
{
	size_t used = lane->end - lane->start;

	if (lane->capacity - lane->end >= length)
		return;
	if (used > 0)
		memmove(lane->bytes, lane->bytes + lane->start, used);
	lane->start = 0;
	lane->end = used;
	if (lane->capacity < 2 * (used + length)) {
		lane->capacity = 2 * (used + length);
		lane->bytes = resize(lane->bytes, lane->capacity);
	}
}

/* A piece is never due before the one in front of it. */
static void push_piece(struct lane *lane, int64_t due, size_t length)
{
	struct piece *piece = resize(NULL, sizeof(*piece));

	if (lane->first && lane->last->due > due)
		due = lane->last->due;
	*piece = (struct piece){.due = due, .length = length};
	*(lane->first ? &lane->last->next : &lane->first) = piece;
	lane->last = piece;
}

/* splitmix64: the same numbers in every run. */
static uint64_t scramble(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/*
 * The value holds for JITTER ms. If each piece had its own, all would come as late as the latest
 * one, because none overtakes another: a longer way, and no jitter.
 */
static int64_t jitter_at(const struct lane *lane, int64_t when)
{
	uint64_t period;

	if (options.jitter == 0)
		return 0;
	period = (uint64_t)((when - started) / options.jitter);
	return (int64_t)(scramble(lane->seed + period) % (uint64_t)(options.jitter + 1));
}

static void follow_steps(struct lane *lane, int64_t when)
{
	for (; lane->step < options.step_count; lane->step++) {
		const struct step *step = &options.steps[lane->step];

		if (when - started < step->after)
			return;
		lane->rate = step->rate;
	}
}

/* The next bytes held go onto the link: those of 1 ms, which takes them that long. */
static void serve(struct lane *lane)
{
	size_t most;

	follow_steps(lane, lane->link_free);
	lane->serving = lane->held;
	lane->served_at = lane->link_free;
	if (lane->rate == 0)
		return;
	most = lane->rate >= 8000 ? (size_t)(lane->rate / 8000) : 1;
	if (lane->serving > most)
		lane->serving = most;
	lane->served_at += (int64_t)((double)lane->serving * 8e9 / (double)lane->rate);
}

/* What has left the link by now goes on its way. Times are those planned, not those of waking. */
static void work_link(struct lane *lane, int64_t now)
{
	while (lane->held > 0) {
		if (lane->serving == 0)
			serve(lane);
		if (lane->served_at > now)
			return;
		push_piece(lane, lane->served_at + options.delay + jitter_at(lane, lane->served_at),
			lane->serving);
		lane->link_free = lane->served_at;
		lane->held -= lane->serving;
		lane->serving = 0;
	}
}

static void work_distance(struct lane *lane, int64_t now)
{
	while (lane->first && lane->first->due <= now) {
		struct piece *piece = lane->first;

		lane->due += piece->length;
		lane->first = piece->next;
		free(piece);
	}
}

static size_t room(const struct lane *lane)
{
	size_t taken = lane->held + lane->due;

	return taken < options.buffer ? options.buffer - taken : 0;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_lane(struct lane *lane)
{
	close_end(&lane->in);
	close_end(&lane->out);
}

/* Takes what is there and fits. False: nothing came. */
static bool take(struct lane *lane)
{
	size_t most = room(lane) < READ_MAX ? room(lane) : READ_MAX;
	int64_t now = now_ns();
	ssize_t length;

	if (lane->in < 0 || most == 0)
		return false;
	reserve(lane, most);
	length = read(lane->in, lane->bytes + lane->end, most);
	if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR))
		close_end(&lane->in);
	if (length <= 0)
		return false;
	if (started == NEVER)
		started = now;
	if (lane->held == 0 && lane->link_free < now)
		lane->link_free = now;
	lane->held += (size_t)length;
	lane->end += (size_t)length;
	return true;
}

/* Writes what is due, as much as is taken now. */
static void deliver(struct lane *lane)
{
	while (lane->due > 0) {
		ssize_t length = write(lane->out, lane->bytes + lane->start, lane->due);

		if (length < 0 && errno == EAGAIN)
			return;
		if (length < 0) {
			close_lane(lane);
			return;
		}
		lane->start += (size_t)length;
		lane->due -= (size_t)length;
	}
	if (lane->in < 0 && lane->start == lane->end)
		close_lane(lane);
}

static void work(struct lane *lane)
{
	int64_t now = now_ns();

	if (lane->out < 0)
		return;
	work_link(lane, now);
	work_distance(lane, now);
	deliver(lane);
}

static int64_t next_event(const struct lane *lane)
{
	int64_t next = NEVER;

	if (lane->out < 0)
		return NEVER;
	if (lane->held > 0)
		next = lane->served_at;
	if (lane->first && lane->first->due < next)
		next = lane->first->due;
	return next;
}

/* A descriptor that we want nothing from is left out: its hang-up would wake us for ever. */
static void prepare(const struct lane *lane, struct pollfd *in, struct pollfd *out)
{
	*in = (struct pollfd){.fd = room(lane) > 0 ? lane->in : -1, .events = POLLIN};
	*out = (struct pollfd){.fd = lane->out, .events = lane->due > 0 ? POLLOUT : 0};
}

static void handle(struct lane *lane, const struct pollfd *in, const struct pollfd *out)
{
	if (out->revents & (POLLERR | POLLHUP | POLLNVAL))
		close_lane(lane);
	if (in->revents)
		take(lane);
}

/* Takes what comes. Returns the number of a signal, or 0. */
static int wait_for_events(struct lane lanes[2])
{
	struct pollfd fds[5] = {{.fd = signals, .events = POLLIN}};
	int64_t first = next_event(&lanes[0]), second = next_event(&lanes[1]);
	int64_t next = first < second ? first : second, left = next - now_ns();
	struct timespec timeout = {0};
	struct signalfd_siginfo got = {0};

	prepare(&lanes[0], &fds[1], &fds[2]);
	prepare(&lanes[1], &fds[3], &fds[4]);
	if (left > 0)
		timeout = (struct timespec){left / SECOND, left % SECOND};
	if (ppoll(fds, 5, next == NEVER ? NULL : &timeout, NULL) < 0)
		err(1, "ppoll");
	handle(&lanes[0], &fds[1], &fds[2]);
	handle(&lanes[1], &fds[3], &fds[4]);
	if (fds[0].revents)
		(void)!read(signals, &got, sizeof(got));
	return (int)got.ssi_signo;
}

/* COMMAND has ended, and only what is in its pipe is to come. A child of its own may hold that. */
static void take_the_rest(struct lane *lane)
{
	while (take(lane))
		;
	if (room(lane) > 0)
		close_end(&lane->in);
}

/* Until COMMAND has ended and its output is through. Returns its status. */
static int carry(struct lane lanes[2], pid_t child)
{
	bool running = true;
	int status = 0;

	while (running || lanes[1].out >= 0) {
		int got = wait_for_events(lanes);

		if (got != 0 && got != SIGCHLD) {
			kill(child, got);
			close_lane(&lanes[0]);
			close_lane(&lanes[1]);
			if (running)
				waitpid(child, &status, 0);
			return status;
		}
		if (running && got == SIGCHLD && waitpid(child, &status, WNOHANG) == child) {
			running = false;
			close_lane(&lanes[0]);
		}
		if (!running)
			take_the_rest(&lanes[1]);
		work(&lanes[0]);
		work(&lanes[1]);
	}
	return status;
}

/* They are read like input, and wait until then. */
static void catch_signals(sigset_t *before)
{
	sigset_t caught;

	sigemptyset(&caught);
	sigaddset(&caught, SIGCHLD);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGHUP);
	sigprocmask(SIG_BLOCK, &caught, before);
	signals = signalfd(-1, &caught, SFD_CLOEXEC);
	if (signals < 0)
		err(1, "signalfd");
	signal(SIGPIPE, SIG_IGN);
}

/* It hides no more than the link carries in 1 ms, but a page is the least there is. */
static void make_pipe(int ends[2])
{
	int64_t size = options.rate / 8000;

	if (pipe2(ends, O_CLOEXEC) != 0)
		err(1, "pipe");
	if (options.rate > 0 && size < PIPE_SIZE_MAX)
		(void)fcntl(
			ends[0], F_SETPIPE_SZ, size > PIPE_SIZE_MIN ? (int)size : PIPE_SIZE_MIN);
}

_Noreturn static void run(char **command, int in, int out, const sigset_t *mask)
{
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(command[0], command);
	err(errno == ENOENT ? NOT_FOUND : NOT_RUN, "%s", command[0]);
}

static void open_lane(struct lane *lane, int in, int out, uint64_t seed)
{
	*lane = (struct lane){.in = in, .out = out, .rate = options.rate, .seed = seed};
	(void)fcntl(in, F_SETFL, fcntl(in, F_GETFL) | O_NONBLOCK);
	(void)fcntl(out, F_SETFL, fcntl(out, F_GETFL) | O_NONBLOCK);
}

static pid_t start(char **command, struct lane lanes[2])
{
	int to[2], from[2];
	sigset_t mask;
	pid_t child;

	catch_signals(&mask);
	make_pipe(to);
	make_pipe(from);
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0)
		run(command, to[0], from[1], &mask);
	close(to[0]);
	close(from[1]);
	open_lane(&lanes[0], STDIN_FILENO, to[1], 1);
	open_lane(&lanes[1], from[0], STDOUT_FILENO, UINT64_C(1) << 32);
	return child;
}

static void add_step(const char *text)
{
	double after, rate;
	char more;

	if (sscanf(text, "%lf:%lf%c", &after, &rate, &more) != 2 || rate < 0)
		errx(USAGE, "'%s': expected SECONDS:RATE", text);
	if (options.step_count == STEPS_MAX)
		errx(USAGE, "more than %d steps", STEPS_MAX);
	options.steps[options.step_count++] = (struct step){
		(int64_t)(after * (double)SECOND), (int64_t)rate};
}

static void read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "+r:d:j:b:s:")) != -1) {
		if (option == 'r')
			options.rate = (int64_t)number(optarg, 0, NUMBER_MAX);
		else if (option == 'd')
			options.delay = (int64_t)(number(optarg, 0, NUMBER_MAX) * MILLISECOND);
		else if (option == 'j')
			options.jitter = (int64_t)(number(optarg, 0, NUMBER_MAX) * MILLISECOND);
		else if (option == 'b')
			options.buffer = (size_t)number(optarg, 1, NUMBER_MAX);
		else if (option == 's')
			add_step(optarg);
		else
			exit(USAGE);
	}
	if (optind == argc)
		errx(USAGE, "which COMMAND?");
}

int main(int argc, char **argv)
{
	static struct lane lanes[2];
	pid_t child;
	int status;

	read_options(argc, argv);
	child = start(argv + optind, lanes);
	prctl(PR_SET_TIMERSLACK, 1UL);
	status = carry(lanes, child);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
