#include "services.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 0: it has a name, or the system is to choose it. */
static unsigned int port_number(const struct host_port *address)
{
	bool is_number = address->port[strspn(address->port, "0123456789")] == '\0';

	return is_number ? (unsigned int)strtoul(address->port, NULL, 10) : 0;
}

/* Cuts "-LAST" off if a number is in front of it, too: names may contain a hyphen. */
static const char *cut_last(char *item)
{
	char *hyphen = strrchr(item, '-');
	char *port = strrchr(item, ':') ? strrchr(item, ':') + 1 : item;
	size_t digits = strspn(port, "0123456789");

	if (!hyphen || digits == 0 || port + digits != hyphen || hyphen[1] == '\0' ||
		hyphen[1 + strspn(hyphen + 1, "0123456789")] != '\0')
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
		return "at most 1024 ports fit into one stream";
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
		return "at most 1024 ports fit into one stream";
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
