/*
 * How this works: a turn is one wait and the events it returned; at its end, all that was sent
 * leaves in one write.
 *
 * The tunnel ends by itself when a signal asks for it or the stream is corrupt. When the far side
 * has gone (COMMAND has ended, nobody reads our frames), it is `finishing`: what had arrived before
 * is still delivered, and the first wait that finds nothing to read is the end. With --retry an end
 * that nobody asked for is a pause, in which frames wait in the queue.
 */
#include "tunnel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptors.h"
#include "log.h"
#include "signals.h"
#include "stats.h"
#include "util.h"

enum {
	COUNTERS_TEXT_SIZE = 1536,
	ONE_WAY_PROOF_US = 10 * US_PER_SECOND,
	RETRY_PATIENCE_US = US_PER_SECOND / 2, /* nothing is read while COMMAND is to end */
};

void tunnel_read_options(
	enum program program, int argc, char **argv, struct options *options, struct stdio *stdio)
{
	char error[OPTIONS_ERROR_SIZE];
	const char *name = program == UOTT_ENC ? "uott-enc" : "uott-dec";

	stdio_claim(stdio);
	log_open(name, LOG_WARNING);
	switch (options_parse(options, program, argc, argv, error)) {
	case OPTIONS_HELP:
		fputs(options_help(program), stdout);
		exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	case OPTIONS_VERSION:
		printf("%s %s\n", name, UOTT_VERSION);
		exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	case OPTIONS_WRONG:
		log_line(LOG_ERROR, "%s", error);
		log_line(LOG_ERROR, "try '%s --help'", name);
		exit(2);
	case OPTIONS_RUN:
		break;
	}
	log_open(name, options->quiet ? LOG_ERROR : options->verbose ? LOG_DETAIL : LOG_WARNING);
}

static int open_transport(struct tunnel *tunnel, const struct stdio *stdio)
{
	const struct options *options = tunnel->options;
	const char *wrong;
	int error;

	if (!options->command) {
		wrong = transport_use_stdio(
			&tunnel->transport, stdio, tunnel->reads, tunnel->writes);
		if (wrong)
			log_line(LOG_ERROR, "%s", wrong);
		return wrong ? 2 : 0;
	}
	error = transport_run(&tunnel->transport, options->command, tunnel->reads);
	if (error)
		log_line(LOG_ERROR, "cannot run '%s': %s", options->command[0], strerror(error));
	return error ? tunnel->transport.child.status : 0;
}

/* The next event will be the end, with status 1. */
static void fail(struct tunnel *tunnel)
{
	tunnel->status = EXIT_FAILURE;
	tunnel->ended = true;
}

static void note_start(struct tunnel *tunnel)
{
	tunnel->started_us = tunnel->now_us;
	tunnel->started = tunnel->counters;
}

/* A new stream begins in each direction. */
static bool begin_streams(struct tunnel *tunnel)
{
	struct transport *transport = &tunnel->transport;
	bool is_dec = tunnel->options->program == UOTT_DEC;

	control_init(&tunnel->control, is_dec, tunnel->reads && tunnel->writes, tunnel->now_us);
	receiver_begin_stream(&tunnel->receiver);
	sender_begin_stream(&tunnel->sender);
	if ((!tunnel->reads || loop_add(&tunnel->loop, transport->input, SOURCE_INPUT, 0)) &&
		(!tunnel->writes || loop_add(&tunnel->loop, transport->output, SOURCE_OUTPUT, 0)))
		return true;
	log_line(LOG_ERROR, "cannot wait for the transport: %s", strerror(errno));
	fail(tunnel); /* COMMAND is running and has to be ended */
	return false;
}

