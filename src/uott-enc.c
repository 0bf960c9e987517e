/*
 * uott-enc: UDP clients on bound sockets <-> frames on a byte pipe.
 *
 * Each client of a service (peer address, and local address that it wrote to) is a flow with a tag
 * of its own. A service has a socket of its own.
 * Where there is a way back, tags are given out from 65535 down: that tells uott-dec who is
 * talking.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flow.h"
#include "limit.h"
#include "listen.h"
#include "log.h"
#include "stream.h"
#include "tunnel.h"
#include "udp.h"
#include "usage.h"
#include "util.h"

enum {
	RETRY_STALE_US = US_PER_SECOND, /* what waited longer for COMMAND to be run is not sent */
};

struct enc {
	struct options options;
	struct counters counters;
	struct tunnel tunnel;
	struct stream stream;
	struct flow_table flows;
	struct listener listeners[SERVICES_MAX];
	bool far_side_is_gone;
	bool has_foreign_tags; /* the far side uses tags that were never given out here */
};

/*
 * The tag is used again when the far side has answered a CLOSE. Without control frames it is free
 * at once: it has been idle as long as its flow.
 */
static void give_tag_back(struct enc *enc, uint16_t tag)
{
	stream_close_flow(&enc->stream, tag, enc->tunnel.now_us);
	if (stream_has_control(&enc->stream))
		tags_close(&enc->flows.tags, tag);
	else
		tags_free(&enc->flows.tags, tag);
}

static void plan_expiry(struct enc *enc)
{
	tunnel_plan_expiry(&enc->tunnel,
		flow_next_check(&enc->flows, enc->tunnel.now_us, enc->options.idle_timeout_us));
}

static void expire_flows(struct enc *enc)
{
	uint64_t now_us = enc->tunnel.now_us, idle_timeout_us = enc->options.idle_timeout_us;
	struct flow *flow;

	while ((flow = flow_find_idle(&enc->flows, now_us, idle_timeout_us))) {
		if (flow->has_tag) {
			give_tag_back(enc, flow->tag);
			log_line(LOG_DETAIL, "flow %u: expired", flow->tag);
		}
		flow_remove(&enc->flows, flow);
		tunnel_flow_removed(&enc->tunnel, flow_count(&enc->flows), EXPIRED);
	}
	plan_expiry(enc);
}

static void say_who(const struct enc *enc, const struct flow *flow)
{
	char text[ADDRESS_TEXT_SIZE];
	struct address bound;

	if (!log_shows(LOG_DETAIL))
		return;
	udp_bound_address(enc->listeners[flow->service].socket, &bound);
	log_line(LOG_DETAIL, "flow %u: %s on port %u", flow->tag,
		address_format(&flow->client.peer, text), address_port(&bound));
}

static struct flow *add_flow(struct enc *enc, const struct client *client, uint16_t service)
{
	struct flow *flow = NULL;

	if (flow_count(&enc->flows) < enc->options.max_flows)
		flow = flow_add_client(&enc->flows, client, service, enc->tunnel.now_us);
	if (!flow)
		return NULL;
	flow->segment_max = UINT16_MAX;
	tunnel_flow_added(&enc->tunnel, flow_count(&enc->flows));
	plan_expiry(enc);
	say_who(enc, flow);
	return flow;
}

/* Returns the flow of the client, which has a tag; or NULL if there can be none. */
static struct flow *flow_of_client(
	struct enc *enc, const struct client *client, uint16_t service, uint64_t hash)
{
	uint64_t now_us = enc->tunnel.now_us;
	struct flow *flow = flow_find_client(&enc->flows, client, service, hash);

	if (!flow)
		flow = add_flow(enc, client, service);
	else if (!flow->has_tag && !flow_give_tag(&enc->flows, flow, now_us))
		flow = NULL;
	if (flow)
		flow_touch(&enc->flows, flow, now_us);
	return flow;
}

