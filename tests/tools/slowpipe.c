/*
 * A slow byte pipe for the tests: runs COMMAND and carries our standard input to its standard
 * input, and its standard output to ours, each direction by itself through
 *
 *   a buffer    BUFFER bytes wait here, no more are taken (what ssh and the kernel hide)
 *   a link      bytes leave the buffer one after the other at RATE, in pieces of 1 ms
 *   a distance  each arrives DELAY ms after it left, plus a jitter; none overtakes another
 *
 *   slowpipe [-r RATE] [-d DELAY] [-j JITTER] [-b BUFFER] [-s SECONDS:RATE,...] COMMAND [ARG]...
 *
 * RATE is in bits per second, 0 for no limit. -s changes it: SECONDS after the first byte, after
 * SECONDS more, and so on, from the first step again when all are through. JITTER is the most that
 * comes on top of DELAY: a new value every JITTER ms, the same ones in every run. Bytes on the
 * distance do not count for the buffer, those that the far end does not take do.
 *
 * Ends with the status of COMMAND when that has ended and its output is through. SIGTERM, SIGINT
 * and SIGHUP are handed on to COMMAND, and what is still held is dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	STEPS_MAX = 64,
	PIPE_SIZE = 4096,
	PIPE_MAX = 65536,
	READ_MAX = 65536,
	USAGE = 2,
	NOT_RUN = 126,
	NOT_FOUND = 127,
};

#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)
#define NEVER INT64_MAX

struct step {
	int64_t after;
	int64_t rate;
};

static struct {
	int64_t rate, delay, jitter;
	size_t buffer;
	struct step steps[STEPS_MAX];
	size_t step_count;
} options = {.buffer = (size_t)2 * 1024 * 1024};

/* Bytes that left the link together. */
struct piece {
	int64_t due;
	size_t length;
};

struct lane {
	int in, out;
	bool ended; /* nothing more comes from in */
	bool full;  /* out takes nothing now */

	/* Bytes from start to end: first those due, then those on the distance, then those held. */
	uint8_t *bytes;
	size_t start, end, capacity;
	size_t due, held;

	struct piece *pieces; /* a ring of 2^n */
	size_t first, count, ring;

	size_t serving; /* of those held, those that are on the link now */
	int64_t served_at;
	int64_t link_free;
	int64_t last_due;
	int64_t rate, next_step;
	size_t step;
	uint64_t seed;
};

static int64_t started = NEVER; /* when the first byte came */
static volatile sig_atomic_t asked_to_end;
static volatile sig_atomic_t child_changed;
static int alarm_bell[2]; /* a signal writes a byte here, so that poll notices at any time */

