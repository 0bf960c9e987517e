#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptors.h"
#include "signals.h"
#include "util.h"

enum {
	TERMINATE_PATIENCE_US = 2 * US_PER_SECOND
};

extern char **environ;

static bool open_pipe(int ends[static 2])
{
	if (pipe(ends) != 0)
		return false;
	fcntl(ends[0], F_SETFD, FD_CLOEXEC);
	fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	return true;
}

static int spawn(pid_t *pid, char *const argv[], int child_input, int child_output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t defaults;
	int error;

	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE); /* which are ignored here, and would stay so */
	sigaddset(&defaults, SIGXFSZ);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawn_file_actions_adddup2(&actions, child_input, STDIN_FILENO);
	if (child_output >= 0)
		posix_spawn_file_actions_adddup2(&actions, child_output, STDOUT_FILENO);
	descriptors_restore();
	error = posix_spawnp(pid, argv[0], &actions, &attributes, argv, environ);
	descriptors_raise();
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

int child_start(struct child *child, char *const argv[], int *input, int *output)
{
	int to_child[2], from_child[2] = {-1, -1};
	int error;

	*child = (struct child){.status = 1};
	if (!open_pipe(to_child))
		return errno;
	if (output && !open_pipe(from_child)) {
		error = errno;
		close(to_child[0]);
		close(to_child[1]);
		return error;
	}
	error = spawn(&child->pid, argv, to_child[0], from_child[1]);
	close(to_child[0]);
	if (output)
		close(from_child[1]);
	if (error != 0) {
		close(to_child[1]);
		if (output)
			close(from_child[0]);
		child->pid = 0;
		if (error != EAGAIN && error != ENOMEM)
			child->status = error == ENOENT ? CHILD_NOT_FOUND : CHILD_CANNOT_RUN;
		return error;
	}
	fcntl(to_child[1], F_SETFL, O_NONBLOCK);
	*input = to_child[1];
	if (output) {
		fcntl(from_child[0], F_SETFL, O_NONBLOCK);
		*output = from_child[0];
	}
	return 0;
}

static bool collect(struct child *child, int flags)
{
	int status;

	if (child->pid == 0 || waitpid(child->pid, &status, flags) != child->pid)
		return child->pid == 0;
	child->pid = 0;
	child->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return true;
}

bool child_is_gone(struct child *child)
{
	return collect(child, WNOHANG);
}

/* Waits for the child to end. Returns whether a signal cut that short. */
static bool wait_for_end(struct child *child, int signals, uint64_t patience_us)
{
	uint64_t now_us = clock_now_us();
	uint64_t deadline_us = now_us + patience_us;
	struct pollfd wake = {.fd = signals, .events = POLLIN};

	while (!child_is_gone(child) && now_us < deadline_us) {
		poll(&wake, 1, timeout_ms((int64_t)(deadline_us - now_us)));
		if (signals_read(signals) & SIGNALS_END)
			return true;
		now_us = clock_now_us();
	}
	return false;
}

bool child_finish(struct child *child, int signals, uint64_t patience_us)
{
	bool hurried = wait_for_end(child, signals, patience_us);

	if (child->pid == 0)
		return false;
	child->was_made_to = true;
	kill(child->pid, SIGTERM);
	hurried |= wait_for_end(child, signals, TERMINATE_PATIENCE_US);
	child_kill(child);
	return hurried;
}

void child_kill(struct child *child)
{
	if (child->pid == 0)
		return;
	child->was_made_to = true;
	kill(child->pid, SIGKILL);
	collect(child, 0);
}
