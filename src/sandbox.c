/*
 * How this works: seccomp(2) lets through the system calls of the lists below, and fails all others
 * with EPERM, so that a call that somebody forgot costs a message and not the tunnel. A few calls
 * depend on an argument. Landlock takes all files away, and TCP, also where seccomp cannot look
 * into the arguments. Of the two, a system may have one. With UOTT_SANDBOX_KILL, for tests, a call
 * that is in no list ends the program.
 */
#include "sandbox.h"

#if defined(__OpenBSD__)

#include <unistd.h>

bool sandbox_enter(enum program program, pid_t child)
{
	(void)program;
	return unveil("/", "") == 0 && unveil(NULL, NULL) == 0 &&
	       pledge(child > 0 ? "stdio inet proc" : "stdio inet", NULL) == 0;
}

#elif defined(__linux__) && !defined(UOTT_PORTABLE) && !defined(UOTT_NO_SANDBOX)

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "util.h"

/*
 * As linux/audit.h, filter.h, seccomp.h and landlock.h have it: not every libc brings these along.
 * The machines are the numbers of ELF, with a bit for 64 bits and one for little-endian.
 */
#if defined(__x86_64__) && !defined(__ILP32__)
#define MACHINE 0xc000003e
#elif defined(__i386__)
#define MACHINE 0x40000003
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MACHINE 0xc00000b7
#elif defined(__arm__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MACHINE 0x40000028
#elif defined(__riscv) && __riscv_xlen == 64
#define MACHINE 0xc00000f3
#elif defined(__s390x__)
#define MACHINE 0x80000016
#else
#define MACHINE 0 /* no filter */
#endif

enum {
	LOAD_WORD = 0x20, /* BPF_LD | BPF_W | BPF_ABS, and so on */
	AND = 0x54,
	JUMP = 0x05,
	JUMP_IF_EQUAL = 0x15,
	RETURN = 0x06,
	MODE_FILTER = 2,
	CREATE_RULESET = 444, /* these calls have the same number on all machines */
	RESTRICT_SELF = 446,
	TELL_VERSION = 1,
	VERSION_WITH_TCP = 4,
};

#define KILL 0x80000000U
#define ALLOW 0x7fff0000U
#define DENY (0x00050000U | EPERM)
#ifdef UOTT_SANDBOX_KILL
#define UNKNOWN KILL
#else
#define UNKNOWN DENY
#endif

struct call { /* seccomp_data */
	int32_t number;
	uint32_t machine;
	uint64_t caller, arguments[6];
};

struct instruction { /* sock_filter */
	uint16_t code;
	uint8_t then, otherwise; /* how many to skip */
	uint32_t value;
};

struct program_of_filter { /* sock_fprog */
	unsigned short count;
	struct instruction *code;
};

/* Those of each datagram come first. Machines differ in which of the calls they have. */
static const uint16_t calls_of_both[] = {
#ifdef __NR_recvmmsg
	__NR_recvmmsg,
#endif
#ifdef __NR_sendmmsg
	__NR_sendmmsg,
#endif
	__NR_sendmsg,
	__NR_recvmsg,
	__NR_sendto,
	__NR_recvfrom,
#ifdef __NR_recv
	__NR_send,
	__NR_recv,
#endif
	__NR_writev,
	__NR_read,
#ifdef __NR_epoll_wait
	__NR_epoll_wait,
#endif
	__NR_epoll_pwait,
	__NR_epoll_ctl,
	__NR_write,
#ifdef __NR_poll
	__NR_poll,
#endif
	__NR_ppoll,
#ifdef __NR_ppoll_time64
	__NR_ppoll_time64,
#endif
#ifdef __NR_recvmmsg_time64
	__NR_recvmmsg_time64,
#endif
#ifdef __NR_clock_gettime
	__NR_clock_gettime,
#else
	__NR_clock_gettime32, /* so named by musl, on machines of 32 bits */
#endif
#ifdef __NR_clock_gettime64
	__NR_clock_gettime64,
#endif
#if defined(__NR_socketcall) && defined(__GLIBC__)
	__NR_socketcall, /* for all calls of sockets, with arguments that seccomp cannot see */
#endif
	__NR_getsockopt,
	__NR_setsockopt,
	__NR_getsockname,
	__NR_close,
	__NR_fcntl,
#ifdef __NR_fcntl64
	__NR_fcntl64,
#endif
	__NR_epoll_create1,
	__NR_brk,
	__NR_munmap,
	__NR_mremap,
	__NR_madvise,
	__NR_rt_sigprocmask,
	__NR_rt_sigreturn,
#ifdef __NR_sigreturn
	__NR_sigreturn,
#endif
	__NR_restart_syscall,
	__NR_exit_group,
};

/* A socket for each flow. */
static const uint16_t calls_of_dec[] = {__NR_bind, __NR_connect};

enum {
	RULE_SIZE = 6,
	FILTER_MAX = 256,                                          /* more than there are */
	LOW_HALF = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0, /* of an argument */
};

struct filter {
	unsigned short count;
	struct instruction code[FILTER_MAX];
};

static void add(struct filter *filter, uint16_t code, uint32_t value, uint8_t otherwise)
{
	assert(filter->count < FILTER_MAX);
	filter->code[filter->count++] = (struct instruction){code, 0, otherwise, value};
}