int tunnel_open(struct tunnel *tunnel, const struct options *options, const struct stdio *stdio,
	bool reads, bool writes)
{
	int status;

	tunnel->options = options;
	tunnel->reads = reads;
	tunnel->writes = writes;
	tunnel->segment_max = UINT16_MAX;
	tunnel->linger_until_us = tunnel->expiry_us = tunnel->retry_us = UINT64_MAX;
	tunnel->now_us = clock_now_us();
	tunnel->stats_us = options->stats_us > 0 ? tunnel->now_us + options->stats_us : UINT64_MAX;
	backoff_init(&tunnel->backoff, options->retry_us);
	receiver_init(&tunnel->receiver, &tunnel->transport, &tunnel->control, &tunnel->counters);
	descriptors_raise();
	tunnel->signals = signals_open();
	if (tunnel->signals < 0 || !loop_open(&tunnel->loop) ||
		!loop_add(&tunnel->loop, tunnel->signals, SOURCE_SIGNAL, 0) ||
		!sender_init(&tunnel->sender, &tunnel->transport, &tunnel->loop, &tunnel->control,
			&tunnel->counters, options->latency_us)) {
		log_line(LOG_ERROR, "cannot start: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	note_start(tunnel);
	status = open_transport(tunnel, stdio);
	if (status == 0)
		begin_streams(tunnel);
	return status;
}

bool tunnel_watch(struct tunnel *tunnel, int socket, uint16_t tag)
{
	return loop_add(&tunnel->loop, socket, SOURCE_UDP, tag);
}

void tunnel_unwatch(struct tunnel *tunnel, int socket)
{
	loop_remove(&tunnel->loop, socket, SOURCE_UDP);
}

void tunnel_plan_expiry(struct tunnel *tunnel, const struct flow_table *flows)
{
	tunnel->expiry_us = flow_next_check(
		flows, tunnel->now_us, tunnel->options->idle_timeout_us);
}

void tunnel_end(struct tunnel *tunnel)
{
	tunnel->ended = true;
}

void tunnel_linger(struct tunnel *tunnel)
{
	tunnel->linger_until_us = tunnel->now_us + tunnel->options->linger_us;
}

void tunnel_give_up(struct tunnel *tunnel)
{
	fail(tunnel);
	tunnel->asked_to_end = true;
}

/* --- frames ------------------------------------------------------------------------------- */

size_t tunnel_receive(
	struct tunnel *tunnel, int socket, uint32_t *kernel_drops, struct datagram **first)
{
	return sender_receive(&tunnel->sender, socket, kernel_drops, first, tunnel->now_us);
}

void tunnel_send(struct tunnel *tunnel, uint16_t tag, struct datagram *datagram)
{
	sender_send(&tunnel->sender, tag, datagram);
}

void tunnel_close_flow(struct tunnel *tunnel, uint16_t tag)
{
	sender_close_flow(&tunnel->sender, tag, tunnel->now_us);
}

bool tunnel_read(struct tunnel *tunnel)
{
	enum receiver_result result = receiver_read(&tunnel->receiver, tunnel->now_us);

	if (result == RECEIVER_OK)
		return true;
	if (result == RECEIVER_ERROR)
		tunnel->status = EXIT_FAILURE;
	control_input_ended(&tunnel->control);
	loop_remove(&tunnel->loop, tunnel->transport.input, SOURCE_INPUT);
	transport_close_input(&tunnel->transport);
	return false;
}

bool tunnel_next_frame(struct tunnel *tunnel, struct frame *frame)
{
	enum receiver_result result = receiver_next(&tunnel->receiver, frame);

	if (result == RECEIVER_ERROR)
		fail(tunnel);
	return result == RECEIVER_OK;
}

uint16_t tunnel_closed_tag(const struct frame *frame)
{
	return le16_load(frame->payload);
}

/* --- turns -------------------------------------------------------------------------------- */

/* What the far side sent before it went is still delivered, but not for ever. */
static void finish(struct tunnel *tunnel)
{
	if (!tunnel->finishing)
		tunnel_linger(tunnel);
	tunnel->finishing = true;
}

static void flush(struct tunnel *tunnel)
{
	struct sender *sender = &tunnel->sender;

	sender_flush(sender, tunnel->now_us);
	if (!sender->gone)
		return;
	finish(tunnel);
	if (sender->error != 0) {
		log_line(LOG_ERROR, "cannot write frames: %s", strerror(sender->error));
		fail(tunnel);
	}
}

static void report_counters(const struct tunnel *tunnel, enum log_level level)
{
	char text[COUNTERS_TEXT_SIZE];

	counters_format(&tunnel->counters, text, sizeof(text));
	log_line(level, "%s", text);
}

/* On a terminal one line of rates, which the next one replaces. */
static void show_stats(struct tunnel *tunnel)
{
	char text[STATS_TEXT_SIZE];
	uint64_t elapsed_us = tunnel->now_us - tunnel->stats_us + tunnel->options->stats_us;

	tunnel->stats_us = tunnel->now_us + tunnel->options->stats_us;
	if (!isatty(STDERR_FILENO)) {
		report_counters(tunnel, LOG_ERROR);
		return;
	}
	stats_format(&tunnel->stats_before, &tunnel->counters, elapsed_us, text);
	log_status(text);
	tunnel->stats_before = tunnel->counters;
}

static void handle_signals(struct tunnel *tunnel)
{
	unsigned int seen = signals_read(tunnel->signals);

	tunnel->report_wanted |= (seen & SIGNALS_REPORT) != 0;
	if (seen & SIGNALS_END) {
		tunnel->asked_to_end = true;
		tunnel_end(tunnel);
	}
	if (seen & SIGNALS_CHILD && tunnel->transport.child.pid != 0 &&
		child_is_gone(&tunnel->transport.child))
		finish(tunnel);
}

/* Says which datagrams were dropped. Returns when there may be more to say. */
static uint64_t report_drops(struct tunnel *tunnel, uint64_t now_us)
{
	uint64_t deadline_us;
	char text[256];

	while (counters_next_report(&tunnel->counters, now_us, text, sizeof(text), &deadline_us))
		log_line(LOG_WARNING, "%s", text);
	return deadline_us;
}

static int64_t time_to_wait_us(const struct tunnel *tunnel, uint64_t deadline_us)
{
	bool has_flows = tunnel->counters.value[FLOWS] > 0;

	deadline_us = min_u64(deadline_us, min_u64(tunnel->linger_until_us, tunnel->expiry_us));
	deadline_us = min_u64(deadline_us, min_u64(tunnel->retry_us, tunnel->stats_us));
	deadline_us = min_u64(deadline_us, sender_deadline_us(&tunnel->sender, tunnel->now_us));
	deadline_us = min_u64(deadline_us,
		control_deadline_us(&tunnel->control, has_flows, tunnel->sender.blocked));
	if (deadline_us == UINT64_MAX)
		return -1;
	return tunnel->finishing || deadline_us < tunnel->now_us
		       ? 0
		       : (int64_t)(deadline_us - tunnel->now_us);
}

static bool has_input_waiting(const struct tunnel *tunnel)
{
	return poll(&(struct pollfd){.fd = tunnel->transport.input, .events = POLLIN}, 1, 0) == 1;
}

static void next_turn(struct tunnel *tunnel)
{
	uint64_t deadline_us;

	flush(tunnel);
	sender_measure(&tunnel->sender);
	deadline_us = report_drops(tunnel, tunnel->now_us);
	if (tunnel->report_wanted) /* only now is every datagram in one place */
		report_counters(tunnel, LOG_ERROR);
	tunnel->report_wanted = false;
	if (tunnel->now_us >= tunnel->stats_us)
		show_stats(tunnel);
	if (tunnel->ended)
		return;
	tunnel->event_next = 0;
	tunnel->event_count = loop_wait(
		&tunnel->loop, time_to_wait_us(tunnel, deadline_us), tunnel->events);
	tunnel->now_us = clock_now_us();
	if (tunnel->now_us >= tunnel->linger_until_us ||
		(tunnel->finishing && !has_input_waiting(tunnel)))
		tunnel_end(tunnel);
	/* Who was stopped himself has not heard what came meanwhile. */
	if (control_is_dead(&tunnel->control, tunnel->now_us) && !has_input_waiting(tunnel)) {
		log_line(LOG_ERROR, "the transport is dead: nothing came for 45 s");
		child_kill(&tunnel->transport.child);
		fail(tunnel);
	}
}

static void handle_output(struct tunnel *tunnel, bool broken)
{
	if (!broken) {
		sender_resume(&tunnel->sender);
		return;
	}
	tunnel->sender.gone = true;
	finish(tunnel);
}

/* --- COMMAND ends, and is run again ------------------------------------------------------- */

static void finish_child(struct tunnel *tunnel, uint64_t patience_us)
{
	tunnel->asked_to_end |= child_finish(
		&tunnel->transport.child, tunnel->signals, patience_us);
}

/* Whether COMMAND has done what it is for, so that the next try may come soon. */
static bool has_carried_frames(const struct tunnel *tunnel)
{
	if (tunnel->reads)
		return tunnel->counters.value[FRAMES_IN] > tunnel->started.value[FRAMES_IN] ||
		       tunnel->control.acked > 0;
	return tunnel->counters.value[FRAMES_OUT] > tunnel->started.value[FRAMES_OUT] &&
	       tunnel->now_us - tunnel->started_us >= ONE_WAY_PROOF_US;
}

/* What is wrong with it will be so the next time. */
static bool cannot_be_run(const struct child *child)
{
	return child->status == CHILD_CANNOT_RUN || child->status == CHILD_NOT_FOUND;
}

static void plan_retry(struct tunnel *tunnel, const char *what)
{
	uint32_t random = 0;
	uint64_t wait_us;

	(void)getentropy(&random, sizeof(random)); /* without it there is just no jitter */
	wait_us = backoff_wait_us(&tunnel->backoff, random);
	tunnel->retry_us = tunnel->now_us + wait_us;
	log_line(LOG_WARNING, "'%s' %s: running it again in %.1f s", tunnel->options->command[0],
		what, (double)wait_us / US_PER_SECOND);
}

/*
 * The transport has ended. Returns whether the tunnel goes on: then COMMAND will be run again.
 */
static bool pause_for_retry(struct tunnel *tunnel)
{
	struct transport *transport = &tunnel->transport;
	const struct child *child = &transport->child;
	char what[32] = "was terminated";

	if (tunnel->options->retry_us == 0 || tunnel->asked_to_end)
		return false;
	if (transport->input >= 0)
		loop_remove(&tunnel->loop, transport->input, SOURCE_INPUT);
	if (transport->output >= 0)
		loop_remove(&tunnel->loop, transport->output, SOURCE_OUTPUT);
	tunnel->event_count = tunnel->event_next = 0;
	sender_pause(&tunnel->sender);
	/* Into the queue, where all that has tags of this stream is dealt with. */
	sender_flush(&tunnel->sender, tunnel->now_us);
	transport_close_output(transport);
	finish_child(tunnel, min_u64(tunnel->options->linger_us, RETRY_PATIENCE_US));
	transport_close_input(transport);
	tunnel->now_us = clock_now_us();
	if (tunnel->asked_to_end || cannot_be_run(child))
		return false;
	if (has_carried_frames(tunnel))
		backoff_reset(&tunnel->backoff);
	control_input_ended(&tunnel->control);
	tunnel->ended = tunnel->finishing = false;
	tunnel->linger_until_us = UINT64_MAX;
	tunnel->status = 0;
	if (!child->was_made_to)
		snprintf(what, sizeof(what), "ended with status %d", child->status);
	plan_retry(tunnel, what);
	return true;
}

/* Returns whether COMMAND is running again. */
static bool run_again(struct tunnel *tunnel)
{
	char **command = tunnel->options->command;
	int error;

	note_start(tunnel);
	tunnel->retry_us = UINT64_MAX;
	error = transport_run(&tunnel->transport, command, tunnel->reads);
	if (error != 0) {
		log_line(LOG_ERROR, "cannot run '%s': %s", command[0], strerror(error));
		if (cannot_be_run(&tunnel->transport.child))
			tunnel_end(tunnel);
		else
			plan_retry(tunnel, "did not start");
		return false;
	}
	tunnel->counters.value[RETRIES]++;
	return begin_streams(tunnel);
}

/* --- the next event ----------------------------------------------------------------------- */

enum tunnel_event tunnel_next_event(struct tunnel *tunnel, uint16_t *tag)
{
	for (;;) {
		const struct event *event = &tunnel->events[tunnel->event_next];

		if (tunnel->ended)
			return pause_for_retry(tunnel) ? TUNNEL_PAUSED : TUNNEL_END;
		if (tunnel->now_us >= tunnel->retry_us) {
			if (run_again(tunnel))
				return TUNNEL_RESTARTED;
			continue;
		}
		if (tunnel->now_us >= tunnel->expiry_us)
			return TUNNEL_EXPIRY;
		if (tunnel->event_next == tunnel->event_count) {
			next_turn(tunnel);
			continue;
		}
		tunnel->event_next++;
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
			*tag = event->tag;
			return TUNNEL_DATAGRAMS;
		case SOURCES: /* how many there are, and none itself */
			break;
		}
	}
}

/* --- closing ------------------------------------------------------------------------------ */

/*
 * Gives the pipe the linger time to take what is queued, or until a signal asks once more. Returns
 * NULL, or what to say of a frame that was cut.
 */
static const char *drain(struct tunnel *tunnel)
{
	struct sender *sender = &tunnel->sender;
	uint64_t now_us = clock_now_us();
	uint64_t deadline_us = now_us + tunnel->options->linger_us;
	struct pollfd wake[] = {
		{.fd = tunnel->transport.output, .events = POLLOUT},
		{.fd = tunnel->signals, .events = POLLIN},
	};

	sender_hurry(sender);
	sender_flush(sender, now_us);
	while (sender_has_work(sender) && now_us < deadline_us) {
		poll(wake, ARRAY_SIZE(wake), timeout_ms((int64_t)(deadline_us - now_us)));
		if (signals_read(tunnel->signals) & SIGNALS_END) {
			tunnel->asked_to_end = true;
			break;
		}
		now_us = clock_now_us();
		sender_resume(sender);
		sender_flush(sender, now_us);
	}
	/* What ended the reader may have been meant for us too, as a ^C is. */
	if (signals_read(tunnel->signals) & SIGNALS_END)
		tunnel->asked_to_end = true;
	tunnel->counters.value[DROP_PIPE_CLOSED] += sender->queue.frames;
	tunnel->counters.value[QUEUED] = 0;
	if (!queue_is_inside_frame(&sender->queue) || tunnel->asked_to_end)
		return NULL;
	return sender->gone ? "the reader closed the pipe inside a frame"
			    : "a frame was cut: the pipe did not take its rest in time";
}

/* COMMAND's status is ours, if it is the one to blame. */
static void take_status(struct tunnel *tunnel)
{
	const char *name = tunnel->options->command[0];
	const struct child *child = &tunnel->transport.child;

	finish_child(tunnel, tunnel->options->linger_us);
	if (tunnel->asked_to_end)
		return;
	if (child->was_made_to) {
		log_line(LOG_WARNING, "'%s' did not end by itself and was terminated", name);
		return;
	}
	if (child->status == 0)
		return;
	log_line(LOG_WARNING, "'%s' ended with status %d", name, child->status);
	if (tunnel->status == 0)
		tunnel->status = child->status;
}

int tunnel_close(struct tunnel *tunnel)
{
	const char *cut = drain(tunnel);

	report_drops(tunnel, UINT64_MAX); /* however short ago the last report was */
	transport_close_output(&tunnel->transport);
	if (tunnel->options->command)
		take_status(tunnel);
	if (cut && tunnel->status == 0) { /* else that was not what went wrong first */
		log_line(LOG_ERROR, "%s", cut);
		tunnel->status = EXIT_FAILURE;
	}
	transport_close_input(&tunnel->transport); /* COMMAND must not die of that */
	report_counters(tunnel, LOG_DETAIL);
	log_end_status();
	sender_free(&tunnel->sender);
	loop_close(&tunnel->loop);
	return tunnel->status;
}
