/*
 * What a program can no longer do once it is in the sandbox, and what it still can; and what each
 * half of the sandbox denies without the other one. Each is tried in a process of its own, as
 * nothing leads out again. Where there is no sandbox (sanitizers, POSIX calls only, an emulator,
 * an old kernel), and with UOTT_SANDBOX_KILL, the tests say that, and check nothing.
 */
#include "sandbox.c" /* for its two halves */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/ptrace.h>
#include <sys/syscall.h>
#endif

#include "check.h"

#ifdef UOTT_SANDBOX_KILL
#define ENDS_FOR_UNKNOWN true
#else
#define ENDS_FOR_UNKNOWN false
#endif

enum {
	NO_SANDBOX_HERE = 77
};

typedef bool enter_function(enum program program, pid_t child);

#ifdef MACHINE

static bool landlock_alone(enum program program, pid_t child)
{
	(void)program;
	(void)child;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && take_files_away();
}

static bool filter_alone(enum program program, pid_t child)
{
	return !ENDS_FOR_UNKNOWN && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       filter_calls(program, child);
}

static bool landlock_has_tcp(void)
{
	long version = syscall(CREATE_RULESET, NULL, 0, TELL_VERSION);

	printf("# Landlock has version %ld\n", version);
	return version >= VERSION_WITH_TCP;
}

#else

static enter_function *const landlock_alone = sandbox_enter, *const filter_alone = sandbox_enter;

static bool landlock_has_tcp(void)
{
	return false;
}

#endif

static bool both(enum program program, pid_t child)
{
	return !ENDS_FOR_UNKNOWN && sandbox_enter(program, child);
}

static pid_t self;                  /* the one that may get signals, in place of COMMAND */
static struct sockaddr_in listener; /* a TCP port of loopback */

/* By the filter. Landlock, which the kernel asks later, would say EACCES. */
static bool is_denied(long result)
{
	return result < 0 && errno == EPERM;
}

static bool is_denied_by_landlock(long result)
{
	return result < 0 && errno == EACCES;
}

static bool may_open(int family, int type)
{
	int fd = socket(family, type, 0);

	CHECK(fd >= 0 || is_denied(fd));
	close(fd);
	return fd >= 0;
}

/* By UDP, as there is no TCP socket: to a port where nobody listens. */
static bool may_connect(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool may = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;

	close(fd);
	return may;
}

static bool may_map(int protection)
{
	void *at = mmap(NULL, 1, protection, MAP_PRIVATE | MAP_ANON, -1, 0);

	return at != MAP_FAILED;
}

static void nothing_leads_out(void)
{
	pid_t pid;
	char *const argv[] = {"false", NULL}; /* what fails here, if it runs */

	CHECK(is_denied(open("/etc/passwd", O_RDONLY)));
	CHECK(is_denied(open("written", O_WRONLY | O_CREAT, 0600)));
	CHECK(is_denied(unlink("/nothing")));
	CHECK(is_denied(chdir("/")));
	CHECK(is_denied(execv("/bin/false", argv)));
	pid = fork();
	if (pid == 0)
		_exit(0);
	CHECK(is_denied(pid));
	CHECK(is_denied(kill(getppid(), 0)));
	CHECK(is_denied(kill(-1, 0)));
	CHECK(!may_map(PROT_READ | PROT_EXEC));
	CHECK(!may_open(AF_INET, SOCK_STREAM));
	CHECK(!may_open(AF_INET6, SOCK_STREAM));
	CHECK(!may_open(AF_INET, SOCK_RAW));
	CHECK(!may_open(AF_UNIX, SOCK_STREAM));
	CHECK(!may_open(AF_UNIX, SOCK_DGRAM));
#ifdef __linux__
	CHECK(!may_open(AF_PACKET, SOCK_DGRAM));
	CHECK(!may_open(AF_NETLINK, SOCK_DGRAM));
	CHECK(is_denied(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL)));
	CHECK(is_denied(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0)));
#endif
}

/* Runs in a new process, and returns how it ended: a check that failed there counts here. */
static int in_sandbox(enter_function *enter, enum program program, void (*try)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		self = getpid();
		if (!enter(program, self))
			_exit(NO_SANDBOX_HERE);
		checks_failed = 0;
		try();
		fflush(stdout);
		_exit(checks_failed > 0);
	}
	if (!CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status)))
		return -1;
	return WEXITSTATUS(status);
}

static void holds(enter_function *enter, enum program program, void (*try)(void))
{
	int status = in_sandbox(enter, program, try);

	if (status == NO_SANDBOX_HERE)
		printf("# not in this build or not in this kernel: not tried\n");
	else
		CHECK_NUMBER(status, 0);
}

static void enc_opens_no_socket(void)
{
	CHECK(!may_open(AF_INET, SOCK_DGRAM));
	CHECK(is_denied(connect(-1, NULL, 0)));
	CHECK(may_map(PROT_READ | PROT_WRITE));
	CHECK(kill(self, 0) == 0);
}

static void dec_opens_udp_sockets(void)
{
	CHECK(may_open(AF_INET, SOCK_DGRAM));
	CHECK(may_open(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK));
	CHECK(may_connect());
	CHECK(may_map(PROT_READ | PROT_WRITE));
}

static void landlock_takes_files_and_tcp(void)
{
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = {.sin_family = AF_INET};

	CHECK(is_denied_by_landlock(open("/etc/passwd", O_RDONLY)));
	CHECK(is_denied_by_landlock(open("/", O_RDONLY)));
	CHECK(may_connect());
	if (!landlock_has_tcp()) {
		printf("# TCP: not tried\n");
		return;
	}
	CHECK(is_denied_by_landlock(connect(tcp, (struct sockaddr *)&listener, sizeof(listener))));
	CHECK(is_denied_by_landlock(bind(tcp, (struct sockaddr *)&any, sizeof(any))));
}

static void enc_is_shut_in(void)
{
	holds(both, UOTT_ENC, nothing_leads_out);
}

static void dec_is_shut_in(void)
{
	holds(both, UOTT_DEC, nothing_leads_out);
}

static void enc_keeps(void)
{
	holds(both, UOTT_ENC, enc_opens_no_socket);
}

static void dec_keeps(void)
{
	holds(both, UOTT_DEC, dec_opens_udp_sockets);
}

static void filter_holds(void)
{
	holds(filter_alone, UOTT_ENC, nothing_leads_out);
	holds(filter_alone, UOTT_ENC, enc_opens_no_socket);
	holds(filter_alone, UOTT_DEC, nothing_leads_out);
}

static void landlock_holds(void)
{
	socklen_t size = sizeof(listener);
	int listening = socket(AF_INET, SOCK_STREAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(listen(listening, 1) == 0); /* on a port that the system chooses */
	CHECK(getsockname(listening, (struct sockaddr *)&listener, &size) == 0);
	CHECK(connect(tcp, (struct sockaddr *)&listener, size) == 0);
	holds(landlock_alone, UOTT_DEC, landlock_takes_files_and_tcp);
	close(tcp);
	close(listening);
}

int main(void)
{
	test("uott-enc opens no file, runs no program, reaches nothing over TCP", enc_is_shut_in);
	test("neither does uott-dec", dec_is_shut_in);
	test("uott-enc opens no socket, but has memory and the signals for COMMAND", enc_keeps);
	test("uott-dec opens UDP sockets and connects them", dec_keeps);
	test("seccomp alone denies all of that", filter_holds);
	test("Landlock alone denies files and TCP, and leaves UDP", landlock_holds);
	return tests_end();
}
