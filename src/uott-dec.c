/*
 * uott-dec: frames on a byte pipe <-> datagrams exchanged with a target, one for each service.
 *
 * Each tag is a flow with a socket of its own, connected to the target of its service: the target
 * tells flows apart by their source ports, and the kernel keeps strangers out.
 *
 * An answer may still be under way when its flow goes. So that no other flow gets it, a socket that
 * was used in the last seconds keeps its port for a while (see quarantine.h), and its flow is not
 * evicted: a new one is refused instead.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flow.h"
#include "limit.h"
#include "log.h"
#include "quarantine.h"
#include "stream.h"
#include "tunnel.h"
#include "udp.h"
#include "usage.h"

enum {
	TARGET_ADDRESSES_MAX = 8,
	LAST_READS_MAX = 8, /* of a socket that goes away */
	SOURCE_CHECK_US = 5 * US_PER_SECOND,
};

struct target {
	struct address address;
	struct address source; /* of -b, in the same family */
	uint16_t segment_max;  /* as udp_send() has it */
};

struct dec {
	struct options options;
	struct counters counters;
	struct tunnel tunnel;
	struct stream stream;
	struct flow_table flows;
	struct quarantine quarantine;
	size_t socket_limit; /* of flows and in quarantine */
	struct target targets[SERVICES_MAX];
	char refused_by[ADDRESS_TEXT_SIZE]; /* the target that did so last */
};

static void plan_expiry(struct dec *dec)
{
	uint64_t idle_us = flow_next_check(
		&dec->flows, dec->tunnel.now_us, dec->options.idle_timeout_us);

	tunnel_plan_expiry(
		&dec->tunnel, min_u64(idle_us, quarantine_deadline_us(&dec->quarantine)));
}

static bool was_used_lately(const struct dec *dec, const struct flow *flow)
{
	return dec->tunnel.now_us - flow->last_used_us < QUARANTINE_US;
}

/* After a call for the flow's socket; `before` it, so many datagrams had been refused. */
static void note_refusal(struct dec *dec, const struct flow *flow, uint64_t before)
{
	if (dec->counters.value[REFUSED] != before)
		address_format(&dec->targets[flow->service].address, dec->refused_by);
}

/* Takes the answers that have come so far. Returns how many entries the batch has of them. */
static size_t receive(struct dec *dec, struct flow *flow, struct datagram **first)
{
	uint64_t refused = dec->counters.value[REFUSED];
	size_t count = stream_receive(
		&dec->stream, flow->socket, &flow->kernel_drops, first, dec->tunnel.now_us);

	note_refusal(dec, flow, refused);
	return count;
}

/* The flow goes: its last answers are sent, or counted if the far side has forgotten it. */
static void empty_socket(struct dec *dec, struct flow *flow, bool is_known_there)
{
	struct datagram *datagrams;
	size_t count;

	for (int i = 0; i < LAST_READS_MAX && (count = receive(dec, flow, &datagrams)) > 0; i++)
		for (size_t j = 0; j < count; j++)
			if (is_known_there)
				stream_send(&dec->stream, flow->tag, &datagrams[j]);
			else
				counters_drop(
					&dec->counters, DROP_STALE, flow->tag, datagrams[j].count);
}

/* Returns whether the socket is kept for its port. */
static bool detain(struct dec *dec, const struct flow *flow)
{
	if (dec->options.unidirectional || !was_used_lately(dec, flow) ||
		!quarantine_add(&dec->quarantine, flow->socket, dec->tunnel.now_us))
		return false;
	udp_stop_receiving(flow->socket);
	plan_expiry(dec);
	return true;
}

static void close_flow(struct dec *dec, struct flow *flow, enum counter cause)
{
	log_line(LOG_DETAIL, "flow %u: %s", flow->tag, counter_key(cause));
	if (!dec->options.unidirectional) {
		empty_socket(dec, flow, cause != CLOSED);
		tunnel_unwatch(&dec->tunnel, flow->socket);
	}
	if (!detain(dec, flow))
		close(flow->socket);
	flow_remove(&dec->flows, flow);
	tunnel_flow_removed(&dec->tunnel, flow_count(&dec->flows), cause);
}