static void forward_datagrams(struct enc *enc, uint16_t service)
{
	struct listener *listener = &enc->listeners[service];
	struct datagram *datagrams;
	size_t count = stream_receive(&enc->stream, listener->socket, &listener->kernel_drops,
		&datagrams, enc->tunnel.now_us);
	struct client clients[BATCH_MAX];
	uint64_t hashes[BATCH_MAX];

	for (size_t i = 0; i < count; i++) {
		clients[i] = (struct client){datagrams[i].peer, datagrams[i].local};
		hashes[i] = flow_hash_client(&enc->flows, &clients[i], service);
	}
	for (size_t i = 0; i < count; i++) {
		struct flow *flow = flow_of_client(enc, &clients[i], service, hashes[i]);

		if (flow)
			stream_send(&enc->stream, flow->tag, &datagrams[i]);
		else
			enc->counters.value[DROP_NO_TAG] += datagrams[i].count;
	}
}

/* A reply that no client is waiting for any more. */
static void drop_late_frame(struct enc *enc, uint16_t tag)
{
	counters_drop(&enc->counters, DROP_NO_FLOW, tag, 1);
	if (!enc->has_foreign_tags && !tags_was_given(&enc->flows.tags, tag)) {
		enc->has_foreign_tags = true;
		log_line(LOG_WARNING, "the far side uses tags that this side never gave out: is it "
				      "uott-enc, too?");
	}
	tags_late_frame(&enc->flows.tags, tag, enc->tunnel.now_us + enc->options.idle_timeout_us);
}

/* Replies of one service that come in a row: they leave in one call. */
struct replies {
	uint16_t service;
	size_t count;
	struct outgoing datagrams[BATCH_MAX];
};

static void send_replies(struct enc *enc, struct replies *replies)
{
	if (replies->count > 0)
		udp_send(enc->listeners[replies->service].socket, replies->datagrams,
			replies->count, &enc->counters);
	replies->count = 0;
}

static void take_reply(struct enc *enc, const struct frame *frame, struct replies *replies)
{
	struct flow *flow = flow_find_tag(&enc->flows, frame->tag);

	if (!flow) {
		drop_late_frame(enc, frame->tag);
		return;
	}
	flow_touch(&enc->flows, flow, enc->tunnel.now_us);
	if (replies->count == BATCH_MAX || replies->service != flow->service)
		send_replies(enc, replies);
	replies->service = flow->service;
	replies->datagrams[replies->count++] = (struct outgoing){
		.peer = &flow->client.peer,
		.local = &flow->client.local,
		.segment_max = &flow->segment_max,
		.payload = frame->payload,
		.length = frame->length,
	};
}

static void deliver_frames(struct enc *enc)
{
	struct replies replies = {.count = 0};
	enum receiver_result next;
	struct frame frame;

	while ((next = stream_next(&enc->stream, &frame)) < RECEIVER_MORE) {
		if (next == RECEIVER_CLOSE)
			tags_closed(&enc->flows.tags, frame.tag);
		else
			take_reply(enc, &frame, &replies);
	}
	send_replies(enc, &replies);
	if (next == RECEIVER_CORRUPT)
		tunnel_fail(&enc->tunnel);
	else if (next == RECEIVER_MISMATCH)
		tunnel_give_up(&enc->tunnel);
}

static void read_frames(struct enc *enc)
{
	enum stream_result result = stream_read(&enc->stream, enc->tunnel.now_us);

	enc->far_side_is_gone = result != STREAM_OK;
	if (result == STREAM_OK)
		deliver_frames(enc);
	else
		tunnel_input_ended(&enc->tunnel, result, false);
}

/*
 * COMMAND was run again, and all tags are new. Clients keep their flows: their frames that wait are
 * numbered anew, in the order in which they will leave, so that the first one has the first tag.
 */
