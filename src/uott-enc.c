/*
 * uott-enc: UDP clients on one bound socket <-> frames on a byte pipe.
 *
 * Each client (peer address, and local address that it wrote to) is a flow with a tag of its own.
 * Where there is a way back, tags are given out from 65535 down: that tells uott-dec who is
 * talking.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flow.h"
#include "log.h"
#include "stream.h"
#include "tunnel.h"
#include "udp.h"
#include "usage.h"
#include "util.h"

enum {
	LISTEN_ADDRESSES_MAX = 8,
	RETRY_STALE_US = US_PER_SECOND, /* what waited longer for COMMAND to be run is not sent */
};

struct enc {
	struct options options;
	struct counters counters;
	struct tunnel tunnel;
	struct stream stream;
	struct flow_table flows;
	int socket;
	uint32_t kernel_drops; /* as udp_receive() has it */
	bool far_side_is_gone;
};

/* Whether the host does not have this address family. Then another one may be used. */
static bool is_family_missing(int error)
{
	return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/* The addresses that may be bound, best first. "*" without -4 or -6 is one socket for both. */
static size_t listen_addresses(const struct options *options, bool dual_stack,
	struct address addresses[static LISTEN_ADDRESSES_MAX])
{
	int family = options->family;
	char error[ADDRESS_ERROR_SIZE];
	size_t count = 0;

	if (dual_stack) {
		count = address_resolve(&options->address, AF_INET6, addresses, 1, error);
		family = AF_INET; /* for a host without IPv6 */
	}
	count += address_resolve(
		&options->address, family, addresses + count, LISTEN_ADDRESSES_MAX - count, error);
	if (count == 0)
		log_line(LOG_ERROR, "%s", error);
	return count;
}

/*
 * Listens on the first address whose family the host has; one whose port is taken is not passed
 * over, since clients would find somebody else there. Returns the socket, or -1 after a message.
 */
static int listen_for_datagrams(const struct options *options)
{
	struct address addresses[LISTEN_ADDRESSES_MAX];
	char text[ADDRESS_TEXT_SIZE];
	bool dual_stack = options->family == AF_UNSPEC && strcmp(options->address.host, "*") == 0;
	size_t count = listen_addresses(options, dual_stack, addresses), tried = 0;
	int socket = -1, error = EAFNOSUPPORT;

	while (socket < 0 && tried < count && is_family_missing(error)) {
		socket = udp_open_bound(&addresses[tried++], dual_stack);
		error = errno;
	}
	if (count == 0)
		return -1;
	address_format(&addresses[tried - 1], text);
	if (socket < 0)
		log_line(LOG_ERROR, "cannot listen on %s: %s", text, strerror(error));
	else if (count > 1 && !dual_stack)
		log_line(LOG_WARNING, "'%s' has %zu addresses: listening on %s alone",
			options->address.host, count, text);
	return socket;
}

/* Announces the port if the system chose it. */
static void say_where(const struct enc *enc)
{
	const char *port = enc->options.address.port;
	bool was_chosen = strspn(port, "0") == strlen(port);
	struct address bound;
	char text[ADDRESS_TEXT_SIZE];

	udp_bound_address(enc->socket, &bound);
	log_line(was_chosen ? LOG_WARNING : LOG_DETAIL, "listening on %s",
		address_format(&bound, text));
}

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

static struct flow *add_flow(struct enc *enc, const struct client *client)
{
	char text[ADDRESS_TEXT_SIZE];
	struct flow *flow = NULL;

	if (flow_count(&enc->flows) < enc->options.max_flows)
		flow = flow_add_client(&enc->flows, client, enc->tunnel.now_us);
	if (!flow)
		return NULL;
	flow->segment_max = UINT16_MAX;
	tunnel_flow_added(&enc->tunnel, flow_count(&enc->flows));
	plan_expiry(enc);
	if (log_shows(LOG_DETAIL))
		log_line(LOG_DETAIL, "flow %u: %s", flow->tag, address_format(&client->peer, text));
	return flow;
}

/* Returns the flow of the client, which has a tag; or NULL if there can be none. */
static struct flow *flow_of_client(struct enc *enc, const struct client *client, uint64_t hash)
{
	uint64_t now_us = enc->tunnel.now_us;
	struct flow *flow = flow_find_client(&enc->flows, client, hash);

	if (!flow)
		flow = add_flow(enc, client);
	else if (!flow->has_tag && !flow_give_tag(&enc->flows, flow, now_us))
		flow = NULL;
	if (flow)
		flow_touch(&enc->flows, flow, now_us);
	return flow;
}

static void forward_datagrams(struct enc *enc)
{
	struct datagram *datagrams;
	size_t count = stream_receive(
		&enc->stream, enc->socket, &enc->kernel_drops, &datagrams, enc->tunnel.now_us);
	struct client clients[BATCH_MAX];
	uint64_t hashes[BATCH_MAX];

	for (size_t i = 0; i < count; i++) {
		clients[i] = (struct client){datagrams[i].peer, datagrams[i].local};
		hashes[i] = flow_hash_client(&enc->flows, &clients[i]);
	}
	for (size_t i = 0; i < count; i++) {
		struct flow *flow = flow_of_client(enc, &clients[i], hashes[i]);

		if (flow)
			stream_send(&enc->stream, flow->tag, &datagrams[i]);
		else
			enc->counters.value[DROP_NO_TAG] += datagrams[i].count;
	}
}

/* A reply that no client is waiting for any more. */
static void drop_late_frame(struct enc *enc, uint16_t tag)
{
	enc->counters.value[DROP_NO_FLOW]++;
	tags_late_frame(&enc->flows.tags, tag, enc->tunnel.now_us + enc->options.idle_timeout_us);
}

/* Returns whether the frame is a reply to a client, which is stored. */
static bool take_reply(struct enc *enc, const struct frame *frame, struct outgoing *reply)
{
	struct flow *flow = flow_find_tag(&enc->flows, frame->tag);

	if (!flow) {
		drop_late_frame(enc, frame->tag);
		return false;
	}
	flow_touch(&enc->flows, flow, enc->tunnel.now_us);
	*reply = (struct outgoing){
		.peer = &flow->client.peer,
		.local = &flow->client.local,
		.segment_max = &flow->segment_max,
		.payload = frame->payload,
		.length = frame->length,
	};
	return true;
}

static void deliver_frames(struct enc *enc)
{
	struct outgoing replies[BATCH_MAX];
	enum receiver_result next;
	struct frame frame;
	size_t count = 0;

	while ((next = stream_next(&enc->stream, &frame)) < RECEIVER_MORE) {
		if (next == RECEIVER_CLOSE)
			tags_closed(&enc->flows.tags, frame.tag);
		else
			count += take_reply(enc, &frame, &replies[count]);
		if (count == BATCH_MAX) {
			udp_send(enc->socket, replies, count, &enc->counters);
			count = 0;
		}
	}
	udp_send(enc->socket, replies, count, &enc->counters);
	if (next == RECEIVER_CORRUPT)
		tunnel_fail(&enc->tunnel);
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

/* Returns 0, or, after a message, the status to exit with. */
static int enc_open(struct enc *enc, const struct stdio *stdio)
{
	const struct options *options = &enc->options;
	bool reads = has_way_back(options, stdio);
	uint8_t hash_key[16];
	int status;

	enc->socket = listen_for_datagrams(options);
	if (enc->socket < 0)
		return EXIT_FAILURE;
	if (getentropy(hash_key, sizeof(hash_key)) != 0) {
		log_line(LOG_ERROR, "no random numbers: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	flow_table_init(&enc->flows, reads, hash_key);
	status = tunnel_open(
		&enc->tunnel, options, &enc->stream, &enc->counters, stdio, reads, true);
	if (status != 0)
		return status;
	if (!reads && !options->unidirectional)
		log_line(LOG_WARNING,
			"nothing can come back on standard input: one way, as with -u");
	if (!tunnel_watch(&enc->tunnel, enc->socket, 0)) {
		log_line(LOG_ERROR, "cannot wait for datagrams: %s", strerror(errno));
		tunnel_give_up(&enc->tunnel);
	}
	say_where(enc);
	return 0;
}

static int enc_close(struct enc *enc)
{
	bool has_sent = enc->counters.value[STREAM_IN_BYTES] > 0;
	int status = tunnel_close(&enc->tunnel);

	if (enc->far_side_is_gone && status == 0 && enc->options.retry_us == 0)
		log_line(LOG_WARNING, "the far side closed the stream%s",
			has_sent ? ""
				 : " and had not sent a byte; if nothing is to come back, use -u");
	close(enc->socket);
	flow_table_free(&enc->flows);
	return status;
}

int main(int argc, char **argv)
{
	static struct enc enc; /* some megabytes, of which little is ever touched */
	struct stdio stdio;
	uint16_t tag;
	int status;

	stdio_claim(&stdio);
	usage_read(UOTT_ENC, argc, argv, &enc.options);
	status = enc_open(&enc, &stdio);
	if (status != 0)
		return status;
	for (;;) {
		switch (tunnel_next_event(&enc.tunnel, &tag)) {
		case TUNNEL_DATAGRAMS:
			forward_datagrams(&enc);
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
