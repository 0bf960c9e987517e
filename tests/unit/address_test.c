#include "address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include "check.h"
#include "util.h"

#define BAD_PORT "a port is a number from 0 to 65535 or a service name"
#define BAD_FORM "expected HOST:PORT or [V6ADDRESS]:PORT"
#define EMPTY_HOST "the host is empty (uott-enc listens on all addresses with *)"
#define NO_BRACKETS "an IPv6 address is written in brackets, as in [::1]:53"
#define BAD_BRACKETS "expected [V6ADDRESS]:PORT"
#define TOO_LONG "the host is too long"

#define NO_INTERFACE 2147483646 /* no host has so many */
#define LONG_IP "fe80:1111:2222:3333:4444:5555:6666:7777"
#define SERVICE_31 "abcdefghijklmnopqrstuvwxyz-abcd"
#define LABEL_50 "label-of-fifty-bytes-label-of-fifty-bytes-label-of"
#define HOST_255 LABEL_50 LABEL_50 LABEL_50 LABEL_50 LABEL_50 ".home"

/* --- what users write ----------------------------------------------------------------------- */

/* One word, or HOST|PORT for two, and the outcome: <HOST> PORT or an error. */
static const struct group {
	const char *name;
	struct {
		const char *words, *outcome;
	} rows[22];
} groups[] = {
	{"one word is a port, or a host, in brackets or not, and a port",
		{{"53", "<> 53"}, {"0", "<> 0"}, {"65535", "<> 65535"}, {"00053", "<> 00053"},
			{"domain", "<> domain"}, {"127.0.0.1:53", "<127.0.0.1> 53"},
			{"localhost:domain", "<localhost> domain"}, {"h:65535", "<h> 65535"},
			{"a.example.org:0", "<a.example.org> 0"}, {"*:53", "<*> 53"},
			{"[::1]:53", "<::1> 53"}, {"[::]:1", "<::> 1"}, {"[host]:53", "<host> 53"},
			{"[fe80::1%eth0]:53", "<fe80::1%eth0> 53"},
			{"[2001:db8:1:2:3:4:5:6]:domain", "<2001:db8:1:2:3:4:5:6> domain"},
			{"[::ffff:192.0.2.1]:1", "<::ffff:192.0.2.1> 1"},
			{"[127.0.0.1]:53", "<127.0.0.1> 53"}, {"host:ntp", "<host> ntp"},
			{"host:http-alt", "<host> http-alt"}, {"h:3com-tsmux", "<h> 3com-tsmux"},
			{"host:" SERVICE_31, "<host> " SERVICE_31}}},
	{"two words are a host, in brackets or not, and a port",
		{{"127.0.0.1|53", "<127.0.0.1> 53"}, {"localhost|domain", "<localhost> domain"},
			{"::1|53", "<::1> 53"}, {"[::1]|53", "<::1> 53"}, {"*|0", "<*> 0"},
			{"fe80::1%eth0|65535", "<fe80::1%eth0> 65535"},
			{"[fe80::1%eth0]|0", "<fe80::1%eth0> 0"}}},
	{"a host has up to 255 bytes",
		{{HOST_255 ":53", "<" HOST_255 "> 53"}, {"[" HOST_255 "]:53", "<" HOST_255 "> 53"},
			{HOST_255 "|53", "<" HOST_255 "> 53"}, {HOST_255 "x:53", TOO_LONG},
			{"[" HOST_255 "x]:53", TOO_LONG}, {HOST_255 "x|53", TOO_LONG}}},
	{"a host alone is refused",
		{{"[::1]", BAD_BRACKETS}, {"[host]", BAD_PORT}, {"[", BAD_PORT}}},
	{"an IPv6 address without brackets is refused",
		{{"::1:53", NO_BRACKETS}, {"::1", NO_BRACKETS}, {"2001:db8::1:53", NO_BRACKETS},
			{"fe80::1%eth0:53", NO_BRACKETS}, {"host:53:54", NO_BRACKETS}}},
	{"brackets that do not match are refused",
		{{"[::1:53", BAD_BRACKETS}, {"[::1]53:54", BAD_BRACKETS}, {"[:53", BAD_BRACKETS},
			{"[[::1]]:53", BAD_FORM}, {"[::1]]:53", BAD_FORM}, {"host]:53", BAD_FORM},
			{"ho[st:53", BAD_FORM}, {"]:53", BAD_FORM}, {"[::1|53", BAD_FORM},
			{"::1]|53", BAD_FORM}, {"[|53", BAD_FORM}, {"[::1]:53|53", BAD_FORM}}},
	{"an empty host is refused", {{":53", EMPTY_HOST}, {"[]:53", EMPTY_HOST}, {":", EMPTY_HOST},
					     {"|53", EMPTY_HOST}, {"[]|53", EMPTY_HOST}}},
};

