/*
 * How this works: a turn is one wait and the events that it returned; at its end, all that was sent
 * leaves in one write, and what the counters say is reported.
 *
 * The states, what each allows, and what comes next:
 *
 *   state      receives   reads    writes   goes on with
 *              datagrams  frames   frames
 *   RUNNING    yes        yes      yes      LINGERING, FINISHING, or an end
 *   LINGERING  yes        ended    yes      an end, after the linger time
 *   FINISHING  yes        the rest no       an end, when a wait finds nothing more to read
 *   DRAINING   no         no       the rest ENDING, when all is written or after the linger time
 *   ENDING     no         no       no       OVER, when COMMAND has ended
 *   PAUSING    queues     no       no       WAITING, when COMMAND has ended
 *   WAITING    queues     no       no       RUNNING, when COMMAND was run again
 *   OVER       no         no       no
 *
 * FINISHING: the far side is gone (COMMAND has ended, or nobody reads our frames); what it sent
 * before is still delivered. "An end" is PAUSING with -r, unless a signal has asked for the end;
 * else it is DRAINING. A signal in PAUSING or WAITING leads to ENDING. The state's deadline is in
 * state_deadline_us; ENDING and PAUSING have those of COMMAND.
 */
#include "tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "sandbox.h"
#include "signals.h"
#include "util.h"

enum {
	/* A COMMAND that has carried frames and lived so long works. A far side that ends each run
	   after its first frame does not choose how often COMMAND runs. */
	TWO_WAY_PROOF_US = US_PER_SECOND,
	ONE_WAY_PROOF_US = 10 * US_PER_SECOND,
	RETRY_PATIENCE_US = US_PER_SECOND / 2,
};

static void enter(struct tunnel *tunnel, enum tunnel_state state, uint64_t deadline_us)
{
	tunnel->state = state;
	tunnel->state_deadline_us = deadline_us;
}

static uint64_t linger_deadline_us(const struct tunnel *tunnel)
{
	return tunnel->now_us + tunnel->options->linger_us;
}

/* --- the beginning -------------------------------------------------------------------------- */

static bool watch_input(struct tunnel *tunnel)
{
	int input = pipe_input(stream_pipe(tunnel->stream));

	return input < 0 || loop_add(&tunnel->loop, input, SOURCE_INPUT, 0);
}

static bool watch_output(struct tunnel *tunnel)
{
	int output = pipe_output(stream_pipe(tunnel->stream));

	tunnel->waits_for_room = false;
	return output < 0 || !tunnel->writes || loop_add(&tunnel->loop, output, SOURCE_OUTPUT, 0);
}

/* The pipe is open: a new stream begins in each direction. */
static void begin_streams(struct tunnel *tunnel)
{
	tunnel->started_us = tunnel->now_us;
	tunnel->started = *tunnel->counters;
	stream_begin(tunnel->stream, tunnel->options->program == UOTT_DEC,
		tunnel->options->services.count, tunnel->reads && tunnel->writes, tunnel->now_us);
	enter(tunnel, TUNNEL_RUNNING, UINT64_MAX);
	if (watch_input(tunnel) && watch_output(tunnel))
		return;
	log_line(LOG_ERROR, "cannot wait for the transport: %s", strerror(errno));
	tunnel_fail(tunnel);
}

/* Returns 0, or an errno after a message. */
static int run_command(struct tunnel *tunnel)
{
	char *const *argv = tunnel->options->command;
	int input = -1, output = -1;
	int error = command_start(&tunnel->command, &output, tunnel->reads ? &input : NULL);

	if (error == 0)
		pipe_use(stream_pipe(tunnel->stream), input, output);
	else
		log_line(LOG_ERROR, "cannot run '%s': %s", argv[0], strerror(error));
	return error;
}

static void plan_retry(struct tunnel *tunnel, const char *what)
{
	uint32_t random;
	uint64_t wait_us;

	if (getentropy(&random, sizeof(random)) != 0)
		random = 0; /* there is just no jitter */
	wait_us = command_next_wait_us(&tunnel->command, random);
	enter(tunnel, TUNNEL_WAITING, tunnel->now_us + wait_us);
	log_line(LOG_WARNING, "'%s' %s: running it again in %.1f s", tunnel->options->command[0],
		what, (double)wait_us / US_PER_SECOND);
}