static void release_ports(struct dec *dec, uint64_t now_us)
{
	int socket;

	while ((socket = quarantine_take(&dec->quarantine, now_us)) >= 0)
		close(socket);
}

static void expire_flows(struct dec *dec)
{
	uint64_t now_us = dec->tunnel.now_us, idle_timeout_us = dec->options.idle_timeout_us;
	struct flow *flow;

	while ((flow = flow_find_idle(&dec->flows, now_us, idle_timeout_us)))
		close_flow(dec, flow, EXPIRED);
	release_ports(dec, now_us);
	plan_expiry(dec);
}

/* The flow that has been idle longest makes room, unless an answer may still come for it. */
static bool evict_flow(struct dec *dec)
{
	struct flow *oldest = flow_oldest(&dec->flows);

	if (!oldest || (!dec->options.unidirectional && was_used_lately(dec, oldest)))
		return false;
	close_flow(dec, oldest, EVICTED);
	return true;
}

static bool is_full(const struct dec *dec)
{
	size_t count = flow_count(&dec->flows);

	return count >= dec->options.max_flows ||
	       count + quarantine_count(&dec->quarantine) >= dec->socket_limit;
}

/* Whether a socket less would help: with a descriptor, with memory, or with a local port. */
static bool is_exhausted(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
	       error == EAGAIN || error == EADDRINUSE;
}

/* Returns a socket connected to the target, or -1 with errno. */
static int connect_to(const struct dec *dec, const struct target *target)
{
	return udp_open_connected(
		&target->address, dec->options.has_source ? &target->source : NULL);
}

static int open_socket(struct dec *dec, const struct target *target)
{
	int socket;

	if (is_full(dec) && !evict_flow(dec))
		return -1;
	socket = connect_to(dec, target);
	if (socket >= 0 || !is_exhausted(errno) || !evict_flow(dec))
		return socket;
	return connect_to(dec, target);
}

/* Opens the socket of a tag that has none. Returns NULL if that is not possible now. */
static struct flow *open_flow(struct dec *dec, uint16_t tag)
{
	uint16_t service = stream_service(&dec->stream, tag);
	const struct target *target = &dec->targets[service];
	int socket = open_socket(dec, target);
	char text[ADDRESS_TEXT_SIZE];
	struct flow *flow;

	if (socket < 0)
		return NULL;
	flow = flow_add_tag(&dec->flows, tag, dec->tunnel.now_us);
	if (flow && !dec->options.unidirectional && !tunnel_watch(&dec->tunnel, socket, tag)) {
		flow_remove(&dec->flows, flow);
		flow = NULL;
	}
	if (!flow) {
		close(socket);
		return NULL;
	}
	flow->socket = socket;
	flow->service = service;
	flow->source_checked_us = dec->tunnel.now_us;
	tunnel_flow_added(&dec->tunnel, flow_count(&dec->flows));
	plan_expiry(dec);
	if (log_shows(LOG_DETAIL))
		log_line(LOG_DETAIL, "flow %u: new, to %s", tag,
			address_format(&target->address, text));
	return flow;
}

/* The far side has forgotten the flow. No reply follows the answer. */
static void answer_close(struct dec *dec, uint16_t tag)
{
	struct flow *flow = flow_find_tag(&dec->flows, tag);

	if (flow)
		close_flow(dec, flow, CLOSED);
	stream_close_flow(&dec->stream, tag, dec->tunnel.now_us);
}

/*
 * The host may lose the address that a socket sends from. Then no datagram leaves, or no answer
 * finds its way, until the flow gets another socket. The check comes before a flow's first frame of
 * a turn, when nothing of it is gathered.
 */