static const struct group *group = groups;
static struct host_port result;

static const char *outcome(const char *words)
{
	static char text[HOST_SIZE + PORT_SIZE + 4];
	const char *bar = strchr(words, '|'), *error;

	memset(&result, '#', sizeof(result));
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(words, "|"), words);
	error = bar ? host_port_join(text, bar + 1, &result) : host_port_split(text, &result);
	if (error)
		return error;
	snprintf(text, sizeof(text), "<%s> %s", result.host, result.port);
	return text;
}

static void check_group(void)
{
	for (size_t i = 0; group->rows[i].words; i++)
		CHECK_TEXT(outcome(group->rows[i].words), group->rows[i].outcome);
}

static void bad_ports(void)
{
	static const char *const ports[] = {"", "65536", "99999", "100000", "000053", "4294967296",
		"18446744073709551669", "5 3", "53 ", " 53", "1/udp", "5[3", "5]3", SERVICE_31 "e"};
	static const char *const hosts[4] = {"", "host:", "[::1]:", "host|"};
	char words[64];

	for (size_t i = 0; i < ARRAY_SIZE(ports) * ARRAY_SIZE(hosts); i++) {
		snprintf(words, sizeof(words), "%s%s", hosts[i % 4], ports[i / 4]);
		CHECK_TEXT(outcome(words), BAD_PORT);
	}
	CHECK_TEXT(outcome("host|::1"), BAD_PORT);
}

/* --- addresses ------------------------------------------------------------------------------ */

/* No two are equal. */
static const struct {
	const char *ip;
	uint16_t port;
	uint32_t scope;
	const char *text;
} known[] = {{"192.0.2.1", 53, 0, "192.0.2.1:53"}, {"192.0.2.1", 513, 0, "192.0.2.1:513"},
	{"192.0.2.2", 53, 0, "192.0.2.2:53"}, {"0.0.0.0", 0, 0, "0.0.0.0:0"},
	{"0.0.0.0", 53, 0, "0.0.0.0:53"}, {"0.0.0.1", 0, 0, "0.0.0.1:0"},
	{"255.255.255.255", 65535, 0, "255.255.255.255:65535"}, {"::", 0, 0, "[::]:0"},
	{"::", 53, 0, "[::]:53"}, {"::1", 53, 0, "[::1]:53"}, {"::1", 65535, 0, "[::1]:65535"},
	{"::ffff:192.0.2.1", 53, 0, "192.0.2.1:53"},
	{"2001:db8::1", 65535, 0, "[2001:db8::1]:65535"},
	{LONG_IP, 65535, 0, "[" LONG_IP "]:65535"},
	{"fe80::1", 53, NO_INTERFACE, "[fe80::1%2147483646]:53"},
	{"fe80::1", 53, NO_INTERFACE + 1, "[fe80::1%2147483647]:53"},
	{"fe80::1", 54, NO_INTERFACE, "[fe80::1%2147483646]:54"},
	{"fe80::2", 53, NO_INTERFACE, "[fe80::2%2147483646]:53"}};

/* All other bytes, those of the flow label and of padding, are `filler`. */
static struct address make(size_t i, int filler)
{
	struct address address;

	memset(&address, filler, sizeof(address));
	if (strchr(known[i].ip, ':')) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons(known[i].port);
		address.v6.sin6_scope_id = known[i].scope;
		CHECK(inet_pton(AF_INET6, known[i].ip, &address.v6.sin6_addr) == 1);
	} else {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons(known[i].port);
		CHECK(inet_pton(AF_INET, known[i].ip, &address.v4.sin_addr) == 1);
	}
	return address;
}

static void known_addresses(void)
{
	char text[ADDRESS_TEXT_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct address address = make(i, 0);
		const char *ip = known[i].ip;

		memset(text, '#', sizeof(text));
		CHECK(address_format(&address, text) == text);
		CHECK_TEXT(text, known[i].text);
		CHECK_NUMBER(address_length(&address),
			strchr(ip, ':') ? sizeof(address.v6) : sizeof(address.v4));
		CHECK_NUMBER(address_is_wildcard(&address),
			strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0);
	}
}

static void equal_addresses(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		for (size_t k = 0; k < ARRAY_SIZE(known); k++) {
			struct address a = make(i, 0), b = make(k, 0xff);

			CHECK_NUMBER(address_equal(&a, &b), i == k);
		}
}