/* Returns 0, or, after a message, the status to exit with. */
static int open_pipe(struct tunnel *tunnel, const struct stdio *stdio)
{
	const char *wrong;

	if (!tunnel->options->command) {
		wrong = pipe_use_stdio(
			stream_pipe(tunnel->stream), stdio, tunnel->reads, tunnel->writes);
		if (wrong)
			log_line(LOG_ERROR, "%s", wrong);
		return wrong ? 2 : 0;
	}
	return run_command(tunnel) == 0 ? 0 : command_status(&tunnel->command);
}

static bool may_retry(const struct tunnel *tunnel)
{
	return tunnel->options->retry_us > 0 && !tunnel->was_asked;
}

int tunnel_open(struct tunnel *tunnel, const struct options *options, struct stream *stream,
	struct counters *counters, const struct stdio *stdio, bool reads, bool writes)
{
	int status;

	tunnel->options = options;
	tunnel->stream = stream;
	tunnel->counters = counters;
	tunnel->reads = reads;
	tunnel->writes = writes;
	tunnel->expiry_us = UINT64_MAX;
	tunnel->now_us = clock_now_us();
	report_init(&tunnel->report, counters, options->stats_us, tunnel->now_us);
	command_init(&tunnel->command, options->command, options->retry_us);
	tunnel->signals = signals_open();
	if (tunnel->signals < 0 || !loop_open(&tunnel->loop) ||
		!loop_add(&tunnel->loop, tunnel->signals, SOURCE_SIGNAL, 0) ||
		!stream_init(stream, counters, options->latency_us)) {
		log_line(LOG_ERROR, "cannot start: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	status = open_pipe(tunnel, stdio);
	if (status == 0) {
		begin_streams(tunnel);
	} else if (may_retry(tunnel) && !command_cannot_run(&tunnel->command)) {
		plan_retry(tunnel, "did not start");
		status = 0;
	}
	return status;
}

void tunnel_enter_sandbox(const struct tunnel *tunnel)
{
	const struct options *options = tunnel->options;
	const char *why = "this system has none";

	if (options->no_sandbox)
		return;
	if (options->retry_us > 0)
		why = "COMMAND would inherit it, and -r runs it again";
	else if (sandbox_enter(options->program, command_pid(&tunnel->command)))
		return;
	log_line(LOG_DETAIL, "no sandbox: %s", why);
}

/* --- what the programs tell ----------------------------------------------------------------- */

bool tunnel_watch(struct tunnel *tunnel, int socket, uint16_t id)
{
	return loop_add(&tunnel->loop, socket, SOURCE_UDP, id);
}

void tunnel_unwatch(struct tunnel *tunnel, int socket)
{
	loop_remove(&tunnel->loop, socket, SOURCE_UDP);
}

void tunnel_plan_expiry(struct tunnel *tunnel, uint64_t when_us)
{
	tunnel->expiry_us = min_u64(tunnel->expiry_us, when_us);
}

void tunnel_flow_added(struct tunnel *tunnel, size_t flow_count)
{
	counters_flow_added(tunnel->counters, flow_count);
	if (flow_count == 1)
		stream_set_has_flows(tunnel->stream, true);
}

void tunnel_flow_removed(struct tunnel *tunnel, size_t flow_count, enum counter cause)
{
	tunnel->counters->value[cause]++;
	tunnel->counters->value[FLOWS] = flow_count;
	if (flow_count == 0)
		stream_set_has_flows(tunnel->stream, false);
}

/* --- the end, or a pause -------------------------------------------------------------------- */

/* From here on no socket and no frame is waited for: the loop begins anew with the rest. */
static bool stop_receiving(struct tunnel *tunnel)
{
	tunnel->event_count = tunnel->event_next = 0;
	tunnel->expiry_us = UINT64_MAX;
	loop_close(&tunnel->loop);
	return loop_open(&tunnel->loop) &&
	       loop_add(&tunnel->loop, tunnel->signals, SOURCE_SIGNAL, 0) && watch_output(tunnel);
}

static void enter_draining(struct tunnel *tunnel)
{
	enter(tunnel, TUNNEL_DRAINING, linger_deadline_us(tunnel));
	stream_hurry(tunnel->stream);
	if (stop_receiving(tunnel))
		return;
	log_line(LOG_ERROR, "cannot wait for the end: %s", strerror(errno));
	command_kill(&tunnel->command);
	tunnel->status = EXIT_FAILURE;
	enter(tunnel, TUNNEL_OVER, UINT64_MAX);
}

static void unwatch_pipe(struct tunnel *tunnel)
{
	const struct pipe *pipe = stream_pipe(tunnel->stream);

	if (pipe_input(pipe) >= 0)
		loop_remove(&tunnel->loop, pipe_input(pipe), SOURCE_INPUT);
	if (pipe_output(pipe) >= 0)
		loop_remove(&tunnel->loop, pipe_output(pipe), SOURCE_OUTPUT);
	tunnel->event_count = tunnel->event_next = 0;
}

/* COMMAND's input is closed, which tells it to end. */
static void end_command(struct tunnel *tunnel, uint64_t patience_us)
{
	unwatch_pipe(tunnel);
	pipe_close_output(stream_pipe(tunnel->stream));
	command_end(&tunnel->command, patience_us, tunnel->now_us);
}

static void enter_ending(struct tunnel *tunnel)
{
	enter(tunnel, TUNNEL_ENDING, UINT64_MAX);
	tunnel->cut = stream_end(tunnel->stream, tunnel->now_us);
	end_command(tunnel, tunnel->was_asked_again ? 0 : tunnel->options->linger_us);
}

static void enter_pausing(struct tunnel *tunnel)
{
	enter(tunnel, TUNNEL_PAUSING, UINT64_MAX);
	tunnel->status = EXIT_SUCCESS;
	tunnel->is_paused = true;
	stream_pause(tunnel->stream, tunnel->now_us);
	end_command(tunnel, min_u64(tunnel->options->linger_us, RETRY_PATIENCE_US));
}

/* Nothing more is to be carried through this pipe. */
static void end_pipe(struct tunnel *tunnel)
{
	if (tunnel->state > TUNNEL_FINISHING)
		return;
	if (may_retry(tunnel))
		enter_pausing(tunnel);
	else
		enter_draining(tunnel);
}

static void enter_finishing(struct tunnel *tunnel)
{
	if (tunnel->state < TUNNEL_FINISHING)
		enter(tunnel, TUNNEL_FINISHING, linger_deadline_us(tunnel));
}

void tunnel_input_ended(struct tunnel *tunnel, enum stream_result result, bool lingers)
{
	struct pipe *pipe = stream_pipe(tunnel->stream);

	if (result == STREAM_FAILED)
		tunnel->status = EXIT_FAILURE;
	loop_remove(&tunnel->loop, pipe_input(pipe), SOURCE_INPUT);
	pipe_close_input(pipe);
	if (!lingers)
		end_pipe(tunnel);
	else if (tunnel->state == TUNNEL_RUNNING)
		enter(tunnel, TUNNEL_LINGERING, linger_deadline_us(tunnel));
}

void tunnel_fail(struct tunnel *tunnel)
{
	tunnel->status = EXIT_FAILURE;
	end_pipe(tunnel);
}

void tunnel_give_up(struct tunnel *tunnel)
{
	tunnel->was_asked = true;
	tunnel_fail(tunnel);
}

/* --- COMMAND is run again ------------------------------------------------------------------- */

/* Whether COMMAND has carried frames. One way, it has if it took them. */
static bool has_carried_frames(const struct tunnel *tunnel)
{
	const uint64_t *now = tunnel->counters->value, *before = tunnel->started.value;

	if (tunnel->reads)
		return now[FRAMES_IN] > before[FRAMES_IN] || stream_was_acked(tunnel->stream);
	return now[FRAMES_OUT] > before[FRAMES_OUT];
}

/* Whether COMMAND has done what it is for, so that the next try may come soon. */
static bool has_worked(const struct tunnel *tunnel)
{
	uint64_t proof_us = tunnel->reads ? TWO_WAY_PROOF_US : ONE_WAY_PROOF_US;

	return has_carried_frames(tunnel) && tunnel->now_us - tunnel->started_us >= proof_us;
}

/* COMMAND has ended, and is wanted again. */
static void wait_for_retry(struct tunnel *tunnel)
{
	const struct command *command = &tunnel->command;
	char what[32] = "was terminated";

	pipe_close_input(stream_pipe(tunnel->stream));
	if (command_cannot_run(command)) {
		enter_draining(tunnel);
		return;
	}
	if (has_worked(tunnel))
		command_reset_wait(&tunnel->command);
	if (!command_was_ended_by_us(command))
		snprintf(what, sizeof(what), "ended with status %d", command_status(command));
	plan_retry(tunnel, what);
}

static void run_again(struct tunnel *tunnel)
{
	if (run_command(tunnel) == 0) {
		tunnel->counters->value[RETRIES]++;
		tunnel->is_restarted = true;
		begin_streams(tunnel);
	} else if (command_cannot_run(&tunnel->command)) {
		enter_draining(tunnel);
	} else {
		plan_retry(tunnel, "did not start");
	}
}

/* --- turns ---------------------------------------------------------------------------------- */

/* A signal asks for the end; once more, and the patience of the state is over. */
static void hear_end(struct tunnel *tunnel)
{
	tunnel->was_asked = true;
	if (tunnel->state <= TUNNEL_FINISHING || tunnel->state == TUNNEL_WAITING)
		enter_draining(tunnel);
	else if (tunnel->state == TUNNEL_DRAINING)
		tunnel->was_asked_again = true;
	else
		command_hurry(&tunnel->command, tunnel->now_us);
	if (tunnel->state == TUNNEL_PAUSING)
		enter_draining(tunnel);
}

static void handle_signals(struct tunnel *tunnel)
{
	unsigned int seen = signals_read(tunnel->signals);

	if (seen & SIGNALS_REPORT)
		report_request(&tunnel->report);
	if (seen & SIGNALS_CHILD)
		command_reap(&tunnel->command);
	if (tunnel->options->command && !command_is_running(&tunnel->command))
		enter_finishing(tunnel);
	if (seen & SIGNALS_END)
		hear_end(tunnel);
}

static void handle_output(struct tunnel *tunnel, bool is_broken)
{
	if (is_broken)
		stream_reader_is_gone(tunnel->stream);
	else
		stream_resume(tunnel->stream);
}

/* Enters the next state if what this one waited for has come. */
static void advance(struct tunnel *tunnel)
{
	bool is_due = tunnel->now_us >= tunnel->state_deadline_us;

	switch (tunnel->state) {
	case TUNNEL_RUNNING:
	case TUNNEL_OVER:
		break;
	case TUNNEL_LINGERING:
		if (is_due)
			end_pipe(tunnel);
		break;
	case TUNNEL_FINISHING:
		if (is_due || !pipe_has_input_waiting(stream_pipe(tunnel->stream)))
			end_pipe(tunnel);
		break;
	case TUNNEL_DRAINING:
		if (is_due || tunnel->was_asked_again || !stream_has_work(tunnel->stream))
			enter_ending(tunnel);
		break;
	case TUNNEL_ENDING:
	case TUNNEL_PAUSING:
		command_advance(&tunnel->command, tunnel->now_us);
		if (command_is_running(&tunnel->command))
			break;
		if (tunnel->state == TUNNEL_PAUSING)
			wait_for_retry(tunnel);
		else
			enter(tunnel, TUNNEL_OVER, UINT64_MAX);
		break;
	case TUNNEL_WAITING:
		if (is_due)
			run_again(tunnel);
		break;
	}
}

static void flush(struct tunnel *tunnel)
{
	struct stream *stream = tunnel->stream;

	stream_flush(stream, tunnel->now_us);
	if (tunnel->state > TUNNEL_DRAINING)
		return;
	if (stream_output(stream) == STREAM_FAILED) {
		tunnel_fail(tunnel);
	} else if (stream_output(stream) == STREAM_END) {
		tunnel->reader_left |= tunnel->state == TUNNEL_RUNNING;
		enter_finishing(tunnel);
	} else if (stream_is_blocked(stream) != tunnel->waits_for_room) {
		tunnel->waits_for_room = stream_is_blocked(stream);
		loop_want_room(
			&tunnel->loop, pipe_output(stream_pipe(stream)), tunnel->waits_for_room);
	}
}

/* How long the next wait may take; negative: for ever. */
static int64_t time_to_wait_us(const struct tunnel *tunnel, uint64_t deadline_us)
{
	deadline_us = min_u64(deadline_us, tunnel->state_deadline_us);
	deadline_us = min_u64(deadline_us, tunnel->expiry_us);
	deadline_us = min_u64(deadline_us, command_deadline_us(&tunnel->command));
	deadline_us = min_u64(deadline_us, stream_deadline_us(tunnel->stream, tunnel->now_us));
	if (deadline_us == UINT64_MAX)
		return -1;
	return deadline_us < tunnel->now_us ? 0 : (int64_t)(deadline_us - tunnel->now_us);
}

static void check_far_side(struct tunnel *tunnel)
{
	if (tunnel->state > TUNNEL_FINISHING || !stream_is_dead(tunnel->stream, tunnel->now_us))
		return;
	log_line(LOG_ERROR, "the transport is dead: nothing came for 45 s");
	command_kill(&tunnel->command);
	tunnel_fail(tunnel);
}

static void next_turn(struct tunnel *tunnel)
{
	enum tunnel_state before = tunnel->state;
	uint64_t deadline_us;

	flush(tunnel);
	deadline_us = report_turn(&tunnel->report, tunnel->now_us);
	check_far_side(tunnel);
	advance(tunnel);
	if (tunnel->state != before)
		return; /* the new state may have something to do at once */
	tunnel->event_next = 0;
	tunnel->event_count = loop_wait(
		&tunnel->loop, time_to_wait_us(tunnel, deadline_us), tunnel->events);
	tunnel->now_us = clock_now_us();
}

static bool take(bool *flag)
{
	bool was_set = *flag;

	*flag = false;
	return was_set;
}

enum tunnel_event tunnel_next_event(struct tunnel *tunnel, uint16_t *id)
{
	const struct event *event;

	for (;;) {
		if (take(&tunnel->is_paused))
			return TUNNEL_PAUSED;
		if (take(&tunnel->is_restarted))
			return TUNNEL_RESTARTED;
		if (tunnel->state == TUNNEL_OVER)
			return TUNNEL_END;
		if (tunnel->now_us >= tunnel->expiry_us) {
			tunnel->expiry_us = UINT64_MAX;
			return TUNNEL_EXPIRY;
		}
		if (tunnel->event_next == tunnel->event_count) {
			next_turn(tunnel);
			continue;
		}
		event = &tunnel->events[tunnel->event_next++];
		switch (event->source) {
		case SOURCE_SIGNAL:
			handle_signals(tunnel);
			break;
		case SOURCE_OUTPUT:
			handle_output(tunnel, event->broken);
			break;
		case SOURCE_INPUT:
			return TUNNEL_FRAMES;
		case SOURCE_UDP:
			*id = event->id;
			return TUNNEL_DATAGRAMS;
		case SOURCES: /* how many there are, and none itself */
			break;
		}
	}
}

/* --- closing -------------------------------------------------------------------------------- */

/* COMMAND's status is ours, if the end was its fault. */
static void take_status(struct tunnel *tunnel)
{
	const char *name = tunnel->options->command[0];
	int status = command_status(&tunnel->command);

	if (tunnel->was_asked)
		return;
	if (command_was_ended_by_us(&tunnel->command)) {
		log_line(LOG_WARNING, "'%s' did not end by itself and was terminated", name);
		return;
	}
	log_line(LOG_WARNING, "'%s' ended with status %d", name, status);
	if (tunnel->status == EXIT_SUCCESS)
		tunnel->status = status;
}

int tunnel_close(struct tunnel *tunnel)
{
	/* A ^C also ends COMMAND, and we may have noticed that first. */
	if (signals_read(tunnel->signals) & SIGNALS_END)
		tunnel->was_asked = true;
	if (tunnel->options->command)
		take_status(tunnel);
	else if (tunnel->reader_left && !tunnel->was_asked)
		log_line(LOG_WARNING, "nobody reads the frames any more: the end");
	if (tunnel->cut && tunnel->status == EXIT_SUCCESS && !tunnel->was_asked) {
		log_line(LOG_ERROR, "%s", tunnel->cut); /* this is what went wrong first */
		tunnel->status = EXIT_FAILURE;
	}
	pipe_close_input(stream_pipe(tunnel->stream)); /* not before: COMMAND would die of it */
	report_end(&tunnel->report);
	loop_close(&tunnel->loop);
	stream_free(tunnel->stream);
	return tunnel->status;
}
