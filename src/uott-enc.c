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
#include "tunnel.h"
#include "util.h"

enum {
	LISTEN_ADDRESSES_MAX = 8,
	RETRY_STALE_US = US_PER_SECOND, /* what waited longer for COMMAND to be run is not sent */
};

struct enc {
	struct tunnel tunnel;
	struct flow_table flows;
	int socket;
	uint32_t kernel_drops;
	bool far_side_is_gone;
};

/* The addresses that may be bound, best first. "*" without -4 or -6 is one socket for both. */
static size_t listen_addresses(const struct options *options, bool dual_stack,
	struct address addresses[static LISTEN_ADDRESSES_MAX])
{
	int family = options->family;
	char error[ADDRESS_ERROR_SIZE];
	size_t count = 0;

	if (dual_stack) {
		count = address_resolve(&options->address, AF_INET6, addresses, 1, error);
		family = AF_INET; /* for systems without IPv6 */
	}
	count += address_resolve(
		&options->address, family, addresses + count, LISTEN_ADDRESSES_MAX - count, error);
	if (count == 0)
		log_line(LOG_ERROR, "%s", error);
	return count;
}

/* Binds the first address that can be bound. Returns the socket, or -1 after a message. */
static int listen_for_datagrams(const struct options *options)
{
	struct address addresses[LISTEN_ADDRESSES_MAX];
	char text[ADDRESS_TEXT_SIZE];
	bool dual_stack = options->family == AF_UNSPEC && strcmp(options->address.host, "*") == 0;
	size_t count = listen_addresses(options, dual_stack, addresses);

	for (size_t i = 0; i < count; i++) {
		int socket = udp_open_bound(&addresses[i], dual_stack);

		if (socket >= 0)
			return socket;
		if (i + 1 == count)
			log_line(LOG_ERROR, "cannot listen on %s: %s",
				address_format(&addresses[i], text), strerror(errno));
	}
	return -1;
}

/* Who lets the system choose the port needs to be told which it is; others know. */
static void say_where(const struct enc *enc, const struct options *options)
{
	bool was_chosen = strspn(options->address.port, "0") == strlen(options->address.port);
	struct address bound;
	char text[ADDRESS_TEXT_SIZE];

	udp_bound_address(enc->socket, &bound);
	log_line(was_chosen ? LOG_WARNING : LOG_DETAIL, "listening on %s",
		address_format(&bound, text));
}

/*
 * The far side is asked before the tag is used again. Where that is not possible, the tag has been
 * idle as long as the flow, which must do.
 */
static void give_tag_back(struct enc *enc, uint16_t tag)
{
	if (control_is_on(&enc->tunnel.control)) {
		tags_close(&enc->flows.tags, tag);
		tunnel_close_flow(&enc->tunnel, tag);
	} else {
		tags_free(&enc->flows.tags, tag);
	}
}

static void expire_flows(struct enc *enc)
{
	struct tunnel *tunnel = &enc->tunnel;
	uint64_t idle_timeout_us = tunnel->options->idle_timeout_us;
	struct flow *flow;

	while ((flow = flow_find_idle(&enc->flows, tunnel->now_us, idle_timeout_us))) {
		if (flow->has_tag) {
			give_tag_back(enc, flow->tag);
			log_line(LOG_DETAIL, "flow %u: expired", flow->tag);
		}
		flow_remove(&enc->flows, flow);
		tunnel->counters.value[EXPIRED]++;
	}
	tunnel->counters.value[FLOWS] = enc->flows.count;
	tunnel_plan_expiry(tunnel, &enc->flows);
}

static struct flow *add_flow(struct enc *enc, const struct client *client)
{
	struct tunnel *tunnel = &enc->tunnel;
	char text[ADDRESS_TEXT_SIZE];
	struct flow *flow = NULL;

	if (enc->flows.count < tunnel->options->max_flows)
		flow = flow_add_client(&enc->flows, client, tunnel->now_us);
	if (!flow)
		return NULL;
	counters_flow_added(&tunnel->counters, enc->flows.count);
	if (enc->flows.count == 1)
		tunnel_plan_expiry(tunnel, &enc->flows);
	if (log_shows(LOG_DETAIL))
		log_line(LOG_DETAIL, "flow %u: %s", flow->tag, address_format(&client->peer, text));
	return flow;
}

/* Returns the flow of the client, which has a tag; or NULL if there can be none. */
static struct flow *flow_of_client(struct enc *enc, const struct client *client, uint64_t hash)
{
	struct tunnel *tunnel = &enc->tunnel;
	struct flow *flow = flow_find_client(&enc->flows, client, hash);

	if (!flow)
		flow = add_flow(enc, client);
	else if (!flow->has_tag && !flow_give_tag(&enc->flows, flow, tunnel->now_us))
		flow = NULL;
	if (flow)
		flow_touch(&enc->flows, flow, tunnel->now_us);
	return flow;
}