_Noreturn static void die(int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "slowpipe: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	exit(status);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

/* Room at the end for length bytes more. Moving is rare enough to cost nothing per byte. */
static void reserve(struct lane *lane, size_t length)
{
	size_t used = lane->end - lane->start;

	if (lane->capacity - lane->end >= length)
		return;
	if (used > 0)
		memmove(lane->bytes, lane->bytes + lane->start, used);
	lane->start = 0;
	lane->end = used;
	if (lane->capacity >= 2 * (used + length))
		return;
	lane->capacity = 2 * (used + length);
	lane->bytes = realloc(lane->bytes, lane->capacity);
	if (!lane->bytes)
		die(EXIT_FAILURE, "no memory");
}

static void grow_ring(struct lane *lane)
{
	size_t ring = lane->ring ? 2 * lane->ring : 64;
	struct piece *pieces = malloc(ring * sizeof(*pieces));

	if (!pieces)
		die(EXIT_FAILURE, "no memory");
	for (size_t i = 0; i < lane->count; i++)
		pieces[i] = lane->pieces[(lane->first + i) & (lane->ring - 1)];
	free(lane->pieces);
	lane->pieces = pieces;
	lane->first = 0;
	lane->ring = ring;
}

static void push_piece(struct lane *lane, int64_t due, size_t length)
{
	if (lane->count == lane->ring)
		grow_ring(lane);
	lane->pieces[(lane->first + lane->count++) & (lane->ring - 1)] = (struct piece){
		.due = due, .length = length};
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
 * One value for JITTER ms, not one for each piece: as no piece overtakes another, those would all
 * come as late as the latest of them, which is no jitter but a longer way.
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
	if (options.step_count == 0)
		return;
	if (lane->next_step == 0)
		lane->next_step = started + options.steps[0].after;
	while (when >= lane->next_step) {
		lane->rate = options.steps[lane->step].rate;
		lane->step = (lane->step + 1) % options.step_count;
		lane->next_step += options.steps[lane->step].after;
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
		int64_t due;

		if (lane->serving == 0)
			serve(lane);
		if (lane->served_at > now)
			return;
		due = lane->served_at + options.delay + jitter_at(lane, lane->served_at);
		if (due < lane->last_due)
			due = lane->last_due;
		push_piece(lane, due, lane->serving);
		lane->last_due = due;
		lane->link_free = lane->served_at;
		lane->held -= lane->serving;
		lane->serving = 0;
	}
}

static void work_distance(struct lane *lane, int64_t now)
{
	while (lane->count > 0 && lane->pieces[lane->first].due <= now) {
		lane->due += lane->pieces[lane->first].length;
		lane->first = (lane->first + 1) & (lane->ring - 1);
		lane->count--;
	}
}

static bool is_open(const struct lane *lane)
{
	return lane->out >= 0;
}

static size_t room(const struct lane *lane)
{
	size_t taken = lane->held + lane->due;

	return taken < options.buffer ? options.buffer - taken : 0;
}

static void end_input(struct lane *lane)
{
	if (lane->in >= 0)
		close(lane->in);
	lane->in = -1;
	lane->ended = true;
}

static void close_lane(struct lane *lane)
{
	end_input(lane);
	if (lane->out >= 0)
		close(lane->out);
	lane->out = -1;
}

/* Takes what is there and fits. False: nothing came. */
static bool take(struct lane *lane, int64_t now)
{
	size_t most = room(lane);
	ssize_t length;

	if (lane->ended || most == 0)
		return false;
	if (most > READ_MAX)
		most = READ_MAX;
	reserve(lane, most);
	length = read(lane->in, lane->bytes + lane->end, most);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (length <= 0) {
		end_input(lane);
		return false;
	}
	if (started == NEVER)
		started = now;
	if (lane->held == 0 && lane->link_free < now)
		lane->link_free = now;
	lane->held += (size_t)length;
	lane->end += (size_t)length;
	return true;
}

static void deliver(struct lane *lane)
{
	while (is_open(lane) && lane->due > 0 && !lane->full) {
		ssize_t length = write(lane->out, lane->bytes + lane->start, lane->due);

		if (length < 0 && errno == EAGAIN) {
			lane->full = true;
		} else if (length < 0 && errno != EINTR) {
			close_lane(lane);
		} else if (length > 0) {
			lane->start += (size_t)length;
			lane->due -= (size_t)length;
		}
	}
	if (is_open(lane) && lane->ended && lane->start == lane->end)
		close_lane(lane);
}

static void work(struct lane *lane)
{
	int64_t now = now_ns();

	if (!is_open(lane))
		return;
	work_link(lane, now);
	work_distance(lane, now);
	deliver(lane);
}

static int64_t next_event(const struct lane *lane)
{
	int64_t next = NEVER;

	if (!is_open(lane))
		return NEVER;
	if (lane->held > 0)
		next = lane->served_at;
	if (lane->count > 0 && lane->pieces[lane->first].due < next)
		next = lane->pieces[lane->first].due;
	return next;
}

/* A descriptor that we want nothing from is left out: its hang-up would wake us for ever. */
static void prepare(const struct lane *lane, struct pollfd *in, struct pollfd *out)
{
	*in = (struct pollfd){.fd = -1, .events = POLLIN};
	*out = (struct pollfd){.fd = lane->out, .events = lane->full ? POLLOUT : 0};
	if (is_open(lane) && !lane->ended && room(lane) > 0)
		in->fd = lane->in;
}

static void handle(struct lane *lane, const struct pollfd *in, const struct pollfd *out)
{
	if (out->revents & POLLOUT)
		lane->full = false;
	else if (out->revents & (POLLERR | POLLHUP | POLLNVAL))
		close_lane(lane);
	if (in->revents)
		take(lane, now_ns());
}

static void wait_for_events(struct lane lanes[2])
{
	struct pollfd fds[5] = {{.fd = alarm_bell[0], .events = POLLIN}};
	int64_t first = next_event(&lanes[0]), second = next_event(&lanes[1]);
	int64_t left = first < second ? first : second;
	struct timespec timeout;
	char rings[16];

	prepare(&lanes[0], &fds[1], &fds[2]);
	prepare(&lanes[1], &fds[3], &fds[4]);
	if (left != NEVER) {
		int64_t now = now_ns();

		left = left > now ? left - now : 0;
		timeout.tv_sec = (time_t)(left / SECOND);
		timeout.tv_nsec = (long)(left % SECOND);
	}
	if (ppoll(fds, 5, left == NEVER ? NULL : &timeout, NULL) < 0)
		return;
	if (fds[0].revents)
		(void)!read(alarm_bell[0], rings, sizeof(rings));
	handle(&lanes[0], &fds[1], &fds[2]);
	handle(&lanes[1], &fds[3], &fds[4]);
}

/* Once COMMAND has ended, what it left in its pipe is all; a child of its own may hold that open.
 */
static void take_the_rest(struct lane *lane)
{
	if (lane->ended || room(lane) == 0)
		return;
	while (take(lane, now_ns()))
		;
	if (room(lane) > 0)
		end_input(lane);
}

static int carry(struct lane lanes[2], pid_t child)
{
	bool running = true;
	int status = 0;

	while (running || is_open(&lanes[1])) {
		if (asked_to_end) {
			kill(child, asked_to_end);
			close_lane(&lanes[0]);
			close_lane(&lanes[1]);
			if (running)
				waitpid(child, &status, 0);
			return status;
		}
		if (child_changed && running && waitpid(child, &status, WNOHANG) == child) {
			running = false;
			close_lane(&lanes[0]);
		}
		if (!running)
			take_the_rest(&lanes[1]);
		work(&lanes[0]);
		work(&lanes[1]);
		if (running || is_open(&lanes[1]))
			wait_for_events(lanes);
	}
	return status;
}

static void note(int number)
{
	int before = errno;

	if (number == SIGCHLD)
		child_changed = 1;
	else
		asked_to_end = number;
	(void)!write(alarm_bell[1], "", 1);
	errno = before;
}

static void make_pipe(int ends[2], int flags)
{
	if (pipe2(ends, O_CLOEXEC | flags) != 0)
		die(EXIT_FAILURE, "pipe: %s", strerror(errno));
}

/* Pipes of our own hide no more than the link carries in 1 ms, but a page is the least there is. */
static void make_small(int fd)
{
#ifdef F_SETPIPE_SZ
	int64_t size = options.rate / 8000;

	if (options.rate > 0 && size < PIPE_MAX)
		(void)fcntl(fd, F_SETPIPE_SZ, size > PIPE_SIZE ? (int)size : PIPE_SIZE);
#else
	(void)fd;
#endif
}

static void catch_signals(void)
{
	const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
	struct sigaction action = {.sa_handler = note};

	make_pipe(alarm_bell, O_NONBLOCK);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void run(char **command, int in, int out)
{
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	signal(SIGPIPE, SIG_DFL);
	execvp(command[0], command);
	fprintf(stderr, "slowpipe: %s: %s\n", command[0], strerror(errno));
	_exit(errno == ENOENT ? NOT_FOUND : NOT_RUN);
}

static pid_t start(char **command, struct lane lanes[2])
{
	int to[2], from[2];
	pid_t child;

	make_pipe(to, 0);
	make_pipe(from, 0);
	make_small(to[0]);
	make_small(from[0]);
	child = fork();
	if (child < 0)
		die(EXIT_FAILURE, "fork: %s", strerror(errno));
	if (child == 0)
		run(command, to[0], from[1]);
	close(to[0]);
	close(from[1]);
	lanes[0] = (struct lane){.in = STDIN_FILENO, .out = to[1], .seed = 1};
	lanes[1] = (struct lane){.in = from[0], .out = STDOUT_FILENO, .seed = UINT64_C(1) << 32};
	for (int i = 0; i < 2; i++) {
		lanes[i].rate = options.rate;
		(void)fcntl(lanes[i].in, F_SETFL, fcntl(lanes[i].in, F_GETFL) | O_NONBLOCK);
		(void)fcntl(lanes[i].out, F_SETFL, fcntl(lanes[i].out, F_GETFL) | O_NONBLOCK);
	}
	return child;
}

static double number(const char *text, char **end)
{
	double value = strtod(text, end);

	if (*end == text || !(value >= 0 && value < 1e15))
		die(USAGE, "'%s' is no number", text);
	return value;
}

static double whole_number(const char *text)
{
	char *end;
	double value = number(text, &end);

	if (*end)
		die(USAGE, "'%s' is no number", text);
	return value;
}

static void read_steps(const char *text)
{
	char *end;

	for (;;) {
		struct step *step = &options.steps[options.step_count++];

		if (options.step_count > STEPS_MAX)
			die(USAGE, "more than %d steps", STEPS_MAX);
		step->after = (int64_t)(number(text, &end) * (double)SECOND);
		if (*end != ':' || step->after == 0)
			die(USAGE, "'%s': expected SECONDS:RATE", text);
		step->rate = (int64_t)number(end + 1, &end);
		if (!*end)
			return;
		if (*end != ',')
			die(USAGE, "'%s': expected SECONDS:RATE,...", text);
		text = end + 1;
	}
}

static void read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "+r:d:j:b:s:")) != -1) {
		if (option == 'r')
			options.rate = (int64_t)whole_number(optarg);
		else if (option == 'd')
			options.delay = (int64_t)(whole_number(optarg) * (double)MILLISECOND);
		else if (option == 'j')
			options.jitter = (int64_t)(whole_number(optarg) * (double)MILLISECOND);
		else if (option == 'b')
			options.buffer = (size_t)whole_number(optarg);
		else if (option == 's')
			read_steps(optarg);
		else
			exit(USAGE);
	}
	if (optind == argc)
		die(USAGE, "which COMMAND?");
	if (options.buffer == 0)
		die(USAGE, "a buffer of 0 bytes takes none");
}

int main(int argc, char **argv)
{
	static struct lane lanes[2];
	pid_t child;
	int status;

	read_options(argc, argv);
	catch_signals();
	child = start(argv + optind, lanes);
#ifdef PR_SET_TIMERSLACK
	prctl(PR_SET_TIMERSLACK, 1UL);
#endif
	status = carry(lanes, child);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