static void renumber_flows(struct enc *enc)
{
	static struct flow *former[TAGS]; /* by the tag of the stream before */
	struct queue *queue = stream_waiting(&enc->stream);
	uint64_t now_us = enc->tunnel.now_us;
	uint16_t tag;

	flow_forget_tags(&enc->flows, former);
	queue_recall(queue, now_us, RETRY_STALE_US, &enc->counters);
	while (queue_next_recalled(queue, &tag)) {
		struct flow *flow = former[tag];

		if (flow && (flow->has_tag || flow_give_tag(&enc->flows, flow, now_us)))
			queue_requeue_recalled(queue, flow->tag);
		else
			queue_drop_recalled(queue, &enc->counters);
	}
}

/* Whether replies can come. */
static bool has_way_back(const struct options *options, const struct stdio *stdio)
{
	return !options->unidirectional && (options->command || stdio_has_input(stdio));
}

static void watch_listeners(struct enc *enc)
{
	for (uint16_t i = 0; i < enc->options.services.count; i++) {
		if (tunnel_watch(&enc->tunnel, enc->listeners[i].socket, i))
			continue;
		log_line(LOG_ERROR, "cannot wait for datagrams: %s", strerror(errno));
		tunnel_give_up(&enc->tunnel);
		return;
	}
}

/* Returns 0, or, after a message, the status to exit with. */
static int enc_open(struct enc *enc, const struct stdio *stdio)
{
	const struct options *options = &enc->options;
	bool reads = has_way_back(options, stdio);
	uint8_t hash_key[16];
	int status;

	if (!listen_open(options, enc->listeners))
		return EXIT_FAILURE;
	if (getentropy(hash_key, sizeof(hash_key)) != 0) {
		log_line(LOG_ERROR, "no random numbers: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	flow_table_init(&enc->flows, reads, options->services.count, hash_key);
	status = tunnel_open(
		&enc->tunnel, options, &enc->stream, &enc->counters, stdio, reads, true);
	if (status != 0)
		return status;
	if (!reads && !options->unidirectional)
		log_line(LOG_WARNING,
			"nothing can come back on standard input: one way, as with -u");
	watch_listeners(enc);
	listen_say_where(options, enc->listeners);
	tunnel_enter_sandbox(&enc->tunnel);
	return 0;
}

static int enc_close(struct enc *enc)
{
	const struct options *options = &enc->options;
	bool has_sent = enc->counters.value[STREAM_IN_BYTES] > 0;
	int status = tunnel_close(&enc->tunnel);
	/* COMMAND may be gone before the end of what it sent is read. */
	bool is_silent = !has_sent && options->command && !options->unidirectional &&
			 !enc->tunnel.was_asked;

	if ((enc->far_side_is_gone || is_silent) && status == 0 && options->retry_us == 0) {
		log_line(LOG_WARNING, "the far side closed the stream%s",
			has_sent ? ""
				 : " and had not sent a byte: docker, podman and kubectl need -i; "
				   "one way needs -u");
		if (is_silent)
			status = EXIT_FAILURE;
	}
	for (uint16_t i = 0; i < enc->options.services.count; i++)
		close(enc->listeners[i].socket);
	flow_table_free(&enc->flows);
	return status;
}

int main(int argc, char **argv)
{
	static struct enc enc; /* some megabytes, of which little is ever touched */
	struct stdio stdio;
	uint16_t service;
	int status;

	stdio_claim(&stdio);
	limit_raise();
	usage_read(UOTT_ENC, options_help_enc, argc, argv, &enc.options);
	status = enc_open(&enc, &stdio);
	if (status != 0)
		return status;
	for (;;) {
		switch (tunnel_next_event(&enc.tunnel, &service)) {
		case TUNNEL_DATAGRAMS:
			forward_datagrams(&enc, service);
			break;
		case TUNNEL_FRAMES:
			read_frames(&enc);
			break;
		case TUNNEL_PAUSED:
			break;
		case TUNNEL_RESTARTED:
			renumber_flows(&enc);
			break;
		case TUNNEL_EXPIRY:
			expire_flows(&enc);
			break;
		case TUNNEL_END:
			return enc_close(&enc);
		}
	}
}
