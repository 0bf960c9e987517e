/*
 * uott-dec: frames on a byte pipe <-> datagrams exchanged with one target.
 *
 * Each tag is a flow with a socket of its own, connected to the target: the target tells flows
 * apart by their source ports, and the kernel keeps strangers out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flow.h"
#include "log.h"
#include "tunnel.h"

enum {
	TARGET_ADDRESSES_MAX = 8
};

struct dec {
	struct tunnel tunnel;
	struct flow_table flows;
	struct address target;
	struct address source; /* of -b */
};

static const struct address *source_of(const struct dec *dec, const struct options *options)
{
	return options->has_source ? &dec->source : NULL;
}

static void close_flow(struct dec *dec, struct flow *flow, enum counter cause)
{
	struct tunnel *tunnel = &dec->tunnel;

	log_line(LOG_DETAIL, "flow %u: %s", flow->tag, counter_key(cause));
	if (!tunnel->options->unidirectional)
		tunnel_unwatch(tunnel, flow->socket);
	close(flow->socket);
	flow_remove(&dec->flows, flow);
	tunnel->counters.value[cause]++;
	tunnel->counters.value[FLOWS] = dec->flows.count;
}

static void expire_flows(struct dec *dec)
{
	struct tunnel *tunnel = &dec->tunnel;
	uint64_t idle_timeout_us = tunnel->options->idle_timeout_us;
	struct flow *flow;

	while ((flow = flow_find_idle(&dec->flows, tunnel->now_us, idle_timeout_us)))
		close_flow(dec, flow, EXPIRED);
	tunnel_plan_expiry(tunnel, &dec->flows);
}

/* Where there is no descriptor or memory for one more, the longest idle flow makes room. */
static int open_socket(struct dec *dec)
{
	const struct address *source = source_of(dec, dec->tunnel.options);
	int socket = -1;

	if (dec->flows.count < dec->tunnel.options->max_flows)
		socket = udp_open_connected(&dec->target, source);
	else
		errno = EMFILE;
	if (socket >= 0 || !dec->flows.oldest ||
		(errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS))
		return socket;
	close_flow(dec, dec->flows.oldest, EVICTED);
	return udp_open_connected(&dec->target, source);
}

/* Opens the socket of a tag that has none. Returns NULL when that is not possible now. */
static struct flow *open_flow(struct dec *dec, uint16_t tag)
{
	struct tunnel *tunnel = &dec->tunnel;
	int socket = open_socket(dec);
	struct flow *flow;

	if (socket < 0)
		return NULL;
	flow = flow_add_tag(&dec->flows, tag, tunnel->now_us);
	if (flow && !tunnel->options->unidirectional && !tunnel_watch(tunnel, socket, tag)) {
		flow_remove(&dec->flows, flow);
		flow = NULL;
	}
	if (!flow) {
		close(socket);
		return NULL;
	}
	flow->socket = socket;
	counters_flow_added(&tunnel->counters, dec->flows.count);
	if (dec->flows.count == 1)
		tunnel_plan_expiry(tunnel, &dec->flows);
	log_line(LOG_DETAIL, "flow %u: new", tag);
	return flow;
}

/*
 * The far side has forgotten the flow. The answer comes behind all replies, so that none can reach
 * the next client that gets this tag.
 */
static void answer_close(struct dec *dec, uint16_t tag)
{
	struct flow *flow = flow_find_tag(&dec->flows, tag);

	if (flow)
		close_flow(dec, flow, CLOSED);
	tunnel_close_flow(&dec->tunnel, tag);
}

/* Returns the flow of that tag, which is used now; or NULL if there can be none. */
static struct flow *flow_of_tag(struct dec *dec, uint16_t tag)
{
	struct flow *flow = flow_find_tag(&dec->flows, tag);

	if (!flow)
		flow = open_flow(dec, tag);
	if (flow)
		flow_touch(&dec->flows, flow, dec->tunnel.now_us);
	else
		dec->tunnel.counters.value[DROP_NO_SOCKET]++;
	return flow;
}

