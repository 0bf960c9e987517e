/*
 * How this works: the owner closes COMMAND's input and calls command_end(). A well-behaved COMMAND
 * ends by itself then. Otherwise command_advance() sends SIGTERM when the patience is over, and
 * SIGKILL 2 s later. Meanwhile nothing blocks; SIGCHLD tells when to call command_reap().
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include "limit.h"
#include "util.h"

enum {
	TERMINATE_PATIENCE_US = 2 * US_PER_SECOND,
	FIRST_WAIT_US = US_PER_SECOND / 10,
	STATUS_CANNOT_RUN = 126, /* as shells have it */
	STATUS_NOT_FOUND = 127,
};

extern char **environ;

void command_init(struct command *command, char *const *argv, uint64_t max_wait_us)
{
	*command = (struct command){
		.argv = argv, .deadline_us = UINT64_MAX, .max_wait_us = max_wait_us};
	command_reset_wait(command);
}

/* --- the start ------------------------------------------------------------------------------ */

/* A pipe of which we keep the end `ours`. Returns false with errno. */
static bool open_pipe(int ends[static 2], int ours)
{
	if (pipe(ends) != 0)
		return false;
	if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0 &&
		fcntl(ends[ours], F_SETFL, O_NONBLOCK) == 0)
		return true;
	close(ends[0]);
	close(ends[1]);
	return false;
}

/* Returns 0 or an errno, as the posix_spawn calls do. */
static int plan_child(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes,
	int child_input, int child_output)
{
	sigset_t defaults;
	int error;

	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE); /* we ignore these two, and COMMAND would inherit that */
	sigaddset(&defaults, SIGXFSZ);
	error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF);
	if (error == 0)
		error = posix_spawnattr_setsigdefault(attributes, &defaults);
	if (error == 0)
		error = posix_spawn_file_actions_adddup2(actions, child_input, STDIN_FILENO);
	if (error == 0 && child_output >= 0)
		error = posix_spawn_file_actions_adddup2(actions, child_output, STDOUT_FILENO);
	return error;
}

static int try_spawn(struct command *command, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes)
{
	return posix_spawnp(
		&command->pid, command->argv[0], actions, attributes, command->argv, environ);
}

/*
 * COMMAND gets the limit of open files that this program started with. But posix_spawn() of musl
 * opens a pipe: if all descriptors below that limit are in use, COMMAND gets the higher limit.
 */
static int spawn_within_limit(struct command *command, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes)
{
	int error;

	limit_restore();
	error = try_spawn(command, actions, attributes);
	limit_raise_again();
	return error == EMFILE ? try_spawn(command, actions, attributes) : error;
}

static int spawn(struct command *command, int child_input, int child_output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&actions);

	if (error != 0)
		return error;
	error = posix_spawnattr_init(&attributes);
	if (error == 0) {
		error = plan_child(&actions, &attributes, child_input, child_output);
		if (error == 0)
			error = spawn_within_limit(command, &actions, &attributes);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* What is short now may be there the next time. */
static bool may_pass(int error)
{
	return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE ||
	       error == ETXTBSY || error == EIO || error == EINTR;
}

static void note_failure(struct command *command, int error)
{
	command->pid = 0;
	if (!may_pass(error))
		command->status = error == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
}

int command_start(struct command *command, int *input, int *output)
{
	int to_child[2], from_child[2] = {-1, -1};
	int error;

	command->status = 1;
	command->ended_by_us = command->was_asked = false;
	command->deadline_us = UINT64_MAX;
	if (!open_pipe(to_child, 1))
		return errno;
	if (output && !open_pipe(from_child, 0)) {
		error = errno;
		close(to_child[0]);
		close(to_child[1]);
		return error;
	}
	error = spawn(command, to_child[0], from_child[1]);
	close(to_child[0]);
	if (output)
		close(from_child[1]);
	*input = to_child[1];
	if (output)
		*output = from_child[0];
	if (error == 0)
		return 0;
	close(to_child[1]);
	if (output)
		close(from_child[0]);
	note_failure(command, error);
	return error;
}

/* --- the end -------------------------------------------------------------------------------- */

void command_reap(struct command *command)
{
	int status;
	pid_t pid;

	if (command->pid == 0)
		return;
	do
		pid = waitpid(command->pid, &status, WNOHANG);
	while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return;
	command->pid = 0;
	command->deadline_us = UINT64_MAX;
	if (pid > 0) /* or the status stays 1: nobody can tell it */
		command->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status)
						      : WEXITSTATUS(status);
}

bool command_is_running(const struct command *command)
{
	return command->pid != 0;
}

void command_end(struct command *command, uint64_t patience_us, uint64_t now_us)
{
	command_reap(command);
	if (command_is_running(command) && command->deadline_us == UINT64_MAX)
		command->deadline_us = now_us + patience_us;
}

void command_hurry(struct command *command, uint64_t now_us)
{
	if (command_is_running(command))
		command->deadline_us = now_us;
}

static void send_signal(struct command *command, int number)
{
	if (!command_is_running(command))
		return;
	command->ended_by_us = true;
	kill(command->pid, number);
}

void command_kill(struct command *command)
{
	send_signal(command, SIGKILL);
}

void command_advance(struct command *command, uint64_t now_us)
{
	if (now_us < command->deadline_us)
		return;
	send_signal(command, command->was_asked ? SIGKILL : SIGTERM);
	command->deadline_us = command->was_asked ? UINT64_MAX : now_us + TERMINATE_PATIENCE_US;
	command->was_asked = true;
}

uint64_t command_deadline_us(const struct command *command)
{
	return command->deadline_us;
}

pid_t command_pid(const struct command *command)
{
	return command->pid;
}

int command_status(const struct command *command)
{
	return command->status;
}

bool command_was_ended_by_us(const struct command *command)
{
	return command->ended_by_us;
}

/* --- the next run --------------------------------------------------------------------------- */

bool command_cannot_run(const struct command *command)
{
	return command->status == STATUS_CANNOT_RUN || command->status == STATUS_NOT_FOUND;
}

uint64_t command_next_wait_us(struct command *command, uint32_t random)
{
	uint64_t wait_us = command->next_wait_us;

	command->next_wait_us = min_u64(2 * wait_us, command->max_wait_us);
	return wait_us - wait_us / 4 * (random % 1024) / 1024;
}

void command_reset_wait(struct command *command)
{
	command->next_wait_us = min_u64(FIRST_WAIT_US, command->max_wait_us);
}