static void forward_datagrams(struct enc *enc)
{
	struct datagram *datagrams;
	size_t count = tunnel_receive(&enc->tunnel, enc->socket, &enc->kernel_drops, &datagrams);
	struct client clients[BATCH_MAX];
	uint64_t hashes[BATCH_MAX];

	for (size_t i = 0; i < count; i++) {
		clients[i] = (struct client){datagrams[i].peer, datagrams[i].local};
		hashes[i] = flow_hash_client(&enc->flows, &clients[i]);
	}
	for (size_t i = 0; i < count; i++) {
		struct flow *flow = flow_of_client(enc, &clients[i], hashes[i]);

		if (flow)
			tunnel_send(&enc->tunnel, flow->tag, &datagrams[i]);
		else
			enc->tunnel.counters.value[DROP_NO_TAG] += datagrams[i].count;
	}
}

/* A reply that no client is waiting for any more. */
static void drop_late_frame(struct enc *enc, uint16_t tag)
{
	struct tunnel *tunnel = &enc->tunnel;

	tunnel->counters.value[DROP_NO_FLOW]++;
	tags_late_frame(&enc->flows.tags, tag, tunnel->now_us + tunnel->options->idle_timeout_us);
}

static void deliver_frames(struct enc *enc)
{
	struct tunnel *tunnel = &enc->tunnel;
	struct outgoing replies[BATCH_MAX];
	struct frame frame;
	size_t count = 0;

	while (tunnel_next_frame(tunnel, &frame)) {
		struct flow *flow;

		if (frame.kind == FRAME_CONTROL) {
			tags_closed(&enc->flows.tags, tunnel_closed_tag(&frame));
			continue;
		}
		flow = flow_find_tag(&enc->flows, frame.tag);
		if (!flow) {
			drop_late_frame(enc, frame.tag);
			continue;
		}
		flow_touch(&enc->flows, flow, tunnel->now_us);
		replies[count++] = (struct outgoing){
			.peer = &flow->client.peer,
			.local = &flow->client.local,
			.payload = frame.payload,
			.length = frame.length,
		};
		if (count == BATCH_MAX) {
			udp_send(enc->socket, replies, count, &tunnel->segment_max,
				&tunnel->counters);
			count = 0;
		}
	}
	udp_send(enc->socket, replies, count, &tunnel->segment_max, &tunnel->counters);
}

static void read_frames(struct enc *enc)
{
	if (tunnel_read(&enc->tunnel)) {
		deliver_frames(enc);
		return;
	}
	enc->far_side_is_gone = true;
	tunnel_end(&enc->tunnel);
}

/*
 * COMMAND was run again, and all tags are new. Clients keep their flows: what waited of them is
 * numbered anew, in the order in which it will leave, so that the first frame has the first tag.
 */
static void renumber_flows(struct enc *enc)
{
	static struct flow *former[TAGS]; /* by the tag of the stream before */
	struct tunnel *tunnel = &enc->tunnel;
	struct queue *queue = &tunnel->sender.queue;
	uint16_t tag;

	flow_forget_tags(&enc->flows, former);
	queue_recall(queue, tunnel->now_us, RETRY_STALE_US, &tunnel->counters);
	while (queue_next_recalled(queue, &tag)) {
		struct flow *flow = former[tag];

		if (flow && (flow->has_tag || flow_give_tag(&enc->flows, flow, tunnel->now_us)))
			queue_requeue_recalled(queue, flow->tag);
		else
			queue_drop_recalled(queue, &tunnel->counters);
	}
}

/* Returns 0, or, after a message, the status to exit with. */
static int enc_open(struct enc *enc, const struct options *options, const struct stdio *stdio)
{
	bool has_way_back = !options->unidirectional;
	uint8_t hash_key[16];
	int status;

	if (has_way_back && !options->command)
		has_way_back = stdio_has_input(stdio);
	enc->socket = listen_for_datagrams(options);
	if (enc->socket < 0)
		return EXIT_FAILURE;
	if (getentropy(hash_key, sizeof(hash_key)) != 0) {
		log_line(LOG_ERROR, "no random numbers: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	flow_table_init(&enc->flows, has_way_back, hash_key);
	status = tunnel_open(&enc->tunnel, options, stdio, has_way_back, true);
	if (status != 0)
		return status;
	if (!has_way_back && !options->unidirectional)
		log_line(LOG_WARNING,
			"nothing can come back on standard input: one way, as with -u");
	if (!tunnel_watch(&enc->tunnel, enc->socket, 0)) {
		log_line(LOG_ERROR, "cannot wait for datagrams: %s", strerror(errno));
		tunnel_give_up(&enc->tunnel);
	}
	say_where(enc, options);
	return 0;
}

static int enc_close(struct enc *enc)
{
	int status = tunnel_close(&enc->tunnel);

	if (enc->far_side_is_gone && status == 0 && enc->tunnel.options->retry_us == 0 &&
		decoder_bytes(&enc->tunnel.receiver.decoder) == 0)
		log_line(LOG_WARNING, "the far side closed the stream and had not sent a byte; if "
				      "nothing is to come back, use -u");
	close(enc->socket);
	flow_table_free(&enc->flows);
	return status;
}

int main(int argc, char **argv)
{
	static struct enc enc; /* some megabytes, of which little is ever touched */
	struct options options;
	struct stdio stdio;
	uint16_t tag;
	int status;

	tunnel_read_options(UOTT_ENC, argc, argv, &options, &stdio);
	status = enc_open(&enc, &options, &stdio);
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