static bool has_lost_source(struct dec *dec, struct flow *flow)
{
	if (dec->tunnel.now_us - flow->source_checked_us < SOURCE_CHECK_US)
		return false;
	flow->source_checked_us = dec->tunnel.now_us;
	return !udp_has_source(flow->socket);
}

/* Returns the flow of the tag, which is used now; or NULL if there can be none. */
static struct flow *flow_of_tag(struct dec *dec, uint16_t tag)
{
	struct flow *flow = flow_find_tag(&dec->flows, tag);

	if (flow && has_lost_source(dec, flow)) {
		close_flow(dec, flow, EVICTED);
		flow = NULL;
	}
	if (!flow)
		flow = open_flow(dec, tag);
	if (flow)
		flow_touch(&dec->flows, flow, dec->tunnel.now_us);
	else
		counters_drop(&dec->counters, DROP_NO_SOCKET, tag, 1);
	return flow;
}

/* Frames of one flow that come in a row: they leave in one call. */
struct gathered {
	struct flow *flow;
	size_t count;
	struct outgoing datagrams[BATCH_MAX];
};

static void send_gathered(struct dec *dec, struct gathered *gathered)
{
	uint64_t refused = dec->counters.value[REFUSED];

	if (gathered->count == 0)
		return;
	udp_send(gathered->flow->socket, gathered->datagrams, gathered->count, &dec->counters);
	note_refusal(dec, gathered->flow, refused);
	gathered->count = 0;
}

static void gather(struct dec *dec, struct gathered *gathered, const struct frame *frame)
{
	if (gathered->count == BATCH_MAX ||
		(gathered->count > 0 && gathered->flow->tag != frame->tag))
		send_gathered(dec, gathered);
	gathered->flow = flow_of_tag(dec, frame->tag);
	if (gathered->flow)
		gathered->datagrams[gathered->count++] = (struct outgoing){
			.segment_max = &dec->targets[gathered->flow->service].segment_max,
			.payload = frame->payload,
			.length = frame->length,
		};
}

static void deliver_frames(struct dec *dec)
{
	struct gathered gathered = {.count = 0};
	enum receiver_result next;
	struct frame frame;

	while ((next = stream_next(&dec->stream, &frame)) < RECEIVER_MORE) {
		if (next == RECEIVER_DATA) {
			gather(dec, &gathered, &frame);
			continue;
		}
		send_gathered(dec, &gathered);
		answer_close(dec, frame.tag);
	}
	send_gathered(dec, &gathered);
	if (next == RECEIVER_CORRUPT)
		tunnel_fail(&dec->tunnel);
	else if (next == RECEIVER_MISMATCH)
		tunnel_give_up(&dec->tunnel);
}

/* Tags mean other clients when COMMAND runs again: these get no replies to the former ones. */
static void forget_flows(struct dec *dec)
{
	struct queue *queue = stream_waiting(&dec->stream);
	uint16_t tag;

	while (flow_count(&dec->flows) > 0)
		close_flow(dec, flow_oldest(&dec->flows), CLOSED);
	queue_recall(queue, dec->tunnel.now_us, UINT64_MAX, &dec->counters);
	while (queue_next_recalled(queue, &tag))
		queue_drop_recalled(queue, &dec->counters);
}

static void read_frames(struct dec *dec)
{
	enum stream_result result = stream_read(&dec->stream, dec->tunnel.now_us);
	bool lingers = result == STREAM_END && !dec->options.unidirectional &&
		       flow_count(&dec->flows) > 0;

	if (result == STREAM_OK)
		deliver_frames(dec);
	else
		tunnel_input_ended(&dec->tunnel, result, lingers);
}

static void forward_datagrams(struct dec *dec, uint16_t tag)
{
	struct flow *flow = flow_find_tag(&dec->flows, tag);
	struct datagram *datagrams;
	size_t count;

	if (!flow)
		return;
	count = receive(dec, flow, &datagrams);
	for (size_t i = 0; i < count; i++)
		stream_send(&dec->stream, tag, &datagrams[i]);
	if (count > 0)
		flow_touch(&dec->flows, flow, dec->tunnel.now_us);
}