/* Neighbouring frames of one flow leave in one call. */
static void deliver_frames(struct dec *dec)
{
	struct tunnel *tunnel = &dec->tunnel;
	struct outgoing datagrams[BATCH_MAX];
	struct flow *flow = NULL; /* of the datagrams gathered */
	struct frame frame;
	size_t count = 0;

	while (tunnel_next_frame(tunnel, &frame)) {
		bool is_data = frame.kind == FRAME_DATA;

		if (count > 0 && (count == BATCH_MAX || !is_data || flow->tag != frame.tag)) {
			udp_send(flow->socket, datagrams, count, &tunnel->segment_max,
				&tunnel->counters);
			count = 0;
		}
		if (!is_data) {
			answer_close(dec, tunnel_closed_tag(&frame));
			continue;
		}
		flow = flow_of_tag(dec, frame.tag);
		if (!flow)
			continue;
		datagrams[count++] = (struct outgoing){
			.payload = frame.payload,
			.length = frame.length,
		};
	}
	if (count > 0)
		udp_send(flow->socket, datagrams, count, &tunnel->segment_max, &tunnel->counters);
}

/* Tags will mean other clients when COMMAND runs again, who get no replies to the former ones. */
static void forget_flows(struct dec *dec)
{
	struct tunnel *tunnel = &dec->tunnel;
	struct queue *queue = &tunnel->sender.queue;
	uint16_t tag;

	while (dec->flows.newest)
		close_flow(dec, dec->flows.newest, CLOSED);
	queue_recall(queue, tunnel->now_us, UINT64_MAX, &tunnel->counters);
	while (queue_next_recalled(queue, &tag))
		queue_drop_recalled(queue, &tunnel->counters);
}

static void read_frames(struct dec *dec)
{
	struct tunnel *tunnel = &dec->tunnel;

	if (tunnel_read(tunnel))
		deliver_frames(dec);
	else if (tunnel->options->unidirectional || dec->flows.count == 0)
		tunnel_end(tunnel);
	else
		tunnel_linger(tunnel);
}

static void forward_datagrams(struct dec *dec, uint16_t tag)
{
	struct flow *flow = flow_find_tag(&dec->flows, tag);
	struct datagram *datagrams;
	size_t count;

	if (!flow)
		return;
	count = tunnel_receive(&dec->tunnel, flow->socket, &flow->kernel_drops, &datagrams);
	for (size_t i = 0; i < count; i++)
		tunnel_send(&dec->tunnel, tag, &datagrams[i]);
	if (count > 0)
		flow_touch(&dec->flows, flow, dec->tunnel.now_us);
}

/* Of the target's addresses takes the first that this host has a way to. */
static bool choose_target(struct dec *dec, const struct options *options)
{
	struct address targets[TARGET_ADDRESSES_MAX];
	char error[ADDRESS_ERROR_SIZE], text[ADDRESS_TEXT_SIZE];
	size_t count = address_resolve(
		&options->address, options->family, targets, TARGET_ADDRESSES_MAX, error);

	for (size_t i = 0; i < count; i++) {
		int family = targets[i].any.sa_family;
		int socket;

		dec->target = targets[i];
		if (options->has_source &&
			address_resolve(&options->source, family, &dec->source, 1, error) == 0)
			continue;
		socket = udp_open_connected(&dec->target, source_of(dec, options));
		if (socket >= 0) {
			close(socket);
			return true;
		}
		snprintf(error, sizeof(error), "cannot send to %s%s%s: %s",
			address_format(&dec->target, text), options->has_source ? " from " : "",
			options->source.host, strerror(errno));
	}
	log_line(LOG_ERROR, "%s", error);
	return false;
}

/* Returns 0, or, after a message, the status to exit with. */
static int dec_open(struct dec *dec, const struct options *options, const struct stdio *stdio)
{
	static const uint8_t no_key[16]; /* dec looks for tags, not for clients */

	flow_table_init(&dec->flows, false, no_key);
	if (!choose_target(dec, options))
		return EXIT_FAILURE;
	return tunnel_open(&dec->tunnel, options, stdio, true, !options->unidirectional);
}

static int dec_close(struct dec *dec)
{
	int status = tunnel_close(&dec->tunnel);

	for (struct flow *flow = dec->flows.newest; flow; flow = flow->older)
		close(flow->socket);
	flow_table_free(&dec->flows);
	return status;
}

int main(int argc, char **argv)
{
	static struct dec dec; /* some megabytes, of which little is ever touched */
	struct options options;
	struct stdio stdio;
	uint16_t tag;
	int status;

	tunnel_read_options(UOTT_DEC, argc, argv, &options, &stdio);
	status = dec_open(&dec, &options, &stdio);
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
