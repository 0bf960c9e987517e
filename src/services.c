#include "services.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char too_many[] = "at most 1024 ports fit into one stream";

static bool is_number(const char *text)
{
	return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* 0: it has a name, or the system is to choose it. */
static unsigned int port_number(const struct host_port *address)
{
	return is_number(address->port) ? (unsigned int)strtoul(address->port, NULL, 10) : 0;
}

/* Cuts "-LAST" off if a number is in front of it, too: names may contain a hyphen. */
static const char *cut_last(char *item)
{
	char *hyphen = strrchr(item, '-'), *colon = strrchr(item, ':');
	char *port = colon ? colon + 1 : item;
	size_t digits = strspn(port, "0123456789");

	if (digits == 0 || port + digits != hyphen || !is_number(hyphen + 1))
		return NULL;
	*hyphen = '\0';
	return hyphen + 1;
}

static const char *set_range(struct service_range *range, const char *last)
{
	unsigned long first_port = port_number(&range->first), last_port = strtoul(last, NULL, 10);

	if (last_port > UINT16_MAX)
		return "a port is a number from 0 to 65535";
	if (first_port == 0)
		return "no range begins with port 0";
	if (last_port < first_port)
		return "the range runs backwards";
	if (last_port - first_port >= SERVICES_MAX)
		return too_many;
	range->count = (uint16_t)(last_port - first_port + 1);
	return NULL;
}

static const char *check_target(const struct service_range *target)
{
	if (strcmp(target->first.host, "*") == 0)
		return "* is no host to send to";
	if (strspn(target->first.port, "0") == strlen(target->first.port))
		return "0 is no port to send to";
	return NULL;
}

static bool overlap(const struct service_range *a, const struct service_range *b)
{
	unsigned int first_a = port_number(&a->first), first_b = port_number(&b->first);

	if (strcmp(a->first.host, b->first.host) != 0)
		return false;
	if (first_a == 0 || first_b == 0)
		return first_a == first_b && strcmp(a->first.port, b->first.port) == 0 &&
		       a->first.port[0] != '0';
	return first_a < first_b + b->count && first_b < first_a + a->count;
}

static const char *add(struct services *services, const struct service_range *range)
{
	for (size_t i = 0; i < services->range_count; i++)
		if (overlap(&services->ranges[i], range))
			return "this port is given twice";
	if (services->count + range->count > SERVICES_MAX)
		return too_many;
	services->ranges[services->range_count++] = *range;
	services->count += range->count;
	return NULL;
}

static const char *parse_item(
	struct services *services, bool are_targets, const char *host, char *item)
{
	struct service_range range = {.count = 1};
	const char *last = cut_last(item), *wrong;

	if (are_targets && !host && !strchr(item, ':'))
		return "expected HOST:PORT";
	wrong = host ? host_port_join(host, item, &range.first)
		     : host_port_split(item, &range.first);
	if (!wrong && last)
		wrong = set_range(&range, last);
	if (!wrong && are_targets)
		wrong = check_target(&range);
	return wrong ? wrong : add(services, &range);
}

const char *services_parse(struct services *services, bool are_targets, const char *host,
	const char *list, char item[static SERVICES_ITEM_SIZE])
{
	char copy[SERVICES_ITEM_SIZE];
	const char *wrong = NULL, *next = list;

	services->count = 0;
	services->range_count = 0;
	while (!wrong && next) {
		size_t length = strcspn(next, ",");

		snprintf(item, SERVICES_ITEM_SIZE, "%.*s", (int)length, next);
		memcpy(copy, item, sizeof(copy));
		if (length >= SERVICES_ITEM_SIZE)
			wrong = "it is too long";
		else
			wrong = parse_item(services, are_targets, host, copy);
		next = next[length] == ',' ? next + length + 1 : NULL;
	}
	return wrong;
}