/* Of the target's addresses takes the first that this host has a way to. */
static bool choose_target(
	const struct dec *dec, const struct host_port *name, struct target *target)
{
	const struct options *options = &dec->options;
	struct address addresses[TARGET_ADDRESSES_MAX];
	char error[ADDRESS_ERROR_SIZE], text[ADDRESS_TEXT_SIZE];
	size_t count = address_resolve(
		name, options->family, addresses, TARGET_ADDRESSES_MAX, error);

	for (size_t i = 0; i < count; i++) {
		int family = addresses[i].any.sa_family;
		int socket;

		target->address = addresses[i];
		target->segment_max = UINT16_MAX;
		if (options->has_source &&
			address_resolve(&options->source, family, &target->source, 1, error) == 0)
			continue;
		socket = connect_to(dec, target);
		if (socket >= 0) {
			close(socket);
			return true;
		}
		snprintf(error, sizeof(error), "cannot send to %s%s%s: %s",
			address_format(&target->address, text), options->has_source ? " from " : "",
			options->source.host, strerror(errno));
	}
	log_line(LOG_ERROR, "%s", error);
	return false;
}

/* All ports of a range have the address that was chosen for the first. */
static bool choose_targets(struct dec *dec)
{
	const struct services *services = &dec->options.services;
	struct target *target = dec->targets;

	for (size_t i = 0; i < services->range_count; i++) {
		const struct service_range *range = &services->ranges[i];
		uint16_t port;

		if (!choose_target(dec, &range->first, target))
			return false;
		port = address_port(&target->address);
		for (uint16_t j = 1; j < range->count; j++) {
			target[j] = target[0];
			address_set_port(&target[j].address, (uint16_t)(port + j));
		}
		target += range->count;
	}
	return true;
}

/* Returns 0, or, after a message, the status to exit with. */
static int dec_open(struct dec *dec, const struct stdio *stdio)
{
	const struct options *options = &dec->options;
	static const uint8_t no_key[16]; /* dec looks for tags, not for clients */
	int status;

	dec->counters.refused_by = dec->refused_by;
	flow_table_init(&dec->flows, false, 1, no_key);
	if (!choose_targets(dec))
		return EXIT_FAILURE;
	status = tunnel_open(&dec->tunnel, options, &dec->stream, &dec->counters, stdio, true,
		!options->unidirectional);
	dec->socket_limit = udp_socket_limit(options->max_flows == TAGS);
	if (status == 0)
		tunnel_enter_sandbox(&dec->tunnel);
	return status;
}

static int dec_close(struct dec *dec)
{
	int status = tunnel_close(&dec->tunnel);

	for (struct flow *flow; (flow = flow_oldest(&dec->flows));) {
		close(flow->socket);
		flow_remove(&dec->flows, flow);
	}
	flow_table_free(&dec->flows);
	release_ports(dec, UINT64_MAX);
	quarantine_free(&dec->quarantine);
	return status;
}

int main(int argc, char **argv)
{
	static struct dec dec; /* some megabytes, of which little is ever touched */
	struct stdio stdio;
	uint16_t tag;
	int status;

	stdio_claim(&stdio);
	limit_raise();
	usage_read(UOTT_DEC, options_help_dec, argc, argv, &dec.options);
	status = dec_open(&dec, &stdio);
	if (status != 0)
		return status;
	for (;;) {
		switch (tunnel_next_event(&dec.tunnel, &tag)) {
		case TUNNEL_DATAGRAMS:
			forward_datagrams(&dec, tag);
			break;
		case TUNNEL_FRAMES:
			read_frames(&dec);
			break;
		case TUNNEL_EXPIRY:
			expire_flows(&dec);
			break;
		case TUNNEL_PAUSED:
			forget_flows(&dec);
			break;
		case TUNNEL_RESTARTED:
			break;
		case TUNNEL_END:
			return dec_close(&dec);
		}
	}
}