static void load(struct filter *filter, size_t offset)
{
	add(filter, LOAD_WORD, (uint32_t)offset, 0);
}

static void answer(struct filter *filter, uint32_t action)
{
	add(filter, RETURN, action, 0);
}

static void if_equal(struct filter *filter, uint32_t value, uint8_t otherwise)
{
	add(filter, JUMP_IF_EQUAL, value, otherwise);
}

static void allow(struct filter *filter, const uint16_t *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if_equal(filter, calls[i], 1);
		answer(filter, ALLOW);
	}
}

/* Answers `action` to the call if its argument has this value in these bits. */
struct rule {
	uint16_t call;
	uint8_t argument;
	bool is_denied;
	uint32_t bits, value;
};

static void judge(struct filter *filter, const struct rule *rules, size_t count)
{
	for (const struct rule *rule = rules; rule < rules + count; rule++) {
		if_equal(filter, rule->call, RULE_SIZE - 1);
		load(filter,
			offsetof(struct call, arguments) + LOW_HALF + (size_t)8 * rule->argument);
		add(filter, AND, rule->bits, 0);
		if_equal(filter, rule->value, 1);
		answer(filter, rule->is_denied ? DENY : ALLOW);
		load(filter, offsetof(struct call, number));
	}
}

static const struct rule rules_of_both[] = {
#ifdef __NR_mmap2
	{__NR_mmap2, 2, false, PROT_EXEC, 0},
#else
	{__NR_mmap, 2, false, PROT_EXEC, 0},
#endif
	{__NR_mprotect, 2, false, PROT_EXEC, 0},
	{__NR_ioctl, 1, false, UINT32_MAX, FIONREAD},
	{__NR_ioctl, 1, false, UINT32_MAX, TCGETS},
	{__NR_ioctl, 1, false, UINT32_MAX, TIOCGWINSZ},
};

/* UDP sockets only: no bit of another type, and no other family. */
static const struct rule rules_of_dec[] = {
	{__NR_socket, 1, true, 1, 1},
	{__NR_socket, 1, true, 4, 4},
	{__NR_socket, 1, true, 8, 8},
	{__NR_socket, 0, false, UINT32_MAX, AF_INET},
	{__NR_socket, 0, false, UINT32_MAX, AF_INET6},
};

static_assert(SOCK_DGRAM == 2, "none of the bits above");

/* libc asks these where it can do without: the name of an interface, whether it is a terminal. */
static const struct rule rules_at_the_end[] = {
	{__NR_socket, 0, true, 0, 0},
	{__NR_ioctl, 0, true, 0, 0},
};

static bool filter_calls(enum program program, pid_t child)
{
	const struct rule rules_of_child[] = {
		{__NR_kill, 0, child <= 0, UINT32_MAX, (uint32_t)child},
		{__NR_wait4, 0, child <= 0, UINT32_MAX, (uint32_t)child},
	};
	struct filter filter = {.count = 0};
	struct program_of_filter handed = {.code = filter.code};

	load(&filter, offsetof(struct call, machine));
	if_equal(&filter, MACHINE, 1);
	add(&filter, JUMP, 1, 0);
	answer(&filter, KILL);
	load(&filter, offsetof(struct call, number));
	allow(&filter, calls_of_both, ARRAY_SIZE(calls_of_both));
	judge(&filter, rules_of_both, ARRAY_SIZE(rules_of_both));
	if (program == UOTT_DEC) {
		allow(&filter, calls_of_dec, ARRAY_SIZE(calls_of_dec));
		judge(&filter, rules_of_dec, ARRAY_SIZE(rules_of_dec));
	}
	judge(&filter, rules_of_child, ARRAY_SIZE(rules_of_child));
	judge(&filter, rules_at_the_end, ARRAY_SIZE(rules_at_the_end));
	answer(&filter, UNKNOWN);
	handed.count = filter.count;
	return MACHINE != 0 && prctl(PR_SET_SECCOMP, MODE_FILTER, &handed, 0, 0) == 0;
}

static uint64_t all_file_rights(long version)
{
	int count = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13;

	return ((uint64_t)1 << count) - 1;
}

static bool take_files_away(void)
{
	long version = syscall(CREATE_RULESET, NULL, 0, TELL_VERSION);
	struct {
		uint64_t files, network;
	} rights = {all_file_rights(version), 3}; /* TCP: bind() and connect() */
	size_t size = version < VERSION_WITH_TCP ? sizeof(rights.files) : sizeof(rights);
	int rules = version < 1 ? -1 : (int)syscall(CREATE_RULESET, &rights, size, 0);
	bool is_done;

	if (rules < 0)
		return false;
	is_done = syscall(RESTRICT_SELF, rules, 0) == 0;
	close(rules);
	return is_done;
}

bool sandbox_enter(enum program program, pid_t child)
{
	bool has_landlock, has_filter;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return false;
	has_landlock = take_files_away();
	has_filter = filter_calls(program, child);
	return has_landlock || has_filter;
}

#else

bool sandbox_enter(enum program program, pid_t child)
{
	(void)program;
	(void)child;
	return false;
}

#endif