static void local_addresses(void)
{
	static const struct local_address locals[] = {{.interface = 0}, {.interface = 2},
		{.ip.s6_addr = {[15] = 1}}, {.ip.s6_addr = {[15] = 2}}};

	for (size_t i = 0; i < ARRAY_SIZE(locals); i++)
		for (size_t k = 0; k < ARRAY_SIZE(locals); k++)
			CHECK_NUMBER(local_address_equal(&locals[i], &locals[k]), i == k);
}

/* --- looking up (numbers only: no network is asked) ----------------------------------------- */

static struct address found[2];

/* Returns the addresses, or the error without the words of the system for its cause. */
static const char *lookup(const char *words, int family, size_t max)
{
	static char text[ADDRESS_ERROR_SIZE];
	char one[ADDRESS_TEXT_SIZE], *cause;
	size_t count, used = 0;

	memset(found, 0xee, sizeof(found));
	CHECK_TEXT(host_port_split(words, &result), NULL);
	count = address_resolve(&result, family, found, max, text);
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? " " : "",
			address_format(&found[i], one));
	cause = strstr(text, "': ");
	if (count == 0 && CHECK(cause && cause[3] && strlen(text) < sizeof(text) - 1))
		cause[1] = '\0';
	return text;
}

static void lookups(void)
{
	static const struct {
		const char *words;
		int family;
		const char *outcome;
	} rows[] = {{"192.0.2.1:53", AF_INET, "192.0.2.1:53"},
		{"192.0.2.1:00053", AF_UNSPEC, "192.0.2.1:53"},
		{"0.0.0.0:1", AF_UNSPEC, "0.0.0.0:1"}, {"[::]:1", AF_UNSPEC, "[::]:1"},
		{"[2001:db8::1]:65535", AF_UNSPEC, "[2001:db8::1]:65535"},
		{"[2001:db8::1]:0", AF_INET6, "[2001:db8::1]:0"}, {"53", AF_UNSPEC, "127.0.0.1:53"},
		{"53", AF_INET, "127.0.0.1:53"}, {"53", AF_INET6, "[::1]:53"},
		{"*:53", AF_INET, "0.0.0.0:53"}, {"*:53", AF_INET6, "[::]:53"},
		{"192.0.2.1:53", AF_INET6, "cannot resolve host '192.0.2.1' port '53'"},
		{"[2001:db8::1]:53", AF_INET, "cannot resolve host '2001:db8::1' port '53'"},
		{"127.0.0.1:none", AF_UNSPEC, "cannot resolve host '127.0.0.1' port 'none'"},
		{"*:none", AF_INET, "cannot resolve host '*' port 'none'"},
		{HOST_255 ":" SERVICE_31, AF_UNSPEC,
			"cannot resolve host '" HOST_255 "' port '" SERVICE_31 "'"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		CHECK_TEXT(lookup(rows[i].words, rows[i].family, 2), rows[i].outcome);
}

/* So that addresses may be compared and hashed byte by byte. */
static void unused_bytes(void)
{
	struct address wanted = make(0, 0);

	lookup(known[0].text, AF_UNSPEC, 2);
	CHECK(memcmp(&found[0], &wanted, sizeof(wanted)) == 0);
}

/* The system decides which family comes first, and whether there is IPv6. */
static void both_families(void)
{
	CHECK_CONTAINS("0.0.0.0:53 [::]:53 0.0.0.0:53", lookup("*:53", AF_UNSPEC, 2));
	CHECK(!strchr(lookup("*:53", AF_UNSPEC, 1), ' '));
	CHECK_NUMBER(*(uint8_t *)&found[1], 0xee); /* as it was */
}

static void link_local(void)
{
	char name[IF_NAMESIZE], words[HOST_SIZE];

	for (uint32_t index = 1; index < 100; index++)
		if (if_indextoname(index, name)) {
			snprintf(words, sizeof(words), "[" LONG_IP "%%%s]:65535", name);
			CHECK_TEXT(lookup(words, AF_UNSPEC, 2), words);
			CHECK_NUMBER(found[0].v6.sin6_scope_id, index);
		}
}

int main(void)
{
	for (; group < groups + ARRAY_SIZE(groups); group++)
		test(group->name, check_group);
	test("what is no port is refused", bad_ports);
	test("an address has a text and a length, and all zeros are the wildcard", known_addresses);
	test("addresses are equal by family, address, scope and port", equal_addresses);
	test("local addresses are equal by address and interface", local_addresses);
	test("numbers are found, no host is loopback, and an error names host and port", lookups);
	test("an address looked up has no other bytes than its own", unused_bytes);
	test("* has an address of each family, and no more than asked for are stored",
		both_families);
	test("a link-local address is looked up and written with its interface", link_local);
	return tests_end();
}
